use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::access::{Bucket, Rate};

/// What users and addresses may still take.
#[derive(Debug, Default)]
pub(super) struct Purses(HashMap<String, Bucket>);

impl Purses {
    /// Takes this much, if it is left; else returns how long it takes until it is.
    pub(super) fn spend(&mut self, purse: &str, rate: Rate, cost: f64, now: Instant) -> Option<Duration> {
        match self.0.get_mut(purse) {
            Some(bucket) => bucket.take(rate, cost, now).err(),
            None => {
                let mut bucket = Bucket::default();
                let spent = bucket.take(rate, cost, now);
                self.0.insert(purse.to_owned(), bucket);
                spent.err()
            }
        }
    }

    /// Forgets the full ones.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.0.retain(|_, bucket| !bucket.is_full(now));
    }
}
