use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::{
    sync::{Notify, futures::OwnedNotified},
    time::Instant,
};

use super::{
    arrival::{Arrival, Refusal, Step},
    audience::Audience,
    claims::{Claim, Claims, Verdict},
    log_watch::LogWatch,
    page_requests::PageRequests,
    recent::{Budget, Entry, Next, Recent, RecentLimits, Stretch},
};
use crate::{
    broker::LookedUp,
    order::{Effect, LogSlice, Publication, ReadFrom, Sequencer},
    protocol::{Channel, CloseCode, Event, Frame, History, Position, ResetReason},
    socket::{Batch, Bounds, Outbox},
    telemetry::Metrics,
};

/// Most publications of one room that are held back while one before them is missing.
const HELD: usize = 256;

/// What all rooms of a server go by.
#[derive(Clone, Debug)]
pub(super) struct RoomRules {
    pub(super) keeps_history: bool,
    pub(super) compare_interval: Duration,
    pub(super) recent: RecentLimits,
    pub(super) budget: Arc<Budget>,
    /// How much may be in line in a room.
    pub(super) bounds: Arc<Bounds>,
}

/// What this server has of one room: the members it serves and the order it serves them in.
#[derive(Debug)]
pub(super) struct LocalRoom {
    channel: Channel,
    /// Tells this room from an earlier one of the same name, whose log may still be being read.
    number: u64,
    /// `None` where no history is kept: then there is no order between servers, and no log.
    sequencer: Option<Sequencer<Entry>>,
    watch: LogWatch,
    recent: Recent,
    claims: Claims,
    pages: PageRequests,
    audience: Audience,
    /// What came after this `seq` is not in line for the members, as too much was. They get it from what is kept, or
    /// from the log, when they have taken that.
    behind: Option<u64>,
    bounds: Arc<Bounds>,
    /// Those who are on their way in.
    arriving: HashSet<u64>,
    /// Wakes those who wait for something about the room to change.
    changed: Option<Arc<Notify>>,
    /// Wakes those who have said something, and wait until the members are no longer given more than they are sent.
    relieved: Option<Arc<Notify>>,
    is_subscribed: bool,
    /// Why it could not be opened when that was last tried.
    refusal: Option<Refusal>,
    /// It is in the queue of those that have something in line for their members, rests before it comes there, or is in
    /// the hands of one who serves them.
    is_queued: bool,
}

/// What has to be done about a room after something has happened to it.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    /// Its log is to be read then.
    pub(super) reading: Option<Instant>,
    /// The top of its log is to be looked up then.
    pub(super) look_up: Option<Instant>,
    /// Its members are to be served then.
    pub(super) turn: Option<Instant>,
    /// A part of its log is to be read for those who wait for it.
    pub(super) page: bool,
}

