use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::telemetry::Gauge;

/// The places for WebSocket clients.
#[derive(Debug)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    /// Only shows how many are taken; it decides nothing.
    connected: Gauge,
}

impl Places {
    pub(super) fn new(count: usize, connected: Gauge) -> Self {
        Self { free: Arc::new(Semaphore::new(count)), connected }
    }

    /// A place; `None` if all are taken.
    pub(super) fn take(&self) -> Option<Place> {
        let permit = self.free.clone().try_acquire_owned().ok()?;
        self.connected.inc();
        Some(Place { connected: self.connected.clone(), _permit: permit })
    }
}

/// One client's place. Dropping it frees the place.
#[derive(Debug)]
pub(super) struct Place {
    connected: Gauge,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connected.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_places_whatever_the_gauge_says() {
        let connected = Gauge::default();
        let places = Places::new(2, connected.clone());
        let (first, _second) = (places.take().unwrap(), places.take().unwrap());
        assert_eq!(connected.get(), 2);
        (0..100).for_each(|_| connected.dec());
        assert!(places.take().is_none());
        drop(first);
        assert!(places.take().is_some());
    }
}
