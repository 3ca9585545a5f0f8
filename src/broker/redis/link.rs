use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use deadpool_redis::{Hook, Manager, Pool, Runtime};
use redis::{
    AsyncConnectionConfig, ConnectionInfo, ErrorKind, PushInfo, PushKind, RedisError, RedisResult, ServerErrorKind,
    aio::MultiplexedConnection,
};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    super::Unavailable,
    backoff::Backoff,
    outage::{Outages, Part},
};
use crate::{config::Config, telemetry::Gauge};

/// How often Redis is asked whether it can do its job.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A connection for commands.
///
/// All commands share one multiplexed connection, so those of many sessions travel together and none waits for a
/// checkout, which would cost two more commands. One loop ([`Link::keep_up`]) is all that makes connections: the
/// pool gives it one, and it is checked, time and again, and at once when a command has failed. Readiness goes by that
/// check. While there is no connection commands fail at once.
pub(super) struct Link {
    part: Part,
    pool: Pool,
    /// How many connections the pool has made.
    made: Arc<AtomicU64>,
    shared: Mutex<Shared>,
    deadline: Duration,
    /// A connection has to be looked at now.
    suspected: Arc<Notify>,
    /// 1 if the last check succeeded and nothing has failed since.
    up: Gauge,
    outages: Arc<Outages>,
}

#[derive(Default)]
struct Shared {
    connection: Option<MultiplexedConnection>,
    /// Which of all that were made it is, so that the failure of an earlier one is not blamed on a later one.
    number: u64,
}

/// Why a command has no answer, or none that is of use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("there is no connection to Redis")]
    NoConnection,
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// Redis answered, and not as it should.
    #[error("{0}")]
    Unfit(String),
}

impl Link {
    pub(super) fn new(
        part: Part,
        redis: ConnectionInfo,
        config: &Config,
        up: Gauge,
        outages: Arc<Outages>,
    ) -> Result<Self, RedisError> {
        let suspected = Arc::new(Notify::new());
        let ended = suspected.clone();
        let connection = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(config.redis_connect_timeout))
            // Whoever waits has a deadline of its own.
            .set_response_timeout(None)
            .set_push_sender(move |push: PushInfo| {
                if push.kind == PushKind::Disconnection {
                    ended.notify_one();
                }
                Ok::<(), ()>(())
            });
        let made = Arc::new(AtomicU64::new(0));
        let one_more = made.clone();
        let manager = Manager::new_with_config(redis, connection)?;
        let pool = Pool::builder(manager)
            .max_size(1)
            .wait_timeout(Some(config.redis_connect_timeout))
            .create_timeout(Some(config.redis_connect_timeout))
            .recycle_timeout(Some(config.redis_command_timeout))
            .runtime(Runtime::Tokio1)
            .post_create(Hook::sync_fn(move |_, _| {
                one_more.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }))
            .build()
            .expect("a runtime is given, which is all that the timeouts need");
        let deadline = config.redis_command_timeout;
        Ok(Self { part, pool, made, shared: Mutex::default(), deadline, suspected, up, outages })
    }

    /// Whether Redis could do its job when it was last checked, and has not failed since.
    pub(super) fn is_up(&self) -> bool {
        self.up.get() == 1
    }

    /// Keeps a connection that passes the check, for ever: checks it regularly, and makes another one when it is broken.
    pub(super) async fn keep_up<F>(&self, check: impl Fn(MultiplexedConnection) -> F)
    where
        F: Future<Output = Result<(), Failure>>,
    {
        let mut backoff = Backoff::new();
        loop {
            if self.attend(&check).await {
                backoff = Backoff::new();
                tokio::select! {
                    () = sleep(CHECK_INTERVAL) => {}
                    () = self.suspected.notified() => {}
                }
            } else {
                sleep(backoff.next(rand::random())).await;
            }
        }
    }

    /// Checks the connection, or makes one and checks that. Returns whether all is well.
    async fn attend<F>(&self, check: &impl Fn(MultiplexedConnection) -> F) -> bool
    where
        F: Future<Output = Result<(), Failure>>,
    {
        // The pool pings a connection that it has before it hands it out, and makes one if it has none.
        let (connection, number) = match self.pool.get().await {
            Ok(pooled) => (MultiplexedConnection::clone(&pooled), self.made.load(Ordering::Relaxed)),
            Err(error) => {
                self.shared().connection = None;
                self.fails(&error);
                return false;
            }
        };
        match self.within(check(connection.clone())).await {
            Ok(()) => {
                self.share(connection, number);
                self.up.set_flag(true);
                self.outages.works(self.part);
                true
            }
            Err(failure) => {
                if failure.condemns_connection() {
                    self.shared().connection = None;
                    self.pool.retain(|_, _| false);
                }
                self.fails(&failure);
                false
            }
        }
    }

    /// Runs one command on the shared connection, within the deadline.
    pub(super) async fn run<T>(
        &self,
        command: impl AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>,
    ) -> Result<T, Failure> {
        let (connection, number) = {
            let shared = self.shared();
            (shared.connection.clone(), shared.number)
        };
        let Some(mut connection) = connection else { return Err(Failure::NoConnection) };
        let result = self.within(async { Ok(command(&mut connection).await?) }).await;
        match &result {
            // A long answer may be on its way. The check finds out whether anything comes at all.
            Err(Failure::Late(_)) if self.part == Part::Readings => self.suspected.notify_one(),
            Err(failure) if failure.condemns_connection() => self.give_up(number, failure),
            _ => {}
        }
        result
    }

    async fn within<T>(&self, answer: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        timeout(self.deadline, answer).await.unwrap_or(Err(Failure::Late(self.deadline)))
    }

    /// Has commands go over this connection from now on.
    fn share(&self, connection: MultiplexedConnection, number: u64) {
        *self.shared() = Shared { connection: Some(connection), number };
    }

    /// Has a connection replaced, unless it has been already.
    fn give_up(&self, number: u64, why: &Failure) {
        let mut shared = self.shared();
        if shared.number == number && shared.connection.take().is_some() {
            drop(shared);
            self.pool.retain(|_, _| false);
            self.suspected.notify_one();
            self.fails(why);
        }
    }

    fn fails(&self, why: &dyn std::fmt::Display) {
        self.up.set_flag(false);
        self.outages.fails(self.part, why);
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Failure {
    /// Whether the connection is broken, or leads to a server that cannot do its job. Anything else is about the one
    /// command, such as a key of the wrong type, an answer that is of no use, or a Redis whose memory is full.
    fn condemns_connection(&self) -> bool {
        let Self::Redis(error) = self else { return matches!(self, Self::Late(_)) };
        match error.kind() {
            ErrorKind::Server(kind) => {
                matches!(kind, ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown | ServerErrorKind::BusyLoading)
            }
            // The bytes were read well, or nothing would have come of them; what they say is no answer to this.
            ErrorKind::Parse | ErrorKind::UnexpectedReturnType => false,
            _ => error.is_io_error() || error.is_unrecoverable_error(),
        }
    }

    /// Whether Redis was there and said no, or something that is no answer.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::NoConnection | Self::Late(_) => false,
            Self::Redis(_) | Self::Unfit(_) => !self.condemns_connection(),
        }
    }
}

