use std::time::Duration;

use deadpool_redis::{Connection, Pool, PoolError, TimeoutType};
use redis::{RedisError, RedisResult, aio::MultiplexedConnection};
use tokio::time::{sleep, timeout};

use super::{backoff::Backoff, connector::Connector, failure::Failure, health::Health};

/// Most queries that are under way at a time; those beyond wait for their turn.
const CONNECTIONS: usize = 8;

/// How often it is seen to that a query would find a connection.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The connections for what is asked: readings of logs, tops, and whatever else is not on the way of a message.
///
/// Each query has a connection of the pool to itself. So a long answer, or a late one, holds up neither a publish nor
/// another query, and the connection of a late one is thrown away, as its answer may still be on the way. While Redis
/// is away queries fail at once.
pub(super) struct Queries {
    pool: Pool,
    deadline: Duration,
    health: Health,
}

impl Queries {
    /// Connects when there is something to ask.
    ///
    /// # Errors
    /// If the URL is not one of Redis.
    pub(super) fn new(connector: &Connector, health: Health) -> Result<Self, RedisError> {
        Ok(Self { pool: connector.pool(CONNECTIONS)?, deadline: connector.command_timeout(), health })
    }

    /// Whether Redis answered when it was last asked.
    pub(super) fn is_up(&self) -> bool {
        self.health.is_up()
    }

    /// Sees to it, for ever, that it is known whether Redis answers.
    pub(super) async fn keep_up(&self) {
        let mut backoff = Backoff::new();
        loop {
            // The pool pings what it hands out, and makes a connection if it has none that answers.
            match self.checkout().await.map(drop) {
                // If all are in use, Redis is busy with them.
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

    /// Asks one thing, within the deadline, on a connection of its own.
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

/// A connection that leaves the pool unless it is given back.
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
            outage::Part,
        },
        *,
    };
    use crate::telemetry::Gauge;

    #[tokio::test]
    async fn a_late_query_fails_alone_and_its_connection_is_thrown_away() {
        with_slow_redis(async |connector, accepted| {
            let health = Health::new(Part::Queries, Gauge::default(), std::sync::Arc::default());
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
