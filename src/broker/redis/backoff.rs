use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(1);

/// How long to wait before the next retry: twice as long each time, up to a bound. Each wait is random between half of
/// that and all of it, so that the servers do not all come back in step.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(super) fn new() -> Self {
        Self { next: FIRST }
    }

    /// The next wait; `random` is from 0 to 1.
    pub(super) fn next(&mut self, random: f64) -> Duration {
        let wait = self.next.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0);
        self.next = (self.next * 2).min(LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_bound_and_are_spread() {
        let mut backoff = Backoff::new();
        assert_eq!(backoff.next(0.0), FIRST / 2);
        assert_eq!(backoff.next(1.0), FIRST * 2);
        for _ in 0..20 {
            backoff.next(0.5);
        }
        assert_eq!(backoff.next(1.0), LONGEST);
        assert_eq!(backoff.next(0.0), LONGEST / 2);
    }
}
