//! Counters and gauges for the rest of the server. Only `telemetry` names the crate behind them.

use std::time::Duration;

/// Counts events. A clone is another handle to the same count.
#[derive(Clone, Debug)]
pub struct Counter(pub(super) prometheus::IntCounter);

/// Shows a current number. A clone is another handle to the same number. It decides nothing.
#[derive(Clone, Debug)]
pub struct Gauge(pub(super) prometheus::IntGauge);

/// Shows a measure with fractions, such as a share or seconds.
#[derive(Clone, Debug)]
pub struct Level(pub(super) prometheus::Gauge);

/// Counts durations in buckets.
#[derive(Clone, Debug)]
pub struct Durations(pub(super) prometheus::Histogram);

impl Counter {
    /// Counts one more.
    pub fn inc(&self) {
        self.0.inc();
    }

    /// Counts `count` more.
    pub fn inc_by(&self, count: u64) {
        self.0.inc_by(count);
    }

    /// The count so far.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

impl Gauge {
    /// Shows this number from now on.
    pub fn set(&self, number: usize) {
        self.0.set(i64::try_from(number).unwrap_or(i64::MAX));
    }

    /// Shows 1 or 0 from now on.
    pub fn set_flag(&self, is_set: bool) {
        self.0.set(is_set.into());
    }

    /// Shows one more.
    pub fn inc(&self) {
        self.0.inc();
    }

    /// Shows one less.
    pub fn dec(&self) {
        self.0.dec();
    }

    /// The number it shows.
    pub fn get(&self) -> i64 {
        self.0.get()
    }
}

impl Level {
    /// Shows this measure from now on.
    pub fn set(&self, measure: f64) {
        self.0.set(measure);
    }
}

impl Durations {
    /// Counts this duration.
    pub fn observe(&self, duration: Duration) {
        self.0.observe(duration.as_secs_f64());
    }
}

/// One that no `/metrics` shows, for tests.
impl Default for Counter {
    fn default() -> Self {
        Self(prometheus::IntCounter::new("unregistered", "shown nowhere").expect("a valid name"))
    }
}

/// One that no `/metrics` shows, for tests.
impl Default for Gauge {
    fn default() -> Self {
        Self(prometheus::IntGauge::new("unregistered", "shown nowhere").expect("a valid name"))
    }
}

/// One that no `/metrics` shows, for tests.
impl Default for Level {
    fn default() -> Self {
        Self(prometheus::Gauge::new("unregistered", "shown nowhere").expect("a valid name"))
    }
}
