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
    pace::Load,
    recent::{Budget, Recent, RecentLimits},
    recipient::{Client, Recipient},
    stretch::Stretch,
    tally::Tally,
};
use crate::{
    broker::LookedUp,
    order::{Effect, LogSlice, Publication, ReadFrom},
    protocol::{Batch, Channel, Event, Frame, Position},
};

/// What all channels of a server go by.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) keeps_history: bool,
    pub(super) compare_interval: Duration,
    pub(super) recent: RecentLimits,
    pub(super) budget: Arc<Budget>,
    /// How much may be in line in a channel.
    pub(super) line: Load,
}

/// What this server has of one channel: its log as it follows it, and the members it serves. It decides, and does nothing.
///
/// It is the switchboard of its parts: the [`Follower`] puts what comes in order, the [`Feed`] hands it to the members,
/// [`Arrival`]s become members. What has to be done outside is in [`wants`](Self::wants).
#[derive(Debug)]
pub(super) struct LocalChannel {
    generation: Generation,
    /// `None` where no history is kept: then there is no order between servers, and no log.
    follower: Option<Follower>,
    feed: Feed,
    is_subscribed: bool,
    /// Why it could not be opened when that was last tried.
    refusal: Option<Refusal>,
    /// Those who are on their way in.
    arriving: HashSet<ClientId>,
    /// Wakes those who wait for something about the channel to change.
    changed: Option<Arc<Notify>>,
    tally: Tally,
}

/// Why a channel cannot be opened at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The broker takes no new rooms.
    Overloaded,
    /// The broker does not let this server have the channel.
    NotAllowed,
}

/// When each [`Job`] is due for a channel, if it is.
pub(super) type Wants = [Option<Instant>; Job::ALL.len()];

/// What is done next for a client that comes in.
#[derive(Debug)]
pub(super) enum Step {
    /// It has been made a member.
    Entered,
    /// It has been sent a part of what it missed.
    Sent,
    /// When this wakes, it is asked again.
    Wait(OwnedNotified),
    /// A part of the log is read for it first.
    Read(oneshot::Receiver<Arc<Stretch>>),
    /// The channel cannot be opened.
    Refused(Refusal),
}

