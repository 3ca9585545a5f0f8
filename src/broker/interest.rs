use std::{
    collections::HashSet,
    sync::{Mutex, PoisonError},
};

use tokio::sync::Notify;

use crate::protocol::Channel;

/// The channels whose subscription may have to change.
///
/// It is a set, so a room that empties and fills a thousand times is one entry: the number of rooms bounds it, not the
/// number of joins and leaves.
#[derive(Debug, Default)]
pub(super) struct Interest {
    changed: Mutex<HashSet<Channel>>,
    wake: Notify,
}

impl Interest {
    pub(super) fn changed(&self, channel: Channel) {
        self.changed.lock().unwrap_or_else(PoisonError::into_inner).insert(channel);
        self.wake.notify_one();
    }

    /// All that changed since the last call; waits for the first. Cancel-safe.
    pub(super) async fn next(&self) -> HashSet<Channel> {
        loop {
            let changed = self.take();
            if !changed.is_empty() {
                return changed;
            }
            self.wake.notified().await;
        }
    }

    /// All that changed since the last call, if anything did.
    pub(super) fn take(&self) -> HashSet<Channel> {
        std::mem::take(&mut self.changed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
