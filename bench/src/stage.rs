use std::time::Duration;

use crate::{children::Children, peers::Peers};

/// Other files that a server or the load has open.
const SPARE_FILES: usize = 200;

/// What a scenario needs to do its work.
#[derive(Debug)]
pub struct Stage {
    /// Starts and ends processes.
    pub children: Children,
    /// Where the peers are.
    pub peers: Peers,
    /// Whether to test only the function, with small numbers for a short time.
    pub quick: bool,
    /// How long each measurement lasts.
    pub measuring: Duration,
    /// How many files a process may have open; `None` is no limit.
    pub files: Option<u64>,
}

impl Stage {
    /// A number of clients, rooms or messages: the first one, or the second if this is quick.
    pub fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// This many clients, or as many as sockets are allowed, here and in the server.
    pub fn clients(&self, wanted: usize) -> usize {
        wanted.min(
            self.files
                .map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
                .saturating_sub(SPARE_FILES),
        )
    }

    /// How long each measurement lasts if a scenario has several loads.
    pub fn half(&self) -> Duration {
        self.measuring / 2
    }

    /// How long messages flow before the measurement.
    pub fn warm_up(&self) -> Duration {
        self.pick(Duration::from_secs(2), Duration::from_millis(200))
    }
}
