use std::time::Duration;

use crate::{children::Children, peers::Peers};

/// Files that a server or the load has open besides.
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
    /// For how long is measured, each time.
    pub measuring: Duration,
    /// How many files a process may have open; `None` is no limit.
    pub files: Option<u64>,
}

impl Stage {
    /// A number of clients, rooms or messages: the first one, or the second if this is quick.
    pub fn pick<T>(&self, full: T, quick: T) -> T {
        if self.quick { quick } else { full }
    }

    /// So many clients, or as many as one process can have sockets, here and at the server.
    pub fn clients(&self, wanted: usize) -> usize {
        wanted.min(
            self.files
                .map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
                .saturating_sub(SPARE_FILES),
        )
    }

    /// For how long is measured where one scenario has several loads.
    pub fn half(&self) -> Duration {
        self.measuring / 2
    }

    /// For how long everything flows before it is measured.
    pub fn warm_up(&self) -> Duration {
        self.pick(Duration::from_secs(2), Duration::from_millis(200))
    }
}
