use std::{sync::Arc, time::Duration};

use redis::RedisError;
use tokio::{
    sync::Notify,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use super::{
    super::{Diagnosis, Listener, Trouble},
    connector::Connector,
    health::Health,
    heartbeat::Heartbeat,
    keys::Keys,
    link::Link,
    memory::Memory,
    options::Options,
    outage::{Outages, Part},
    publisher::Publisher,
    purses::Purses,
    queries::Queries,
    reader::Reader,
    roll_call::{Asked, RollCall},
    sanctions::Sanctions,
    subscriber::{Shared, Subscriber},
    subscriber_probe::SubscriberProbe,
    vouching::Vouching,
};
use crate::telemetry::Metrics;

/// How often the subscriber's metrics are updated.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// One Redis master and everything to work with it: the link for publishes, the connections for queries, the
/// subscriber, and the checks of all three.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) publisher: Arc<Publisher>,
    pub(super) purses: Purses,
    pub(super) reader: Reader,
    pub(super) roll_call: RollCall,
    pub(super) sanctions: Sanctions,
    pub(super) subscriber: Subscriber,
    outages: Arc<Outages>,
    memory: Arc<Memory>,
}

impl Shard {
    /// Prepares the connections; [`run`](Self::run) makes them.
    ///
    /// # Errors
    /// If the URL is not a Redis URL.
    pub(super) fn new(options: &Options, origin_server: &str, metrics: &Arc<Metrics>) -> Result<Self, RedisError> {
        let (connector, keys) = (Arc::new(Connector::new(options)?), Keys::new(&options.prefix));
        let outages = Arc::new(Outages::new(connector.address()));
        let vouching = Arc::new(Vouching::new(&options.retention));
        let memory = Arc::new(Memory::new(options.memory_watermark, metrics.redis_memory_ratio.clone()));

        let heartbeat = Heartbeat::new(&keys, origin_server, vouching.clone(), memory.clone(), metrics.clone());
        let health = Health::new(Part::Commands, metrics.broker_up.clone(), outages.clone());
        let publisher = Arc::new(Publisher::new(
            Link::new(connector.clone(), health),
            heartbeat,
            keys.clone(),
            vouching.clone(),
            memory.clone(),
            outages.clone(),
            metrics.clone(),
        ));
        let health = Health::new(Part::Queries, metrics.log_reader_up.clone(), outages.clone());
        let queries = Queries::new(&connector, health)?;
        let reader = Reader::new(queries, keys.clone(), options.retention, memory.clone(), &outages, metrics.clone());
        let probe = SubscriberProbe::new(keys.subscriber_probe(origin_server), origin_server, options.probe_interval);
        let (publishing, metrics) = (publisher.clone(), metrics.clone());
        let purses = Purses::new(publisher.clone(), keys.clone());
        let changed = Arc::new(Notify::new());
        let sanctions = Sanctions::new(publisher.clone(), keys.clone(), origin_server, changed.clone());
        let asked = Arc::new(Asked::default());
        let roll_call = RollCall::new(publisher.clone(), keys.clone(), origin_server, asked.clone());
        let shared = Shared {
            connector,
            keys,
            sanctions_changed: changed,
            asked,
            vouching,
            publisher: publishing,
            outages: outages.clone(),
            metrics,
        };
        let subscriber = Subscriber::new(shared, probe, options.max_frame);
        Ok(Self { publisher, purses, reader, roll_call, sanctions, subscriber, outages, memory })
    }

    /// Makes the connections, and replaces lost ones, until `stop`.
    pub(super) async fn run(&self, listener: &Arc<dyn Listener>, stop: &CancellationToken) {
        let (following, answering) = (self.sanctions.follow(listener), self.roll_call.answer(listener));
        let keeping_up = async {
            tokio::join!(self.publisher.keep_up(), self.reader.keep_up(), following, answering, self.report())
        };
        tokio::join!(self.subscriber.run(listener, stop), stop.run_until_cancelled(keeping_up));
        self.roll_call.leave().await;
    }

    /// Everything that now keeps this shard from carrying messages.
    pub(super) fn troubles(&self) -> Vec<Trouble> {
        let unreachable = (!self.publisher.is_up() || !self.reader.is_up()).then_some(Trouble::RedisUnreachable);
        unreachable.into_iter().chain(self.subscriber.trouble()).collect()
    }

    /// What is wrong with this Redis: why it cannot be used, or that it is nearly full.
    pub(super) fn diagnosis(&self) -> Option<Diagnosis> {
        self.outages.diagnosis(self.memory.shortage())
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
