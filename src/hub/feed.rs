use std::sync::Arc;

use tokio::{
    sync::{Notify, futures::OwnedNotified, oneshot},
    time::Instant,
};

use super::{
    audience::Audience,
    ids::ClientId,
    pace::{Load, Pace},
    page_requests::PageRequests,
    recent::Recent,
    stretch::{Next, Stretch},
    tally::Tally,
};
use crate::{
    order::Publication,
    protocol::{Event, Frame, Item, Position, ResetReason, RoomId},
};

/// What the members of one channel get, and when.
///
/// The line for them is bounded. When it is full, what follows is left out: the members are *behind*, and get it from
/// memory, or else from the log, once they have accepted most of the line.
#[derive(Debug)]
pub(super) struct Feed {
    room: Option<RoomId>,
    pub(super) audience: Audience,
    pub(super) recent: Recent,
    pages: PageRequests,
    behind: Option<Behind>,
    /// The bounds of the line.
    bounds: Load,
    /// Wakes publishers, who wait while the members are overloaded.
    relieved: Option<Arc<Notify>>,
}

/// What came after this `seq` is not in the line.
#[derive(Clone, Copy, Debug)]
struct Behind {
    seq: u64,
    /// Only the log has what comes next.
    needs_log: bool,
}

impl Feed {
    /// A channel without members, to be served at this pace, with these bounds of its line.
    pub(super) fn new(room: Option<RoomId>, recent: Recent, pace: Pace, bounds: Load) -> Self {
        let (audience, pages) = (Audience::new(pace), PageRequests::default());
        Self { room, audience, recent, pages, behind: None, bounds, relieved: None }
    }

    /// The position up to which everything is in line for the members, or has been sent to them, given the channel's
    /// own position.
    pub(super) fn live(&self, position: Position) -> Position {
        self.behind.map_or(position, |behind| Position::new(position.epoch, behind.seq))
    }

    /// Delivers a publication whose turn has come.
    pub(super) fn publish(&mut self, publication: Publication<Frame>, now: Instant) {
        if self.behind.is_none() && self.is_crowded() {
            self.behind = Some(Behind { seq: publication.position.seq - 1, needs_log: false });
        }
        if self.behind.is_none() {
            self.audience.deliver(Item::Message(publication.item.clone()));
        }
        self.recent.keep(publication, now);
    }

    /// Delivers a frame without a place in the order to every member but this one, unless they are behind: no log has it
    /// for later. Returns whether they get it.
    pub(super) fn deliver_unplaced(&mut self, frame: Frame, not_for: Option<ClientId>, tally: &mut Tally) -> bool {
        let has_place = !self.is_pressed();
        if has_place {
            self.audience.deliver_but(not_for, Item::Message(frame));
        } else {
            tally.dropped += 1;
        }
        has_place
    }

    /// Announces that what was not delivered up to this position is lost.
    pub(super) fn reset(&mut self, to: Position, reason: ResetReason, tally: &mut Tally) {
        if reason == ResetReason::NewEpoch {
            self.recent.clear();
            self.behind = None;
        }
        self.recent.gone(to.seq);
        // Members that are behind reach the gap when its turn comes.
        if self.behind.is_none() {
            self.tell_reset(to, reason, tally);
        }
    }

    /// When to serve the members next: if something is in line for them, or if something was left out and there is room
    /// in the line for it. So nothing stays behind, whatever has emptied the line.
    pub(super) fn next_turn(&self, now: Instant) -> Option<Instant> {
        let is_left_out = self.behind.is_some_and(|behind| !behind.needs_log);
        self.audience.next_turn(now).or(is_left_out.then_some(now))
    }

    /// Writes what is in line to some more members, and puts in line what was left out, if there is room now. Returns
    /// to how many.
    pub(super) fn serve(&mut self, limit: usize, position: Option<Position>, now: Instant, tally: &mut Tally) -> usize {
        let served = self.audience.serve(limit, now, tally);
        self.line_moved(position, now, tally);
        served
    }

    /// Sends one member what is in line for it, and an answer to its command. Returns false if it is not a member.
    pub(super) fn answer(
        &mut self,
        client: ClientId,
        answer: Option<Event>,
        position: Option<Position>,
        now: Instant,
        tally: &mut Tally,
    ) -> bool {
        let is_member = self.audience.answer(client, answer);
        self.line_moved(position, now, tally);
        is_member
    }

