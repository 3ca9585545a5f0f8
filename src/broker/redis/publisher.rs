use std::{
    fmt::Display,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use deadpool_redis::{Connection, Manager, Pool, Runtime};
use redis::{AsyncCommands, AsyncConnectionConfig, ConnectionInfo, RedisResult, Script, aio::MultiplexedConnection};
use tokio::time::timeout;

use super::{
    super::{META_TTL, PublishError, Published, READ_LIMIT, Retention, Top, Unavailable},
    keys::Keys,
};
use crate::{
    config::Config,
    protocol::{Channel, Draft, Envelope, Epoch, Frame},
    room::{LogSlice, Placed, Position, ReadFrom},
    telemetry::Metrics,
};

/// Sends commands to Redis: publishes, readings of logs, and a check that it answers at all.
///
/// All commands share one multiplexed connection, so those of many sessions travel together and none waits for a
/// checkout, which would cost two more commands. The pool makes that connection, makes another one when it
/// fails, and checks the connections it has; that check is what readiness goes by.
pub(super) struct Publisher {
    pool: Pool,
    shared: Mutex<Option<MultiplexedConnection>>,
    deadline: Duration,
    keys: Keys,
    retention: Retention,
    publish: Script,
    read: Script,
    up: AtomicBool,
    metrics: Arc<Metrics>,
}

impl Publisher {
    pub(super) fn new(
        redis: ConnectionInfo,
        keys: Keys,
        config: &Config,
        metrics: Arc<Metrics>,
    ) -> Result<Self, redis::RedisError> {
        let connection = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(config.redis_connect_timeout))
            .set_response_timeout(Some(config.redis_command_timeout));
        let manager = Manager::new_with_config(redis, connection)?;
        let pool = Pool::builder(manager)
            .max_size(config.redis_pool_size)
            .wait_timeout(Some(config.redis_connect_timeout))
            .create_timeout(Some(config.redis_connect_timeout))
            .recycle_timeout(Some(config.redis_command_timeout))
            .runtime(Runtime::Tokio1)
            .build()
            .expect("a runtime is given, which is all that the timeouts need");
        Ok(Self {
            pool,
            shared: Mutex::new(None),
            deadline: config.redis_command_timeout,
            keys,
            retention: config.into(),
            publish: Script::new(include_str!("publish.lua")),
            read: Script::new(include_str!("read.lua")),
            up: AtomicBool::new(false),
            metrics,
        })
    }

    pub(super) async fn publish(
        &self,
        channel: &Channel,
        draft: &Draft,
        known: Option<Position>,
    ) -> Result<Published, PublishError> {
        let name = self.keys.channel(channel);
        let mut call = self.publish.key(self.keys.meta(&name));
        call.key(self.keys.log(&name));
        if let Some(id) = draft.id() {
            call.key(self.keys.id(&name, id));
        }
        let (known_epoch, known_seq) = known.map_or((String::new(), 0), |known| (known.epoch.to_string(), known.seq));
        call.arg(name).arg(draft.tail()).arg(new_epoch()).arg(known_epoch).arg(known_seq);
        call.arg(self.retention.length).arg(self.retention.bytes).arg(millis(self.retention.age));
        call.arg(millis(META_TTL)).arg(format!("{:016x}", draft.fingerprint())).arg(millis(self.retention.ids));

        let (epoch, seq, ts, outcome): (String, u64, u64, String) =
            self.run(async |connection| call.invoke_async(connection).await).await?;
        let position = position(&epoch, seq)?;
        match outcome.as_str() {
            "placed" => {
                let item = draft.numbered(position.epoch, seq, ts);
                Ok(Published::Placed(Placed { position, ts, item }))
            }
            "repeated" => Ok(Published::Repeated(position)),
            _ => Err(PublishError::IdConflict),
        }
    }

    pub(super) async fn send(&self, channel: &Channel, frame: &Frame) -> Result<(), Unavailable> {
        self.publish_on(&self.keys.channel(channel), frame.as_bytes()).await
    }

    /// Publishes on a channel of Redis by its name, and nothing else.
    pub(super) async fn publish_on(&self, name: &str, payload: &[u8]) -> Result<(), Unavailable> {
        self.run(async |connection| connection.publish(name, payload).await).await
    }

    pub(super) async fn read(&self, channel: &Channel, from: Option<ReadFrom>) -> Result<LogSlice<Frame>, Unavailable> {
        let name = self.keys.channel(channel);
        let mut call = self.read.key(self.keys.meta(&name));
        call.key(self.keys.log(&name)).arg(new_epoch());
        match from {
            Some(ReadFrom { position: Position { epoch, seq }, known, void }) => {
                call.arg(epoch.to_string()).arg(seq).arg(known).arg(u8::from(void));
            }
            None => {
                call.arg("").arg(0).arg(0).arg(0);
            }
        }
        call.arg(READ_LIMIT).arg(millis(META_TTL));

        let (epoch, top, entries): (String, u64, Vec<(u64, Bytes)>) =
            self.run(async |connection| call.invoke_async(connection).await).await?;
        let top = position(&epoch, top)?;
        let entries = entries.into_iter().map(|(seq, envelope)| placed(Position::new(top.epoch, seq), envelope));
        let entries: Option<Vec<_>> = entries.collect();
        let entries = entries.ok_or_else(|| Unavailable(format!("the log of {name} has an entry that is not ours")))?;
        Ok(LogSlice { top, entries })
    }

    pub(super) async fn tops(&self, channels: &[Channel]) -> Result<Vec<Option<Top>>, Unavailable> {
        let mut pipeline = redis::pipe();
        for channel in channels {
            pipeline.hmget(self.keys.meta(&self.keys.channel(channel)), &["epoch", "seq", "ts"]);
        }
        let tops: Vec<(Option<String>, Option<u64>, Option<u64>)> =
            self.run(async |connection| pipeline.query_async(connection).await).await?;
        let top = |(epoch, seq, ts): (Option<String>, Option<u64>, Option<u64>)| {
            let Some(epoch) = epoch else { return Ok(None) };
            Ok(Some((position(&epoch, seq.unwrap_or(0))?, ts.unwrap_or(0))))
        };
        tops.into_iter().map(top).collect()
    }

    /// Whether Redis answered when it was last asked.
    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Asks Redis for an answer, by the check that the pool makes of each connection it hands out.
    pub(super) async fn check(&self) {
        match self.checkout().await {
            Ok(_) => drop(self.set_up(true)),
            Err(error) => self.failed(&error),
        }
    }

    /// Runs one command on the shared connection, within the deadline. After an error of any kind no connection is
    /// used again: they may be broken, or lead to a server that is no longer the primary.
    async fn run<T>(
        &self,
        command: impl AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>,
    ) -> Result<T, Unavailable> {
        let answer = timeout(self.deadline, async {
            let mut connection = self.connection().await?;
            command(&mut connection).await.map_err(|error| Unavailable(error.to_string()))
        });
        let answer = answer.await.unwrap_or_else(|_| Err(Unavailable(format!("no answer within {:?}", self.deadline))));
        if let Err(error) = &answer {
            self.set_shared(None);
            self.pool.retain(|_, _| false);
            self.failed(error);
        }
        answer
    }

    async fn connection(&self) -> Result<MultiplexedConnection, Unavailable> {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(connection) = shared {
            return Ok(connection);
        }
        let connection = (*self.checkout().await?).clone();
        self.set_shared(Some(connection.clone()));
        Ok(connection)
    }

    async fn checkout(&self) -> Result<Connection, Unavailable> {
        self.pool.get().await.map_err(|error| Unavailable(error.to_string()))
    }

    fn set_shared(&self, connection: Option<MultiplexedConnection>) {
        *self.shared.lock().unwrap_or_else(PoisonError::into_inner) = connection;
    }

    fn failed(&self, error: &dyn Display) {
        if self.set_up(false) {
            tracing::warn!(%error, "Redis does not answer");
        }
    }

    /// Returns whether that is a change.
    fn set_up(&self, up: bool) -> bool {
        self.metrics.broker_up.set(up.into());
        self.up.swap(up, Ordering::Relaxed) != up
    }
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").field("up", &self.up).finish_non_exhaustive()
    }
}

fn new_epoch() -> String {
    Epoch(rand::random()).to_string()
}

/// An entry of the log; `None` if it is not an envelope with a time.
fn placed(position: Position, envelope: Bytes) -> Option<Placed<Frame>> {
    let item = Frame::new(envelope).ok()?;
    let (_, _, ts) = Envelope::read(&item).ok()?.placed?;
    Some(Placed { position, ts, item })
}

fn position(epoch: &str, seq: u64) -> Result<Position, Unavailable> {
    let epoch =
        Epoch::parse(epoch).ok_or_else(|| Unavailable(format!("{epoch:?} in Redis is not an epoch of ours")))?;
    Ok(Position::new(epoch, seq))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
