use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Whether the subscriber hears.
///
/// After a silence of one interval a test is due: a message to a channel of the server's own. If that is not heard
/// within another interval, the subscriber is deaf. The idea is Centrifuge's.
#[derive(Debug)]
pub(super) struct Ears {
    channel: String,
    payload: String,
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    heard: Instant,
    /// When the test was made that has not been heard yet.
    tested: Option<Instant>,
}

/// What is to be done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// Nothing.
    Fine,
    /// The test is to be made.
    Test,
    /// The connection is to be given up.
    Deaf,
}

impl Ears {
    pub(super) fn new(channel: String, origin_server: &str, interval: Duration) -> Self {
        let payload = serde_json::json!({"type": "ears", "originServer": origin_server}).to_string();
        Self { channel, payload, interval, state: Mutex::new(State { heard: Instant::now(), tested: None }) }
    }

    /// The channel of Redis that only this server publishes on and listens to.
    pub(super) fn channel(&self) -> &str {
        &self.channel
    }

    /// What is published there.
    pub(super) fn payload(&self) -> &[u8] {
        self.payload.as_bytes()
    }

    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// Something was heard, on whatever channel.
    pub(super) fn heard(&self, now: Instant) {
        *self.state() = State { heard: now, tested: None };
    }

    /// The test is being made. It may be heard before Redis says that it took it.
    pub(super) fn testing(&self, now: Instant) {
        self.state().tested = Some(now);
    }

    /// Redis did not take the test, so that it is not heard says nothing.
    pub(super) fn not_tested(&self) {
        self.state().tested = None;
    }

    /// How long nothing has been heard.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.state().heard)
    }

    pub(super) fn check(&self, now: Instant) -> Check {
        let State { heard, tested } = *self.state();
        match tested {
            Some(tested) if now.saturating_duration_since(tested) >= self.interval => Check::Deaf,
            None if now.saturating_duration_since(heard) >= self.interval => Check::Test,
            _ => Check::Fine,
        }
    }

    pub(super) fn are_deaf(&self, now: Instant) -> bool {
        self.check(now) == Check::Deaf
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_test_that_is_heard_proves_the_ears_and_one_that_is_not_deafness() {
        let start = Instant::now();
        let ears = Ears::new("ws:ears:one".into(), "one", SECOND);
        ears.heard(start);
        assert_eq!(ears.check(start + SECOND / 2), Check::Fine);
        assert_eq!(ears.check(start + SECOND), Check::Test);
        ears.testing(start + SECOND);
        assert_eq!(ears.check(start + SECOND), Check::Fine);
        // Redis did not take it, so it is made again, and nobody is called deaf.
        ears.not_tested();
        assert_eq!(ears.check(start + SECOND * 10), Check::Test);
        ears.testing(start + SECOND * 10);
        assert_eq!(ears.check(start + SECOND * 10 + SECOND / 2), Check::Fine);
        assert!(ears.are_deaf(start + SECOND * 11));
        ears.heard(start + SECOND * 11);
        assert_eq!(ears.check(start + SECOND * 11), Check::Fine);
        assert_eq!(ears.silence(start + SECOND * 13), SECOND * 2);
    }
}
