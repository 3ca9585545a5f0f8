use std::time::Duration;

use crate::access::Rate;

/// Options of a hub.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many messages, and how many bytes of them, the log of a room keeps, and for how long. With 0 messages there
    /// is no history: no order between servers, and no log.
    pub history_length: usize,
    /// See [`history_length`](Self::history_length).
    pub history_bytes: usize,
    /// See [`history_length`](Self::history_length).
    pub history_age: Duration,
    /// Most bytes of recent messages in memory, for all rooms together.
    pub recent_bytes: usize,
    /// How soon after a message in a room to look up the log's top.
    pub compare_interval: Duration,
    /// Most messages that may be in line in a room.
    pub line_messages: usize,
    /// Most bytes of messages that may be in line in a room.
    pub line_bytes: usize,
    /// Most messages that a client may ask for with `last`.
    pub max_last: u64,
    /// Most rooms with members on this server.
    pub max_rooms: usize,
    /// How many bytes the members of one room may be sent, all together.
    pub room_bytes: Option<Rate>,
    /// How long a client that joins waits for the broker.
    pub join_timeout: Duration,
}
