use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::telemetry::Gauge;

/// The places for clients.
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
        Some(Place { connected: self.connected.clone(), streams: None, _permit: permit })
    }
}

/// One client's place. Dropping it frees the place.
#[derive(Debug)]
pub(super) struct Place {
    connected: Gauge,
    /// Shows how many of the clients have a stream of events, if this one has.
    streams: Option<Gauge>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// The same for a client with a stream of events, of which this gauge shows how many there are.
    pub(super) fn of_stream(mut self, streams: &Gauge) -> Self {
        streams.inc();
        self.streams = Some(streams.clone());
        self
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connected.dec();
        self.streams.iter().for_each(Gauge::dec);
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
