mod log;
mod logs;
mod purses;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::{log::Log, logs::Logs, purses::Purses};
use super::{
    Broker, Diagnosis, Listener, LookedUp, PublishError, Published, RecoverError, Retention, Trouble, Unavailable,
    interest::Interest,
};
use crate::{
    access::Rate,
    order::{LogSlice, ReadFrom},
    protocol::{Channel, Draft, Frame, Position},
};

/// How often the broker looks for expired entries.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// The memory broker: the same promises as [`RedisBroker`](super::RedisBroker), within one process and until it ends.
#[derive(Debug)]
pub struct MemoryBroker {
    interest: Interest,
    retention: Retention,
    logs: Mutex<Logs>,
    purses: Mutex<Purses>,
}

impl MemoryBroker {
    /// A broker with no channels. All logs together take at most `max_bytes`.
    pub fn new(retention: Retention, max_bytes: usize) -> Self {
        Self {
            interest: Interest::default(),
            retention,
            logs: Mutex::new(Logs::new(max_bytes)),
            purses: Mutex::default(),
        }
    }

    fn logs(&self) -> MutexGuard<'_, Logs> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn purses(&self) -> MutexGuard<'_, Purses> {
        self.purses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker for MemoryBroker {
    fn listen(self: Arc<Self>, listener: Arc<dyn Listener>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            listener.wanted().iter().for_each(|channel| listener.subscribed(channel));
            let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    changed = self.interest.next() => {
                        changed.iter().filter(|channel| listener.wants(channel)).for_each(|channel| listener.subscribed(channel));
                    }
                    _ = sweep.tick() => {
                        self.logs().sweep(&self.retention);
                        self.purses().sweep(Instant::now());
                    }
                }
            }
        })
    }

    fn interest_changed(&self, channel: Channel) {
        self.interest.changed(channel);
    }

    fn publish<'a>(
        &'a self,
        channel: &'a Channel,
        draft: &'a Draft,
        known: Option<Position>,
    ) -> BoxFuture<'a, Result<Published, PublishError>> {
        Box::pin(async move {
            let published = self.logs().with(channel, |log| log.publish(draft, known, &self.retention));
            published.unwrap_or(Err(PublishError::Overloaded))
        })
    }

    fn send<'a>(&'a self, _: &'a Channel, _: &'a Frame) -> BoxFuture<'a, Result<(), Unavailable>> {
        // There are no other servers to send it to.
        Box::pin(async { Ok(()) })
    }

    fn recover<'a>(
        &'a self,
        channel: &'a Channel,
        from: Option<ReadFrom>,
    ) -> BoxFuture<'a, Result<LogSlice<Frame>, RecoverError>> {
        Box::pin(async move {
            let recovered = self.logs().with(channel, |log| log.recover(from, &self.retention));
            recovered.map_err(|_| RecoverError::Overloaded)
        })
    }

    fn read<'a>(
        &'a self,
        channel: &'a Channel,
        from: Position,
    ) -> BoxFuture<'a, Result<Option<LogSlice<Frame>>, Unavailable>> {
        Box::pin(async move { Ok(self.logs().get(channel).map(|log| log.read(from, &self.retention))) })
    }

    fn tops<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<Vec<LookedUp>, Unavailable>> {
        Box::pin(async move {
            let mut logs = self.logs();
            Ok(channels.iter().map(|channel| Ok(logs.get_mut(channel).map(Log::look_up))).collect())
        })
    }

    fn spend<'a>(
        &'a self,
        purse: &'a str,
        rate: Rate,
        cost: f64,
    ) -> BoxFuture<'a, Result<Option<Duration>, Unavailable>> {
        Box::pin(async move { Ok(self.purses().spend(purse, rate, cost, Instant::now())) })
    }

    fn kind(&self) -> &'static str {
        "memory"
    }

    fn troubles(&self) -> Vec<Trouble> {
        Vec::new()
    }

    fn diagnosis(&self) -> Option<Diagnosis> {
        None
    }
}
