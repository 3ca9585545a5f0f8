use std::sync::Arc;

use indexmap::IndexMap;

use super::Outbox;
use crate::protocol::Frame;

/// Who gets what is delivered in a room: its members at once, and those who are still being sent what they missed
/// when that is done.
#[derive(Debug, Default)]
pub(super) struct Audience {
    members: IndexMap<u64, Arc<Outbox>>,
    resuming: Vec<Resuming>,
}

/// What was delivered since a member began to catch up.
#[derive(Debug)]
struct Resuming {
    number: u64,
    frames: Vec<Frame>,
    bytes: usize,
    /// Half of what the member's outbox takes: the other half is for what it is being sent.
    max_messages: usize,
    max_bytes: usize,
    overflowed: bool,
}

impl Audience {
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty() && self.resuming.is_empty()
    }

    /// How many members there are.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    pub(super) fn deliver(&mut self, frame: &Frame) {
        self.members.values().for_each(|outbox| outbox.push(frame.clone()));
        for resuming in &mut self.resuming {
            resuming.keep(frame);
        }
    }

    pub(super) fn admit(&mut self, number: u64, outbox: Arc<Outbox>) {
        self.members.insert(number, outbox);
    }

    pub(super) fn leave(&mut self, number: u64) {
        if self.members.swap_remove(&number).is_none() {
            self.resuming.retain(|resuming| resuming.number != number);
        }
    }

    /// The outboxes of all members.
    pub(super) fn outboxes(&self) -> Vec<Arc<Outbox>> {
        self.members.values().cloned().collect()
    }

    /// From now on what is delivered is kept for this client.
    pub(super) fn begin_resuming(&mut self, number: u64, outbox: &Outbox) {
        let (max_messages, max_bytes) = (outbox.bounds().max_messages() / 2, outbox.bounds().max_bytes() / 2);
        self.resuming.push(Resuming {
            number,
            frames: Vec::new(),
            bytes: 0,
            max_messages,
            max_bytes,
            overflowed: false,
        });
    }

    /// Makes the client a member and hands it what was kept. Returns false if that was too much to keep: then it is
    /// no member, and has to catch up once more from where it is.
    pub(super) fn end_resuming(&mut self, number: u64, outbox: &Arc<Outbox>) -> bool {
        let Some(index) = self.resuming.iter().position(|resuming| resuming.number == number) else { return false };
        let resuming = self.resuming.swap_remove(index);
        if resuming.overflowed {
            return false;
        }
        resuming.frames.into_iter().for_each(|frame| outbox.push(frame));
        self.admit(number, outbox.clone());
        true
    }
}

impl Resuming {
    fn keep(&mut self, frame: &Frame) {
        self.bytes += frame.len();
        self.overflowed |= self.bytes > self.max_bytes || self.frames.len() >= self.max_messages;
        if self.overflowed {
            self.frames = Vec::new();
        } else {
            self.frames.push(frame.clone());
        }
    }
}