    /// The line may now have room for what was left out, and for waiting publishers.
    fn line_moved(&mut self, position: Option<Position>, now: Instant, tally: &mut Tally) {
        self.catch_up(position, None, now, tally);
        if !self.is_pressed()
            && let Some(relieved) = self.relieved.take()
        {
            relieved.notify_waiters();
        }
    }

    /// A future that ends when the members are no longer overloaded; `None` if they are not now.
    pub(super) fn relieved(&mut self) -> Option<OwnedNotified> {
        self.is_pressed().then(|| self.relieved.get_or_insert_default().clone().notified_owned())
    }

    /// What follows `seq`, up to `end`: from memory, or from `read`, a page of the log that was read for this.
    pub(super) fn after(&mut self, seq: u64, end: u64, read: Option<&Stretch>, now: Instant) -> Next {
        let most = self.most_at_a_time();
        match self.recent.after(seq, end, most, now) {
            Next::Unknown => read.map_or(Next::Unknown, |read| read.after(seq, end, most)),
            next => next,
        }
    }

    /// Asks for what the log has after `seq`. The sender is dropped if the log could not be read.
    pub(super) fn request(&mut self, seq: u64) -> oneshot::Receiver<Arc<Stretch>> {
        self.pages.add(seq)
    }

    /// When to read a page of the log next for those who need one.
    pub(super) fn next_page(&self, now: Instant) -> Option<Instant> {
        self.pages.next(self.needed(), now)
    }

    /// After which `seq` to read a page of the log now; `None` if nobody needs one any more.
    pub(super) fn begin_page(&mut self) -> Option<u64> {
        self.pages.begin(self.needed())
    }

    /// Takes a page of the channel's current epoch; the channel is at `position`.
    pub(super) fn page_read(&mut self, read: Stretch, position: Position, now: Instant, tally: &mut Tally) {
        let read = Arc::new(read);
        self.recent.absorb(&read, position.seq, now);
        self.pages.answer(&read);
        if let Some(behind) = self.behind.as_mut().filter(|behind| read.answers(behind.seq)) {
            behind.needs_log = false;
        }
        self.catch_up(Some(position), Some(&read), now, tally);
    }

    /// The page could not be read, or is useless. It is read again after a while if somebody still needs it.
    pub(super) fn page_failed(&mut self, now: Instant) {
        self.pages.fail(now);
    }

    /// Puts what was left out into the line, once the members have accepted most of it.
    fn catch_up(&mut self, position: Option<Position>, read: Option<&Stretch>, now: Instant, tally: &mut Tally) {
        let Some(position) = position else { return };
        while let Some(behind) = self.behind {
            let line = self.audience.in_line();
            if line.messages > self.bounds.messages / 2 || line.bytes > self.bounds.bytes / 2 {
                return;
            }
            // Arrivals ask for their pages themselves.
            if behind.seq >= position.seq || self.audience.is_empty() {
                self.behind = None;
                return;
            }
            let to = match self.after(behind.seq, position.seq, read, now) {
                Next::Messages { frames, to } => {
                    frames.into_iter().for_each(|frame| self.audience.deliver(Item::Message(frame)));
                    to
                }
                Next::Gone { to } => {
                    self.tell_reset(Position::new(position.epoch, to), ResetReason::Trimmed, tally);
                    to
                }
                Next::Unknown => {
                    self.behind = Some(Behind { needs_log: true, ..behind });
                    return;
                }
            };
            self.behind = Some(Behind { seq: to, needs_log: false });
        }
    }

    /// The `seq` after which the members need what only the log has.
    fn needed(&self) -> Option<u64> {
        self.behind.filter(|behind| behind.needs_log).map(|behind| behind.seq)
    }

    fn tell_reset(&mut self, to: Position, reason: ResetReason, tally: &mut Tally) {
        tally.reset(reason);
        self.audience.deliver(Item::Event(Event::Reset { room: self.room.clone(), position: Some(to), reason }));
    }

    /// Most messages to put in line at once for members that are behind, so that there is room for new ones.
    fn most_at_a_time(&self) -> usize {
        self.bounds.messages / 2
    }

    fn is_crowded(&self) -> bool {
        let line = self.audience.in_line();
        line.messages >= self.bounds.messages || line.bytes >= self.bounds.bytes
    }

    /// Whether more is said than the members can be sent.
    pub(super) fn is_pressed(&self) -> bool {
        self.behind.is_some() || self.is_crowded()
    }
}
