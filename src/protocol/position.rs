use std::fmt;

use serde::{Deserialize, Serialize};

use super::Epoch;

/// A place in the order of one channel: the `seq`th publication of this epoch. `seq` 0 is the place before the
/// first. Only positions of the same epoch come before or after one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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

impl Position {
    /// Reads `<epoch>:<seq>`, as URLs have it.
    pub fn parse(text: &str) -> Option<Self> {
        let (epoch, seq) = text.split_once(':')?;
        Some(Self::new(Epoch::parse(epoch)?, seq.parse().ok()?))
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.seq, self.epoch)
    }
}

/// A position, and when the broker assigned it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The position.
    pub position: Position,
    /// Unix milliseconds by the broker's clock. A log that was wound back assigns a number again with another time.
    pub ts: u64,
}
