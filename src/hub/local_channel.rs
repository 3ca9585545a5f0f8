use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, futures::OwnedNotified, oneshot},
    time::Instant,
};

use super::{
    admission::{Arrival, Decision, View},
    agenda::Job,
    claims::Claim,
    feed::Feed,
    follower::Follower,
    ids::{ClientId, Generation},
    pace::{Load, Pace},
    recent::{Budget, Recent, RecentLimits},
    recipient::Client,
    stretch::Stretch,
    tally::Tally,
};
use crate::{
    access::Rate,
    broker::LookedUp,
    order::{Effect, LogSlice, Publication, ReadFrom},
    protocol::{Batch, Channel, Event, Frame, Position},
};

/// The options of all channels.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) keeps_history: bool,
    pub(super) compare_interval: Duration,
    pub(super) recent: RecentLimits,
    pub(super) budget: Arc<Budget>,
    /// The bounds of a channel's line.
    pub(super) line: Load,
    /// How many bytes a room's members may be sent, all together.
    pub(super) room_bytes: Option<Rate>,
}

/// This server's part of one channel: the log that it follows and the members that it serves. It only decides; others
/// act.
///
/// It connects its parts: the [`Follower`] puts what arrives in order, the [`Feed`] hands it to the members,
/// [`Arrival`]s become members. [`wants`](Self::wants) says what others must do for it.
#[derive(Debug)]
pub(super) struct LocalChannel {
    generation: Generation,
    /// `None` without history: then there is no order between servers, and no log.
    follower: Option<Follower>,
    feed: Feed,
    is_subscribed: bool,
    /// Why the last try to open it failed.
    refusal: Option<Refusal>,
    /// The clients on their way in.
    arriving: HashSet<ClientId>,
    /// Wakes those who wait for a change of the channel.
    changed: Option<Arc<Notify>>,
    tally: Tally,
}

/// Why a channel cannot be opened now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The broker accepts no new rooms.
    Overloaded,
    /// The broker does not allow this server the channel.
    NotAllowed,
}

/// When each [`Job`] is due for a channel, if at all.
pub(super) type Wants = [Option<Instant>; Job::ALL.len()];

/// What to do next for an arrival.
#[derive(Debug)]
pub(super) enum Step {
    /// It is a member now.
    Entered,
    /// It was sent a part of what it missed.
    Sent,
    /// Ask again when this wakes.
    Wait(OwnedNotified),
    /// Read a page of the log for it first.
    Read(oneshot::Receiver<Arc<Stretch>>),
    /// The channel cannot be opened.
    Refused(Refusal),
}

impl LocalChannel {
    pub(super) fn new(channel: &Channel, generation: Generation, rules: &Rules) -> Self {
        let recent = Recent::new(rules.recent, rules.budget.clone());
        let pace = Pace::new(rules.room_bytes.filter(|_| channel.room().is_some()));
        Self {
            generation,
            follower: rules.keeps_history.then(|| Follower::new(rules.compare_interval)),
            feed: Feed::new(channel.room().cloned(), recent, pace, rules.line),
            is_subscribed: false,
            refusal: None,
            arriving: HashSet::new(),
            changed: None,
            tally: Tally::default(),
        }
    }

    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    /// When each job is due in the current state.
    pub(super) fn wants(&self, now: Instant) -> Wants {
        let follower = self.follower.as_ref();
        Job::ALL.map(|job| match job {
            Job::Read => follower?.next_reading(now),
            Job::LookUp => follower?.next_look_up(),
            Job::Serve => self.feed.next_turn(now),
            Job::Page => self.feed.next_page(now),
        })
    }

    /// What was counted since the last call.
    pub(super) fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// Whether members can be served: it is subscribed and has a position.
    pub(super) fn is_open(&self) -> bool {
        self.follower.as_ref().map_or(self.is_subscribed, |follower| follower.position().is_some())
    }

    /// Whether it has members that could not get what is published now, because it is not open yet.
    pub(super) fn is_closed_to_members(&self) -> bool {
        !self.is_open() && !self.feed.audience.is_empty()
    }

    /// The highest position known to exist.
    pub(super) fn known(&self) -> Option<Position> {
        self.follower.as_ref()?.known()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.feed.audience.is_empty() && self.arriving.is_empty()
    }

    fn position(&self) -> Option<Position> {
        self.follower.as_ref()?.position()
    }

    /// A future that ends with the next change of the channel.
    fn changed(&mut self) -> OwnedNotified {
        self.changed.get_or_insert_default().clone().notified_owned()
    }

    fn wake(&mut self) {
        if let Some(changed) = self.changed.take() {
            changed.notify_waiters();
        }
    }

    // Coming and going.

