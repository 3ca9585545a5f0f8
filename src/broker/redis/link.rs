use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use deadpool_redis::{Manager, Pool, Runtime};
use redis::{
    AsyncCommands, AsyncConnectionConfig, ConnectionInfo, ErrorKind, PushInfo, PushKind, RedisError, RedisResult,
    ServerErrorKind, SetExpiry, SetOptions, aio::MultiplexedConnection,
};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::{super::Unavailable, backoff::Backoff};
use crate::{config::Config, telemetry::Metrics};

/// How often Redis is asked whether it answers.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// How long Redis keeps what is written to see that it can be.
const PROBE_LIFE: SetExpiry = SetExpiry::EX(60);

/// The connection for commands.
///
/// All commands share one multiplexed connection, so those of many sessions travel together and none waits for a
/// checkout, which would cost two more commands. One loop ([`Link::keep_up`]) is all that makes connections: the
/// pool gives it one and checks it, time and again, and at once when a command has failed. Readiness goes by that
/// check. While there is no connection commands fail at once.
pub(super) struct Link {
    pool: Pool,
    shared: Mutex<Shared>,
    deadline: Duration,
    /// What is written to see that Redis takes writes.
    probe: String,
    /// A connection has been found broken, and the next one is not to be waited for.
    broken: Arc<Notify>,
    up: AtomicBool,
    metrics: Arc<Metrics>,
}

#[derive(Default)]
struct Shared {
    connection: Option<MultiplexedConnection>,
    /// Rises with each connection, so that the failure of an earlier one is not blamed on a later one.
    number: u64,
}

impl Link {
    pub(super) fn new(
        redis: ConnectionInfo,
        probe: String,
        config: &Config,
        metrics: Arc<Metrics>,
    ) -> Result<Self, RedisError> {
        let broken = Arc::new(Notify::new());
        let ended = broken.clone();
        let connection = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(config.redis_connect_timeout))
            .set_response_timeout(Some(config.redis_command_timeout))
            .set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    ended.notify_one();
                }
                Ok::<(), ()>(())
            });
        let manager = Manager::new_with_config(redis, connection)?;
        let pool = Pool::builder(manager)
            .max_size(1)
            .wait_timeout(Some(config.redis_connect_timeout))
            .create_timeout(Some(config.redis_connect_timeout))
            .recycle_timeout(Some(config.redis_command_timeout))
            .runtime(Runtime::Tokio1)
            .build()
            .expect("a runtime is given, which is all that the timeouts need");
        let (shared, up) = (Mutex::default(), AtomicBool::new(false));
        Ok(Self { pool, shared, deadline: config.redis_command_timeout, probe, broken, up, metrics })
    }

    /// Whether Redis took a write when it was last asked to, and has not failed since.
    pub(super) fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }

    /// Keeps a connection that works, for ever: checks it regularly, and makes another one when it is broken.
    pub(super) async fn keep_up(&self) {
        let mut backoff = Backoff::new();
        loop {
            // The pool pings a connection that it has before it hands it out, and makes one if it has none.
            let works = match self.pool.get().await {
                Ok(connection) => {
                    self.share(&connection);
                    drop(connection);
                    self.check().await
                }
                Err(error) => {
                    self.set_up(false);
                    self.shared().connection = None;
                    if backoff.is_fresh() {
                        tracing::warn!(%error, "Redis cannot be reached; it is tried on. See ROOMCAST_REDIS_URL");
                    }
                    false
                }
            };
            if works {
                backoff = Backoff::new();
                tokio::select! {
                    () = sleep(CHECK_INTERVAL) => {}
                    () = self.broken.notified() => {}
                }
            } else {
                sleep(backoff.next(rand::random())).await;
            }
        }
    }

    /// Sees whether Redis takes writes: one that answers may be a replica, or out of memory.
    async fn check(&self) -> bool {
        let write = async |connection: &mut MultiplexedConnection| {
            connection.set_options::<_, _, ()>(&self.probe, 1, SetOptions::default().with_expiration(PROBE_LIFE)).await
        };
        let written = self.run(write).await;
        let is_change = self.set_up(written.is_ok());
        match &written {
            Ok(()) if is_change => tracing::info!("Redis takes commands"),
            Err(error) if is_change => tracing::warn!(%error, "Redis takes no writes"),
            _ => {}
        }
        written.is_ok()
    }

    /// Runs one command on the shared connection, within the deadline.
    pub(super) async fn run<T>(
        &self,
        command: impl AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>,
    ) -> Result<T, Unavailable> {
        let (connection, number) = {
            let shared = self.shared();
            (shared.connection.clone(), shared.number)
        };
        let Some(mut connection) = connection else {
            return Err(Unavailable("there is no connection to Redis".into()));
        };
        match timeout(self.deadline, command(&mut connection)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                if condemns_connection(&error) {
                    self.give_up(number, &error.to_string());
                }
                Err(Unavailable(error.to_string()))
            }
            Err(_) => {
                let text = format!("no answer within {:?}", self.deadline);
                self.give_up(number, &text);
                Err(Unavailable(text))
            }
        }
    }

    fn share(&self, connection: &MultiplexedConnection) {
        let mut shared = self.shared();
        if shared.connection.is_none() {
            shared.connection = Some(connection.clone());
            shared.number += 1;
        }
    }

    /// Has a connection replaced, unless it has been already.
    fn give_up(&self, number: u64, why: &str) {
        let mut shared = self.shared();
        if shared.number == number && shared.connection.take().is_some() {
            drop(shared);
            self.set_up(false);
            self.pool.retain(|_, _| false);
            self.broken.notify_one();
            tracing::warn!(error = why, "Redis does not answer");
        }
    }

    /// Returns whether that is a change.
    fn set_up(&self, up: bool) -> bool {
        self.metrics.broker_up.set(up.into());
        self.up.swap(up, Ordering::Relaxed) != up
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether an error says that the connection is broken, or leads to a server that cannot do its job. Any other error
/// is about the one command, such as a key of the wrong type or a Redis whose memory is full.
fn condemns_connection(error: &RedisError) -> bool {
    let unfit = matches!(
        error.kind(),
        ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown | ServerErrorKind::BusyLoading)
    );
    unfit || error.is_io_error() || error.is_unrecoverable_error()
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("up", &self.up).finish_non_exhaustive()
    }
}
