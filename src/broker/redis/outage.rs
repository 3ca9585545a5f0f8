use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// A connection that this server needs to do its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Part {
    Commands = 1,
    Queries = 2,
    Subscriber = 4,
}

/// Logs when Redis cannot be used, once for each outage and in Redis' own words, and when it works again. An outage
/// lasts from the first failure until everything works again.
#[derive(Debug, Default)]
pub(super) struct Outages(Mutex<Outage>);

impl Outages {
    /// There is no working connection.
    pub(super) fn fails(&self, part: Part, why: &dyn std::fmt::Display) {
        let begins = self.0.lock().unwrap_or_else(PoisonError::into_inner).fails(part, Instant::now());
        if begins {
            tracing::warn!(error = %why, connection = ?part, "cannot use Redis; retrying. Check ROOMCAST_REDIS_URL if this lasts");
        } else {
            tracing::debug!(error = %why, connection = ?part, "still cannot use Redis");
        }
    }

    /// Whether there is an outage.
    pub(super) fn is_one(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).since.is_some()
    }

    /// A connection works.
    pub(super) fn works(&self, part: Part) {
        let ended = self.0.lock().unwrap_or_else(PoisonError::into_inner).works(part, Instant::now());
        if let Some(after) = ended {
            tracing::info!(?after, "Redis works again");
        }
    }
}

#[derive(Debug, Default)]
struct Outage {
    /// The parts that fail, as bits.
    failing: u8,
    since: Option<Instant>,
}

impl Outage {
    /// Returns whether this begins an outage.
    fn fails(&mut self, part: Part, now: Instant) -> bool {
        self.failing |= part as u8;
        let begins = self.since.is_none();
        self.since.get_or_insert(now);
        begins
    }

    /// Returns how long the outage was, if this ends it.
    fn works(&mut self, part: Part, now: Instant) -> Option<Duration> {
        self.failing &= !(part as u8);
        let since = if self.failing == 0 { self.since.take() } else { None };
        since.map(|since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_together_is_one_outage() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut outage = Outage::default();
        assert_eq!(outage.works(Part::Commands, start), None);
        assert!(outage.fails(Part::Subscriber, start));
        assert!(!outage.fails(Part::Commands, start + second));
        assert!(!outage.fails(Part::Commands, start + second * 2));
        assert_eq!(outage.works(Part::Subscriber, start + second * 3), None);
        assert_eq!(outage.works(Part::Commands, start + second * 4), Some(second * 4));
        assert_eq!(outage.works(Part::Queries, start + second * 4), None);
        assert!(outage.fails(Part::Commands, start + second * 5));
    }
}
