use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::super::{Cause, Diagnosis};

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
#[derive(Debug)]
pub(super) struct Outages {
    address: String,
    outage: Mutex<Outage>,
}

impl Outages {
    /// Nothing has failed yet at this Redis.
    pub(super) fn new(address: String) -> Self {
        Self { address, outage: Mutex::default() }
    }

    /// There is no working connection.
    pub(super) fn fails(&self, part: Part, cause: Cause, why: &dyn std::fmt::Display) {
        let (address, remedy) = (&self.address, cause.remedy());
        if self.lock().fails(part, cause, why.to_string(), Instant::now()) {
            tracing::warn!(address, ?cause, error = %why, connection = ?part, "cannot use Redis; retrying: {remedy}");
        } else {
            tracing::debug!(address, ?cause, error = %why, connection = ?part, "still cannot use Redis");
        }
    }

    /// Whether there is an outage.
    pub(super) fn is_one(&self) -> bool {
        self.lock().told.is_some()
    }

    /// Why there is an outage: the last failure in it; without one, the `shortage` of memory.
    pub(super) fn diagnosis(&self, shortage: Option<String>) -> Option<Diagnosis> {
        let failure = self.lock().told.as_ref().map(|told| (told.cause, told.error.clone()));
        let (cause, error) = failure.or_else(|| shortage.map(|text| (Cause::Full, text)))?;
        Some(Diagnosis { address: self.address.clone(), cause, error })
    }

    fn lock(&self) -> MutexGuard<'_, Outage> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection works.
    pub(super) fn works(&self, part: Part) {
        let ended = self.lock().works(part, Instant::now());
        if let Some(after) = ended {
            tracing::info!(?after, "Redis works again");
        }
    }
}

#[derive(Debug, Default)]
struct Outage {
    /// The parts that fail, as bits.
    failing: u8,
    /// What there is to say of it, while there is one.
    told: Option<Told>,
}

#[derive(Debug)]
struct Told {
    since: Instant,
    cause: Cause,
    error: String,
}

impl Outage {
    /// Returns whether this begins an outage.
    fn fails(&mut self, part: Part, cause: Cause, error: String, now: Instant) -> bool {
        self.failing |= part as u8;
        let Some(told) = &mut self.told else {
            self.told = Some(Told { since: now, cause, error });
            return true;
        };
        // What follows from a failure, such as a closed connection, says less than the failure.
        if !matches!(cause, Cause::Closed | Cause::Other) {
            (told.cause, told.error) = (cause, error);
        }
        false
    }

    /// Returns how long the outage was, if this ends it.
    fn works(&mut self, part: Part, now: Instant) -> Option<Duration> {
        self.failing &= !(part as u8);
        let told = self.told.take_if(|_| self.failing == 0)?;
        Some(now.saturating_duration_since(told.since))
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
        let fails = |outage: &mut Outage, part, now| outage.fails(part, Cause::Refused, String::new(), now);
        assert!(fails(&mut outage, Part::Subscriber, start));
        assert!(!fails(&mut outage, Part::Commands, start + second));
        assert!(!fails(&mut outage, Part::Commands, start + second * 2));
        assert_eq!(outage.works(Part::Subscriber, start + second * 3), None);
        assert_eq!(outage.works(Part::Commands, start + second * 4), Some(second * 4));
        assert_eq!(outage.works(Part::Queries, start + second * 4), None);
        assert!(fails(&mut outage, Part::Commands, start + second * 5));
    }

    #[test]
    fn the_failure_is_told_and_not_what_follows_from_it() {
        let outages = Outages::new("redis:6379".into());
        assert!(outages.diagnosis(None).is_none());
        outages.fails(Part::Subscriber, Cause::Closed, &"closed");
        assert_eq!(outages.diagnosis(None).unwrap().cause, Cause::Closed);
        outages.fails(Part::Commands, Cause::Password, &"WRONGPASS");
        outages.fails(Part::Subscriber, Cause::Closed, &"closed");
        let told = outages.diagnosis(None).unwrap();
        assert_eq!((&*told.address, told.cause, &*told.error), ("redis:6379", Cause::Password, "WRONGPASS"));
        outages.works(Part::Commands);
        assert!(outages.diagnosis(None).is_some(), "the other one still fails");
        assert_eq!(outages.diagnosis(Some("90 %".into())).unwrap().cause, Cause::Password, "an outage matters more");
        outages.works(Part::Subscriber);
        assert!(outages.diagnosis(None).is_none());
        assert_eq!(outages.diagnosis(Some("90 %".into())).unwrap().cause, Cause::Full);
    }
}
