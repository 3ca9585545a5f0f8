use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Broker, EMPTY_META, Listener, PublishError, Published, READ_LIMIT, Retention, Top, Trouble, Unavailable,
    interest::Interest, unix_millis,
};
use crate::{
    config::Config,
    protocol::{Channel, Draft, Epoch, Frame, MessageId},
    room::{LogSlice, Placed, Position, ReadFrom},
};

/// How often logs are looked through for what has expired.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// The embedded broker: the promises of [`RedisBroker`](super::RedisBroker), within one process and for as long
/// as it lives.
#[derive(Debug)]
pub struct MemoryBroker {
    interest: Interest,
    retention: Retention,
    logs: Mutex<HashMap<Channel, Log>>,
}

impl MemoryBroker {
    /// A broker with no channels.
    pub fn new(config: &Config) -> Self {
        Self { interest: Interest::default(), retention: config.into(), logs: Mutex::default() }
    }

    fn logs(&self) -> MutexGuard<'_, HashMap<Channel, Log>> {
        self.logs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish_now(
        &self,
        channel: &Channel,
        draft: &Draft,
        known: Option<Position>,
    ) -> Result<Published, PublishError> {
        let mut logs = self.logs();
        let log = logs.entry(channel.clone()).or_insert_with(Log::new);
        log.start_anew_if_behind(known);
        if let Some(published) = log.repeated(draft)? {
            return Ok(published);
        }
        Ok(log.append(draft, &self.retention))
    }

    fn read_now(&self, channel: &Channel, from: Option<ReadFrom>) -> LogSlice<Frame> {
        let mut logs = self.logs();
        let log = logs.entry(channel.clone()).or_insert_with(Log::new);
        log.start_anew_if_behind(from.map(|from| Position::new(from.position.epoch, from.known)));
        if from.is_some_and(|from| from.void && from.position.epoch == log.epoch) {
            log.start_anew();
        }
        log.expire(&self.retention);
        log.read(from.map(|from| from.position))
    }

    fn sweep(&self) {
        self.logs().retain(|_, log| {
            log.expire(&self.retention);
            let kept = if log.top == 0 { EMPTY_META } else { self.retention.meta };
            log.touched.elapsed() < kept
        });
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
                    _ = sweep.tick() => self.sweep(),
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
        Box::pin(async move { self.publish_now(channel, draft, known) })
    }

    fn send<'a>(&'a self, _: &'a Channel, _: &'a Frame) -> BoxFuture<'a, Result<(), Unavailable>> {
        // There are no other servers to send it to.
        Box::pin(async { Ok(()) })
    }

    fn read<'a>(
        &'a self,
        channel: &'a Channel,
        from: Option<ReadFrom>,
    ) -> BoxFuture<'a, Result<LogSlice<Frame>, Unavailable>> {
        Box::pin(async move { Ok(self.read_now(channel, from)) })
    }

    fn tops<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<Vec<Option<Top>>, Unavailable>> {
        Box::pin(async move {
            let mut logs = self.logs();
            Ok(channels.iter().map(|channel| logs.get_mut(channel).map(Log::look_up)).collect())
        })
    }

    fn troubles(&self) -> Vec<Trouble> {
        Vec::new()
    }
}

/// One channel's numbering, its last publications and the ids they came under.
#[derive(Debug)]
struct Log {
    epoch: Epoch,
    top: u64,
    touched: Instant,
    /// When the top was given out, in Unix milliseconds.
    ts: u64,
    entries: VecDeque<(Instant, Placed<Frame>)>,
    bytes: usize,
    ids: HashMap<MessageId, (Position, u64)>,
    ids_by_age: VecDeque<(Instant, MessageId)>,
}

impl Log {
    fn new() -> Self {
        Self {
            epoch: Epoch(rand::random()),
            top: 0,
            touched: Instant::now(),
            ts: 0,
            entries: VecDeque::new(),
            bytes: 0,
            ids: HashMap::new(),
            ids_by_age: VecDeque::new(),
        }
    }

    fn repeated(&self, draft: &Draft) -> Result<Option<Published>, PublishError> {
        match draft.id().and_then(|id| self.ids.get(id)) {
            None => Ok(None),
            Some((position, fingerprint)) if *fingerprint == draft.fingerprint() => {
                Ok(Some(Published::Repeated(*position)))
            }
            Some(_) => Err(PublishError::IdConflict),
        }
    }

    fn start_anew_if_behind(&mut self, known: Option<Position>) {
        if known.is_some_and(|known| known.epoch == self.epoch && known.seq > self.top) {
            self.start_anew();
        }
    }

    fn start_anew(&mut self) {
        // A message of an earlier epoch may be in no log any more, so its id says nothing.
        *self = Self::new();
    }

    fn look_up(&mut self) -> Top {
        self.touched = Instant::now();
        (Position::new(self.epoch, self.top), self.ts)
    }

    fn append(&mut self, draft: &Draft, retention: &Retention) -> Published {
        let now = Instant::now();
        self.touched = now;
        self.top += 1;
        self.ts = unix_millis();
        let position = Position::new(self.epoch, self.top);
        let placed = Placed { position, ts: self.ts, item: draft.numbered(self.epoch, self.top, self.ts) };
        self.bytes += placed.item.len();
        self.entries.push_back((now, placed.clone()));
        if let Some(id) = draft.id() {
            self.ids.insert(id.clone(), (position, draft.fingerprint()));
            self.ids_by_age.push_back((now, id.clone()));
        }
        self.expire(retention);
        Published::Placed(placed)
    }

    fn read(&mut self, from: Option<Position>) -> LogSlice<Frame> {
        self.touched = Instant::now();
        let entries = from.map_or(Vec::new(), |from| {
            let start = if from.epoch == self.epoch { from.seq } else { 0 };
            let start = self.entries.partition_point(|(_, entry)| entry.position.seq < start);
            self.entries.range(start..).take(READ_LIMIT).map(|(_, entry)| entry.clone()).collect()
        });
        LogSlice { top: Position::new(self.epoch, self.top), entries }
    }

    fn expire(&mut self, retention: &Retention) {
        while self.entries.len() > retention.length
            || (self.bytes > retention.bytes && self.entries.len() > 1)
            || self.entries.front().is_some_and(|(at, _)| at.elapsed() >= retention.age)
        {
            if let Some((_, entry)) = self.entries.pop_front() {
                self.bytes -= entry.item.len();
            }
        }
        while self.ids_by_age.front().is_some_and(|(at, _)| at.elapsed() >= retention.ids) {
            if let Some((_, id)) = self.ids_by_age.pop_front() {
                self.ids.remove(&id);
            }
        }
    }
}
