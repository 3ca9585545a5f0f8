use std::{
    cmp::Ordering,
    collections::BinaryHeap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use crate::protocol::Channel;

/// Which rooms something is to be done for, and when: their log is to be read or looked up, or they have rested.
///
/// A room is on it once, or a few times where something has become more urgent, so it is bounded by the number of rooms.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    entries: Mutex<BinaryHeap<Entry>>,
    changed: Notify,
}

#[derive(Debug)]
struct Entry {
    due: Instant,
    channel: Channel,
    number: u64,
}

impl Agenda {
    /// Has it done when `due` has come. `number` tells it from a later room of the same name.
    pub(super) fn add(&self, due: Instant, channel: Channel, number: u64) {
        self.entries().push(Entry { due, channel, number });
        self.changed.notify_one();
    }

    /// A room that is due, earliest first, with the moment it was due at.
    pub(super) fn pop_due(&self, now: Instant) -> Option<(Channel, u64, Instant)> {
        let mut entries = self.entries();
        if entries.peek()?.due > now {
            return None;
        }
        entries.pop().map(|entry| (entry.channel, entry.number, entry.due))
    }

    /// Waits until some room is due. Cancel-safe.
    pub(super) async fn due(&self) {
        loop {
            let next = self.entries().peek().map(|entry| entry.due);
            match next {
                Some(due) if due <= Instant::now() => return,
                Some(due) => tokio::select! {
                    () = sleep_until(due) => {}
                    () = self.changed.notified() => {}
                },
                None => self.changed.notified().await,
            }
        }
    }

    fn entries(&self) -> MutexGuard<'_, BinaryHeap<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.due == other.due
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    /// The heap gives its greatest first, which has to be the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        other.due.cmp(&self.due)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn rooms_come_when_they_are_due_and_earliest_first() {
        let agenda = Agenda::default();
        let start = Instant::now();
        for seconds in [3, 1, 2] {
            agenda.add(start + Duration::from_secs(seconds), Channel::Broadcast, seconds);
        }
        assert_eq!(agenda.pop_due(start), None);
        for seconds in 1..=3 {
            agenda.due().await;
            assert_eq!(start.elapsed().as_secs(), seconds);
            let due = start + Duration::from_secs(seconds);
            assert_eq!(agenda.pop_due(Instant::now()), Some((Channel::Broadcast, seconds, due)));
            assert_eq!(agenda.pop_due(Instant::now()), None);
        }
    }
}
