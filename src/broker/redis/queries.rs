use std::time::Duration;

use deadpool_redis::{Connection, Pool, PoolError, TimeoutType};
use redis::{RedisError, RedisResult, aio::MultiplexedConnection};
use tokio::time::{sleep, timeout};

use super::{backoff::Backoff, connector::Connector, failure::Failure, health::Health};

/// Most queries at a time; further ones wait for their turn.
const CONNECTIONS: usize = 8;

/// How often an idle pool is checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The connections for queries: readings of logs, tops, and whatever else is not on the hot path of a message.
///
/// Each query has a connection of the pool to itself. So a long or late answer delays neither a publish nor another
/// query. The connection of a late answer is closed, because that answer may still come. While Redis is away, queries
/// fail at once.
pub(super) struct Queries {
    pool: Pool,
    deadline: Duration,
    health: Health,
}

impl Queries {
    /// Connects with the first query.
    ///
    /// # Errors
    /// If the URL is not a Redis URL.
    pub(super) fn new(connector: &Connector, health: Health) -> Result<Self, RedisError> {
        Ok(Self { pool: connector.pool(CONNECTIONS)?, deadline: connector.command_timeout(), health })
    }

    /// Whether Redis answered the last query.
    pub(super) fn is_up(&self) -> bool {
        self.health.is_up()
    }

    /// Keeps checking whether Redis answers. Never ends.
    pub(super) async fn keep_up(&self) {
        let mut backoff = Backoff::new();
        loop {
            // The pool pings a connection before it hands it out, and makes a new one if none answers.
            match self.checkout().await.map(drop) {
                // If all are in use, queries themselves show whether Redis answers.
                Ok(()) | Err(Failure::Late(_)) => {
                    self.health.works();
                    backoff = Backoff::new();
                    sleep(CHECK_INTERVAL).await;
                }
                Err(failure) => {
                    self.health.fails(&failure);
                    sleep(backoff.next(rand::random())).await;
                }
            }
        }
    }

    /// Runs one query within the deadline, on a connection of its own.
    pub(super) async fn run<T>(
        &self,
        query: impl AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>,
    ) -> Result<T, Failure> {
        if !self.is_up() {
            return Err(Failure::NoConnection);
        }
        let asked = async {
            let mut checkout = Checkout(Some(self.checkout().await?));
            let Some(connection) = &mut checkout.0 else { return Err(Failure::NoConnection) };
            let answer = query(connection).await.map_err(Failure::from);
            if !answer.as_ref().is_err_and(Failure::condemns_connection) {
                checkout.give_back();
            }
            answer
        };
        timeout(self.deadline, asked).await.unwrap_or(Err(Failure::Late(self.deadline)))
    }

    async fn checkout(&self) -> Result<Connection, Failure> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) => Failure::Redis(error),
            PoolError::Timeout(TimeoutType::Wait) => Failure::Late(self.deadline),
            other => Failure::Unfit(other.to_string()),
        })
    }
}

impl std::fmt::Debug for Queries {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queries").field("health", &self.health).finish_non_exhaustive()
    }
}

/// A connection that leaves the pool unless it is given back explicitly.
struct Checkout(Option<Connection>);

impl Checkout {
    fn give_back(&mut self) {
        self.0.take();
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        self.0.take().map(Connection::take);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use tokio::time::sleep;

    use super::{
        super::{
            link::tests::{ping, slow, with_slow_redis},
            outage::{Outages, Part},
        },
        *,
    };
    use crate::telemetry::Gauge;

    #[tokio::test]
    async fn a_late_query_fails_alone_and_its_connection_is_thrown_away() {
        with_slow_redis(async |connector, accepted| {
            let health =
                Health::new(Part::Queries, Gauge::default(), std::sync::Arc::new(Outages::new("redis:6379".into())));
            let queries = Queries::new(&connector, health).unwrap();
            let testing = async {
                while queries.run(ping).await.is_err() {
                    sleep(Duration::from_millis(1)).await;
                }
                assert_eq!(accepted.load(Ordering::Relaxed), 1, "connections are used again");
                let others = async {
                    for _ in 0..10 {
                        assert_eq!(queries.run(ping).await.unwrap(), "PONG");
                    }
                };
                let (late, ()) = tokio::join!(queries.run(slow), others);
                assert!(matches!(late, Err(Failure::Late(_))));
                assert!(queries.is_up() && queries.run(ping).await.is_ok());
                assert_eq!(queries.pool.status().size, accepted.load(Ordering::Relaxed) as usize - 1);
            };
            tokio::select! {
                () = testing => {}
                () = queries.keep_up() => unreachable!("it keeps up for ever"),
            }
        })
        .await;
    }
}
