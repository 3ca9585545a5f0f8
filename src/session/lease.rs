use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use crate::{access::Pass, protocol::CloseCode};

/// How long a client may take to show a token, if it has to.
const FOR_A_TOKEN: Duration = Duration::from_secs(10);

/// How long before the end of its token a client is warned.
const WARNING: Duration = Duration::from_secs(30);

/// How long a connection may go on with the token that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Lease {
    warning: Option<Instant>,
    end: Option<(Instant, CloseCode)>,
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// Tell the client that its token ends after this time.
    Warning(Duration),
    /// Close the connection.
    End(CloseCode),
}

impl Lease {
    /// With this pass; without one, the client has to show a token soon.
    pub(super) fn of(pass: Option<&Pass>, now: Instant, time: SystemTime) -> Self {
        let Some(pass) = pass else {
            return Self { warning: None, end: Some((now + FOR_A_TOKEN, CloseCode::Unauthorized)) };
        };
        let left = pass.expires_at.map(|end| end.duration_since(time).unwrap_or_default());
        Self {
            // A token with a short life is renewed after half of it.
            warning: left.map(|left| now + left - WARNING.min(left / 2)),
            end: left.map(|left| (now + left, CloseCode::TokenExpired)),
        }
    }

    /// When [`due`](Self::due) has something next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.warning.or(self.end.map(|(end, _)| end))
    }

    /// What is due by now, each once.
    pub(super) fn due(&mut self, now: Instant) -> Option<Due> {
        let (end, code) = self.end?;
        if now >= end {
            return Some(Due::End(code));
        }
        self.warning.take_if(|warning| now >= *warning).map(|_| Due::Warning(end - now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn ending(left: Duration) -> (Lease, Instant) {
        let (now, time) = (Instant::now(), SystemTime::now());
        let pass = Pass { expires_at: Some(time + left), ..Pass::default() };
        (Lease::of(Some(&pass), now, time), now)
    }

    #[test]
    fn a_client_is_warned_once_and_then_its_time_is_up() {
        let (mut lease, start) = ending(SECOND * 100);
        assert_eq!(lease.due(start + SECOND * 69), None);
        assert_eq!(lease.next(), Some(start + SECOND * 70));
        assert_eq!(lease.due(start + SECOND * 71), Some(Due::Warning(SECOND * 29)));
        assert_eq!(lease.due(start + SECOND * 99), None);
        assert_eq!(lease.next(), Some(start + SECOND * 100));
        assert_eq!(lease.due(start + SECOND * 100), Some(Due::End(CloseCode::TokenExpired)));
    }

    #[test]
    fn a_short_life_is_warned_of_in_its_middle() {
        let (mut lease, start) = ending(SECOND * 8);
        assert_eq!(lease.due(start + SECOND * 3), None);
        assert_eq!(lease.due(start + SECOND * 4), Some(Due::Warning(SECOND * 4)));
        // A token that has just ended, for example by its leeway.
        let (mut lease, start) = ending(Duration::ZERO);
        assert_eq!(lease.due(start), Some(Due::End(CloseCode::TokenExpired)));
    }

    #[test]
    fn who_has_to_show_a_token_has_ten_seconds_and_who_has_one_without_end_all_the_time() {
        let (now, time) = (Instant::now(), SystemTime::now());
        let mut lease = Lease::of(None, now, time);
        assert_eq!(lease.due(now + SECOND * 9), None);
        assert_eq!(lease.due(now + SECOND * 10), Some(Due::End(CloseCode::Unauthorized)));
        let mut lease = Lease::of(Some(&Pass::default()), now, time);
        assert_eq!((lease.next(), lease.due(now + SECOND * 1_000_000)), (None, None));
    }
}
