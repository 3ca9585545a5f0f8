use std::{sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use super::audience::Audience;
use crate::{
    broker::Top,
    protocol::{Channel, CloseCode, Event, Frame, History, Place, RoomId},
    room::{Effect, LogSlice, Placed, Position, ReadFrom, ResetReason, Sequencer},
    socket::{Bounds, Outbox},
    telemetry::Metrics,
};

/// How long a hole may be open before the log is read. Own publishes are answered on another connection than the
/// one on which others' are heard, so most holes close by themselves in less than a millisecond.
pub(super) const GRACE: Duration = Duration::from_millis(50);

/// How long after a reading that failed the next one is made.
const RETRY: Duration = Duration::from_secs(1);

/// Most publications of one room that are held back while one before them is missing.
const HELD: usize = 256;

/// What this server has of one room: the members it serves and the order it serves them in.
#[derive(Debug)]
pub(super) struct LocalRoom {
    /// Tells this room from an earlier one of the same name, whose log may still be being read.
    number: u64,
    /// `None` where no history is kept: then there is no order between servers, and no log.
    sequencer: Option<Sequencer<Frame>>,
    audience: Audience,
    /// Those who came before it was known from where they can be served.
    waiting: Vec<(u64, oneshot::Sender<()>)>,
    is_subscribed: bool,
    /// The log has to be read whether or not anything is known to be missing.
    unchecked: bool,
    /// The last reading failed, so that the next one is not made at once.
    has_failed: bool,
    reading: Reading,
    /// It is in the queue of those that have something in line for their members, rests before it comes there, or is in
    /// the hands of one who serves them.
    is_queued: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    None,
    /// On the agenda, due at that moment.
    Planned(Instant),
    Running,
}

/// What a client that joins wants, and how far it has come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Claim {
    pub(super) history: History,
    /// It has been told `joined`.
    pub(super) is_announced: bool,
    /// The log does not have the position it claims.
    pub(super) is_refuted: bool,
}

/// How a client comes in.
#[derive(Debug)]
pub(super) enum Admission {
    /// It is a member, and has been told so.
    Member,
    /// It is to be asked again when this is told that the room is open.
    NotYet(oneshot::Receiver<()>),
    /// The position it claims is not one that this server knows of. The log has to say whether there is such a one.
    Unknown,
    /// It is first to be sent what the log has after `from` and up to `to`; what is delivered meanwhile is kept.
    Missed { from: ReadFrom, to: Position },
}

