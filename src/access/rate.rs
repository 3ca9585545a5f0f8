use std::time::Duration;

use tokio::time::Instant;

/// How much of something there may be in a second for long, and how much at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// In a second, for long.
    pub per_second: f64,
    /// At once.
    pub burst: f64,
}

impl Rate {
    /// How long this much takes at this rate.
    fn time_of(&self, cost: f64) -> Duration {
        Duration::try_from_secs_f64(cost / self.per_second).unwrap_or(Duration::MAX)
    }
}

/// What is left of a rate. It is the generic cell rate algorithm: all it keeps is when it would be full again.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bucket {
    full_at: Option<Instant>,
}

impl Bucket {
    /// Takes this much, even if that is more than is left. Returns how long it takes until nothing is owed any more.
    ///
    /// Whoever slows down for so long keeps to the rate, without knowing before what the next thing will cost.
    pub fn owe(&mut self, rate: Rate, cost: f64, now: Instant) -> Duration {
        let full_at = self.full_at.map_or(now, |at| at.max(now)) + rate.time_of(cost);
        self.full_at = Some(full_at);
        (full_at - now).saturating_sub(rate.time_of(rate.burst))
    }

    /// Takes this much, if it is left.
    ///
    /// # Errors
    /// How long it takes until it is.
    pub fn take(&mut self, rate: Rate, cost: f64, now: Instant) -> Result<(), Duration> {
        let mut after = *self;
        match after.owe(rate, cost, now) {
            Duration::ZERO => {
                *self = after;
                Ok(())
            }
            wait => Err(wait),
        }
    }

    /// Whether it has recovered at least half of its burst.
    pub fn is_calm(&self, rate: Rate, now: Instant) -> bool {
        self.full_at.is_none_or(|at| at.saturating_duration_since(now) * 2 <= rate.time_of(rate.burst))
    }

    /// Whether it is full, so that nothing is lost when it is forgotten.
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at.is_none_or(|at| at <= now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATE: Rate = Rate { per_second: 10.0, burst: 5.0 };

    #[test]
    fn a_burst_goes_at_once_and_then_it_is_the_rate() {
        let (mut bucket, start) = (Bucket::default(), Instant::now());
        for _ in 0..5 {
            assert_eq!(bucket.take(RATE, 1.0, start), Ok(()));
        }
        assert_eq!(bucket.take(RATE, 1.0, start), Err(Duration::from_millis(100)));
        assert!(!bucket.is_calm(RATE, start) && !bucket.is_full(start));
        assert_eq!(bucket.take(RATE, 1.0, start + Duration::from_millis(100)), Ok(()));
        assert!(bucket.is_calm(RATE, start + Duration::from_millis(350)));
        assert!(bucket.is_full(start + Duration::from_millis(600)));
    }

    #[test]
    fn what_is_owed_is_waited_for() {
        let (mut bucket, start) = (Bucket::default(), Instant::now());
        assert_eq!(bucket.owe(RATE, 5.0, start), Duration::ZERO);
        assert_eq!(bucket.owe(RATE, 20.0, start), Duration::from_secs(2));
        assert_eq!(bucket.owe(RATE, 0.0, start + Duration::from_secs(2)), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn whoever_waits_as_told_keeps_to_the_rate(costs in prop::collection::vec(0.1_f64..20.0, 1..50)) {
            let (mut bucket, start) = (Bucket::default(), Instant::now());
            let (mut now, mut spent) = (start, 0.0);
            for cost in costs {
                now += bucket.owe(RATE, cost, now);
                spent += cost;
                let allowed = RATE.burst + RATE.per_second * (now - start).as_secs_f64();
                prop_assert!(spent <= allowed + 0.001, "{spent} of {allowed}");
            }
        }
    }
}
