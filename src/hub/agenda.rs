use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::{
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::ids::{ChannelKey, Generation};

/// Work for a channel that happens outside its lock. Each job has an [`Agenda`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Job {
    /// Read its log, because something is missing or may be.
    Read,
    /// Look up the top of its log.
    LookUp,
    /// Send its members what is in line for them.
    Serve,
    /// Read a page of its log for those who wait for it.
    Page,
}

impl Job {
    pub(super) const ALL: [Self; 4] = [Self::Read, Self::LookUp, Self::Serve, Self::Page];
}

/// Which channels need a job, and when.
///
/// Each channel is on it at most once, and with at most one worker: the worker holds a [`Lease`], and what is added
/// meanwhile becomes due when the lease ends. So the number of channels bounds the agenda, and callers need not
/// remember what is on it. The idea is the work queue of Kubernetes' client-go.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    schedule: Mutex<Schedule>,
    /// Wakes one waiting worker, who then watches the clock for the channel that is due first.
    changed: Notify,
}

/// A channel on which one worker works.
#[derive(Debug)]
pub(super) struct Lease<'a> {
    agenda: &'a Agenda,
    key: ChannelKey,
}

impl Agenda {
    /// Makes a channel due at this time, unless it is due earlier. The earliest comes first; at the same time, first
    /// come first served.
    pub(super) fn add(&self, due: Instant, key: &ChannelKey) {
        if self.schedule().add(due, key) {
            self.changed.notify_one();
        }
    }

    /// Forgets a channel that no longer exists.
    pub(super) fn remove(&self, generation: Generation) {
        self.schedule().remove(generation);
    }

    /// The next channel that is due, if one is.
    pub(super) fn take(&self, now: Instant) -> Option<Lease<'_>> {
        self.take_or_due(now).ok()
    }

    /// Waits for the next channel that is due. Cancel-safe.
    pub(super) async fn next(&self) -> Lease<'_> {
        loop {
            let due = match self.take_or_due(Instant::now()) {
                Ok(lease) => return lease,
                Err(due) => due,
            };
            match due {
                Some(due) => tokio::select! {
                    () = sleep_until(due) => {}
                    () = self.changed.notified() => {}
                },
                None => self.changed.notified().await,
            }
        }
    }

    /// The next channel that is due, or when one will be.
    fn take_or_due(&self, now: Instant) -> Result<Lease<'_>, Option<Instant>> {
        let (key, is_left) = {
            let mut schedule = self.schedule();
            let key = schedule.take(now)?;
            (key, !schedule.queue.is_empty())
        };
        if is_left {
            // This worker is busy now, so another must watch for the rest.
            self.changed.notify_one();
        }
        Ok(Lease { agenda: self, key })
    }

    fn schedule(&self) -> MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease<'_> {
    /// The channel.
    pub(super) fn key(&self) -> &ChannelKey {
        &self.key
    }

    /// Gives the channel back. It is due again at `due`, or at the time that was added meanwhile, whichever is earlier.
    pub(super) fn finish(self, due: Option<Instant>) {
        if let Some(due) = due {
            self.agenda.add(due, &self.key);
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if self.agenda.schedule().release(&self.key) {
            self.agenda.changed.notify_one();
        }
    }
}

/// The agenda without its tasks.
#[derive(Debug, Default)]
struct Schedule {
    /// By due time, then by number.
    queue: BTreeMap<(Instant, u64), ChannelKey>,
    channels: HashMap<Generation, Standing>,
    added: u64,
}

#[derive(Clone, Copy, Debug)]
enum Standing {
    /// It is in the queue, at this place.
    Waits(Instant, u64),
    /// A worker has it; it is due again at this time, if that was added meanwhile.
    InHand(Option<Instant>),
}

impl Schedule {
    /// Returns whether the queue has changed.
    fn add(&mut self, due: Instant, key: &ChannelKey) -> bool {
        match self.channels.get_mut(&key.generation) {
            Some(Standing::Waits(at, _)) if *at <= due => return false,
            Some(Standing::Waits(at, number)) => drop(self.queue.remove(&(*at, *number))),
            Some(Standing::InHand(again)) => {
                *again = Some(again.map_or(due, |again| again.min(due)));
                return false;
            }
            None => {}
        }
        self.added += 1;
        self.queue.insert((due, self.added), key.clone());
        self.channels.insert(key.generation, Standing::Waits(due, self.added));
        true
    }

    /// The first channel that is due, or the time when one will be.
    fn take(&mut self, now: Instant) -> Result<ChannelKey, Option<Instant>> {
        let Some(first) = self.queue.first_entry() else { return Err(None) };
        let (due, _) = *first.key();
        if due > now {
            return Err(Some(due));
        }
        let key = first.remove();
        self.channels.insert(key.generation, Standing::InHand(None));
        Ok(key)
    }

    /// A worker gives it back. Returns whether the queue has changed.
    fn release(&mut self, key: &ChannelKey) -> bool {
        let standing = self.channels.remove(&key.generation);
        matches!(standing, Some(Standing::InHand(Some(again))) if self.add(again, key))
    }

