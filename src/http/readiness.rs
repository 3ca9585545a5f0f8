use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Whether load balancers should send clients to this server.
///
/// A server that shares its trouble with all others, as they lose their Redis together, stays ready for a while: its
/// clients stay connected, and new ones would find no better server. One that was never ready, or that stops, is
/// unready at once.
#[derive(Debug)]
pub(super) struct Readiness {
    grace: Duration,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It has not been well yet.
    New,
    /// It was well when somebody last asked.
    Well,
    /// It was well before, and somebody found it in trouble first at this time.
    Troubled(Instant),
    /// It stops.
    Leaving,
    /// It stops, and takes no clients any more.
    Refusing,
}

impl Readiness {
    /// For a server that stays ready for `grace` while it is in trouble.
    pub(super) fn new(grace: Duration) -> Self {
        Self { grace, state: Mutex::new(State::New) }
    }

    /// Takes in whether the server is well now. Returns whether it is ready.
    pub(super) fn observe(&self, is_well: bool, now: Instant) -> bool {
        let mut state = self.lock();
        *state = match (*state, is_well) {
            (stopping @ (State::Leaving | State::Refusing), _) => stopping,
            (_, true) => State::Well,
            (State::Well, false) => State::Troubled(now),
            (troubled, false) => troubled,
        };
        match *state {
            State::Well => true,
            State::Troubled(since) => now.saturating_duration_since(since) < self.grace,
            State::New | State::Leaving | State::Refusing => false,
        }
    }

    /// From now on it is unready, because it stops.
    pub(super) fn leave(&self) {
        *self.lock() = State::Leaving;
    }

    /// From now on it takes no clients either.
    pub(super) fn refuse(&self) {
        *self.lock() = State::Refusing;
    }

    /// Whether it stops.
    pub(super) fn is_leaving(&self) -> bool {
        matches!(*self.lock(), State::Leaving | State::Refusing)
    }

    /// Whether it takes no clients any more.
    pub(super) fn refuses(&self) -> bool {
        *self.lock() == State::Refusing
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn trouble_makes_it_unready_only_when_it_lasts() {
        let (readiness, start) = (Readiness::new(SECOND * 10), Instant::now());
        assert!(!readiness.observe(false, start), "it was never well");
        assert!(readiness.observe(true, start + SECOND));
        // Nobody asked for a long time; the grace begins when the trouble is found.
        assert!(readiness.observe(false, start + SECOND * 100));
        assert!(readiness.observe(false, start + SECOND * 109));
        assert!(!readiness.observe(false, start + SECOND * 110));
        assert!(readiness.observe(true, start + SECOND * 111));
        assert!(readiness.observe(false, start + SECOND * 112), "the next trouble has a grace of its own");
        let strict = Readiness::new(Duration::ZERO);
        assert!(strict.observe(true, start) && !strict.observe(false, start));
    }

    #[test]
    fn a_server_that_stops_is_unready_at_once_and_refuses_clients_later() {
        let (readiness, now) = (Readiness::new(SECOND), Instant::now());
        assert!(readiness.observe(true, now));
        readiness.leave();
        assert!(!readiness.observe(true, now) && readiness.is_leaving() && !readiness.refuses());
        readiness.refuse();
        assert!(!readiness.observe(true, now) && readiness.is_leaving() && readiness.refuses());
    }
}
