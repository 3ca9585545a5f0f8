//! Connections that are plain HTTP: those that have not been upgraded, or never will be. There is a bound on them, and
//! whoever has let the server wait longest gives way to the next.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::telemetry::Counter;

/// How many plain connections a listener has at a time, and when one of them has to give way.
#[derive(Clone, Copy, Debug)]
pub struct PlainBound {
    places: usize,
    /// How long a connection has for its first request, whoever else wants in.
    grace: Duration,
}

impl PlainBound {
    /// For clients. Their request follows right behind the connection, if they and what is between are not overloaded, and
    /// of very many honest ones that come at once none is thrown out before it could speak. Those that want in meanwhile
    /// wait in the system's queue.
    pub fn for_clients(places: usize) -> Self {
        Self { places, grace: Duration::from_secs(2) }
    }

    /// For probes, which are few, and must not wait behind connections that say nothing.
    pub fn for_probes(places: usize) -> Self {
        Self { places, grace: Duration::from_millis(100) }
    }
}

/// The places for plain connections of one listener.
#[derive(Debug)]
pub(super) struct PlainPlaces {
    free: Arc<Semaphore>,
    grace: Duration,
    queue: Mutex<Queue>,
    displaced: Counter,
}

impl PlainPlaces {
    pub(super) fn new(bound: PlainBound, displaced: Counter) -> Arc<Self> {
        let PlainBound { places, grace } = bound;
        Arc::new(Self { free: Arc::new(Semaphore::new(places)), grace, queue: Mutex::default(), displaced })
    }

    /// A place for the next connection. If all are taken, the connection that has let the server wait longest is told to
    /// go, and this returns as soon as it, or any other, has gone.
    pub(super) async fn take(self: &Arc<Self>) -> Arc<PlainPlace> {
        let permit = loop {
            if let Ok(permit) = self.free.clone().try_acquire_owned() {
                break permit;
            }
            let next = self.queue().displace(Instant::now(), self.grace);
            match next {
                Displaced::Told => self.displaced.inc(),
                Displaced::NotBefore(time) => match timeout_at(time, self.free.clone().acquire_owned()).await {
                    Ok(permit) => break permit.expect("it is never closed"),
                    Err(_) => continue,
                },
                Displaced::Nobody => {}
            }
            break self.free.clone().acquire_owned().await.expect("it is never closed");
        };
        let gone = CancellationToken::new();
        let turn = self.queue().enter(Instant::now(), gone.clone());
        Arc::new(PlainPlace {
            places: self.clone(),
            turn: Mutex::new(turn),
            requests: AtomicU64::new(0),
            gone,
            _permit: permit,
        })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no panic under this lock")
    }
}

/// The place of one connection, which is free again when all that share this are done with the connection.
#[derive(Debug)]
pub(super) struct PlainPlace {
    places: Arc<PlainPlaces>,
    turn: Mutex<u64>,
    requests: AtomicU64,
    gone: CancellationToken,
    _permit: OwnedSemaphorePermit,
}

impl PlainPlace {
    /// A request has been read to its end. It is answered in the same breath, so that from then on the connection is idle.
    pub(super) fn requested(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut turn = self.turn.lock().expect("no panic under this lock");
        *turn = self.places.queue().renew(*turn);
    }

    /// How many requests have been read.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Cancelled when the connection has to be closed at once, as another one needs the place.
    pub(super) fn gone(&self) -> &CancellationToken {
        &self.gone
    }
}

impl Drop for PlainPlace {
    fn drop(&mut self) {
        let turn = *self.turn.get_mut().expect("no panic under this lock");
        self.places.queue().leave(turn);
    }
}

/// What came of the wish to displace a connection.
#[derive(Debug, PartialEq, Eq)]
enum Displaced {
    /// One has been told to go.
    Told,
    /// All have to be left in peace until then.
    NotBefore(Instant),
    /// All have been told before.
    Nobody,
}

