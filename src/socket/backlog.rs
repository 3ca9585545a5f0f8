use std::{collections::VecDeque, io::IoSlice};

use bytes::Bytes;

use super::{piece::Piece, wire};

/// Most pieces to write with one call.
const PIECES: usize = 32;

/// What waits for one client, in the order of writing. An empty backlog owns no memory.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    pieces: VecDeque<Piece>,
    messages: usize,
    bytes: usize,
    /// A part of the first piece has been written, so the rest of it must follow.
    is_cut: bool,
}

impl Backlog {
    pub(super) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of messages; other pieces count as one each, because they take memory too.
    pub(super) fn weight(&self) -> usize {
        self.messages.max(self.pieces.len())
    }

    /// Adds a piece at the end. `is_cut` says that a part of it has been written.
    pub(super) fn push(&mut self, piece: Piece, is_cut: bool) {
        self.is_cut |= is_cut;
        self.messages += piece.messages();
        self.bytes += piece.wire().len();
        self.pieces.push_back(piece);
    }

    /// Puts a pong ahead of the messages, in place of one that waits there.
    pub(super) fn push_pong(&mut self, pong: Bytes) {
        let (pong, at) = (Piece::new(pong, 0), usize::from(self.is_cut));
        self.bytes += pong.wire().len();
        match self.pieces.get_mut(at).filter(|waiting| wire::is_pong(waiting.wire())) {
            Some(waiting) => {
                self.bytes -= waiting.wire().len();
                *waiting = pong;
            }
            None => self.pieces.insert(at, pong),
        }
    }

    /// The first piece, which goes out next.
    pub(super) fn first(&self) -> Option<&Bytes> {
        self.pieces.front().map(Piece::wire)
    }

    /// What to write next with one call.
    pub(super) fn next(&self) -> Vec<IoSlice<'_>> {
        self.pieces.iter().take(PIECES).map(|piece| IoSlice::new(piece.wire())).collect()
    }

    /// Removes this many written bytes. Returns how many messages that completes.
    pub(super) fn written(&mut self, mut length: usize) -> usize {
        self.bytes -= length;
        let before = self.messages;
        while let Some(first) = self.pieces.front_mut() {
            if length < first.wire().len() {
                first.advance(length);
                self.is_cut |= length > 0;
                return before - self.messages;
            }
            length -= first.wire().len();
            self.messages -= first.messages();
            self.is_cut = false;
            self.pieces.pop_front();
        }
        // Memory that was needed once must not stay for the rest of a connection's life.
        self.pieces = VecDeque::new();
        before - self.messages
    }

    /// Drops everything except the rest of a piece of which the client has a part.
    pub(super) fn shed(&mut self) {
        let rest = if self.is_cut { self.pieces.pop_front() } else { None };
        *self = Self::default();
        if let Some(rest) = rest {
            self.push(rest, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn piece(length: usize) -> Piece {
        Piece::new(Bytes::from(vec![b'x'; length]), 1)
    }

    fn wire(backlog: &Backlog) -> Vec<u8> {
        backlog.next().iter().flat_map(|piece| piece.to_vec()).collect()
    }

    #[test]
    fn a_pong_goes_ahead_of_what_is_whole_and_takes_the_place_of_the_last_one() {
        let mut backlog = Backlog::default();
        (0..2).for_each(|_| backlog.push(piece(4), false));
        assert_eq!(backlog.written(1), 0);
        for pong in [b"\x8a\x01a", b"\x8a\x01b"] {
            backlog.push_pong(Bytes::from_static(pong));
        }
        assert_eq!((backlog.bytes(), backlog.weight()), (3 + 3 + 4, 3));
        assert_eq!(wire(&backlog), b"xxx\x8a\x01bxxxx");
    }

    #[test]
    fn what_is_shed_cuts_no_message() {
        let mut backlog = Backlog::default();
        (0..3).for_each(|_| backlog.push(piece(4), false));
        assert_eq!(backlog.written(5), 1);
        backlog.shed();
        assert_eq!((backlog.bytes(), backlog.weight(), wire(&backlog)), (3, 1, b"xxx".to_vec()));
        assert_eq!(backlog.written(3), 1);
        backlog.push(piece(4), false);
        backlog.shed();
        assert!(backlog.is_empty() && backlog.bytes() == 0 && backlog.weight() == 0);
    }

    proptest! {
        /// However pieces are written, the counts agree with the contents.
        #[test]
        fn the_accounts_are_right(steps in prop::collection::vec((0..3_u8, 1..20_usize), 0..60)) {
            let mut backlog = Backlog::default();
            let (mut pushed, mut sent, mut shed) = (0, 0, 0);
            for (step, size) in steps {
                match step {
                    0 => {
                        backlog.push(piece(size), false);
                        pushed += 1;
                    }
                    1 => sent += backlog.written(size.min(backlog.bytes())),
                    _ => {
                        let before = backlog.messages;
                        backlog.shed();
                        shed += before - backlog.messages;
                    }
                }
                prop_assert_eq!(backlog.bytes, backlog.pieces.iter().map(|piece| piece.wire().len()).sum::<usize>());
                prop_assert_eq!(backlog.messages, pushed - sent - shed);
                prop_assert!(backlog.pieces.iter().all(|piece| !piece.wire().is_empty()));
            }
        }
    }
}