    /// Takes the next step of an arrival. `read` is a page of the log that was read for it.
    pub(super) fn arrive(
        &mut self,
        client: &Client,
        arrival: &mut Arrival,
        read: Option<&Stretch>,
        now: Instant,
    ) -> Step {
        self.arriving.insert(client.id);
        if !self.is_open() {
            return self.refusal.map_or_else(|| Step::Wait(self.changed()), Step::Refused);
        }
        let members = self.feed.audience.len() + 1;
        let decision = match &mut self.follower {
            None => Decision::Enter(arrival.enter_without_history(members)),
            Some(follower) => {
                let (Some(position), Some(known)) = (follower.position(), follower.known()) else {
                    return Step::Wait(self.changed());
                };
                let live = self.feed.live(position);
                let watch = follower.watch();
                let (next_reading, last_read) = (watch.next_number(), watch.last_read());
                let view = View { live, known, members, next_reading, last_read };
                let read = read.filter(|_| !arrival.is_of_another_epoch(live));
                let feed = &mut self.feed;
                let decision = arrival.step(&view, |seq| feed.after(seq, live.seq, read, now), &mut self.tally);
                if let Decision::Await(reading) = decision {
                    watch.need(reading);
                }
                decision
            }
        };
        match decision {
            Decision::Enter(items) => {
                client.recipient.deliver(&Batch::new(items));
                self.admit(client);
                Step::Entered
            }
            Decision::Send(items) => {
                client.recipient.deliver(&Batch::new(items));
                Step::Sent
            }
            Decision::Wait | Decision::Await(_) => Step::Wait(self.changed()),
            Decision::Read(seq) => Step::Read(self.feed.request(seq)),
        }
    }

    /// Adds a member: from now on it gets what is put in line.
    pub(super) fn admit(&mut self, client: &Client) {
        self.arriving.remove(&client.id);
        self.feed.audience.admit(client);
    }

    /// Adds a member that gets nothing until it may hear.
    pub(super) fn admit_deaf(&mut self, client: &Client) {
        self.feed.audience.admit_deaf(client);
    }

    /// From now on this member gets what is put in line.
    pub(super) fn hear(&mut self, client: &Client) {
        self.feed.audience.hear(client);
    }

    /// Removes a member, which first gets what is in line.
    pub(super) fn leave(&mut self, client: ClientId) {
        self.arriving.remove(&client);
        self.feed.audience.leave(client);
    }

    /// All members.
    pub(super) fn members(&self) -> impl Iterator<Item = Client> {
        self.feed.audience.members()
    }

    /// Sends one member what is in line for it, and an answer to its command. Returns false if it is not a member.
    pub(super) fn answer(&mut self, client: ClientId, answer: Option<Event>, now: Instant) -> bool {
        let (position, before) = (self.position(), self.live());
        let is_member = self.feed.answer(client, answer, position, now, &mut self.tally);
        self.wake_if_moved(before);
        is_member
    }

    /// Writes what is in line to some more members. Returns to how many, and whether this channel gets another turn
    /// before others get theirs.
    pub(super) fn serve(&mut self, limit: usize, now: Instant) -> (usize, bool) {
        let (position, before) = (self.position(), self.live());
        let served = self.feed.serve(limit, position, now, &mut self.tally);
        self.wake_if_moved(before);
        (served, self.feed.audience.goes_on())
    }

    /// A future that ends when the members are no longer overloaded; `None` if they are not now.
    pub(super) fn relieved(&mut self) -> Option<OwnedNotified> {
        self.feed.relieved()
    }

    /// The position up to which everything is in line for the members, or has been sent to them.
    fn live(&self) -> Option<Position> {
        self.position().map(|position| self.feed.live(position))
    }

    fn wake_if_moved(&mut self, before: Option<Position>) {
        if self.live() != before {
            self.wake();
        }
    }

    // What is said.

    /// Delivers a frame without a place in the order to every member. Returns false if they are behind, so that it is
    /// left out.
    pub(super) fn deliver_unplaced(&mut self, frame: Frame) -> bool {
        self.feed.deliver_unplaced(frame, None, &mut self.tally)
    }

    /// Delivers a signal to all members but its sender, unless they are behind.
    pub(super) fn signal(&mut self, frame: Frame, sender: Option<ClientId>) {
        self.feed.deliver_unplaced(frame, sender, &mut self.tally);
    }

    /// Takes a publication, in any order; the broker vouches for its place.
    pub(super) fn accept(&mut self, publication: Publication<Frame>, now: Instant) {
        let Some(follower) = &mut self.follower else {
            // It comes from a server that keeps history; this one has no order for it.
            self.deliver_unplaced(publication.item);
            return;
        };
        let feed = &mut self.feed;
        follower.accept(publication, now, |effect| {
            // Only a reading of the log can show a loss.
            if let Effect::Deliver(publication) = effect {
                feed.publish(publication, now);
            }
        });
        self.wake();
    }

