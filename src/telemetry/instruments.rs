//! Counters and gauges as the rest of the server sees them. The crate behind them is named in `telemetry` alone.

use std::time::Duration;

/// Counts what has happened. Cloning it gives another handle to the same count.
#[derive(Clone, Debug)]
pub struct Counter(pub(super) prometheus::IntCounter);

/// Shows how many there are now. Cloning it gives another handle to the same number. It decides nothing.
#[derive(Clone, Debug)]
pub struct Gauge(pub(super) prometheus::IntGauge);

/// Shows a measure that is no whole number, such as a share or seconds.
#[derive(Clone, Debug)]
pub struct Level(pub(super) prometheus::Gauge);

/// Counts durations by how long they are.
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