impl LocalRoom {
    pub(super) fn new(number: u64, keeps_history: bool) -> Self {
        Self {
            number,
            sequencer: keeps_history.then(|| Sequencer::new(HELD)),
            audience: Audience::default(),
            waiting: Vec::new(),
            is_subscribed: false,
            unchecked: false,
            has_failed: false,
            reading: Reading::None,
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
        self.audience.is_empty() && self.waiting.is_empty()
    }

    /// Lets a client in, or says what has to be done before.
    pub(super) fn join(
        &mut self,
        number: u64,
        outbox: &Arc<Outbox>,
        room: &RoomId,
        claim: Claim,
        metrics: &Metrics,
    ) -> Admission {
        let Claim { history, is_announced, is_refuted } = claim;
        if !self.is_open() {
            let (opened, receiver) = oneshot::channel();
            self.waiting.push((number, opened));
            return Admission::NotYet(receiver);
        }
        let order = self.sequencer.as_ref().and_then(|sequencer| sequencer.position().zip(sequencer.known()));
        let place = order.map_or(Place::default(), |(to, _)| to.into());
        let mut is_unknown = false;
        if let Some((to, known)) = order {
            let seq = match history {
                History::After(epoch, seq) if epoch == to.epoch && seq <= to.seq => seq,
                History::After(..) if !is_refuted => return Admission::Unknown,
                History::After(..) => {
                    is_unknown = true;
                    to.seq
                }
                History::None => to.seq,
                History::Last(count) => to.seq.saturating_sub(count),
            };
            if seq < to.seq {
                self.audience.begin_resuming(number, outbox);
                let from = ReadFrom { position: Position::new(to.epoch, seq), known: known.seq, void: false };
                return Admission::Missed { from, to };
            }
        }
        if !is_announced {
            let claims_position = matches!(history, History::After(..));
            let resumed = claims_position.then_some(order.is_some() && !is_unknown);
            outbox.push(&self.joined(room, place, resumed));
        }
        if is_unknown {
            outbox.push(&reset(Some(room), place, ResetReason::UnknownPosition, metrics));
        }
        self.audience.admit(number, outbox.clone());
        Admission::Member
    }

    /// The event that tells a client that it is in.
    pub(super) fn joined(&self, room: &RoomId, place: Place, resumed: Option<bool>) -> Frame {
        Event::Joined { room, place, members: self.audience.len() + 1, resumed }.encode()
    }

    /// Ends [`Admission::Missed`]. Returns false if more was delivered meanwhile than could be kept: then the client
    /// has to be sent more from the log.
    pub(super) fn end_resuming(&mut self, number: u64, outbox: &Arc<Outbox>) -> bool {
        self.audience.end_resuming(number, outbox)
    }

    /// Lets a client in without a word.
    pub(super) fn admit(&mut self, number: u64, outbox: Arc<Outbox>) {
        self.audience.admit(number, outbox);
    }

    pub(super) fn leave(&mut self, number: u64) {
        self.audience.leave(number);
        self.waiting.retain(|(waiting, _)| *waiting != number);
    }

    pub(super) fn outboxes(&self) -> Vec<Arc<Outbox>> {
        self.audience.outboxes()
    }

    pub(super) fn close_all(&self, code: CloseCode) {
        self.audience.outboxes().iter().for_each(|outbox| outbox.close(code));
    }

    /// Writes to some more members what is in line for them. Returns how many it was.
    pub(super) fn serve(&mut self, limit: usize, now: Instant) -> usize {
        self.audience.serve(limit, now)
    }

    /// When the room, which is not in the queue of those that have something in line, has to be there.
    pub(super) fn queue(&mut self, now: Instant) -> Option<Instant> {
        let due = self.audience.next_turn(now);
        self.is_queued = due.is_some();
        due
    }

    /// The same of a room that may be in that queue, and then has to be there no second time.
    pub(super) fn queue_once(&mut self, now: Instant) -> Option<Instant> {
        if self.is_queued { None } else { self.queue(now) }
    }

    /// How many members the round that was begun has not come to yet.
    pub(super) fn left(&self) -> usize {
        self.audience.left()
    }

    /// Whether there is more in line than these bounds allow.
    pub(super) fn is_crowded(&self, bounds: &Bounds) -> bool {
        let (messages, bytes) = self.audience.in_line();
        messages > bounds.max_messages() || bytes > bounds.max_bytes()
    }

    /// Sends one member what is in line for it, and an answer to something it said. Returns false if it is none.
    pub(super) fn answer(&mut self, number: u64, answer: Option<&Frame>) -> bool {
        self.audience.answer(number, answer)
    }

    /// Hands a frame that has no place in the order to every member.
    pub(super) fn deliver(&mut self, frame: &Frame) {
        self.audience.deliver(frame);
    }

    /// A publication came, in whatever order.
    pub(super) fn accept(&mut self, placed: Placed<Frame>) {
        let audience = &mut self.audience;
        match &mut self.sequencer {
            #[cfg(feature = "sabotage")]
            Some(sequencer) if sequencer_is_off() => {
                audience.deliver(&placed.item);
                sequencer.accept(placed, |_| {});
            }
            Some(sequencer) => sequencer.accept(placed, |effect| {
                // Only a reading of the log can show that something is gone.
                if let Effect::Deliver(frame) = effect {
                    audience.deliver(&frame);
                }
            }),
            // It comes from a server that keeps history; here it has no order to be in.
            None => audience.deliver(&placed.item),
        }
    }

    /// A publication is known to exist, and may or may not have come.
    pub(super) fn observe(&mut self, position: Position) {
        if let Some(sequencer) = &mut self.sequencer {
            sequencer.observe(position);
        }
    }

    /// The top of the log was looked up; `None` if there is no log any more.
    pub(super) fn compare(&mut self, top: Option<Top>) {
        // A room that is not subscribed yet will be read when it is.
        if let Some(sequencer) = self.sequencer.as_mut().filter(|_| self.is_subscribed) {
            self.unchecked |= top.is_none_or(|(position, ts)| sequencer.compare(position, ts));
        }
    }

    /// From now on everything is heard, but what was published until now may have been missed.
    pub(super) fn subscribed(&mut self) {
        self.is_subscribed = true;
        (self.unchecked, self.has_failed) = (self.sequencer.is_some(), false);
        self.call_in_if_open();
    }

    fn call_in_if_open(&mut self) {
        if self.is_open() {
            for (_, opened) in self.waiting.drain(..) {
                // Whoever has stopped waiting has left.
                let _ = opened.send(());
            }
        }
    }

    /// Whether a publication is known to be missing.
    fn has_hole(&self) -> bool {
        self.sequencer.as_ref().is_some_and(|sequencer| sequencer.position().is_some() && sequencer.is_behind())
    }

    /// When the log has to be read next; each time is named once.
    pub(super) fn next_reading(&mut self, now: Instant) -> Option<(Instant, u64)> {
        let due = match (self.unchecked, self.has_hole()) {
            (true, _) if self.has_failed => now + RETRY,
            (true, _) => now,
            (false, true) => now + GRACE,
            (false, false) => return None,
        };
        match self.reading {
            Reading::Running => return None,
            Reading::Planned(planned) if planned <= due => return None,
            Reading::Planned(_) | Reading::None => self.reading = Reading::Planned(due),
        }
        Some((due, self.number))
    }

    /// Starts a reading if it is still needed: the log is to be read from there, or, where that is `None`, only for
    /// its top.
    pub(super) fn begin_reading(&mut self, metrics: &Metrics) -> Option<Option<ReadFrom>> {
        if self.reading == Reading::Running {
            return None;
        }
        self.reading = Reading::None;
        let has_hole = self.has_hole();
        let sequencer = self.sequencer.as_mut().filter(|_| has_hole || self.unchecked)?;
        // One that a reading for another reason came upon may be on its way to close by itself.
        if has_hole && !self.unchecked {
            metrics.holes.inc();
        }
        self.reading = Reading::Running;
        self.unchecked = false;
        Some(sequencer.begin_read())
    }

    /// The reading failed and has to be made again.
    pub(super) fn reading_failed(&mut self) {
        self.reading = Reading::None;
        (self.unchecked, self.has_failed) = (true, true);
    }

    /// The log was read.
    pub(super) fn fill(&mut self, slice: LogSlice<Frame>, channel: &Channel, metrics: &Metrics) {
        (self.reading, self.has_failed) = (Reading::None, false);
        let Some(sequencer) = &mut self.sequencer else { return };
        let audience = &mut self.audience;
        let before = sequencer.position();
        sequencer.fill(slice, |effect| match effect {
            Effect::Deliver(frame) => {
                metrics.messages_recovered.inc();
                audience.deliver(&frame);
            }
            Effect::Reset(to, reason) => {
                audience.deliver(&reset(channel.room(), to.into(), reason, metrics));
            }
        });
        // A long hole takes several readings, and there is nothing to wait for between them.
        self.unchecked |= sequencer.is_behind() && sequencer.position() != before;
        self.call_in_if_open();
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

/// The event that tells of a gap, which is counted.
pub(super) fn reset(room: Option<&RoomId>, place: Place, reason: ResetReason, metrics: &Metrics) -> Frame {
    let reason = reason.as_str();
    metrics.reset(reason);
    Event::Reset { room, place, reason }.encode()
}
