use std::sync::Arc;

use tokio::{
    sync::{Notify, futures::OwnedNotified, oneshot},
    time::Instant,
};

use super::{
    audience::Audience,
    ids::ClientId,
    pace::Load,
    page_requests::PageRequests,
    recent::Recent,
    stretch::{Next, Stretch},
    tally::Tally,
};
use crate::{
    order::Publication,
    protocol::{Event, Frame, Item, Position, ResetReason, RoomId},
};

/// What the members of one channel are given, and when.
///
/// What is in line for them is bounded. When too much is, what follows is left out of the line: the members are *behind*,
/// and get it from memory, or else from the log, as soon as they have taken most of what is in line.
#[derive(Debug)]
pub(super) struct Feed {
    room: Option<RoomId>,
    pub(super) audience: Audience,
    pub(super) recent: Recent,
    pages: PageRequests,
    behind: Option<Behind>,
    /// How much may be in line.
    bounds: Load,
    /// Wakes those who have said something, and wait until the members are no longer given more than they are sent.
    relieved: Option<Arc<Notify>>,
}

/// What came after this `seq` is not in line.
#[derive(Clone, Copy, Debug)]
struct Behind {
    seq: u64,
    /// Only the log has what comes next.
    needs_log: bool,
}

impl Feed {
    /// A channel without members. Most that may be in line are `bounds`.
    pub(super) fn new(room: Option<RoomId>, recent: Recent, bounds: Load) -> Self {
        let (audience, pages) = (Audience::default(), PageRequests::default());
        Self { room, audience, recent, pages, behind: None, bounds, relieved: None }
    }

    /// Up to where everything is in line for the members, or has been sent to them, given where the channel stands.
    pub(super) fn live(&self, position: Position) -> Position {
        self.behind.map_or(position, |behind| Position::new(position.epoch, behind.seq))
    }

    /// A publication's turn has come.
    pub(super) fn publish(&mut self, publication: Publication<Frame>, now: Instant) {
        if self.behind.is_none() && self.is_crowded() {
            self.behind = Some(Behind { seq: publication.position.seq - 1, needs_log: false });
        }
        if self.behind.is_none() {
            self.audience.deliver(Item::Message(publication.item.clone()));
        }
        self.recent.keep(publication, now);
    }

    /// Hands a frame that has no place in the order to every member, but not while they are behind: it is in no log from
    /// which they could get it later. Returns whether they get it.
    pub(super) fn deliver_unplaced(&mut self, frame: Frame, tally: &mut Tally) -> bool {
        let has_place = !self.is_pressed();
        if has_place {
            self.audience.deliver(Item::Message(frame));
        } else {
            tally.dropped += 1;
        }
        has_place
    }

    /// What was not delivered up to this position is lost.
    pub(super) fn reset(&mut self, to: Position, reason: ResetReason, tally: &mut Tally) {
        if reason == ResetReason::NewEpoch {
            self.recent.clear();
            self.behind = None;
        }
        self.recent.gone(to.seq);
        // Those who are behind come upon the gap when it is their turn.
        if self.behind.is_none() {
            self.tell_reset(to, reason, tally);
        }
    }

    /// When to serve the members next: if something is in line for them, or was left out of the line and can be put there.
    /// So nothing stays behind for want of somebody to come by, whatever has emptied the line.
    pub(super) fn next_turn(&self, now: Instant) -> Option<Instant> {
        let is_left_out = self.behind.is_some_and(|behind| !behind.needs_log);
        self.audience.next_turn(now).or(is_left_out.then_some(now))
    }

    /// Writes to some more members what is in line for them, and puts in line what was left out, if they have room for it
    /// now. Returns to how many.
    pub(super) fn serve(&mut self, limit: usize, position: Option<Position>, now: Instant, tally: &mut Tally) -> usize {
        let served = self.audience.serve(limit, now);
        self.line_moved(position, now, tally);
        served
    }