/// The connections, in the order of their turns to be displaced: the one whose last request (or whose beginning) is the
/// longest ago first.
#[derive(Debug, Default)]
struct Queue {
    next_turn: u64,
    /// Those that have not asked for anything yet, with the time of their beginning.
    fresh: BTreeMap<u64, (Instant, CancellationToken)>,
    /// Those that have had an answer.
    idle: BTreeMap<u64, CancellationToken>,
}

impl Queue {
    fn enter(&mut self, now: Instant, gone: CancellationToken) -> u64 {
        let turn = self.next_turn();
        self.fresh.insert(turn, (now, gone));
        turn
    }

    /// A connection has asked for something: puts it at the end, unless it has been told to go.
    fn renew(&mut self, turn: u64) -> u64 {
        let Some(gone) = self.leave(turn) else { return turn };
        let turn = self.next_turn();
        self.idle.insert(turn, gone);
        turn
    }

    fn leave(&mut self, turn: u64) -> Option<CancellationToken> {
        self.idle.remove(&turn).or_else(|| Some(self.fresh.remove(&turn)?.1))
    }

    fn displace(&mut self, now: Instant, grace: Duration) -> Displaced {
        let fresh = self.fresh.first_key_value().map(|(turn, (since, _))| (*turn, *since + grace));
        let due = fresh.filter(|(_, earliest)| *earliest <= now).map(|(turn, _)| turn);
        let idle = self.idle.first_key_value().map(|(turn, _)| *turn);
        let Some(first) = due.into_iter().chain(idle).min() else {
            return fresh.map_or(Displaced::Nobody, |(_, earliest)| Displaced::NotBefore(earliest));
        };
        if let Some(gone) = self.leave(first) {
            gone.cancel();
        }
        Displaced::Told
    }

    fn next_turn(&mut self) -> u64 {
        self.next_turn += 1;
        self.next_turn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(2);

    #[test]
    fn the_one_that_asked_the_longest_ago_goes_first_and_who_has_not_asked_has_a_grace() {
        let (start, mut queue) = (Instant::now(), Queue::default());
        let gone: [CancellationToken; 5] = Default::default();
        let turns = gone.each_ref().map(|gone| queue.enter(start, gone.clone()));
        let told = || gone.each_ref().map(CancellationToken::is_cancelled);

        assert_eq!(queue.displace(start, GRACE), Displaced::NotBefore(start + GRACE));
        let turn = queue.renew(turns[1]);
        queue.renew(turns[0]);
        queue.renew(turn);
        // All others are younger than the grace.
        assert_eq!(queue.displace(start, GRACE), Displaced::Told);
        assert_eq!(told(), [true, false, false, false, false]);
        // Whoever has been told and still asks is not let in again.
        assert_eq!(queue.renew(turns[0]), turns[0]);
        assert_eq!(queue.displace(start + GRACE, GRACE), Displaced::Told);
        assert_eq!(told(), [true, false, true, false, false]);
        queue.leave(turns[3]);
        queue.displace(start + GRACE, GRACE);
        assert_eq!(told(), [true, false, true, false, true]);
        queue.displace(start + GRACE, GRACE);
        assert_eq!(told(), [true, true, true, false, true]);
        assert_eq!(queue.displace(start + GRACE, GRACE), Displaced::Nobody);
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_had_when_another_has_gone() {
        let displaced = Counter::default();
        let places = PlainPlaces::new(PlainBound { places: 2, grace: GRACE }, displaced.clone());
        let (asked, fresh) = (places.take().await, places.take().await);
        asked.requested();
        tokio::select! {
            _ = places.take() => panic!("a third place of two"),
            () = asked.gone().cancelled() => {}
        }
        assert!(!fresh.gone().is_cancelled());
        drop(asked);
        let third = places.take().await;
        assert_eq!(displaced.get(), 1);
        drop((fresh, third));
        let _ = (places.take().await, places.take().await);
        assert_eq!(displaced.get(), 1);
    }
}
