use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use redis::{PushInfo, PushKind, RedisResult, aio::MultiplexedConnection};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::{backoff::Backoff, connector::Connector, failure::Failure, health::Health};

/// How often the link checks whether Redis can do its job.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The connection for what is published.
///
/// All publishes share one multiplexed connection, so those of many sessions travel together and none waits for
/// another. One loop ([`Link::keep_up`]) makes the connections, one after the other. It checks each of them regularly,
/// and at once when a command has failed. Without a connection, commands fail at once.
pub(super) struct Link {
    connector: Arc<Connector>,
    health: Health,
    shared: Mutex<Shared>,
    /// The connection must be checked now.
    suspected: Arc<Notify>,
}

#[derive(Default)]
struct Shared {
    connection: Option<MultiplexedConnection>,
    /// Its number, so that the failure of an earlier connection does not count against a later one.
    generation: u64,
}

impl Link {
    pub(super) fn new(connector: Arc<Connector>, health: Health) -> Self {
        Self { connector, health, shared: Mutex::default(), suspected: Arc::default() }
    }

    /// Whether Redis could do its job when it was last checked, and has not failed since.
    pub(super) fn is_up(&self) -> bool {
        self.health.is_up()
    }

    /// Keeps a connection that passes the check: checks it regularly and replaces it when it breaks. Never ends.
    pub(super) async fn keep_up<F>(&self, check: impl Fn(MultiplexedConnection) -> F)
    where
        F: Future<Output = Result<(), Failure>>,
    {
        let (mut backoff, mut connection) = (Backoff::new(), None);
        loop {
            match self.attend(&mut connection, &check).await {
                Ok(()) => {
                    self.health.works();
                    backoff = Backoff::new();
                    tokio::select! {
                        () = sleep(CHECK_INTERVAL) => {}
                        () = self.suspected.notified() => {}
                    }
                }
                Err(failure) => {
                    if failure.condemns_connection() {
                        connection = None;
                        self.shared().connection = None;
                    }
                    self.health.fails(&failure);
                    sleep(backoff.next(rand::random())).await;
                }
            }
            if self.shared().connection.is_none() {
                connection = None;
            }
        }
    }

    /// Makes a connection if there is none, checks it, and uses it for commands if it passes.
    async fn attend<F>(
        &self,
        connection: &mut Option<MultiplexedConnection>,
        check: &impl Fn(MultiplexedConnection) -> F,
    ) -> Result<(), Failure>
    where
        F: Future<Output = Result<(), Failure>>,
    {
        let (current, is_new) = match connection.clone() {
            Some(current) => (current, false),
            None => {
                let ended = self.suspected.clone();
                let connecting = self.connector.connect(move |push: PushInfo| {
                    if push.kind == PushKind::Disconnection {
                        ended.notify_one();
                    }
                    Ok::<(), ()>(())
                });
                (connecting.await?, true)
            }
        };
        self.within(check(current.clone())).await?;
        if is_new {
            let mut shared = self.shared();
            *shared = Shared { connection: Some(current.clone()), generation: shared.generation + 1 };
            *connection = Some(current);
        }
        Ok(())
    }

    /// Runs one command on the shared connection, within the deadline.
    pub(super) async fn run<T>(
        &self,
        command: impl AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>,
    ) -> Result<T, Failure> {
        let (connection, generation) = {
            let shared = self.shared();
            (shared.connection.clone(), shared.generation)
        };
        let Some(mut connection) = connection else { return Err(Failure::NoConnection) };
        let result = self.within(async { Ok(command(&mut connection).await?) }).await;
        if let Err(failure) = &result
            && failure.condemns_connection()
        {
            self.give_up(generation, failure);
        }
        result
    }

    async fn within<T>(&self, answer: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let deadline = self.connector.command_timeout();
        timeout(deadline, answer).await.unwrap_or(Err(Failure::Late(deadline)))
    }

    /// Has a connection replaced, unless that has happened already.
    fn give_up(&self, generation: u64, why: &Failure) {
        let mut shared = self.shared();
        if shared.generation == generation && shared.connection.take().is_some() {
            drop(shared);
            self.suspected.notify_one();
            self.health.fails(why);
        }
    }

    fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("health", &self.health).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
    };
    use tokio_util::task::TaskTracker;

    use super::{
        super::{
            Options,
            outage::{Outages, Part},
        },
        *,
    };
    use crate::{broker::Retention, telemetry::Gauge};

    /// A Redis that answers `SLOW` only together with the next command, and everything else at once.
    async fn serve(mut stream: TcpStream) {
        let mut waits = false;
        loop {
            let mut part = [0; 4096];
            let Ok(length @ 1..) = stream.read(&mut part).await else { return };
            let text = String::from_utf8(part[..length].to_vec()).unwrap();
            for command in text.split('*').skip(1) {
                // A command's words alternate with their lengths.
                let words: Vec<&str> = command.split("\r\n").skip(2).step_by(2).collect();
                let answer = match &words[..] {
                    ["SLOW", ..] => {
                        waits = true;
                        String::new()
                    }
                    ["HELLO", ..] => "%1\r\n+proto\r\n:3\r\n".to_owned(),
                    words => {
                        let late = if std::mem::take(&mut waits) { "+late\r\n" } else { "" };
                        // The pool sends text and expects it back.
                        let word = words.get(1).filter(|word| !word.is_empty()).unwrap_or(&"PONG");
                        format!("{late}+{word}\r\n")
                    }
                };
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
        }
    }

    /// Options for a Redis at this URL.
    pub(crate) fn options(url: &str) -> Options {
        Options {
            url: url.to_owned(),
            password: None,
            client_certificate: None,
            prefix: "ws".into(),
            connect_timeout: Duration::from_secs(2),
            command_timeout: Duration::from_millis(700),
            probe_interval: Duration::from_secs(2),
            memory_watermark: 0.8,
            max_frame: 1 << 20,
            retention: Retention::new(1000, Duration::from_secs(60), 1 << 20, Duration::from_secs(60)),
        }
    }

    /// Runs a test against a Redis that may answer late. The test gets a connector and the number of connections that
    /// this Redis has accepted.
    pub(crate) async fn with_slow_redis(test: impl AsyncFnOnce(Arc<Connector>, &AtomicU64)) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}/?protocol=resp3", listener.local_addr().unwrap());
        let connector = Arc::new(Connector::new(&options(&url)).unwrap());
        let (tasks, accepted) = (TaskTracker::new(), AtomicU64::new(0));
        let accepting = async {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                accepted.fetch_add(1, Ordering::Relaxed);
                tasks.spawn(serve(stream));
            }
        };
        tokio::select! {
            () = test(connector, &accepted) => {}
            never = accepting => never,
        }
    }

    pub(crate) async fn ping(connection: &mut MultiplexedConnection) -> RedisResult<String> {
        redis::cmd("PING").query_async(connection).await
    }

    pub(crate) async fn slow(connection: &mut MultiplexedConnection) -> RedisResult<String> {
        redis::cmd("SLOW").query_async(connection).await
    }

    #[tokio::test]
    async fn a_late_command_is_the_end_of_its_connection() {
        with_slow_redis(async |connector, accepted| {
            let link = Link::new(
                connector,
                Health::new(Part::Commands, Gauge::default(), Arc::new(Outages::new("redis:6379".into()))),
            );
            let checks = Notify::new();
            let keeping_up = link.keep_up(async |mut connection| {
                ping(&mut connection).await?;
                checks.notify_one();
                Ok(())
            });
            let testing = async {
                while link.run(ping).await.is_err() {
                    checks.notified().await;
                    tokio::task::yield_now().await;
                }
                assert!(matches!(link.run(slow).await, Err(Failure::Late(_))));
                assert!(!link.is_up());
                while link.run(ping).await.is_err() {
                    checks.notified().await;
                    tokio::task::yield_now().await;
                }
                assert_eq!(accepted.load(Ordering::Relaxed), 2);
            };
            tokio::select! {
                () = testing => {}
                () = keeping_up => unreachable!("it keeps up for ever"),
            }
        })
        .await;
    }
}
