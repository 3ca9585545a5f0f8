use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::time::Instant;

use super::stretch::{Next, Stretch};
use crate::{order::Publication, protocol::Frame};

/// About how much memory a message takes beside its bytes: its place in the map, and what the allocator rounds up.
const OVERHEAD: usize = 128;

/// The bytes that the recent messages of all channels may take.
#[derive(Debug)]
pub(super) struct Budget {
    max: usize,
    used: AtomicUsize,
}

impl Budget {
    pub(super) fn new(max: usize) -> Self {
        Self { max, used: AtomicUsize::new(0) }
    }

    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// How many bytes to free, so that active rooms find memory for new messages.
    pub(super) fn excess(&self) -> usize {
        let is_tight = self.used() > self.max / 8 * 7;
        if is_tight { self.used().saturating_sub(self.max / 4 * 3) } else { 0 }
    }

    fn is_over(&self) -> bool {
        self.used() > self.max
    }
}

/// The recent part of one channel's log, which serves returning clients without the broker.
///
/// It holds at most what the log holds, and all channels together keep to a [`Budget`]: an active channel first gives
/// up its own oldest messages, and the least recently used channels are emptied now and then. What is not here is read
/// from the log.
#[derive(Debug)]
pub(super) struct Recent {
    stretch: Stretch,
    bytes: usize,
    limits: RecentLimits,
    budget: Arc<Budget>,
    used: Instant,
}

/// The bounds of one channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecentLimits {
    pub(super) length: usize,
    pub(super) bytes: usize,
    /// In milliseconds.
    pub(super) age: u64,
}

impl Recent {
    pub(super) fn new(limits: RecentLimits, budget: Arc<Budget>) -> Self {
        Self { stretch: Stretch::default(), bytes: 0, limits, budget, used: Instant::now() }
    }

    /// See [`Stretch::after`].
    pub(super) fn after(&mut self, seq: u64, end: u64, most: usize, now: Instant) -> Next {
        self.used = now;
        self.stretch.after(seq, end, most)
    }

    /// The message with this number, if it is here.
    pub(super) fn get(&self, seq: u64) -> Option<&Publication<Frame>> {
        self.stretch.entries.get(&seq)
    }

    /// Keeps a message, as far as the limits allow.
    pub(super) fn keep(&mut self, entry: Publication<Frame>, now: Instant) {
        self.used = now;
        let newest = entry.ts;
        self.add(entry);
        self.expire(newest.saturating_sub(self.limits.age));
        self.shrink();
    }

    /// Keeps a page of the log, as far as the limits allow and up to `end`.
    pub(super) fn absorb(&mut self, read: &Stretch, end: u64, now: Instant) {
        self.used = now;
        self.stretch.gone = self.stretch.gone.max(read.gone.min(end));
        read.iter().filter(|entry| entry.position.seq <= end).for_each(|entry| self.add(entry.clone()));
        self.shrink();
    }

    /// Up to this `seq`, the log has only what is here.
    pub(super) fn gone(&mut self, to: u64) {
        self.stretch.gone = self.stretch.gone.max(to);
    }

    /// Forgets what got its place before this time.
    pub(super) fn expire(&mut self, oldest: u64) {
        while self.stretch.entries.first_key_value().is_some_and(|(_, entry)| entry.ts < oldest) {
            self.drop_first();
        }
    }

    /// Forgets everything: a new epoch has begun, or others need the memory.
    pub(super) fn clear(&mut self) {
        self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
        (self.stretch, self.bytes) = (Stretch::default(), 0);
    }

    /// How many bytes it takes, and when it was last used.
    pub(super) fn usage(&self) -> (usize, Instant) {
        (self.bytes, self.used)
    }

    fn add(&mut self, entry: Publication<Frame>) {
        let bytes = size(&entry);
        let before = self.stretch.entries.insert(entry.position.seq, entry).as_ref().map_or(0, size);
        self.bytes = self.bytes + bytes - before;
        self.budget.used.fetch_add(bytes, Ordering::Relaxed);
        self.budget.used.fetch_sub(before, Ordering::Relaxed);
    }

    fn shrink(&mut self) {
        while self.stretch.entries.len() > self.limits.length
            || self.bytes > self.limits.bytes
            || (self.budget.is_over() && self.bytes > 0)
        {
            self.drop_first();
        }
    }