impl LocalChannel {
    pub(super) fn new(channel: &Channel, generation: Generation, rules: &Rules) -> Self {
        let recent = Recent::new(rules.recent, rules.budget.clone());
        Self {
            generation,
            follower: rules.keeps_history.then(|| Follower::new(rules.compare_interval)),
            feed: Feed::new(channel.room().cloned(), recent, rules.line),
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

    /// When each job is due, as things are.
    pub(super) fn wants(&self, now: Instant) -> Wants {
        let follower = self.follower.as_ref();
        Job::ALL.map(|job| match job {
            Job::Read => follower?.next_reading(now),
            Job::LookUp => follower?.next_look_up(),
            Job::Serve => self.feed.next_turn(now),
            Job::Page => self.feed.next_page(now),
        })
    }

    /// What has been written down to be counted since this was asked last.
    pub(super) fn take_tally(&mut self) -> Tally {
        std::mem::take(&mut self.tally)
    }

    /// Whether members can be served: it is subscribed, and the order it is in has a beginning.
    pub(super) fn is_open(&self) -> bool {
        self.follower.as_ref().map_or(self.is_subscribed, |follower| follower.position().is_some())
    }

    /// Whether it has members who could not be given what is published now, as it is not open yet.
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

    /// Wakes when something about the channel has changed.
    fn changed(&mut self) -> OwnedNotified {
        self.changed.get_or_insert_default().clone().notified_owned()
    }

    fn wake(&mut self) {
        if let Some(changed) = self.changed.take() {
            changed.notify_waiters();
        }
    }

    // Coming and going.

    /// Does the next step for a client that comes in. `read` is a part of the log that was read for it.
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

    /// From now on this client gets what is put in line.
    pub(super) fn admit(&mut self, client: &Client) {
        self.arriving.remove(&client.id);
        self.feed.audience.admit(client);
    }

    /// This client gets what is in line, and nothing more.
    pub(super) fn leave(&mut self, client: ClientId) {
        self.arriving.remove(&client);
        self.feed.audience.leave(client);
    }

    /// All members.
    pub(super) fn recipients(&self) -> impl Iterator<Item = &Arc<dyn Recipient>> {
        self.feed.audience.recipients()
    }

    /// Sends one member what is in line for it, and an answer to something it said. Returns false if it is none.
    pub(super) fn answer(&mut self, client: ClientId, answer: Option<Event>, now: Instant) -> bool {
        let (position, before) = (self.position(), self.live());
        let is_member = self.feed.answer(client, answer, position, now, &mut self.tally);
        self.wake_if_moved(before);
        is_member
    }

    /// Writes to some more members what is in line for them. Returns to how many, and whether it goes on with more of them
    /// before others have their turn.
    pub(super) fn serve(&mut self, limit: usize, now: Instant) -> (usize, bool) {
        let (position, before) = (self.position(), self.live());
        let served = self.feed.serve(limit, position, now, &mut self.tally);
        self.wake_if_moved(before);
        (served, self.feed.audience.goes_on())
    }

    /// Wakes when the members are no longer given more than they are sent; `None` if they are not now.
    pub(super) fn relieved(&mut self) -> Option<OwnedNotified> {
        self.feed.relieved()
    }

    /// Up to where everything is in line for the members, or has been sent to them.
    fn live(&self) -> Option<Position> {
        self.position().map(|position| self.feed.live(position))
    }

    fn wake_if_moved(&mut self, before: Option<Position>) {
        if self.live() != before {
            self.wake();
        }
    }

    // What is said.

    /// Hands a frame that has no place in the order to every member. Returns false if they are behind, so that it is left
    /// out.
    pub(super) fn deliver_unplaced(&mut self, frame: Frame) -> bool {
        self.feed.deliver_unplaced(frame, &mut self.tally)
    }

    /// A publication came, in whatever order, and the broker vouches for its place.
    pub(super) fn accept(&mut self, publication: Publication<Frame>, now: Instant) {
        let Some(follower) = &mut self.follower else {
            // It comes from a server that keeps history; here it has no order to be in.
            self.deliver_unplaced(publication.item);
            return;
        };
        let feed = &mut self.feed;
        follower.accept(publication, now, |effect| {
            // Only a reading of the log can show that something is gone.
            if let Effect::Deliver(publication) = effect {
                feed.publish(publication, now);
            }
        });
        self.wake();
    }

    /// Something came that says where it stands, without the broker vouching for it. Returns false if it cannot be dealt
    /// with.
    pub(super) fn claim(&mut self, claim: Claim) -> bool {
        match &mut self.follower {
            Some(follower) => follower.claim(claim),
            None => self.deliver_unplaced(claim.frame),
        }
    }

    /// A publication is known to exist, and may or may not have come.
    pub(super) fn observe(&mut self, position: Position, now: Instant) {
        if let Some(follower) = &mut self.follower {
            follower.observe(position, now);
        }
    }

    // The log.

    /// From now on everything is heard, but what was published until now may have been missed.
    pub(super) fn subscribed(&mut self, now: Instant) {
        (self.is_subscribed, self.refusal) = (true, None);
        if let Some(follower) = &mut self.follower {
            follower.watch().subscribed(now);
        }
        self.wake();
    }

    /// It cannot be opened at the moment, which those are told who wait for that.
    pub(super) fn refused(&mut self, why: Refusal) {
        self.refusal = Some(why);
        if let Some(follower) = self.follower.as_mut().filter(|follower| follower.position().is_some()) {
            // Its members no longer hear what is said on other servers, and get it from the log at least.
            follower.watch().doubt();
        }
        self.wake();
    }

    /// The top of the log was looked up: it is `Ok(None)` if there is no log any more.
    pub(super) fn looked_up(&mut self, top: LookedUp, now: Instant) {
        if let Some(follower) = &mut self.follower {
            follower.looked_up(top, now);
        }
    }

    /// Starts a reading if it is still needed: the log is read from there, or, where that is `None`, only for its top.
    pub(super) fn begin_reading(&mut self) -> Option<Option<ReadFrom>> {
        self.follower.as_mut()?.begin_reading(&mut self.tally)
    }

    /// The reading failed. It is made again.
    pub(super) fn reading_failed(&mut self) {
        if let Some(follower) = &mut self.follower {
            follower.reading_failed();
        }
    }

    /// The log was read.
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
            self.feed.deliver_unplaced(frame.without_place(), &mut self.tally);
        }
        self.wake();
    }

    /// From where a part of the log is read for those who wait for it, and how far it is known to go; `None` if nobody
    /// waits any more.
    pub(super) fn begin_page(&mut self) -> Option<(Position, u64)> {
        let known = self.known()?;
        let seq = self.feed.begin_page()?;
        Some((Position::new(known.epoch, seq), known.seq))
    }

    /// A part of the log was read from there, or there is no log any more, or, with `None`, it could not be read.
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
                    // It was lost or wound back. Those who wait ask again when the channel stands in the epoch that holds
                    // now.
                    follower.watch().doubt();
                }
                self.feed.page_failed(now);
            }
        }
    }

    // Memory.

    /// How many bytes of messages it keeps, and when they were used last.
    pub(super) fn kept(&self) -> (usize, Instant) {
        self.feed.recent.usage()
    }

    /// Keeps nothing from before `oldest` (Unix milliseconds).
    pub(super) fn expire(&mut self, oldest: u64) {
        self.feed.recent.expire(oldest);
    }

    /// Keeps no messages any more: they can be read from the log.
    pub(super) fn forget(&mut self) {
        self.feed.recent.clear();
    }
}

#[cfg(test)]
mod tests;
