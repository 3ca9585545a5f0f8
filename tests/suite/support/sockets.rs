//! What the system holds for the connections of a server.

use std::net::SocketAddr;

/// A connection as the server's system has it, whether or not the server still does.
pub struct Held {
    /// The client's port.
    pub peer: u16,
    /// Bytes that wait to be taken by the client, or to be read by the server.
    pub bytes: u64,
}

/// All connections of the server at this address.
pub fn held(server: SocketAddr) -> Vec<Held> {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("a system that tells");
    let held = table.lines().skip(1).filter_map(|line| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let port = |address: &str| u16::from_str_radix(address.rsplit(':').next()?, 16).ok();
        let (peer, state) = (port(columns[2])?, columns[3]);
        let is_connection = port(columns[1])? == server.port() && !["0A", "06"].contains(&state);
        let sum = columns[4].split(':').filter_map(|queue| u64::from_str_radix(queue, 16).ok()).sum();
        is_connection.then_some(Held { peer, bytes: sum })
    });
    held.collect()
}
