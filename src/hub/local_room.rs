use std::{sync::Arc, time::Duration};

use indexmap::IndexMap;
use tokio::{sync::oneshot, time::Instant};

use super::Outbox;
use crate::{
    protocol::{Channel, CloseCode, Event, Frame, RoomId},
    room::{Effect, LogSlice, Position, Sequencer},
    telemetry::Metrics,
};

/// How long a hole may be open before the log is read. Own publishes are answered on another connection than the
/// one on which others' are heard, so most holes close by themselves in less than a millisecond.
const GRACE: Duration = Duration::from_millis(50);

/// Most publications of one room that are held back while one before them is missing.
const HELD: usize = 256;

/// What this server has of one room: the members it serves and the order it serves them in.
#[derive(Debug)]
pub(super) struct LocalRoom {
    /// Tells this room from an earlier one of the same name, whose log may still be being read.
    number: u64,
    sequencer: Sequencer<Frame>,
    members: IndexMap<u64, Arc<Outbox>>,
    /// Those who joined before the log told where they start.
    waiting: Vec<Candidate>,
    /// The log has to be read whether or not anything is known to be missing.
    unchecked: bool,
    reading: Reading,
}

#[derive(Debug)]
struct Candidate {
    number: u64,
    outbox: Arc<Outbox>,
    room: RoomId,
    admitted: oneshot::Sender<()>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    None,
    /// On the agenda, due at that moment.
    Planned(Instant),
    Running,
}

impl LocalRoom {
    pub(super) fn new(number: u64) -> Self {
        Self {
            number,
            sequencer: Sequencer::new(HELD),
            members: IndexMap::new(),
            waiting: Vec::new(),
            unchecked: false,
            reading: Reading::None,
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The highest position known to exist; `None` until the log has been read for the first time.
    pub(super) fn known(&self) -> Option<Position> {
        self.sequencer.known()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.waiting.is_empty()
    }

    /// Lets a client in at once if it can be told where it starts. If not, the receiver hears when it is in.
    pub(super) fn join(&mut self, number: u64, outbox: &Arc<Outbox>, room: &RoomId) -> Option<oneshot::Receiver<()>> {
        if let Some(position) = self.sequencer.position() {
            self.admit_at(position, number, outbox.clone(), room);
            return None;
        }
        let (admitted, receiver) = oneshot::channel();
        self.waiting.push(Candidate { number, outbox: outbox.clone(), room: room.clone(), admitted });
        Some(receiver)
    }

    /// Lets a client in without a word.
    pub(super) fn admit(&mut self, number: u64, outbox: Arc<Outbox>) {
        self.members.insert(number, outbox);
    }

    fn admit_at(&mut self, position: Position, number: u64, outbox: Arc<Outbox>, room: &RoomId) {
        let members = self.members.len() + 1;
        outbox.push(Event::Joined { room, epoch: position.epoch, seq: position.seq, members }.encode());
        self.admit(number, outbox);
    }

    pub(super) fn leave(&mut self, number: u64) {
        if self.members.swap_remove(&number).is_none() {
            self.waiting.retain(|candidate| candidate.number != number);
        }
    }

    pub(super) fn close_all(&mut self, code: CloseCode) {
        self.members.values().for_each(|outbox| outbox.close(code));
    }

    /// Hands a frame that has no place in the order to every member.
    pub(super) fn deliver(&mut self, frame: &Frame) {
        fan_out(&self.members, frame);
    }

    /// A publication came, in whatever order.
    pub(super) fn accept(&mut self, position: Position, frame: Frame) {
        let members = &self.members;
        self.sequencer.accept(position, frame, |effect| {
            // Only a reading of the log can show that something is gone.
            if let Effect::Deliver(frame) = effect {
                fan_out(members, &frame);
            }
        });
    }

    /// A publication is known to exist, and may or may not have come.
    pub(super) fn observe(&mut self, position: Position) {
        self.sequencer.observe(position);
    }

    /// From now on everything is heard, but what was published until now may have been missed.
    pub(super) fn subscribed(&mut self) {
        self.unchecked = true;
    }

    /// When the log has to be read next; each time is named once.
    pub(super) fn next_reading(&mut self, now: Instant) -> Option<(Instant, u64)> {
        let due = match (self.unchecked, self.sequencer.is_behind() && self.sequencer.position().is_some()) {
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

    /// Starts a reading if it is still needed: the log is to be read after the position that is returned, or,
    /// where that is `None`, only for its top.
    pub(super) fn begin_reading(&mut self, metrics: &Metrics) -> Option<Option<Position>> {
        if self.reading == Reading::Running {
            return None;
        }
        self.reading = Reading::None;
        let hole = self.sequencer.position().is_some() && self.sequencer.is_behind();
        if !hole && !self.unchecked {
            return None;
        }
        if hole {
            metrics.holes.inc();
        }
        self.reading = Reading::Running;
        self.unchecked = false;
        Some(self.sequencer.begin_read())
    }

    /// The reading failed and has to be made again.
    pub(super) fn reading_failed(&mut self) {
        self.reading = Reading::None;
        self.unchecked = true;
    }

    /// The log was read.
    pub(super) fn fill(&mut self, slice: LogSlice<Frame>, channel: &Channel, metrics: &Metrics) {
        self.reading = Reading::None;
        let has_entries = !slice.entries.is_empty();
        let members = &self.members;
        self.sequencer.fill(slice, |effect| match effect {
            Effect::Deliver(frame) => {
                metrics.messages_recovered.inc();
                fan_out(members, &frame);
            }
            Effect::Reset(to, reason) => {
                metrics.reset(reason.as_str());
                let (room, reason) = (channel.room(), reason.as_str());
                fan_out(members, &Event::Reset { room, epoch: to.epoch, seq: to.seq, reason }.encode());
            }
        });
        // A long hole takes several readings, and there is nothing to wait for between them.
        self.unchecked |= has_entries && self.sequencer.is_behind();
        if let Some(position) = self.sequencer.position() {
            for Candidate { number, outbox, room, admitted } in std::mem::take(&mut self.waiting) {
                self.admit_at(position, number, outbox, &room);
                // Whoever has stopped waiting leaves by itself.
                let _ = admitted.send(());
            }
        }
    }
}

fn fan_out(members: &IndexMap<u64, Arc<Outbox>>, frame: &Frame) {
    members.values().for_each(|outbox| outbox.push(frame.clone()));
}