    /// Sends one member what is in line for it, and an answer to something it said. Returns false if it is none.
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

    /// There may be place in line for what was left out, and for whoever waits to say more.
    fn line_moved(&mut self, position: Option<Position>, now: Instant, tally: &mut Tally) {
        self.catch_up(position, None, now, tally);
        if !self.is_pressed()
            && let Some(relieved) = self.relieved.take()
        {
            relieved.notify_waiters();
        }
    }

    /// Wakes when the members are no longer given more than they are sent; `None` if they are not now.
    pub(super) fn relieved(&mut self) -> Option<OwnedNotified> {
        self.is_pressed().then(|| self.relieved.get_or_insert_default().clone().notified_owned())
    }

    /// What follows `seq`, up to `end`: from memory, or from `read`, a part of the log that was read for this.
    pub(super) fn after(&mut self, seq: u64, end: u64, read: Option<&Stretch>, now: Instant) -> Next {
        let most = self.most_at_a_time();
        match self.recent.after(seq, end, most, now) {
            Next::Unknown => read.map_or(Next::Unknown, |read| read.after(seq, end, most)),
            next => next,
        }
    }

    /// Somebody needs what the log has after `seq`. The sender is dropped if it could not be read.
    pub(super) fn request(&mut self, seq: u64) -> oneshot::Receiver<Arc<Stretch>> {
        self.pages.add(seq)
    }

    /// When to read a part of the log next for those who need one.
    pub(super) fn next_page(&self, now: Instant) -> Option<Instant> {
        self.pages.next(self.needed(), now)
    }

    /// After which `seq` a part of the log is read now; `None` if nobody needs one any more.
    pub(super) fn begin_page(&mut self) -> Option<u64> {
        self.pages.begin(self.needed())
    }

    /// A part was read. It is of this epoch, in which the channel stands at `position`.
    pub(super) fn page_read(&mut self, read: Stretch, position: Position, now: Instant, tally: &mut Tally) {
        let read = Arc::new(read);
        self.recent.absorb(&read, position.seq, now);
        self.pages.answer(&read);
        if let Some(behind) = self.behind.as_mut().filter(|behind| read.answers(behind.seq)) {
            behind.needs_log = false;
        }
        self.catch_up(Some(position), Some(&read), now, tally);
    }

    /// The part could not be read, or is of no use. It is read again after a while if somebody still needs it.
    pub(super) fn page_failed(&mut self, now: Instant) {
        self.pages.fail(now);
    }

    /// Puts what was left out of the line there, once the members have taken most of what is in it.
    fn catch_up(&mut self, position: Option<Position>, read: Option<&Stretch>, now: Instant, tally: &mut Tally) {
        let Some(position) = position else { return };
        while let Some(behind) = self.behind {
            let line = self.audience.in_line();
            if line.messages > self.bounds.messages / 2 || line.bytes > self.bounds.bytes / 2 {
                return;
            }
            // Whoever comes in gets what it asks for by itself.
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

    /// The `seq` after which the members themselves need what only the log has.
    fn needed(&self) -> Option<u64> {
        self.behind.filter(|behind| behind.needs_log).map(|behind| behind.seq)
    }

    fn tell_reset(&mut self, to: Position, reason: ResetReason, tally: &mut Tally) {
        tally.reset(reason);
        self.audience.deliver(Item::Event(Event::Reset { room: self.room.clone(), position: Some(to), reason }));
    }

    /// Most messages to send at once to one who is behind, so that there is room for what is said meanwhile.
    fn most_at_a_time(&self) -> usize {
        self.bounds.messages / 2
    }

    fn is_crowded(&self) -> bool {
        let line = self.audience.in_line();
        line.messages >= self.bounds.messages || line.bytes >= self.bounds.bytes
    }

    /// Whether the members are given more than they are sent.
    pub(super) fn is_pressed(&self) -> bool {
        self.behind.is_some() || self.is_crowded()
    }
}
