use std::sync::Arc;

use tokio::sync::oneshot;

use super::recent::Stretch;

/// Who waits for which part of one channel's log.
///
/// Those who wait for the same part get it from one reading, and of one channel one part is read at a time. It holds at
/// most one request for each client that comes in, and one for the channel itself.
#[derive(Debug, Default)]
pub(super) struct PageRequests {
    waiting: Vec<(u64, oneshot::Sender<Arc<Stretch>>)>,
    /// The channel itself needs what comes after this `seq`.
    own: Option<u64>,
    /// It is in the queue of channels whose log is to be read, or is being read.
    is_queued: bool,
}

impl PageRequests {
    /// Somebody needs what comes after `seq`. The sender is dropped if it could not be read.
    pub(super) fn add(&mut self, seq: u64) -> oneshot::Receiver<Arc<Stretch>> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.retain(|(_, waiting)| !waiting.is_closed());
        self.waiting.push((seq, sender));
        receiver
    }

    /// The channel itself needs what comes after `seq`, or, with `None`, nothing any more.
    pub(super) fn set_own(&mut self, seq: Option<u64>) {
        self.own = seq;
    }

    /// Whether the channel has to be put into the queue now.
    pub(super) fn queue_once(&mut self) -> bool {
        let is_new = !self.is_queued && (self.own.is_some() || !self.waiting.is_empty());
        self.is_queued |= is_new;
        is_new
    }

    /// From where the log is to be read; `None` if nobody waits any more.
    pub(super) fn begin(&mut self) -> Option<u64> {
        self.waiting.retain(|(_, waiting)| !waiting.is_closed());
        let from = self.waiting.iter().map(|(seq, _)| *seq).chain(self.own).min();
        self.is_queued = from.is_some();
        from
    }

    /// It was read after `from`, up to `to`; `None` if it could not be. Whoever waits for a part of that gets it, and after
    /// a failure all are told.
    pub(super) fn end(&mut self, read: Option<(&Arc<Stretch>, u64, u64)>) {
        self.is_queued = false;
        let Some((stretch, from, to)) = read else {
            self.waiting.clear();
            self.own = None;
            return;
        };
        for (seq, waiting) in std::mem::take(&mut self.waiting) {
            if seq == from || (from..to).contains(&seq) {
                // Whoever has stopped waiting needs it no more.
                let _ = waiting.send(stretch.clone());
            } else {
                self.waiting.push((seq, waiting));
            }
        }
        self.own = self.own.filter(|seq| *seq != from && !(from..to).contains(seq));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch() -> Arc<Stretch> {
        Arc::new(Stretch::default())
    }

    #[test]
    fn one_reading_serves_all_who_wait_for_a_part_of_it() {
        let mut requests = PageRequests::default();
        let (mut early, mut later, mut far) = (requests.add(10), requests.add(12), requests.add(300));
        assert!(requests.queue_once() && !requests.queue_once());
        assert_eq!(requests.begin(), Some(10));
        requests.end(Some((&stretch(), 10, 200)));
        assert!(early.try_recv().is_ok() && later.try_recv().is_ok() && far.try_recv().is_err());
        assert!(requests.queue_once());
        assert_eq!(requests.begin(), Some(300));
        // A reading that found nothing is an answer too.
        requests.end(Some((&stretch(), 300, 300)));
        assert!(far.try_recv().is_ok() && !requests.queue_once());
    }

    #[test]
    fn a_failure_is_told_to_all_and_who_has_gone_is_forgotten() {
        let mut requests = PageRequests::default();
        drop(requests.add(1));
        let mut stays = requests.add(2);
        requests.set_own(Some(5));
        assert!(requests.queue_once());
        assert_eq!(requests.begin(), Some(2));
        requests.end(None);
        assert_eq!(stays.try_recv().unwrap_err(), oneshot::error::TryRecvError::Closed);
        assert!(!requests.queue_once());
        drop(requests.add(3));
        assert!(requests.queue_once());
        assert_eq!(requests.begin(), None);
        let _waits = requests.add(4);
        assert!(requests.queue_once());
    }
}
