use std::time::Duration;

use crate::{children::Children, peers::Peers};

/// What a scenario needs to do its work.
#[derive(Debug)]
pub struct Stage {
    /// Starts and ends processes.
    pub children: Children,
    /// Where the peers are.
    pub peers: Peers,
    /// Whether only the function is to be seen, with small numbers for a short time.
    pub quick: bool,
    /// For how long is measured, each time.
    pub measuring: Duration,
}

impl Stage {
    /// A number of clients, rooms or messages: the first one, or the second if this is quick.
    pub fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// For how long everything flows before it is measured.
    pub fn warm_up(&self) -> Duration {
        self.pick(Duration::from_secs(2), Duration::from_millis(200))
    }
}