impl From<Failure> for Unavailable {
    fn from(failure: Failure) -> Self {
        Self(failure.to_string())
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("part", &self.part).field("up", &self.up.get()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use redis::IntoConnectionInfo;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };
    use tokio_util::task::TaskTracker;

    use super::*;

    /// A Redis that answers `SLOW` only with what is asked next, and all else at once.
    async fn serve(mut stream: TcpStream) {
        let mut waits = false;
        loop {
            let mut part = [0; 4096];
            let Ok(length @ 1..) = stream.read(&mut part).await else { return };
            let text = String::from_utf8(part[..length].to_vec()).unwrap();
            for command in text.split('*').skip(1) {
                // Its words stand between their lengths.
                let words: Vec<&str> = command.split("\r\n").skip(2).step_by(2).collect();
                let answer = match &words[..] {
                    ["SLOW", ..] => {
                        waits = true;
                        String::new()
                    }
                    ["HELLO", ..] => "%1\r\n+proto\r\n:3\r\n".to_owned(),
                    words => {
                        let late = if std::mem::take(&mut waits) { "+late\r\n" } else { "" };
                        // The pool has its own words given back to it.
                        let word = words.get(1).filter(|word| !word.is_empty()).unwrap_or(&"PONG");
                        format!("{late}+{word}\r\n")
                    }
                };
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn a_late_reading_fails_alone_and_a_late_command_is_the_end_of_its_connection() {
        for (part, expected) in [(Part::Readings, 1), (Part::Commands, 2)] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("redis://{}/?protocol=resp3", listener.local_addr().unwrap());
            let config = Config::from_env([("ROOMCAST_REDIS_COMMAND_TIMEOUT".into(), "700ms".into())]).unwrap().0;
            let up = Gauge::default();
            let redis = url.into_connection_info().unwrap();
            let link = Link::new(part, redis, &config, up, Arc::default()).unwrap();
            let (tasks, accepted) = (TaskTracker::new(), AtomicU64::new(0));
            let accepting = async {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    accepted.fetch_add(1, Ordering::Relaxed);
                    tasks.spawn(serve(stream));
                }
            };
            let ping = async |connection: &mut MultiplexedConnection| {
                redis::cmd("PING").query_async::<String>(connection).await
            };
            let checks = Notify::new();
            let keeping_up = link.keep_up(async |mut connection| {
                ping(&mut connection).await?;
                checks.notify_one();
                Ok(())
            });
            let testing = async {
                checks.notified().await;
                sleep(Duration::from_millis(1)).await;
                assert_eq!(link.run(ping).await.unwrap(), "PONG");
                let slow = link.run(async |connection| redis::cmd("SLOW").query_async::<String>(connection).await);
                assert!(matches!(slow.await, Err(Failure::Late(_))));
                checks.notified().await;
                while link.run(ping).await.is_err() {
                    checks.notified().await;
                }
                assert_eq!(accepted.load(Ordering::Relaxed), expected, "{part:?}");
            };
            tokio::select! {
                () = testing => {}
                never = accepting => never,
                () = keeping_up => unreachable!("it keeps up for ever"),
            }
        }
    }
}