    /// Takes a message that claims a place for which the broker does not vouch. Returns false if it must be dropped.
    pub(super) fn claim(&mut self, claim: Claim) -> bool {
        match &mut self.follower {
            Some(follower) => follower.claim(claim),
            None => self.deliver_unplaced(claim.frame),
        }
    }

    /// Takes the position of a publication that exists, and may or may not have arrived.
    pub(super) fn observe(&mut self, position: Position, now: Instant) {
        if let Some(follower) = &mut self.follower {
            follower.observe(position, now);
        }
    }

    // The log.

    /// Everything is heard from now on; what was published before may have been missed.
    pub(super) fn subscribed(&mut self, now: Instant) {
        (self.is_subscribed, self.refusal) = (true, None);
        if let Some(follower) = &mut self.follower {
            follower.watch().subscribed(now);
        }
        self.wake();
    }

    /// It cannot be opened now; tells those who wait for it.
    pub(super) fn refused(&mut self, why: Refusal) {
        self.refusal = Some(why);
        if let Some(follower) = self.follower.as_mut().filter(|follower| follower.position().is_some()) {
            // Its members no longer hear what is said on other servers, but get it from the log.
            follower.watch().doubt();
        }
        self.wake();
    }

    /// Takes the log's top; `Ok(None)` means that there is no log any more.
    pub(super) fn looked_up(&mut self, top: LookedUp, now: Instant) {
        if let Some(follower) = &mut self.follower {
            follower.looked_up(top, now);
        }
    }

    /// Starts a reading if one is still needed: from that position, or, if it is `None`, for the log's top alone.
    pub(super) fn begin_reading(&mut self) -> Option<Option<ReadFrom>> {
        self.follower.as_mut()?.begin_reading(&mut self.tally)
    }

    /// The reading failed; another follows.
    pub(super) fn reading_failed(&mut self) {
        if let Some(follower) = &mut self.follower {
            follower.reading_failed();
        }
    }

    /// Takes a page of the log.
    pub(super) fn fill(&mut self, slice: LogSlice<Frame>, now: Instant) {
        let Some(follower) = &mut self.follower else { return };
        let (feed, tally) = (&mut self.feed, &mut self.tally);
        follower.fill(slice, |effect| match effect {
            Effect::Deliver(publication) => {
                tally.recovered += 1;
                feed.publish(publication, now);
            }
            Effect::Reset(to, reason) => feed.reset(to, reason, tally),
        });
        for frame in follower.decide(&self.feed.recent) {
            self.feed.deliver_unplaced(frame.without_place(), None, &mut self.tally);
        }
        self.wake();
    }

    /// From where to read a page for those who wait for it, and how far the log is known to go; `None` if nobody waits
    /// any more.
    pub(super) fn begin_page(&mut self) -> Option<(Position, u64)> {
        let known = self.known()?;
        let seq = self.feed.begin_page()?;
        Some((Position::new(known.epoch, seq), known.seq))
    }

    /// Takes the page from there: it may say that there is no log any more; `None` means that it could not be read.
    pub(super) fn page_read(
        &mut self,
        (from, known): (Position, u64),
        read: Option<Option<LogSlice<Frame>>>,
        now: Instant,
    ) {
        let position = self.position().filter(|position| position.epoch == from.epoch);
        let is_of_use = |slice: &LogSlice<_>| slice.top.epoch == from.epoch && slice.top.seq >= known;
        match (position, read) {
            (Some(position), Some(Some(slice))) if is_of_use(&slice) => {
                let before = self.live();
                let read = Stretch::of_reading(from.seq, slice.top.seq, slice.entries);
                self.feed.page_read(read, position, now, &mut self.tally);
                self.wake_if_moved(before);
            }
            (_, read) => {
                if let (Some(_), Some(follower)) = (read, &mut self.follower) {
                    // The log was lost or wound back. Those who wait ask again once the channel is in its new epoch.
                    follower.watch().doubt();
                }
                self.feed.page_failed(now);
            }
        }
    }

    // Memory.

    /// How many bytes of messages it keeps in memory, and when they were last used.
    pub(super) fn kept(&self) -> (usize, Instant) {
        self.feed.recent.usage()
    }

    /// Keeps nothing from before `oldest` (Unix milliseconds).
    pub(super) fn expire(&mut self, oldest: u64) {
        self.feed.recent.expire(oldest);
    }

    /// Drops its messages from memory; the log still has them.
    pub(super) fn forget(&mut self) {
        self.feed.recent.clear();
    }
}

#[cfg(test)]
mod tests;
