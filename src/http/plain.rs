//! Connections that are plain HTTP: before their upgrade, or without one. Their number is bounded, and the one that has
//! kept the server waiting longest gives way to the next.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::telemetry::Counter;

/// How many plain connections a listener may have, and when one must give way.
#[derive(Clone, Copy, Debug)]
pub struct PlainBound {
    places: usize,
    /// How long a connection may take for its first request, even if others want in.
    grace: Duration,
}

impl PlainBound {
    /// For clients. Unless something on the way is overloaded, the request follows the connection at once, and when
    /// very many honest clients come together, none is closed before it could speak. Meanwhile others wait in the
    /// system's queue.
    pub fn for_clients(places: usize) -> Self {
        Self { places, grace: Duration::from_secs(2) }
    }

    /// For probes, which are few and must not wait for silent connections.
    pub fn for_probes(places: usize) -> Self {
        Self { places, grace: Duration::from_millis(100) }
    }
}

/// One listener's places for plain connections.
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

    /// A place for the next connection. If all are taken, this tells the connection that has kept the server waiting
    /// longest to go, and returns as soon as it, or any other, has gone.
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
        let held = Mutex::new(Held { turn, permit: Some(permit), bound: None });
        Arc::new(PlainPlace { places: self.clone(), held, requests: AtomicU64::new(0), gone })
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("no panic under this lock")
    }
}

/// One connection's place, which is free again when nothing uses the connection any more.
#[derive(Debug)]
pub(super) struct PlainPlace {
    places: Arc<PlainPlaces>,
    held: Mutex<Held>,
    requests: AtomicU64,
    gone: CancellationToken,
}

#[derive(Debug)]
struct Held {
    turn: u64,
    /// `None` once the place was given up.
    permit: Option<OwnedSemaphorePermit>,
    /// What is to be done with the connection then, once.
    bound: Option<Bound>,
}

/// Something to do with a connection.
pub(super) struct Bound(Box<dyn FnOnce(&TcpStream) + Send>);

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound").finish_non_exhaustive()
    }
}

impl Bound {
    pub(super) fn apply(self, connection: &TcpStream) {
        self.0(connection);
    }
}

impl PlainPlace {
    /// A request is complete. It is answered at once, so from now on the connection is idle.
    pub(super) fn requested(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut held = self.held();
        held.turn = self.places.queue().renew(held.turn);
    }

    /// How many requests were read.
    pub(super) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// The connection carries an answer that has no end, and has a client's place for it. From now on this one is free for
    /// others, and nobody displaces the connection; `bound` is done with it.
    pub(super) fn give_up(&self, bound: impl FnOnce(&TcpStream) + Send + 'static) {
        let mut held = self.held();
        held.permit = None;
        held.bound = Some(Bound(Box::new(bound)));
        self.places.queue().leave(held.turn);
    }

    /// Whether [`give_up`](Self::give_up) was called.
    pub(super) fn is_given_up(&self) -> bool {
        self.held().permit.is_none()
    }

    /// What is to be done with the connection, if that was not asked before.
    pub(super) fn take_bound(&self) -> Option<Bound> {
        self.held().bound.take()
    }

    /// Cancelled when the connection must close at once, because another one needs the place.
    pub(super) fn gone(&self) -> &CancellationToken {
        &self.gone
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().expect("no panic under this lock")
    }
}

impl Drop for PlainPlace {
    fn drop(&mut self) {
        let turn = self.held().turn;
        self.places.queue().leave(turn);
    }
}

/// The result of trying to displace a connection.
#[derive(Debug, PartialEq, Eq)]
enum Displaced {
    /// One was told to go.
    Told,
    /// None may be displaced before then.
    NotBefore(Instant),
    /// All have been told already.
    Nobody,
}

/// The connections, in the order in which they would be displaced: first the one whose last request, or beginning, is
/// longest ago.
#[derive(Debug, Default)]
struct Queue {
    next_turn: u64,
    /// Those without a request yet, with the time of their beginning.
    fresh: BTreeMap<u64, (Instant, CancellationToken)>,
    /// Those that have got an answer.
    idle: BTreeMap<u64, CancellationToken>,
}

impl Queue {
    fn enter(&mut self, now: Instant, gone: CancellationToken) -> u64 {
        let turn = self.next_turn();
        self.fresh.insert(turn, (now, gone));
        turn
    }

    /// A connection has sent a request: moves it to the end, unless it was told to go.
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
        // A connection that was told to go does not get back in with another request.
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
        // One that carries an answer without an end needs no place, and is displaced by nobody.
        third.give_up(|_| ());
        let fourth = places.take().await;
        assert!(third.is_given_up() && !third.gone().is_cancelled());
        drop((fresh, third, fourth));
        let _ = (places.take().await, places.take().await);
        assert_eq!(displaced.get(), 1);
    }
}