    fn drop_first(&mut self) {
        if let Some((_, entry)) = self.stretch.entries.pop_first() {
            self.bytes -= size(&entry);
            self.budget.used.fetch_sub(size(&entry), Ordering::Relaxed);
        }
    }
}

impl Drop for Recent {
    fn drop(&mut self) {
        self.clear();
    }
}

fn size(entry: &Publication<Frame>) -> usize {
    entry.item.len() + OVERHEAD
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::{
        super::stretch::tests::{after, entry},
        *,
    };

    pub(crate) fn recent(budget: usize) -> Recent {
        let limits = RecentLimits { length: 100, bytes: 1 << 20, age: 1000 };
        Recent::new(limits, Arc::new(Budget::new(budget)))
    }

    #[test]
    fn what_was_kept_and_what_was_read_join() {
        let (mut recent, now) = (recent(1 << 20), Instant::now());
        (5..=6).for_each(|seq| recent.keep(entry(seq, 10), now));
        assert_eq!(after(&recent.stretch, 2, 6), None);
        recent.absorb(&Stretch::of_reading(2, 6, (4..=6).map(|seq| entry(seq, 10))), 6, now);
        assert_eq!(after(&recent.stretch, 2, 6), Some((0, 3)));
        assert_eq!(after(&recent.stretch, 3, 6), Some((3, 6)));
    }

    #[test]
    fn all_channels_together_keep_to_the_budget_and_give_it_back() {
        let budget = Arc::new(Budget::new(10 * (100 + OVERHEAD)));
        let limits = RecentLimits { length: 100, bytes: 1 << 20, age: 1000 };
        let (mut one, mut two) = (Recent::new(limits, budget.clone()), Recent::new(limits, budget.clone()));
        let now = Instant::now();
        (1..=8).for_each(|seq| one.keep(entry(seq, 100), now));
        (1..=8).for_each(|seq| two.keep(entry(seq, 100), now));
        assert_eq!((one.usage().0, two.usage().0), (8 * (100 + OVERHEAD), 2 * (100 + OVERHEAD)));
        assert_eq!(after(&two.stretch, 6, 8), Some((2, 8)), "the newest stay");
        assert!(budget.excess() > 0);
        drop(one);
        assert_eq!(budget.excess(), 0);
        drop(two);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn nothing_is_kept_for_longer_than_the_log_keeps_it() {
        let (mut recent, now) = (recent(1 << 20), Instant::now());
        recent.keep(entry(1, 10), now);
        recent.keep(Publication { ts: 1500, ..entry(2, 10) }, now);
        assert!(recent.get(1).is_none() && recent.get(2).is_some());
        recent.expire(1501);
        assert_eq!(recent.usage().0, 0);
    }

    proptest! {
        /// Whatever is kept, read and dropped: what it returns is consecutive, and the counts agree.
        #[test]
        fn what_follows_is_consecutive(
            steps in prop::collection::vec((0..40_u64, 1..8_u64, any::<bool>()), 0..40),
            seq in 0..40_u64,
        ) {
            let (mut recent, now) = (recent(20 * (10 + OVERHEAD)), Instant::now());
            for (from, count, is_reading) in steps {
                let entries = (from + 1..from + 1 + count).map(|seq| entry(seq, 10));
                if is_reading {
                    recent.absorb(&Stretch::of_reading(from, from + count, entries), 60, now);
                } else {
                    entries.for_each(|entry| recent.keep(entry, now));
                }
            }
            let bytes: usize = recent.stretch.iter().map(size).sum();
            prop_assert_eq!((bytes, recent.budget.used()), (recent.bytes, bytes));
            match recent.after(seq, 50, 100, now) {
                Next::Messages { frames, to } => {
                    prop_assert_eq!(frames.len() as u64, to - seq);
                    prop_assert!((seq + 1..=to).all(|seq| recent.get(seq).is_some()));
                }
                Next::Gone { to } => prop_assert!(to > seq && (seq + 1..=to).all(|seq| recent.get(seq).is_none())),
                Next::Unknown => prop_assert!(recent.get(seq + 1).is_none()),
            }
        }
    }
}
