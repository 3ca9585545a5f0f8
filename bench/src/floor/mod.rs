//! The floor: the least that fan-out can cost. A bare epoll loop in one thread that takes WebSockets, keeps them by
//! room, and writes each message to every member of its room by one `write` each, as a frame made once.
//!
//! The same load drives it as the servers, so its clients read like theirs, and its writes come in the same bursts. It
//! keeps no order, checks nothing and promises nothing. Two of them pass messages to each other.

mod connection;
mod service;

use std::{net::SocketAddr, time::Duration};

use crate::Result;

pub use self::service::Service;

/// The cost of the writes alone, without reading and waiting.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// Frames written, one call each.
    pub writes: u64,
    /// CPU time of the thread within the loops that write.
    pub time: Duration,
}

/// The text of `GET /cost`, for [`Cost::parse`].
impl std::fmt::Display for Cost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.writes, self.time.as_nanos())
    }
}

impl Cost {
    /// Reads what a floor answers to `GET /cost`.
    pub fn parse(text: &str) -> Option<Self> {
        let (writes, time) = text.trim().split_once(' ')?;
        Some(Self { writes: writes.parse().ok()?, time: Duration::from_nanos(time.parse().ok()?) })
    }
}

/// Runs a floor on the port `PORT`, with another one on the port `PEER` if given, until it is killed.
pub fn run(port: u16, peer: Option<u16>) -> Result<()> {
    let address = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    Service::new(address(port), peer.map(address))?.run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cost_reads_as_it_was_written() {
        let cost = Cost { writes: 50, time: Duration::from_nanos(1_234_567) };
        let read = Cost::parse(&cost.to_string()).unwrap();
        assert_eq!((read.writes, read.time), (cost.writes, cost.time));
        assert!(Cost::parse("no").is_none());
    }
}
