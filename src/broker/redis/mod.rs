//! The broker between servers. `keys.rs` lists what is in Redis and under which names; the scripts say what happens
//! there.
//!
//! A [`Shard`] works with one Redis master. Its `Connector` makes three kinds of connection: one that only subscribes,
//! one that all publishes share, and a few for queries, each for one caller at a time.

mod backoff;
mod connector;
mod failure;
mod health;
mod heartbeat;
mod keys;
mod lines;
mod link;
mod marks;
mod memory;
mod options;
mod outage;
mod publisher;
mod purses;
mod queries;
mod reader;
mod roll_call;
mod sanctions;
mod shard;
mod subscriber;
mod subscriber_probe;
mod subscriptions;
mod vouching;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

pub use self::options::{ClientCertificate, Options};
use self::shard::Shard;
use super::{
    Answers, Broker, Diagnosis, Listener, LookedUp, ModerateError, Proclaimed, PublishError, Published, RecoverError,
    Retention, Rule, Trouble, Unavailable,
};
use crate::{
    access::Rate,
    order::{LogSlice, Past, ReadFrom},
    protocol::{Channel, Draft, Epoch, Frame, Position, RoomId, Username},
    telemetry::Metrics,
};

/// Why a URL is not a Redis URL. It does not quote the URL, which may hold a password.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadUrl(String);

/// Carries publications between servers through one Redis.
#[derive(Debug)]
pub struct RedisBroker {
    shard: Shard,
}

impl RedisBroker {
    /// Prepares the connections; [`Broker::listen`] makes them.
    ///
    /// # Errors
    /// If the URL is not a Redis URL.
    pub fn new(options: &Options, origin_server: &str, metrics: &Arc<Metrics>) -> Result<Self, BadUrl> {
        let shard = Shard::new(options, origin_server, metrics).map_err(|error| BadUrl(error.to_string()))?;
        Ok(Self { shard })
    }
}

impl Broker for RedisBroker {
    fn listen(self: Arc<Self>, listener: Arc<dyn Listener>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(async move { self.shard.run(&listener, &stop).await })
    }

    fn interest_changed(&self, channel: Channel) {
        self.shard.subscriber.interest_changed(channel);
    }

    fn publish<'a>(
        &'a self,
        channel: &'a Channel,
        draft: &'a Draft,
        known: Option<Position>,
    ) -> BoxFuture<'a, Result<Published, PublishError>> {
        Box::pin(self.shard.publisher.publish(channel, draft, known))
    }

    fn send<'a>(&'a self, channel: &'a Channel, frame: &'a Frame) -> BoxFuture<'a, Result<(), Unavailable>> {
        Box::pin(self.shard.publisher.send(channel, frame))
    }

    fn signal<'a>(&'a self, channel: &'a Channel, draft: &'a Draft) -> BoxFuture<'a, Result<Frame, PublishError>> {
        Box::pin(self.shard.publisher.signal(channel, draft))
    }

    fn recover<'a>(
        &'a self,
        channel: &'a Channel,
        from: Option<ReadFrom>,
    ) -> BoxFuture<'a, Result<LogSlice<Frame>, RecoverError>> {
        Box::pin(self.shard.reader.recover(channel, from))
    }

    fn read<'a>(
        &'a self,
        channel: &'a Channel,
        from: Position,
    ) -> BoxFuture<'a, Result<Option<LogSlice<Frame>>, Unavailable>> {
        Box::pin(self.shard.reader.read(channel, from))
    }

    fn read_back<'a>(
        &'a self,
        channel: &'a Channel,
        before: Option<Position>,
        limit: u64,
    ) -> BoxFuture<'a, Result<Option<Past<Frame>>, Unavailable>> {
        Box::pin(self.shard.reader.read_back(channel, before, limit))
    }

    fn tops<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<Vec<LookedUp>, Unavailable>> {
        Box::pin(self.shard.reader.tops(channels))
    }

    fn moderate<'a>(&'a self, room: &'a RoomId, rule: Rule) -> BoxFuture<'a, Result<(), ModerateError>> {
        Box::pin(async move { self.shard.sanctions.moderate(room, &rule).await })
    }

    fn banned<'a>(&'a self, room: &'a RoomId, user: &'a Username) -> BoxFuture<'a, Result<Option<u64>, Unavailable>> {
        Box::pin(self.shard.sanctions.banned(room, user))
    }

    fn proclaim<'a>(&'a self, changes: &'a [Proclaimed]) -> BoxFuture<'a, Result<(), Unavailable>> {
        Box::pin(self.shard.sanctions.proclaim(changes))
    }

    fn spend<'a>(
        &'a self,
        purse: &'a str,
        rate: Rate,
        cost: f64,
    ) -> BoxFuture<'a, Result<Option<Duration>, Unavailable>> {
        Box::pin(self.shard.purses.spend(purse, rate, cost))
    }

    fn ask<'a>(&'a self, question: &'a str) -> BoxFuture<'a, Result<Answers, Unavailable>> {
        Box::pin(self.shard.roll_call.ask(question))
    }

    fn kind(&self) -> &'static str {
        "redis"
    }

    fn troubles(&self) -> Vec<Trouble> {
        self.shard.troubles()
    }

    fn diagnosis(&self) -> Option<Diagnosis> {
        self.shard.diagnosis()
    }
}

/// The settings that the scripts know. They are the same for all calls of a server, so they are part of the scripts,
/// which Redis gets once, and not of each call.
fn limits(retention: &Retention) -> String {
    let Retention { length, bytes, .. } = retention;
    let [age, meta, ids] = [retention.age, retention.meta, retention.ids].map(millis);
    format!("local max_length, max_bytes, log_life, meta_life, id_life = {length}, {bytes}, {age}, {meta}, {ids}\n")
}

fn new_epoch() -> String {
    Epoch(rand::random()).to_string()
}

fn position(epoch: &str, seq: u64) -> Result<Position, Unavailable> {
    let epoch =
        Epoch::parse(epoch).ok_or_else(|| Unavailable(format!("{epoch:?} in Redis is not an epoch of ours")))?;
    Ok(Position::new(epoch, seq))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
