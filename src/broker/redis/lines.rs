use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{failure::Failure, outage::Outages};

/// Logs what Redis refused of one kind, at most one line in each interval, so that a Redis that refuses everything does
/// not cause a line for every message.
#[derive(Debug)]
pub(super) struct Refusals {
    what: &'static str,
    lines: Mutex<Lines>,
    outages: Arc<Outages>,
}

impl Refusals {
    pub(super) fn new(what: &'static str, interval: Duration, outages: Arc<Outages>) -> Self {
        Self { what, lines: Mutex::new(Lines { interval, last: None, left_out: 0 }), outages }
    }

    /// Redis refused something on a channel or key with this name.
    pub(super) fn log(&self, name: &str, failure: &Failure) {
        // The log has said why there is an outage when it began.
        if !failure.is_refusal() || self.outages.is_one() {
            return;
        }
        let line = self.lines.lock().unwrap_or_else(PoisonError::into_inner).next(Instant::now());
        if let Some(left_out) = line {
            tracing::warn!(error = %failure, what = self.what, name, left_out, "Redis refused");
        }
    }
}

/// Which lines of a kind are written.
#[derive(Debug)]
struct Lines {
    interval: Duration,
    last: Option<Instant>,
    /// How many lines were left out since.
    left_out: u64,
}

impl Lines {
    /// Whether to write a line now, and how many were left out before it.
    fn next(&mut self, now: Instant) -> Option<u64> {
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < self.interval) {
            self.left_out += 1;
            return None;
        }
        self.last = Some(now);
        Some(std::mem::take(&mut self.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_line_in_each_interval_and_it_counts_those_left_out() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut lines = Lines { interval: second, last: None, left_out: 0 };
        assert_eq!(lines.next(start), Some(0));
        assert_eq!(lines.next(start + second / 2), None);
        assert_eq!(lines.next(start + second * 9 / 10), None);
        assert_eq!(lines.next(start + second), Some(2));
        assert_eq!(lines.next(start + second * 3), Some(0));
    }
}