    fn remove(&mut self, generation: Generation) {
        match self.channels.get_mut(&generation) {
            Some(Standing::Waits(due, number)) => {
                self.queue.remove(&(*due, *number));
                self.channels.remove(&generation);
            }
            Some(Standing::InHand(again)) => *again = None,
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::protocol::Channel;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(number: u64) -> ChannelKey {
        ChannelKey { channel: Channel::Broadcast, generation: Generation(number) }
    }

    fn number(lease: &Lease<'_>) -> u64 {
        lease.key().generation.0
    }

    #[tokio::test(start_paused = true)]
    async fn channels_come_when_they_are_due_and_earliest_first() {
        let (agenda, start) = (Agenda::default(), Instant::now());
        for seconds in [3, 1, 2] {
            agenda.add(start + SECOND * seconds, &key(seconds.into()));
        }
        assert!(agenda.take(start).is_none());
        for seconds in 1..=3 {
            assert_eq!(number(&agenda.next().await), seconds);
            assert_eq!(start.elapsed().as_secs(), seconds);
        }
        assert!(agenda.schedule().channels.is_empty());
    }

    #[test]
    fn a_channel_is_on_it_once_and_at_its_earliest() {
        let (agenda, start) = (Agenda::default(), Instant::now());
        agenda.add(start + SECOND * 5, &key(1));
        agenda.add(start + SECOND, &key(2));
        agenda.add(start, &key(1));
        agenda.add(start + SECOND * 9, &key(1));
        assert_eq!(agenda.take(start).map(|lease| number(&lease)), Some(1));
        assert!(agenda.take(start).is_none());
        agenda.remove(Generation(2));
        assert!(agenda.take(start + SECOND * 10).is_none());
    }

    #[test]
    fn what_is_added_while_a_channel_is_in_hand_waits_for_the_end_of_the_lease() {
        let (agenda, start) = (Agenda::default(), Instant::now());
        agenda.add(start, &key(1));
        let lease = agenda.take(start).unwrap();
        agenda.add(start + SECOND * 2, &key(1));
        assert!(agenda.take(start + SECOND * 3).is_none(), "it is in hand");
        lease.finish(Some(start + SECOND));
        assert!(agenda.take(start).is_none());
        let lease = agenda.take(start + SECOND).expect("the earlier of the two");
        // The end of a lease does not bring a removed channel back.
        agenda.add(start, &key(1));
        agenda.remove(Generation(1));
        drop(lease);
        assert!(agenda.take(start + SECOND * 9).is_none() && agenda.schedule().channels.is_empty());
    }

    /// Whichever of them wakes, and whatever the others wait for.
    #[tokio::test(start_paused = true)]
    async fn what_is_added_while_workers_wait_is_taken_on_time() {
        let (agenda, start) = (Agenda::default(), Instant::now());
        let worker = async || {
            let mut taken = Vec::new();
            while taken.len() < 3 {
                let lease = agenda.next().await;
                taken.push((number(&lease), start.elapsed().as_secs()));
            }
            taken
        };
        let adding = async {
            // Each time, the workers already wait for what was added before.
            for (at, due) in [(1, 1), (2, 9), (20, 20), (21, 30), (22, 25), (40, 40)] {
                sleep_until(start + SECOND * at).await;
                agenda.add(start + SECOND * due, &key(due.into()));
            }
        };
        let (one, two, ()) = tokio::join!(worker(), worker(), adding);
        let mut all = [one, two].concat();
        all.sort_unstable();
        assert_eq!(all, [1, 9, 20, 25, 30, 40].map(|due| (due, due)));
    }

    proptest! {
        /// Whatever is added, taken, given back and removed: no two workers have the same channel, and nothing that is
        /// due is lost.
        #[test]
        fn everything_added_is_taken_once_it_is_due(
            steps in prop::collection::vec((0..5_u64, 0..4_u8, 0..10_u32), 0..80),
        ) {
            let (agenda, start) = (Agenda::default(), Instant::now());
            let mut leases: Vec<Lease<'_>> = Vec::new();
            let mut wanted = std::collections::BTreeSet::new();
            for (id, step, at) in steps {
                match step {
                    0 => {
                        agenda.add(start + SECOND * at, &key(id));
                        wanted.insert(id);
                    }
                    1 => {
                        if let Some(lease) = agenda.take(start + SECOND * at) {
                            prop_assert!(leases.iter().all(|held| number(held) != number(&lease)));
                            wanted.remove(&number(&lease));
                            leases.push(lease);
                        }
                    }
                    2 => drop(leases.pop()),
                    _ => {
                        agenda.remove(Generation(id));
                        wanted.remove(&id);
                    }
                }
            }
            leases.clear();
            let rest = std::iter::from_fn(|| agenda.take(start + SECOND * 10).map(|lease| number(&lease)));
            prop_assert_eq!(rest.collect::<std::collections::BTreeSet<_>>(), wanted);
            prop_assert!(agenda.schedule().channels.is_empty() && agenda.schedule().queue.is_empty());
        }
    }
}
