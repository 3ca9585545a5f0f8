use std::{sync::Arc, time::Duration};

use redis::Script;

use super::{super::Unavailable, failure::Failure, keys::Keys, publisher::Publisher};
use crate::access::Rate;

/// What users and addresses may still take on all servers together, in Redis.
#[derive(Debug)]
pub(super) struct Purses {
    publisher: Arc<Publisher>,
    keys: Keys,
    script: Script,
}

impl Purses {
    pub(super) fn new(publisher: Arc<Publisher>, keys: Keys) -> Self {
        Self { publisher, keys, script: Script::new(include_str!("spend.lua")) }
    }

    pub(super) async fn spend(&self, purse: &str, rate: Rate, cost: f64) -> Result<Option<Duration>, Unavailable> {
        let mut call = self.script.key(self.keys.purse(purse));
        call.arg(rate.per_second).arg(rate.burst).arg(cost);
        let answer: Result<u64, Failure> =
            self.publisher.run(async |connection| call.invoke_async(connection).await).await;
        match answer {
            Ok(0) => Ok(None),
            Ok(wait) => Ok(Some(Duration::from_millis(wait))),
            // It is full or broken, but there: what follows will say so, if it matters.
            Err(failure) if failure.is_refusal() => {
                tracing::debug!(error = %failure, "cannot take from a purse in Redis");
                Ok(None)
            }
            Err(failure) => Err(failure.into()),
        }
    }
}
