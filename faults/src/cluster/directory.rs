use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use rand::{Rng, rngs::StdRng};

/// Where clients find the servers, like a Service on Kubernetes.
#[derive(Clone, Debug, Default)]
pub struct Directory(Arc<Mutex<BTreeMap<usize, SocketAddr>>>);

impl Directory {
    /// A server is at this place, instead of the one that was there before.
    pub fn add(&self, number: usize, address: SocketAddr) {
        self.with(|addresses| addresses.insert(number, address));
    }

    /// No client is sent there any more.
    pub fn remove(&self, number: usize) {
        self.with(|addresses| addresses.remove(&number));
    }

    /// Where server `number` is.
    pub fn get(&self, number: usize) -> Option<SocketAddr> {
        self.with(|addresses| addresses.get(&number).copied())
    }

    /// Any server but the last one, if there is another.
    pub fn other_than(&self, last: Option<usize>, rng: &mut StdRng) -> Option<(usize, SocketAddr)> {
        self.with(|addresses| {
            let all: Vec<_> = addresses.iter().map(|(number, address)| (*number, *address)).collect();
            let others: Vec<_> = all.iter().filter(|(number, _)| Some(*number) != last).copied().collect();
            let choice = if others.is_empty() { all } else { others };
            (!choice.is_empty()).then(|| choice[rng.random_range(0..choice.len())])
        })
    }

    fn with<T>(&self, action: impl FnOnce(&mut BTreeMap<usize, SocketAddr>) -> T) -> T {
        action(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