impl LocalRoom {
    pub(super) fn new(channel: Channel, number: u64, rules: &RoomRules) -> Self {
        Self {
            channel,
            number,
            sequencer: rules.keeps_history.then(|| Sequencer::new(HELD)),
            watch: LogWatch::new(rules.compare_interval),
            recent: Recent::new(rules.recent, rules.budget.clone()),
            claims: Claims::default(),
            pages: PageRequests::default(),
            audience: Audience::default(),
            behind: None,
            bounds: rules.bounds.clone(),
            arriving: HashSet::new(),
            changed: None,
            relieved: None,
            is_subscribed: false,
            refusal: None,
            is_queued: false,
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Whether members can be served: it is subscribed, and the order it is in has a beginning.
    pub(super) fn is_open(&self) -> bool {
        self.sequencer.as_ref().map_or(self.is_subscribed, |sequencer| sequencer.position().is_some())
    }

    /// The highest position known to exist.
    pub(super) fn known(&self) -> Option<Position> {
        self.sequencer.as_ref()?.known()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.audience.is_empty() && self.arriving.is_empty()
    }

    /// Whether its members are given more than they are sent.
    fn is_pressed(&self) -> bool {
        self.behind.is_some() || self.is_crowded()
    }

    /// What has to be done now; each thing is named once.
    pub(super) fn upkeep(&mut self, now: Instant) -> Upkeep {
        let has_hole = self.has_hole();
        let turn = if self.is_queued { None } else { self.audience.next_turn(now) };
        self.is_queued |= turn.is_some();
        Upkeep {
            reading: self.watch.next_reading(has_hole, now),
            look_up: self.watch.next_look_up(),
            turn,
            page: self.pages.queue_once(),
        }
    }

    /// Wakes when the members are no longer given more than they are sent; `None` if they are not.
    pub(super) fn relieved(&mut self) -> Option<OwnedNotified> {
        self.is_pressed().then(|| self.relieved.get_or_insert_default().clone().notified_owned())
    }

    /// Wakes when something about the room has changed.
    fn changed(&mut self) -> OwnedNotified {
        self.changed.get_or_insert_default().clone().notified_owned()
    }

    fn wake(&mut self) {
        if let Some(changed) = self.changed.take() {
            changed.notify_waiters();
        }
    }

    // Coming and going.

    /// What a client that comes in needs next. `read` is a part of the log that was read for it.
    pub(super) fn arrive(
        &mut self,
        arrival: &mut Arrival<'_>,
        mut read: Option<&Stretch>,
        now: Instant,
        metrics: &Metrics,
    ) -> Step {
        self.arriving.insert(arrival.number);
        if !self.is_open() {
            return self.refusal.map_or_else(|| Step::Wait(self.changed()), Step::Refused);
        }
        let members = self.audience.len() + 1;
        let Some(live) = self.live() else { return Step::Enter(vec![arrival.announce_without_history(members)]) };
        if arrival.at.is_some_and(|at| at.epoch != live.epoch) {
            // Numbering began anew while it was sent what it had missed, and what was read for it was numbered before.
            read = None;
            arrival.at = arrival.is_announced.then_some(Position::new(live.epoch, 0));
            arrival.gap = arrival.is_announced.then_some(ResetReason::NewEpoch);
        }
        let begins = arrival.at.or_else(|| self.beginning(arrival, live));
        let Some(mut at) = begins else { return Step::Wait(self.changed()) };
        let announce = |arrival: &mut Arrival<'_>, at| {
            let announcement = arrival.announce(at, live, members);
            announcement.reset.inspect(|reason| metrics.reset(*reason));
            announcement.frames
        };
        let most = self.most_at_a_time();
        loop {
            arrival.at = Some(at);
            if at.seq >= live.seq {
                return Step::Enter(announce(arrival, at));
            }
            let next = match self.recent.after(at.seq, live.seq, most, now) {
                Next::Unknown => read.map_or(Next::Unknown, |read| read.after(at.seq, live.seq, most)),
                next => next,
            };
            match next {
                Next::Messages { batch, to } => {
                    let mut batches = announce(arrival, at);
                    batches.push(batch);
                    arrival.at = Some(Position::new(live.epoch, to));
                    return if to >= live.seq { Step::Enter(batches) } else { Step::Send(batches) };
                }
                Next::Gone { to } => {
                    at = Position::new(live.epoch, to);
                    arrival.skip_to(at);
                }
                Next::Unknown => return Step::Read(self.pages.add(at.seq)),
            }
        }
    }

    /// From where a client gets what it asked for; `None` if the room does not know yet.
    fn beginning(&mut self, arrival: &mut Arrival<'_>, live: Position) -> Option<Position> {
        let seq = match arrival.history {
            History::None => live.seq,
            History::Last(count) => live.seq.saturating_sub(count),
            History::After(Position { epoch, seq }) if epoch == live.epoch && seq <= live.seq => seq,
            // This server, or its members, are behind what the client has had from another one.
            History::After(Position { epoch, seq })
                if self.known().is_some_and(|known| known.epoch == epoch && seq <= known.seq) =>
            {
                return None;
            }
            History::After(..) if !self.watch.is_checked(&mut arrival.awaited) => return None,
            History::After(..) => {
                arrival.gap = Some(ResetReason::UnknownPosition);
                live.seq
            }
        };
        Some(Position::new(live.epoch, seq))
    }

    /// From now on this client gets what is put in line.
    pub(super) fn admit(&mut self, number: u64, outbox: Arc<Outbox>) {
        self.arriving.remove(&number);
        self.audience.admit(number, outbox);
    }

    pub(super) fn leave(&mut self, number: u64) {
        self.arriving.remove(&number);
        self.audience.leave(number);
    }

    pub(super) fn outboxes(&self) -> Vec<Arc<Outbox>> {
        self.audience.outboxes()
    }

    pub(super) fn close_all(&self, code: CloseCode) {
        self.audience.outboxes().iter().for_each(|outbox| outbox.close(code));
    }

    // Serving the members.

    /// Up to where everything is in line for the members, or has been sent to them.
    fn live(&self) -> Option<Position> {
        let position = self.sequencer.as_ref()?.position()?;
        Some(self.behind.map_or(position, |seq| Position::new(position.epoch, seq)))
    }

    /// Writes to some more members what is in line for them. Returns how many it was.
    pub(super) fn serve(&mut self, limit: usize, now: Instant, metrics: &Metrics) -> usize {
        let served = self.audience.serve(limit, now);
        self.go_on(None, now, metrics);
        if !self.is_pressed()
            && let Some(relieved) = self.relieved.take()
        {
            relieved.notify_waiters();
        }
        served
    }

    /// It is in nobody's hands any more.
    pub(super) fn turn_is_over(&mut self) {
        self.is_queued = false;
    }

    /// How many members the round that was begun has not come to yet.
    pub(super) fn left(&self) -> usize {
        self.audience.left()
    }

    /// How many messages are sent at a time to one who is behind: so many that there is room for what is said meanwhile.
    fn most_at_a_time(&self) -> usize {
        self.bounds.max_messages() / 2
    }

    fn is_crowded(&self) -> bool {
        let (messages, bytes) = self.audience.in_line();
        messages >= self.bounds.max_messages() || bytes >= self.bounds.max_bytes()
    }

    /// Puts what was left out of the line there, once the members have taken most of what is in it. `read` is a part of the
    /// log that was read for this.
    fn go_on(&mut self, read: Option<&Stretch>, now: Instant, metrics: &Metrics) {
        let Some(position) = self.sequencer.as_ref().and_then(Sequencer::position) else { return };
        let most = self.most_at_a_time();
        while let Some(seq) = self.behind {
            let (messages, bytes) = self.audience.in_line();
            if messages > self.bounds.max_messages() / 2 || bytes > self.bounds.max_bytes() / 2 {
                return;
            }
            // Whoever comes in gets what it asks for by itself.
            if seq >= position.seq || self.audience.is_empty() {
                self.behind = None;
                self.pages.set_own(None);
                break;
            }
            let next = match self.recent.after(seq, position.seq, most, now) {
                Next::Unknown => read.map_or(Next::Unknown, |read| read.after(seq, position.seq, most)),
                next => next,
            };
            self.behind = Some(match next {
                Next::Messages { batch, to } => {
                    self.audience.deliver(batch);
                    to
                }
                Next::Gone { to } => {
                    let to_position = Position::new(position.epoch, to);
                    self.audience.deliver(reset(&self.channel, to_position, ResetReason::Trimmed, metrics));
                    to
                }
                Next::Unknown => {
                    self.pages.set_own(Some(seq));
                    return;
                }
            });
        }
        self.wake();
    }

    /// Sends one member what is in line for it, and an answer to something it said. Returns false if it is none.
    pub(super) fn answer(&mut self, number: u64, answer: Option<&Frame>) -> bool {
        self.audience.answer(number, answer)
    }

    // What is said.

    /// Hands a frame that has no place in the order to every member. Returns false if the members are behind, so that it is
    /// left out: it is in no log from which they could get it later.
    pub(super) fn deliver(&mut self, frame: &Frame) -> bool {
        let has_place = !self.is_pressed();
        if has_place {
            self.audience.deliver(frame.into());
        }
        has_place
    }

    /// A publication came, in whatever order, and Redis vouches for its place.
    pub(super) fn accept(&mut self, placed: Publication<Frame>, now: Instant) {
        let Some(mut sequencer) = self.sequencer.take() else {
            // It comes from a server that keeps history; here it has no order to be in.
            self.deliver(&placed.item);
            return;
        };
        self.watch.spoke(now);
        let placed = entry(placed);
        #[cfg(feature = "sabotage")]
        if sequencer_is_off() {
            self.audience.deliver(placed.item.batch.clone());
            sequencer.accept(placed, |_| {});
            self.sequencer = Some(sequencer);
            return;
        }
        sequencer.accept(placed, |effect| {
            // Only a reading of the log can show that something is gone.
            if let Effect::Deliver(entry) = effect {
                self.hand_on(entry, now);
            }
        });
        self.sequencer = Some(sequencer);
    }

    /// A publication's turn has come.
    fn hand_on(&mut self, entry: Entry, now: Instant) {
        if self.behind.is_none() && self.is_crowded() {
            self.behind = Some(entry.seq - 1);
        }
        if self.behind.is_none() {
            self.audience.deliver(entry.batch.clone());
        }
        self.recent.keep(entry, now);
        self.wake();
    }

    /// Something came that says where it stands, without Redis vouching for it. Returns false if it cannot be dealt with.
    pub(super) fn claim(&mut self, claim: Claim) -> bool {
        if self.sequencer.is_none() {
            return self.deliver(&claim.frame);
        }
        let is_taken = self.claims.add(claim);
        self.watch.doubt();
        is_taken
    }

    /// A publication is known to exist, and may or may not have come.
    pub(super) fn observe(&mut self, position: Position, now: Instant) {
        if let Some(sequencer) = &mut self.sequencer {
            sequencer.observe(position);
            self.watch.spoke(now);
        }
    }

    // The log.

    /// From now on everything is heard, but what was published until now may have been missed.
    pub(super) fn subscribed(&mut self, now: Instant) {
        (self.is_subscribed, self.refusal) = (true, None);
        if self.sequencer.is_some() {
            self.watch.subscribed(now);
        }
        self.wake();
    }

    /// It cannot be opened at the moment, which those are told who wait for that.
    pub(super) fn refused(&mut self, why: Refusal) {
        self.refusal = Some(why);
        if self.is_open() {
            // Its members no longer hear what is said on other servers, and get it from the log at least.
            self.watch.doubt();
        }
        self.wake();
    }

    /// Whether a publication is known to be missing.
    fn has_hole(&self) -> bool {
        self.sequencer.as_ref().is_some_and(|sequencer| sequencer.position().is_some() && sequencer.is_behind())
    }

    /// Whether the look-up that was planned for this moment is still due.
    pub(super) fn is_look_up(&self, due: Instant) -> bool {
        self.watch.is_look_up(due)
    }

    /// The top of the log was looked up: it is `Ok(None)` if there is no log any more.
    pub(super) fn looked_up(&mut self, top: LookedUp, now: Instant) {
        let succeeded = top.is_ok();
        if let (Some(sequencer), Ok(top)) = (&mut self.sequencer, top)
            && top.is_none_or(|top| sequencer.compare(top))
        {
            self.watch.doubt();
        }
        self.watch.looked_up(succeeded, now);
    }

    /// Starts a reading if it is still needed: the log is to be read from there, or, where that is `None`, only for
    /// its top.
    pub(super) fn begin_reading(&mut self, metrics: &Metrics) -> Option<Option<ReadFrom>> {
        let has_hole = self.has_hole();
        let sequencer = self.sequencer.as_mut()?;
        // One that a reading for another reason came upon may be on its way to close by itself.
        if self.watch.begin_reading(has_hole)? {
            metrics.holes.inc();
        }
        self.claims.ask();
        Some(sequencer.begin_read())
    }

    /// The reading failed and has to be made again.
    pub(super) fn reading_failed(&mut self) {
        self.watch.reading_failed();
    }

    /// The log was read.
    pub(super) fn fill(&mut self, slice: LogSlice<Frame>, now: Instant, metrics: &Metrics) {
        let Some(mut sequencer) = self.sequencer.take() else { return };
        let before = sequencer.position();
        let slice = LogSlice { top: slice.top, entries: slice.entries.into_iter().map(entry).collect() };
        sequencer.fill(slice, |effect| match effect {
            Effect::Deliver(entry) => {
                metrics.messages_recovered.inc();
                self.hand_on(entry, now);
            }
            Effect::Reset(to, ResetReason::Trimmed) if self.behind.is_some() => self.recent.gone(to.seq),
            Effect::Reset(to, reason) => {
                if reason == ResetReason::NewEpoch {
                    self.recent.clear();
                    self.behind = None;
                }
                self.recent.gone(to.seq);
                self.audience.deliver(reset(&self.channel, to, reason, metrics));
            }
        });
        // A long hole takes several readings, and there is nothing to wait for between them.
        self.watch.reading_done(sequencer.is_behind() && sequencer.position() != before);
        let (position, known) = (sequencer.position(), sequencer.known());
        self.sequencer = Some(sequencer);
        let recent = &self.recent;
        let foreign = self.claims.decide(|claim| verdict(claim, position, known, recent));
        foreign.iter().for_each(|frame| _ = self.deliver(&frame.without_place()));
        self.wake();
    }

    /// From where a part of the log is to be read for those who wait for it; `None` if nobody does any more.
    pub(super) fn begin_page(&mut self) -> Option<ReadFrom> {
        let known = self.known()?;
        let seq = self.pages.begin()?;
        Some(ReadFrom { position: Position::new(known.epoch, seq), known: known.seq, void: false })
    }

    /// A part of the log was read; `None` if it could not be. Returns false if it is of no use, so that
    /// [`LocalRoom::retry_page`] has to follow.
    pub(super) fn end_page(
        &mut self,
        from: Position,
        slice: Option<LogSlice<Frame>>,
        now: Instant,
        metrics: &Metrics,
    ) -> bool {
        let position = self.sequencer.as_ref().and_then(Sequencer::position);
        let Some(slice) = slice else {
            self.pages.end(None);
            return false;
        };
        if position.is_none_or(|position| position.epoch != from.epoch) || slice.top.epoch != from.epoch {
            // Those who wait ask again when the room stands in the epoch that holds now.
            self.observe(slice.top, now);
            self.pages.end(None);
            return false;
        }
        let to = slice.entries.last().map_or(slice.top.seq, |entry| entry.position.seq);
        let entries = slice.entries.into_iter().map(|placed| entry(placed).item);
        let read = Arc::new(Stretch::of_reading(from.seq, slice.top.seq, entries));
        self.recent.absorb(&read, position.map_or(0, |position| position.seq), now);
        self.pages.end(Some((&read, from.seq, to)));
        self.go_on(Some(&read), now, metrics);
        true
    }

    /// Asks once more for what the room itself needs of its log.
    pub(super) fn retry_page(&mut self, now: Instant, metrics: &Metrics) {
        self.go_on(None, now, metrics);
    }

    // Memory.

    /// How many bytes of messages it keeps, and when they were used last.
    pub(super) fn kept(&self) -> (usize, Instant) {
        self.recent.usage()
    }

    /// Keeps nothing from before `oldest` (Unix milliseconds).
    pub(super) fn expire(&mut self, oldest: u64) {
        self.recent.expire(oldest);
    }

    /// Keeps no messages any more: they can be read from the log.
    pub(super) fn forget(&mut self) {
        self.recent.clear();
    }
}

/// A publication as members get it.
fn entry(placed: Publication<Frame>) -> Publication<Entry> {
    let Publication { position, ts, item } = placed;
    Publication { position, ts, item: Entry { seq: position.seq, ts, batch: Batch::from(&item) } }
}

/// What the log, which has been read, says of a claim.
fn verdict(claim: &Claim, at: Option<Position>, known: Option<Position>, recent: &Recent) -> Verdict {
    let Position { epoch, seq } = claim.position;
    match (at, known) {
        (Some(at), _) if at.epoch == epoch && seq <= at.seq => match recent.get(seq) {
            Some(entry) if entry.batch.wire() != Batch::from(&claim.frame).wire() => Verdict::Foreign,
            // What is no longer kept cannot be compared. Members have had the message that stands there.
            _ => Verdict::Genuine,
        },
        (_, Some(known)) if known.epoch == epoch && seq <= known.seq => Verdict::Open,
        _ => Verdict::Foreign,
    }
}

/// Whether this server is to break the promise of one order, so that the fault harness can show that it notices.
#[cfg(feature = "sabotage")]
#[allow(clippy::disallowed_methods, reason = "not a setting: it is not there in any server that is for use")]
fn sequencer_is_off() -> bool {
    static IS_OFF: std::sync::LazyLock<bool> =
        std::sync::LazyLock::new(|| std::env::var("ROOMCAST_SABOTAGE").is_ok_and(|part| part == "sequencer"));
    *IS_OFF
}

/// The event that tells members of a gap, which is counted.
fn reset(channel: &Channel, to: Position, reason: ResetReason, metrics: &Metrics) -> Batch {
    metrics.reset(reason);
    Batch::from(&Event::Reset { room: channel.room().cloned(), position: Some(to), reason }.encode())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::net::TcpStream;

    use super::*;
    use crate::{
        protocol::Epoch,
        socket::outbox::tests::{connect, received, wide},
    };

    const EPOCH: Epoch = Epoch(7);

    /// A room with one member, its true log, and what has to be done about them.
    struct Stage {
        room: LocalRoom,
        log: Vec<Publication<Frame>>,
        metrics: Metrics,
        member: Arc<Outbox>,
        client: TcpStream,
        page: Option<ReadFrom>,
    }

    fn placed(seq: u64) -> Publication<Frame> {
        Publication { position: Position::new(EPOCH, seq), ts: 1000 + seq, item: format!("m{seq}").into() }
    }

    impl Stage {
        /// In line may be so many messages, and so many bytes are kept in memory.
        async fn new(line: usize, memory: usize) -> Self {
            let rules = RoomRules {
                keeps_history: true,
                compare_interval: Duration::from_secs(5),
                recent: RecentLimits { length: 1000, bytes: 1 << 20, age: 1_000_000 },
                budget: Arc::new(Budget::new(memory)),
                bounds: Arc::new(Bounds::new(line, 1 << 20, 1 << 20, crate::telemetry::Counter::default())),
            };
            let mut room = LocalRoom::new(Channel::Broadcast, 1, &rules);
            let (metrics, now) = (Metrics::new(), Instant::now());
            room.subscribed(now);
            assert_eq!(room.begin_reading(&metrics), Some(None));
            room.fill(LogSlice { top: Position::new(EPOCH, 0), entries: Vec::new() }, now, &metrics);
            let (member, client) = connect(&wide()).await;
            let member = Arc::new(member);
            room.admit(1, member.clone());
            Self { room, log: Vec::new(), metrics, member, client, page: None }
        }

        fn publish(&mut self) {
            let next = placed(self.log.len() as u64 + 1);
            self.log.push(next.clone());
            self.room.accept(next, Instant::now());
        }

        fn serve(&mut self) -> usize {
            self.room.serve(10, Instant::now(), &self.metrics)
        }

        /// Reads a page of at most three messages, if one is wanted.
        fn read(&mut self) -> bool {
            if self.page.is_none() && self.room.upkeep(Instant::now()).page {
                self.page = self.room.begin_page();
            }
            let Some(from) = self.page.take() else { return false };
            let after = self.log.iter().filter(|entry| entry.position.seq >= from.position.seq).take(3);
            let top = Position::new(EPOCH, self.log.len() as u64);
            let slice = LogSlice { top, entries: after.cloned().collect() };
            assert!(self.room.end_page(from.position, Some(slice), Instant::now(), &self.metrics));
            true
        }

        /// Serves and reads until nothing is left to be done, and returns what the member got.
        async fn end(mut self) -> Vec<String> {
            while self.serve() > 0 || self.read() {
                self.room.turn_is_over();
            }
            assert!(!self.room.is_pressed());
            self.member.shut();
            received(&mut self.client).await
        }
    }

    fn numbers(count: u64) -> Vec<String> {
        (1..=count).map(|seq| format!("m{seq}")).collect()
    }

    #[tokio::test]
    async fn a_flooded_room_writes_nothing_by_itself_and_its_members_get_all_from_memory() {
        let mut stage = Stage::new(4, 1 << 20).await;
        (0..100).for_each(|_| stage.publish());
        assert!(stage.room.is_pressed() && stage.room.audience.in_line().0 == 4);
        assert_eq!(stage.end().await, numbers(100));
    }

    #[tokio::test]
    async fn what_is_not_in_memory_is_taken_from_the_log() {
        let mut stage = Stage::new(4, 0).await;
        (0..100).for_each(|_| stage.publish());
        assert_eq!(stage.end().await, numbers(100));
    }

    #[tokio::test]
    async fn only_what_the_log_no_longer_has_is_told_as_a_gap() {
        let mut stage = Stage::new(4, 0).await;
        (0..100).for_each(|_| stage.publish());
        stage.log.drain(..50);
        // The log's top is the number of messages there ever were.
        let from = loop {
            while stage.serve() > 0 {
                stage.room.turn_is_over();
            }
            if let Some(from) = stage.room.upkeep(Instant::now()).page.then(|| stage.room.begin_page()).flatten() {
                break from;
            }
        };
        let slice = LogSlice { top: Position::new(EPOCH, 100), entries: stage.log.clone() };
        stage.room.end_page(from.position, Some(slice), Instant::now(), &stage.metrics);
        let got = stage.end().await;
        assert_eq!(got[..4], numbers(4));
        assert!(got[4].contains(r#""type":"reset""#) && got[4].contains(r#""seq":50"#), "{}", got[4]);
        assert_eq!(got[5..], numbers(100)[50..]);
    }

    #[tokio::test]
    async fn a_room_that_is_open_and_refused_later_has_its_log_read() {
        let mut stage = Stage::new(4, 0).await;
        stage.room.upkeep(Instant::now());
        stage.room.refused(Refusal::NotAllowed);
        assert!(stage.room.upkeep(Instant::now()).reading.is_some());
    }

    #[derive(Clone, Copy, Debug)]
    enum Doing {
        Publish,
        Serve,
        Read,
        Forget,
        Arrive,
    }

    fn doing() -> impl Strategy<Value = Doing> {
        prop_oneof![
            8 => Just(Doing::Publish),
            3 => Just(Doing::Serve),
            2 => Just(Doing::Read),
            1 => Just(Doing::Forget),
            1 => Just(Doing::Arrive),
        ]
    }

    async fn run(steps: Vec<Doing>) {
        let mut stage = Stage::new(3, 6 * 150).await;
        let room = crate::protocol::RoomId::parse("lobby", 10).unwrap();
        let mut others = Vec::new();
        for step in steps {
            match step {
                Doing::Publish => stage.publish(),
                Doing::Serve => {
                    stage.serve();
                    stage.room.turn_is_over();
                }
                Doing::Read => _ = stage.read(),
                Doing::Forget => stage.room.forget(),
                Doing::Arrive => {
                    let number = others.len() as u64 + 2;
                    let (outbox, client) = connect(&wide()).await;
                    let mut arrival = Arrival::new(number, &room, "a:1", History::After(Position::new(EPOCH, 0)));
                    let (outbox, mut read) = (Arc::new(outbox), None::<Arc<Stretch>>);
                    loop {
                        let step = stage.room.arrive(&mut arrival, read.as_deref(), Instant::now(), &stage.metrics);
                        read = None;
                        match step {
                            Step::Enter(batches) => {
                                outbox.push_batch(&Batch::join(batches.iter()));
                                stage.room.admit(number, outbox.clone());
                                break;
                            }
                            Step::Send(batches) => outbox.push_batch(&Batch::join(batches.iter())),
                            Step::Wait(_) | Step::Refused(_) => panic!("the room is open"),
                            Step::Read(mut page) => {
                                assert!(stage.read());
                                read = page.try_recv().ok();
                            }
                        }
                    }
                    others.push((outbox, client));
                }
            }
        }
        let count = stage.log.len() as u64;
        let got = stage.end().await;
        assert_eq!(got, numbers(count));
        for (outbox, mut client) in others {
            outbox.shut();
            let got = received(&mut client).await;
            assert!(got[0].contains(r#""type":"joined""#) && got[0].contains(r#""seq":0"#), "{}", got[0]);
            assert_eq!(got[1..], numbers(count));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// However a room is flooded, served, read and forgotten: whoever is a member or comes in with a position gets
        /// everything after it, in order and once.
        #[test]
        fn nobody_misses_anything_whatever_is_shed(steps in prop::collection::vec(doing(), 1..80)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(run(steps));
        }
    }
}
