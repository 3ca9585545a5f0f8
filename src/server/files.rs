//! How many files this process may open, and what it opens them for: every connection is one.

/// Files that are kept from clients, so that what the server itself has to open is never refused: standard streams, the
/// sockets that it listens on and those of signals, four of each of two runtimes, connections to Redis (each twice, as
/// a new one is made before the old one has gone), to name servers and a collector of traces, and what `/metrics` reads
/// in `/proc`.
const RESERVE: u64 = 40;

/// Most connections to the address of the probes, if they have one. They are kept from clients in any case.
pub(super) const PROBES: usize = 8;

/// Most connections that have not been upgraded, where there are files enough.
const PLAIN: u64 = 1024;

/// Most clients of a server that was not told how many, where there are files enough.
pub(super) const MOST_CLIENTS: usize = 100_000;

/// How many connections a server takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capacity {
    /// WebSocket clients.
    pub(super) clients: usize,
    /// Connections that have not been upgraded.
    pub(super) plain: usize,
}

impl Capacity {
    /// For a process that may open `files` files, and a server that accepts at most `max_clients`.
    pub(super) fn new(files: Option<u64>, max_clients: usize) -> Self {
        let free = files.unwrap_or(u64::MAX).saturating_sub(RESERVE + PROBES as u64);
        let plain = PLAIN.min(free / 4);
        let clients = usize::try_from(free - plain).unwrap_or(usize::MAX);
        // A server with too few files for anything still says so to whoever asks.
        Self { clients: max_clients.min(clients), plain: usize::try_from(plain).unwrap_or(usize::MAX).max(2) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_is_left_of_the_files() {
        let capacity = |files, max_clients| {
            let Capacity { clients, plain } = Capacity::new(files, max_clients);
            (clients, plain)
        };
        assert_eq!(capacity(None, 100_000), (100_000, 1024));
        assert_eq!(capacity(Some(524_288), 100_000), (100_000, 1024));
        assert_eq!(capacity(Some(10_000), 100_000), (10_000 - 48 - 1024, 1024));
        assert_eq!(capacity(Some(1024), 100_000), (732, 244));
        assert_eq!(capacity(Some(64), 100), (12, 4));
        assert_eq!(capacity(Some(20), 100), (0, 2));
    }

    #[test]
    fn all_together_are_never_more_than_the_files() {
        for files in 64..5000 {
            let Capacity { clients, plain } = Capacity::new(Some(files), usize::MAX);
            assert_eq!((clients + plain + PROBES) as u64 + RESERVE, files);
        }
    }
}
