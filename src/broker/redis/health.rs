use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use super::{
    failure::Failure,
    outage::{Outages, Part},
};
use crate::telemetry::Gauge;

/// Whether one way to Redis worked when it was last used. Readiness depends on it; the gauge only shows it.
#[derive(Debug)]
pub(super) struct Health {
    part: Part,
    is_up: AtomicBool,
    gauge: Gauge,
    outages: Arc<Outages>,
}

impl Health {
    /// It has not worked yet.
    pub(super) fn new(part: Part, gauge: Gauge, outages: Arc<Outages>) -> Self {
        Self { part, is_up: AtomicBool::new(false), gauge, outages }
    }

    pub(super) fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    pub(super) fn works(&self) {
        self.set(true);
        self.outages.works(self.part);
    }

    pub(super) fn fails(&self, why: &Failure) {
        self.set(false);
        self.outages.fails(self.part, why.cause(), why);
    }

    fn set(&self, is_up: bool) {
        self.is_up.store(is_up, Ordering::Relaxed);
        self.gauge.set_flag(is_up);
    }
}
