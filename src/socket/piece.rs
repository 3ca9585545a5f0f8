use bytes::{Buf, Bytes};

/// Bytes for the wire that belong together. Cloning them copies a pointer.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    wire: Bytes,
    messages: usize,
}

impl Piece {
    /// Bytes that are `messages` complete messages; none, if they are part of the WebSocket protocol itself.
    pub(super) fn new(wire: Bytes, messages: usize) -> Self {
        Self { wire, messages }
    }

    /// What is left to write.
    pub(super) fn wire(&self) -> &Bytes {
        &self.wire
    }

    /// How many messages it is.
    pub(super) fn messages(&self) -> usize {
        self.messages
    }

    /// Takes bytes that have been written away from the front.
    pub(super) fn advance(&mut self, written: usize) {
        self.wire.advance(written);
    }
}
