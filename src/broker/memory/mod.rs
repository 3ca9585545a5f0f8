mod log;
mod logs;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use self::{log::Log, logs::Logs};
use super::{
    Broker, Listener, LookedUp, PublishError, Published, ReadError, Retention, Trouble, Unavailable, interest::Interest,
};
use crate::{
    config::Config,
    order::{LogSlice, ReadFrom},
    protocol::{Channel, Draft, Frame, Position},
};

/// How often logs are looked through for what has expired.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// The embedded broker: the promises of [`RedisBroker`](super::RedisBroker), within one process and for as long
/// as it lives.
#[derive(Debug)]
pub struct MemoryBroker {
    interest: Interest,
    retention: Retention,
    logs: Mutex<Logs>,
}

impl MemoryBroker {
    /// A broker with no channels.
    pub fn new(config: &Config) -> Self {
        let logs = Mutex::new(Logs::new(config.embedded_bytes));
        Self { interest: Interest::default(), retention: config.into(), logs }
    }

    fn logs(&self) -> MutexGuard<'_, Logs> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
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
                    _ = sweep.tick() => self.logs().sweep(&self.retention),
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

    fn read<'a>(
        &'a self,
        channel: &'a Channel,
        from: Option<ReadFrom>,
    ) -> BoxFuture<'a, Result<LogSlice<Frame>, ReadError>> {
        Box::pin(async move {
            let read = self.logs().with(channel, |log| log.read(from, &self.retention));
            read.map_err(|_| ReadError::Overloaded)
        })
    }

    fn tops<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<Vec<LookedUp>, Unavailable>> {
        Box::pin(async move {
            let mut logs = self.logs();
            Ok(channels.iter().map(|channel| Ok(logs.get_mut(channel).map(Log::look_up))).collect())
        })
    }

    fn troubles(&self) -> Vec<Trouble> {
        Vec::new()
    }
}
