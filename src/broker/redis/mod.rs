//! The broker between servers. Three connections: the subscriber's only listens, the reader's asks for what is kept, the
//! publisher's does all else. What is in Redis, and under which names, is in `keys.rs`; what happens there is in the two
//! scripts.

mod backoff;
mod ears;
mod keys;
mod lines;
mod link;
mod marks;
mod memory;
mod outage;
mod probe;
mod publisher;
mod reader;
mod subscriber;
mod vouching;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use redis::{IntoConnectionInfo, ProtocolVersion};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use self::{
    ears::Ears,
    keys::Keys,
    link::Link,
    memory::Memory,
    outage::{Outages, Part},
    probe::Probe,
    publisher::Publisher,
    reader::Reader,
    subscriber::Subscriber,
    vouching::Vouching,
};
use super::{Broker, Listener, LookedUp, PublishError, Published, ReadError, Retention, Trouble, Unavailable};
use crate::{
    config::Config,
    order::{LogSlice, ReadFrom},
    protocol::{Channel, Draft, Epoch, Frame, Position},
    telemetry::Metrics,
};

/// How often the metrics of the subscriber are brought up to date.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Carries publications between servers through one Redis.
#[derive(Debug)]
pub struct RedisBroker {
    publisher: Arc<Publisher>,
    reader: Reader,
    subscriber: Subscriber,
}

impl RedisBroker {
    /// Prepares the connections; they are made by [`Broker::listen`] and by the first command.
    ///
    /// # Errors
    /// If the URL is not one of Redis.
    pub fn new(
        url: &str,
        origin_server: &str,
        config: &Config,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, redis::RedisError> {
        // For `rediss://`. If another part of the process has made its choice before, that one holds.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let info = url.into_connection_info()?;
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        // Pushes come between answers only in RESP3.
        let mut settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        if let Some(password) = &config.redis_password {
            settings = settings.set_password(password.reveal());
        }
        let info = info.set_tcp_settings(tcp).set_redis_settings(settings);
        let keys = Keys::new(&config.redis_prefix);
        let retention = Retention::from(config);
        let outages = Arc::new(Outages::default());
        let link = |part, up| Link::new(part, info.clone(), config, up, outages.clone());
        let vouching = Arc::new(Vouching::new(&retention));
        let memory = Arc::new(Memory::new(config.redis_memory_watermark, metrics.redis_memory_ratio.clone()));
        let probe = Probe::new(&keys, origin_server, vouching.clone(), memory.clone(), metrics.clone());
        let publisher = Publisher::new(
            link(Part::Commands, metrics.broker_up.clone())?,
            probe,
            keys.clone(),
            vouching.clone(),
            memory.clone(),
            outages.clone(),
            metrics.clone(),
        );
        let publisher = Arc::new(publisher);
        let readings = link(Part::Readings, metrics.readings_up.clone())?;
        let reader = Reader::new(readings, keys.clone(), retention, memory, &outages, metrics.clone());
        let ears = Ears::new(keys.ears(origin_server), origin_server, config.ears_interval);
        let subscriber =
            Subscriber::new(info, keys, ears, vouching, publisher.clone(), outages, config, metrics.clone())?;
        Ok(Self { publisher, reader, subscriber })
    }

    async fn report(&self) {
        let mut interval = interval(REPORT_INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            self.subscriber.report();
        }
    }
}

impl Broker for RedisBroker {
    fn listen(self: Arc<Self>, listener: Arc<dyn Listener>, stop: CancellationToken) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            let keeping_up = async { tokio::join!(self.publisher.keep_up(), self.reader.keep_up(), self.report()) };
            tokio::join!(self.subscriber.run(&listener, &stop), stop.run_until_cancelled(keeping_up));
        })
    }

    fn interest_changed(&self, channel: Channel) {
        self.subscriber.interest_changed(channel);
    }

    fn publish<'a>(
        &'a self,
        channel: &'a Channel,
        draft: &'a Draft,
        known: Option<Position>,
    ) -> BoxFuture<'a, Result<Published, PublishError>> {
        Box::pin(self.publisher.publish(channel, draft, known))
    }

    fn send<'a>(&'a self, channel: &'a Channel, frame: &'a Frame) -> BoxFuture<'a, Result<(), Unavailable>> {
        Box::pin(self.publisher.send(channel, frame))
    }

    fn read<'a>(
        &'a self,
        channel: &'a Channel,
        from: Option<ReadFrom>,
    ) -> BoxFuture<'a, Result<LogSlice<Frame>, ReadError>> {
        Box::pin(self.reader.read(channel, from))
    }

    fn tops<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<Vec<LookedUp>, Unavailable>> {
        Box::pin(self.reader.tops(channels))
    }

    fn troubles(&self) -> Vec<Trouble> {
        let unreachable = (!self.publisher.is_up() || !self.reader.is_up()).then_some(Trouble::RedisUnreachable);
        unreachable.into_iter().chain(self.subscriber.trouble()).collect()
    }
}

/// What the scripts know of the settings. It is the same for all calls of a server, so it is a part of the scripts, which
/// Redis is sent once, and not of the calls.
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
