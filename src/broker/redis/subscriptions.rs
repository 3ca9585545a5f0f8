use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use redis::{ErrorKind, RedisError, RedisResult, ServerErrorKind, aio::MultiplexedConnection};
use tokio::time::{Instant, timeout};

use super::{failure::Failure, keys::Keys, lines::Refusals};
use crate::protocol::Channel;

/// How long to wait before asking again for a channel that Redis refused.
const REFUSED_FOR: Duration = Duration::from_secs(10);

/// Most refused channels to remember; Redis is asked again for others.
const MAX_REFUSED: usize = 4096;

/// A connection and what it is subscribed to, as Redis has confirmed it.
pub(super) struct Subscriptions {
    connection: MultiplexedConnection,
    deadline: Duration,
    channels: HashSet<Channel>,
    /// Channels that Redis refused, and when.
    refused: HashMap<Channel, Instant>,
    refusals: Arc<Refusals>,
}

impl Subscriptions {
    /// Subscribed to nothing yet.
    pub(super) fn new(connection: MultiplexedConnection, deadline: Duration, refusals: Arc<Refusals>) -> Self {
        Self { connection, deadline, channels: HashSet::new(), refused: HashMap::new(), refusals }
    }

    /// Subscribes to the channel with this name in Redis.
    pub(super) async fn subscribe_to(&mut self, name: &str) -> Result<(), Failure> {
        within(self.deadline, self.connection.subscribe(name)).await
    }

    /// The subscribed channels.
    pub(super) fn channels(&self) -> &HashSet<Channel> {
        &self.channels
    }

    /// Subscribes to those channels that Redis allows. It remembers the others, which have no further effect.
    pub(super) async fn subscribe(&mut self, channels: &[Channel], keys: &Keys) -> Result<(), Failure> {
        let is_due = |channel: &&Channel| {
            let refused = self.refused.get(*channel).is_some_and(|at| at.elapsed() < REFUSED_FOR);
            !refused && !self.channels.contains(*channel)
        };
        let mut batches: Vec<Vec<&Channel>> = vec![channels.iter().filter(is_due).collect()];
        while let Some(mut batch) = batches.pop() {
            if batch.is_empty() {
                continue;
            }
            let names: Vec<String> = batch.iter().map(|channel| keys.channel(channel)).collect();
            match within(self.deadline, self.connection.subscribe(&names)).await {
                Ok(()) => {
                    for channel in batch {
                        self.refused.remove(channel);
                        self.channels.insert(channel.clone());
                    }
                }
                Err(Failure::Redis(error)) if is_refusal(&error) => match &batch[..] {
                    [channel] => self.write_down(channel, &names[0], error),
                    // One forbidden channel makes Redis refuse the whole batch, so halving the batch finds it.
                    _ => {
                        let half = batch.split_off(batch.len() / 2);
                        batches.extend([half, batch]);
                    }
                },
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write_down(&mut self, channel: &Channel, name: &str, error: RedisError) {
        if self.refused.len() < MAX_REFUSED || self.refused.contains_key(channel) {
            self.refused.insert(channel.clone(), Instant::now());
        }
        self.refusals.log(name, &Failure::Redis(error));
    }

    /// The refused channels to ask for again, if they are still wanted.
    pub(super) fn refused_long_ago(&mut self, now: Instant) -> Vec<Channel> {
        let is_due = |at: &Instant| now.saturating_duration_since(*at) >= REFUSED_FOR;
        self.refused.extract_if(|_, at| is_due(at)).map(|(channel, _)| channel).collect()
    }

    pub(super) async fn unsubscribe(&mut self, channels: &[Channel], keys: &Keys) -> Result<(), Failure> {
        let present: Vec<&Channel> = channels.iter().filter(|channel| self.channels.contains(channel)).collect();
        if !present.is_empty() {
            let names: Vec<String> = present.iter().map(|channel| keys.channel(channel)).collect();
            within(self.deadline, self.connection.unsubscribe(names)).await?;
            for channel in present {
                self.channels.remove(channel);
            }
        }
        Ok(())
    }
}

fn is_refusal(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm)
}

async fn within<T>(deadline: Duration, call: impl Future<Output = RedisResult<T>>) -> Result<T, Failure> {
    Ok(timeout(deadline, call).await.map_err(|_| Failure::Late(deadline))??)
}
