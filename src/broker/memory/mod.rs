mod log;
mod logs;
mod moderation;
mod purses;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::{log::Log, logs::Logs, moderation::Moderation, purses::Purses};
use super::{
    Answers, Broker, Diagnosis, Listener, LookedUp, ModerateError, Proclaimed, PublishError, Published, RecoverError,
    Retention, Rule, Trouble, Unavailable, interest::Interest, unix_millis,
};
use crate::{
    access::Rate,
    order::{LogSlice, Past, ReadFrom},
    protocol::{Channel, Draft, Frame, Position, RoomId, Username},
};

/// How often the broker looks for expired entries.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// The memory broker: the same promises as [`RedisBroker`](super::RedisBroker), within one process and until it ends.
pub struct MemoryBroker {
    interest: Interest,
    retention: Retention,
    logs: Mutex<Logs>,
    purses: Mutex<Purses>,
    moderation: Mutex<HashMap<RoomId, Moderation>>,
    proclaimed: Mutex<HashMap<String, u64>>,
    listener: OnceLock<Arc<dyn Listener>>,
}

impl MemoryBroker {
    /// A broker with no channels. All logs together take at most `max_bytes`.
    pub fn new(retention: Retention, max_bytes: usize) -> Self {
        Self {
            interest: Interest::default(),
            retention,
            logs: Mutex::new(Logs::new(max_bytes)),
            purses: Mutex::default(),
            moderation: Mutex::default(),
            proclaimed: Mutex::default(),
            listener: OnceLock::new(),
        }
    }

    fn logs(&self) -> MutexGuard<'_, Logs> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn moderation(&self) -> MutexGuard<'_, HashMap<RoomId, Moderation>> {
        self.moderation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the speaker of this draft may not speak now.
    fn may_speak(&self, channel: &Channel, draft: &Draft) -> Result<(), PublishError> {
        let (Some(room), Some(user)) = (channel.room(), draft.speaker()) else { return Ok(()) };
        match self.moderation().get_mut(room) {
            Some(moderation) => moderation.speaks(user, draft.is_of_moderator(), Instant::now()),
            None => Ok(()),
        }
    }

    fn purses(&self) -> MutexGuard<'_, Purses> {
        self.purses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker for MemoryBroker {
    fn listen(self: Arc<Self>, listener: Arc<dyn Listener>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        self.listener.get_or_init(|| listener.clone());
        Box::pin(async move {
            listener.sanctioned(&[]);
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
                        self.moderation().retain(|_, moderation| !moderation.is_over());
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
            let published = self
                .logs()
                .with(channel, |log| log.publish(draft, known, &self.retention, || self.may_speak(channel, draft)));
            published.unwrap_or(Err(PublishError::Overloaded))
        })
    }

    fn send<'a>(&'a self, _: &'a Channel, _: &'a Frame) -> BoxFuture<'a, Result<(), Unavailable>> {
        // There are no other servers to send it to.
        Box::pin(async { Ok(()) })
    }

    fn signal<'a>(&'a self, channel: &'a Channel, draft: &'a Draft) -> BoxFuture<'a, Result<Frame, PublishError>> {
        Box::pin(async move {
            if let (Some(room), Some(user)) = (channel.room(), draft.speaker())
                && let Some(moderation) = self.moderation().get(room)
            {
                moderation.allows(user)?;
            }
            Ok(draft.unnumbered(unix_millis()))
        })
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

    fn read_back<'a>(
        &'a self,
        channel: &'a Channel,
        before: Option<Position>,
        limit: u64,
    ) -> BoxFuture<'a, Result<Option<Past<Frame>>, Unavailable>> {
        Box::pin(async move { Ok(self.logs().get(channel).map(|log| log.read_back(before, limit, &self.retention))) })
    }

    fn tops<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<Vec<LookedUp>, Unavailable>> {
        Box::pin(async move {
            let mut logs = self.logs();
            Ok(channels.iter().map(|channel| Ok(logs.get_mut(channel).map(Log::look_up))).collect())
        })
    }

    fn moderate<'a>(&'a self, room: &'a RoomId, rule: Rule) -> BoxFuture<'a, Result<(), ModerateError>> {
        Box::pin(async move { self.moderation().entry(room.clone()).or_default().set(rule) })
    }

    fn banned<'a>(&'a self, room: &'a RoomId, user: &'a Username) -> BoxFuture<'a, Result<Option<u64>, Unavailable>> {
        Box::pin(async move { Ok(self.moderation().get(room).and_then(|moderation| moderation.banned(user))) })
    }

    fn proclaim<'a>(&'a self, changes: &'a [Proclaimed]) -> BoxFuture<'a, Result<(), Unavailable>> {
        Box::pin(async move {
            let all: Vec<(String, u64)> = {
                let mut proclaimed = self.proclaimed.lock().unwrap_or_else(PoisonError::into_inner);
                proclaimed.retain(|_, until| *until > unix_millis());
                for (text, until) in changes {
                    match until {
                        Some(until) => drop(proclaimed.insert(text.clone(), *until)),
                        None => drop(proclaimed.remove(text)),
                    }
                }
                proclaimed.iter().map(|(text, until)| (text.clone(), *until)).collect()
            };
            if let Some(listener) = self.listener.get() {
                listener.sanctioned(&all);
            }
            Ok(())
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

    fn ask<'a>(&'a self, question: &'a str) -> BoxFuture<'a, Result<Answers, Unavailable>> {
        Box::pin(async move {
            let listener = self.listener.get().ok_or_else(|| Unavailable("nobody listens yet".into()))?;
            // There is one server, whose name nobody needs.
            let answers = listener.asked(question).map(|answer| (String::new(), answer));
            Ok(Answers { answers: answers.into_iter().collect(), missing: Vec::new() })
        })
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

impl std::fmt::Debug for MemoryBroker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MemoryBroker").field("retention", &self.retention).finish_non_exhaustive()
    }
}
