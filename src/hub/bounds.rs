use std::sync::atomic::AtomicUsize;

use prometheus::IntCounter;

/// What all outboxes of a server share: how much may wait, for one client and for all together, and the count of what
/// was sent.
#[derive(Debug)]
pub(super) struct Bounds {
    max_messages: usize,
    max_bytes: usize,
    pub(super) max_total: usize,
    /// Bytes that wait in all outboxes.
    pub(super) total: AtomicUsize,
    /// How many outboxes have such bytes.
    pub(super) laggards: AtomicUsize,
    pub(super) sent: IntCounter,
}

impl Bounds {
    /// Bounds by messages and bytes for each client, and by bytes for all. What was sent is counted in `sent`.
    pub(super) fn new(max_messages: usize, max_bytes: usize, max_total: usize, sent: IntCounter) -> Self {
        let (total, laggards) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { max_messages, max_bytes, max_total, total, laggards, sent }
    }

    /// Most messages that may wait for one client.
    pub(super) fn max_messages(&self) -> usize {
        self.max_messages
    }

    /// Most bytes that may wait for one client.
    pub(super) fn max_bytes(&self) -> usize {
        self.max_bytes
    }
}
