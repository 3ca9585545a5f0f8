use std::{sync::Arc, time::Duration};

use tokio::{sync::oneshot, time::Instant};

use super::stretch::Stretch;

/// How long to wait after a failed reading.
const PAUSE: Duration = Duration::from_millis(200);

/// Who waits for which page of one channel's log.
///
/// Those who wait for the same page share one reading, and each channel has one reading at a time. It holds at most one
/// request for each arrival.
#[derive(Debug, Default)]
pub(super) struct PageRequests {
    waiting: Vec<(u64, oneshot::Sender<Arc<Stretch>>)>,
    /// No reading before this time, because the last one failed.
    paused_until: Option<Instant>,
}

impl PageRequests {
    /// Asks for what comes after `seq`. The sender is dropped if it could not be read.
    pub(super) fn add(&mut self, seq: u64) -> oneshot::Receiver<Arc<Stretch>> {
        let (sender, receiver) = oneshot::channel();
        self.waiting.retain(|(_, waiting)| !waiting.is_closed());
        self.waiting.push((seq, sender));
        receiver
    }

    /// When to read next, if somebody waits or the channel itself needs what comes after `own`.
    pub(super) fn next(&self, own: Option<u64>, now: Instant) -> Option<Instant> {
        let is_needed = own.is_some() || !self.waiting.is_empty();
        is_needed.then(|| self.paused_until.map_or(now, |until| until.max(now)))
    }

    /// After which `seq` to read now; `None` if nobody waits any more.
    pub(super) fn begin(&mut self, own: Option<u64>) -> Option<u64> {
        self.waiting.retain(|(_, waiting)| !waiting.is_closed());
        self.waiting.iter().map(|(seq, _)| *seq).chain(own).min()
    }

    /// Takes a page, and hands it to all who wait for something in it.
    pub(super) fn answer(&mut self, read: &Arc<Stretch>) {
        self.paused_until = None;
        for (seq, waiting) in std::mem::take(&mut self.waiting) {
            if read.answers(seq) {
                // One who has stopped waiting does not need it.
                let _ = waiting.send(read.clone());
            } else {
                self.waiting.push((seq, waiting));
            }
        }
    }

    /// The reading failed; tells all who wait.
    pub(super) fn fail(&mut self, now: Instant) {
        self.waiting.clear();
        self.paused_until = Some(now + PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::{super::stretch::tests::entry, *};

    /// A page after `from`, up to `to`.
    fn read(from: u64, to: u64) -> Arc<Stretch> {
        Arc::new(Stretch::of_reading(from, to, (from + 1..=to).map(|seq| entry(seq, 1))))
    }

    #[test]
    fn one_reading_serves_all_who_wait_for_a_part_of_it() {
        let (mut requests, now) = (PageRequests::default(), Instant::now());
        assert_eq!((requests.next(None, now), requests.next(Some(1), now)), (None, Some(now)));
        let (mut early, mut later, mut far) = (requests.add(10), requests.add(12), requests.add(300));
        assert_eq!((requests.begin(None), requests.begin(Some(5))), (Some(10), Some(5)));
        requests.answer(&read(10, 200));
        assert!(early.try_recv().is_ok() && later.try_recv().is_ok() && far.try_recv().is_err());
        assert_eq!(requests.begin(None), Some(300));
        // An empty page is an answer too.
        requests.answer(&read(300, 300));
        assert!(far.try_recv().is_ok() && requests.next(None, now).is_none());
    }

    #[test]
    fn a_failure_is_told_to_all_and_the_next_reading_waits() {
        let (mut requests, now) = (PageRequests::default(), Instant::now());
        let mut stays = requests.add(2);
        requests.fail(now);
        assert_eq!(stays.try_recv().unwrap_err(), oneshot::error::TryRecvError::Closed);
        assert_eq!((requests.next(None, now), requests.next(Some(5), now)), (None, Some(now + PAUSE)));
        requests.answer(&read(5, 6));
        assert_eq!(requests.next(Some(6), now), Some(now), "it works again");
    }

    #[test]
    fn who_has_gone_is_forgotten() {
        let mut requests = PageRequests::default();
        drop(requests.add(1));
        assert_eq!(requests.begin(None), None);
        let _waits = requests.add(4);
        assert_eq!(requests.waiting.len(), 1);
    }
}
