use std::fmt;

use crate::protocol::{Epoch, Place};

/// A place in the order of one channel: the `seq`th publication of this epoch. `seq` 0 is the place before the
/// first. Only positions of the same epoch come before or after one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub struct Position {
    pub epoch: Epoch,
    pub seq: u64,
}

impl Position {
    /// The `seq`th place of `epoch`.
    pub fn new(epoch: Epoch, seq: u64) -> Self {
        Self { epoch, seq }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.seq, self.epoch)
    }
}

impl From<Position> for Place {
    fn from(position: Position) -> Self {
        Self { epoch: Some(position.epoch), seq: Some(position.seq) }
    }
}
