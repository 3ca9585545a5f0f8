//! The broker between servers. Two kinds of connection: the subscriber's only listens, the publisher's do all
//! else. What is in Redis, and under which names, is in `keys.rs`; what happens there is in the two scripts.

mod backoff;
mod ears;
mod keys;
mod link;
mod publisher;
mod subscriber;

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use redis::{IntoConnectionInfo, ProtocolVersion};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use self::{ears::Ears, keys::Keys, link::Link, publisher::Publisher, subscriber::Subscriber};
use super::{Broker, Listener, PublishError, Published, Top, Trouble, Unavailable};
use crate::{
    config::Config,
    protocol::{Channel, Draft, Frame},
    room::{LogSlice, Position, ReadFrom},
    telemetry::Metrics,
};

/// How often the metrics of the subscriber are brought up to date.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// Carries publications between servers through one Redis.
#[derive(Debug)]
pub struct RedisBroker {
    publisher: Arc<Publisher>,
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
        let link = Link::new(info.clone(), keys.probe(origin_server), config, metrics.clone())?;
        let publisher = Arc::new(Publisher::new(link, keys.clone(), config));
        let ears = Ears::new(keys.ears(origin_server), origin_server, config.ears_interval);
        let subscriber = Subscriber::new(info, keys, ears, publisher.clone(), config, metrics.clone())?;
        Ok(Self { publisher, subscriber })
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
            let keeping_up = async { tokio::join!(self.publisher.link().keep_up(), self.report()) };
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
    ) -> BoxFuture<'a, Result<LogSlice<Frame>, Unavailable>> {
        Box::pin(self.publisher.read(channel, from))
    }

    fn tops<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<Vec<Option<Top>>, Unavailable>> {
        Box::pin(self.publisher.tops(channels))
    }

    fn troubles(&self) -> Vec<Trouble> {
        let unreachable = (!self.publisher.link().is_up()).then_some(Trouble::RedisUnreachable);
        unreachable.into_iter().chain(self.subscriber.trouble()).collect()
    }
}
