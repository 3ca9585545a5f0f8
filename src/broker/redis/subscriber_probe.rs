use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Whether the subscriber still hears anything.
///
/// After a silence of one interval it sends a probe: a message to the server's own channel. If it does not hear the
/// probe within another interval, the probe has failed. The idea is Centrifuge's.
#[derive(Debug)]
pub(super) struct SubscriberProbe {
    channel: String,
    payload: String,
    interval: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    heard: Instant,
    /// When the probe was sent that is still awaited.
    sent: Option<Instant>,
}

/// What the subscriber must do now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Check {
    /// Nothing.
    Fine,
    /// Send a probe.
    Send,
    /// Give the connection up.
    Failed,
}

impl SubscriberProbe {
    pub(super) fn new(channel: String, origin_server: &str, interval: Duration) -> Self {
        let payload = serde_json::json!({"type": "probe", "originServer": origin_server}).to_string();
        Self { channel, payload, interval, state: Mutex::new(State { heard: Instant::now(), sent: None }) }
    }

    /// The channel on which only this server publishes and listens.
    pub(super) fn channel(&self) -> &str {
        &self.channel
    }

    /// The probe's text.
    pub(super) fn payload(&self) -> &[u8] {
        self.payload.as_bytes()
    }

    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// Something was heard, on any channel.
    pub(super) fn heard(&self, now: Instant) {
        *self.state() = State { heard: now, sent: None };
    }

    /// A probe is on its way. It may be heard before Redis says that it took it.
    pub(super) fn sending(&self, now: Instant) {
        self.state().sent = Some(now);
    }

    /// Redis did not take the probe, so silence does not mean that it was lost on the way.
    pub(super) fn not_sent(&self) {
        self.state().sent = None;
    }

    /// For how long nothing has been heard.
    pub(super) fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.state().heard)
    }

    pub(super) fn check(&self, now: Instant) -> Check {
        let State { heard, sent } = *self.state();
        match sent {
            Some(sent) if now.saturating_duration_since(sent) >= self.interval => Check::Failed,
            None if now.saturating_duration_since(heard) >= self.interval => Check::Send,
            _ => Check::Fine,
        }
    }

    pub(super) fn has_failed(&self, now: Instant) -> bool {
        self.check(now) == Check::Failed
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
    fn a_probe_that_is_heard_proves_the_subscriber_and_one_that_is_not_fails_it() {
        let start = Instant::now();
        let probe = SubscriberProbe::new("ws:probe:one".into(), "one", SECOND);
        probe.heard(start);
        assert_eq!(probe.check(start + SECOND / 2), Check::Fine);
        assert_eq!(probe.check(start + SECOND), Check::Send);
        probe.sending(start + SECOND);
        assert_eq!(probe.check(start + SECOND), Check::Fine);
        // Redis did not take it, so it is sent again, and has not failed.
        probe.not_sent();
        assert_eq!(probe.check(start + SECOND * 10), Check::Send);
        probe.sending(start + SECOND * 10);
        assert_eq!(probe.check(start + SECOND * 10 + SECOND / 2), Check::Fine);
        assert!(probe.has_failed(start + SECOND * 11));
        probe.heard(start + SECOND * 11);
        assert_eq!(probe.check(start + SECOND * 11), Check::Fine);
        assert_eq!(probe.silence(start + SECOND * 13), SECOND * 2);
    }
}
