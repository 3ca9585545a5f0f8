use bytes::{Buf, Bytes, BytesMut};

use super::wire;
use crate::protocol::Frame;

/// Messages as they go over the socket, one behind the other. Cloning it copies a pointer.
#[derive(Clone, Debug)]
pub struct Batch {
    wire: Bytes,
    messages: usize,
}

impl Batch {
    /// Bytes that are `messages` complete messages; none, if they are part of the WebSocket protocol itself.
    pub fn new(wire: Bytes, messages: usize) -> Self {
        Self { wire, messages }
    }

    /// Several batches as one. One alone is not copied.
    pub fn join<'a>(batches: impl ExactSizeIterator<Item = &'a Self> + Clone) -> Self {
        if let (1, Some(one)) = (batches.len(), batches.clone().next()) {
            return one.clone();
        }
        let mut wire = BytesMut::with_capacity(batches.clone().map(|batch| batch.wire.len()).sum());
        let mut messages = 0;
        for batch in batches {
            wire.extend_from_slice(&batch.wire);
            messages += batch.messages;
        }
        Self::new(wire.freeze(), messages)
    }

    /// The bytes that are to be written.
    pub fn wire(&self) -> &Bytes {
        &self.wire
    }

    /// How many messages it is.
    pub fn messages(&self) -> usize {
        self.messages
    }

    /// Takes bytes that have been written away from the front.
    pub fn advance(&mut self, written: usize) {
        self.wire.advance(written);
    }
}

impl From<&Frame> for Batch {
    fn from(frame: &Frame) -> Self {
        Self::new(wire::text(frame), 1)
    }
}
