use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use redis::{FromRedisValue, RedisError, RedisResult, Value, aio::MultiplexedConnection};
use tokio::{sync::Notify, time::Instant};

use super::{
    super::unix_millis,
    failure::Failure,
    keys::Keys,
    marks::{Finding, LIFE, Marks},
    memory::Memory,
    vouching::Vouching,
};
use crate::telemetry::Metrics;

/// Checks regularly whether a Redis can do its job: whether it takes writes and keeps them, how full it is, and whether
/// this server can use it at all. It also learns the secret by which servers vouch.
#[derive(Debug)]
pub(super) struct Heartbeat {
    key: String,
    secret_key: String,
    servers_key: String,
    origin_server: String,
    marks: Mutex<Marks>,
    vouching: Arc<Vouching>,
    memory: Arc<Memory>,
    writes_lost: Notify,
    is_name_shared: AtomicBool,
    is_spoilt: AtomicBool,
    metrics: Arc<Metrics>,
}

impl Heartbeat {
    pub(super) fn new(
        keys: &Keys,
        origin_server: &str,
        vouching: Arc<Vouching>,
        memory: Arc<Memory>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            key: keys.mark(origin_server),
            secret_key: keys.secret(),
            servers_key: keys.servers(),
            origin_server: origin_server.to_owned(),
            marks: Mutex::new(Marks::new(rand::random())),
            vouching,
            memory,
            writes_lost: Notify::new(),
            is_name_shared: AtomicBool::new(false),
            is_spoilt: AtomicBool::new(false),
            metrics,
        }
    }

    /// Waits until a check finds that Redis has lost its last writes. Cancel-safe.
    pub(super) async fn writes_lost(&self) {
        self.writes_lost.notified().await;
    }

    /// Fails, in Redis' own words, if Redis cannot do its job. A full one can, for existing rooms.
    pub(super) async fn check(&self, mut connection: MultiplexedConnection) -> Result<(), Failure> {
        let vouch = self.vouching.current();
        let (mark, number) = self.marks.lock().unwrap_or_else(PoisonError::into_inner).next();
        let mut calls = redis::pipe();
        calls.ignore_errors();
        calls.cmd("SET").arg(&self.key).arg(mark).arg("EX").arg(LIFE.as_secs()).arg("GET");
        calls.cmd("SET").arg(&self.secret_key).arg(vouch.secret()).arg("NX");
        calls.cmd("GET").arg(&self.secret_key);
        calls.cmd("INFO").arg("memory");
        calls.cmd("INFO").arg("cluster");
        calls.cmd("HSET").arg(&self.servers_key).arg(&self.origin_server).arg(unix_millis());
        let answers: Vec<RedisResult<Value>> = calls.query_async(&mut connection).await?;
        let Ok([before, created, secret, memory, cluster, signed]) = <[_; 6]>::try_from(answers) else {
            return Err(Failure::Unfit("Redis answered something else than what it was asked".into()));
        };

        let is_full = before.as_ref().is_err_and(is_out_of_memory);
        let memory: RedisResult<String> = memory.and_then(read);
        if let Err(error) = &memory {
            self.memory.not_told(error);
        }
        self.memory.observed(memory.as_deref().ok(), is_full);
        let is_cluster = cluster.and_then(read).is_ok_and(|info: String| info.contains("cluster_enabled:1"));
        if is_cluster {
            return Err(Failure::Cluster);
        }
        if let Err(error) = signed {
            tracing::debug!(%error, "other servers cannot see that this one lives");
        }
        match before {
            Ok(before) => self.learn(number, read::<Option<String>>(before).ok().flatten().as_deref()),
            Err(error) if is_full => tracing::debug!(%error, "Redis is full"),
            Err(error) if is_of_another_type(&error) => self.spoilt(&self.key, &error),
            Err(error) => return Err(error.into()),
        }
        // If Redis is full and has no secret, this server uses its own until there is one.
        match secret.and_then(read::<Option<String>>) {
            Ok(Some(secret)) if self.vouching.adopt(&secret) => tracing::debug!("using the secret of this Redis"),
            Ok(Some(secret)) if self.vouching.current().secret() != secret => {
                self.spoilt(&self.secret_key, &"not a secret of roomcast");
            }
            Ok(_) => {}
            Err(error) if is_of_another_type(&error) => self.spoilt(&self.secret_key, &error),
            Err(error) => return Err(error.into()),
        }
        created.map(drop).or_else(|error| if is_out_of_memory(&error) { Ok(()) } else { Err(error.into()) })
    }

    /// Another program has stored something under this name. The server can do without.
    fn spoilt(&self, key: &str, why: &dyn std::fmt::Display) {
        if !self.is_spoilt.swap(true, Ordering::Relaxed) {
            tracing::warn!(key, error = %why, "somebody else wrote a key of this server in Redis; delete it");
        }
    }

    fn learn(&self, number: u64, before: Option<&str>) {
        let finding = self.marks.lock().unwrap_or_else(PoisonError::into_inner).took(number, before, Instant::now());
        if finding == Finding::WritesLost {
            tracing::warn!("Redis lost its last writes or was emptied; reading all logs again");
        }
        if matches!(finding, Finding::WritesLost | Finding::OtherFound) {
            self.writes_lost.notify_one();
        }
        let is_shared = finding == Finding::NameShared;
        self.metrics.name_shared.set_flag(is_shared);
        if is_shared && !self.is_name_shared.swap(true, Ordering::Relaxed) {
            tracing::error!(
                name = self.origin_server,
                "another server on this Redis has the same name, so neither hears the other; \
                 set ROOMCAST_ORIGIN_SERVER to a different one for each"
            );
        }
        if finding == Finding::Fine {
            self.is_name_shared.store(false, Ordering::Relaxed);
        }
    }
}

fn read<T: FromRedisValue>(value: Value) -> RedisResult<T> {
    redis::from_redis_value(value).map_err(Into::into)
}

fn is_of_another_type(error: &RedisError) -> bool {
    error.code() == Some("WRONGTYPE")
}

fn is_out_of_memory(error: &RedisError) -> bool {
    error.code() == Some("OOM")
}
