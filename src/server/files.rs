//! How many files this process may open, and for what: every connection is one.

/// Files reserved for the server itself: standard streams, listening sockets and those of signals, four for each of two
/// runtimes, connections to Redis (each twice, because a new one is made before the old one has gone), to name servers
/// and a collector of traces, and what `/metrics` reads in `/proc`.
const RESERVE: u64 = 40;

/// Most connections to the probes' own address. They are reserved even if there is no such address.
pub(super) const PROBES: usize = 8;

/// Most connections to the API. They are reserved if there is one.
pub(super) const API: usize = 256;

/// Most connections before their upgrade, if there are enough files.
const PLAIN: u64 = 1024;

/// Most clients if no setting says how many, and if there are enough files.
pub(super) const MOST_CLIENTS: usize = 100_000;

/// How many connections a server may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Capacity {
    /// WebSocket clients.
    pub(super) clients: usize,
    /// Connections before their upgrade.
    pub(super) plain: usize,
}

impl Capacity {
    /// The numbers for a process that may open `files` files, and a server for at most `max_clients` clients.
    pub(super) fn new(files: Option<u64>, max_clients: usize) -> Self {
        let free = files.unwrap_or(u64::MAX).saturating_sub(RESERVE + PROBES as u64);
        let plain = PLAIN.min(free / 4);
        let clients = usize::try_from(free - plain).unwrap_or(usize::MAX);
        // Even a server with too few files for anything must be able to say so.
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
