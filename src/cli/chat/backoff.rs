use std::time::Duration;

/// The bound of the first wait.
const FIRST: Duration = Duration::from_secs(1);

/// The bound of the longest wait.
const LONGEST: Duration = Duration::from_secs(30);

/// A connection that lasted this long was fine, so the waits begin anew when it breaks.
const PEACE: Duration = Duration::from_secs(60);

/// How long to wait before the next retry: a random part of a bound that doubles each time.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    tries: u32,
}

impl Backoff {
    /// The next wait, after a connection that `lasted` this long; `random` is from 0 to 1.
    pub(super) fn next(&mut self, lasted: Duration, random: f64) -> Duration {
        if lasted >= PEACE {
            self.tries = 0;
        }
        let bound = FIRST.saturating_mul(1 << self.tries.min(16)).min(LONGEST);
        self.tries += 1;
        bound.mul_f64(random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_doubles_up_to_its_end_and_starts_again_only_after_a_minute_of_peace() {
        let mut backoff = Backoff::default();
        let mut bounds = |lasted, count| -> Vec<u64> {
            (0..count).map(|_| backoff.next(Duration::from_secs(lasted), 1.0).as_secs()).collect()
        };
        assert_eq!(bounds(0, 7), [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(bounds(59, 1), [30]);
        assert_eq!(bounds(60, 1), [1]);
        assert_eq!(bounds(0, 100)[99], 30);
    }

    #[test]
    fn the_wait_is_a_random_part_of_the_bound() {
        assert_eq!(Backoff::default().next(Duration::ZERO, 0.0), Duration::ZERO);
        assert_eq!(Backoff::default().next(Duration::ZERO, 0.25), Duration::from_millis(250));
    }
}
