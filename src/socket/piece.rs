use bytes::{Buf, Bytes};

/// Bytes for the wire that belong together. Cloning them copies a pointer.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    wire: Bytes,
    messages: usize,
}

impl Piece {
    /// Bytes of `messages` complete messages; 0 for control frames.
    pub(super) fn new(wire: Bytes, messages: usize) -> Self {
        Self { wire, messages }
    }

    /// What is left to write.
    pub(super) fn wire(&self) -> &Bytes {
        &self.wire
    }

    /// The number of messages in it.
    pub(super) fn messages(&self) -> usize {
        self.messages
    }

    /// Removes written bytes from the front.
    pub(super) fn advance(&mut self, written: usize) {
        self.wire.advance(written);
    }
}
