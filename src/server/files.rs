//! How many files this process may open; every connection is one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a server opens besides connections of clients: those to Redis and of probes, the socket that it listens on, and what
/// the runtime needs.
const OTHERS: u64 = 64;

/// Asks for as many files as this process may have, and returns how many that is; `None` is no limit.
///
/// Whoever starts a program, be it systemd or a container runtime, often gives it 1024 and leaves it to the program to
/// take more.
pub fn raise_file_limit() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        Err(_) => current,
    }
}

/// Whether so many files are too few for so many connections.
pub fn is_too_low(limit: Option<u64>, connections: usize) -> bool {
    let wanted = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(OTHERS);
    limit.is_some_and(|limit| limit < wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_must_be_room_for_all_connections_and_some_more() {
        assert!(!is_too_low(None, usize::MAX));
        assert!(!is_too_low(Some(1064), 1000));
        assert!(is_too_low(Some(1063), 1000));
        assert!(is_too_low(Some(u64::MAX - 1), usize::MAX));
    }
}
