use super::Total;
use crate::telemetry::Counter;

/// What all outboxes of a server share: how much may wait, for one client and for all together, and the count of sent
/// messages.
#[derive(Debug)]
pub struct Bounds {
    max_messages: usize,
    max_bytes: usize,
    /// Bytes that wait in all outboxes.
    pub(super) total: Total,
    pub(super) sent: Counter,
}

impl Bounds {
    /// Bounds messages and bytes for each client, and bytes for all. `sent` counts what was sent.
    pub fn new(max_messages: usize, max_bytes: usize, max_total: usize, sent: Counter) -> Self {
        Self { max_messages, max_bytes, total: Total::new(max_total), sent }
    }

    /// Most messages that may wait for one client.
    pub fn max_messages(&self) -> usize {
        self.max_messages
    }

    /// Most bytes that may wait for one client.
    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }
}
