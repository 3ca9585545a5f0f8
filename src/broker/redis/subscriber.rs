use std::{
    collections::{HashMap, HashSet},
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, ErrorKind, PushInfo, PushKind, ServerErrorKind, Value,
    aio::MultiplexedConnection,
};
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    super::{Listener, Trouble, interest::Interest},
    backoff::Backoff,
    ears::{Check, Ears},
    keys::Keys,
    lines::Refusals,
    link::Failure,
    outage::{Outages, Part},
    publisher::Publisher,
    vouching::Vouching,
};
use crate::{
    config::Config,
    protocol::Channel,
    telemetry::{EnvelopeKind, Metrics},
};

/// Most channels in one SUBSCRIBE, so that no answer takes long.
const BATCH: usize = 512;

/// How long a channel that Redis refused is not asked for again.
const REFUSED_FOR: Duration = Duration::from_secs(10);

/// Most refused channels that are remembered; Redis is asked again for others.
const MAX_REFUSED: usize = 4096;

/// The most that an envelope has around what was in a client's frame: names, position, trace.
const AROUND_FRAME: usize = 8 << 10;

/// Listens, on a connection that does nothing else.
///
/// One loop owns the connection and what it is subscribed to. It asks the listener what it wants, and brings the
/// subscriptions in line, one batch after another; what changes meanwhile makes the next batch. When the
/// connection is lost it makes another, for ever, and subscribes to all that is wanted then.
pub(super) struct Subscriber {
    client: Client,
    keys: Keys,
    connect_timeout: Duration,
    command_timeout: Duration,
    interest: Interest,
    ears: Arc<Ears>,
    vouching: Arc<Vouching>,
    publisher: Arc<Publisher>,
    outages: Arc<Outages>,
    refusals: Arc<Refusals>,
    /// Longest push that is looked at.
    max_push: usize,
    state: AtomicU8,
    metrics: Arc<Metrics>,
}

/// How far the subscriber is, in this order.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum State {
    Disconnected,
    Connected,
    Subscribed,
}

#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error(transparent)]
    Redis(#[from] redis::RedisError),
    #[error("the connection was closed")]
    Closed,
    #[error("nothing has been heard for {0:?}, not even the subscriber's own test")]
    Deaf(Duration),
}

impl Subscriber {
    #[allow(clippy::too_many_arguments, reason = "it is made in one place, of what the parts share")]
    pub(super) fn new(
        redis: ConnectionInfo,
        keys: Keys,
        ears: Ears,
        vouching: Arc<Vouching>,
        publisher: Arc<Publisher>,
        outages: Arc<Outages>,
        config: &Config,
        metrics: Arc<Metrics>,
    ) -> Result<Self, redis::RedisError> {
        Ok(Self {
            client: Client::open(redis)?,
            keys,
            connect_timeout: config.redis_connect_timeout,
            command_timeout: config.redis_command_timeout,
            interest: Interest::default(),
            ears: Arc::new(ears),
            vouching,
            publisher,
            refusals: Arc::new(Refusals::new("to subscribe", Duration::from_secs(1), outages.clone())),
            outages,
            max_push: config.max_frame_bytes + AROUND_FRAME,
            state: AtomicU8::new(State::Disconnected as u8),
            metrics,
        })
    }

    pub(super) fn interest_changed(&self, channel: Channel) {
        self.interest.changed(channel);
    }

    pub(super) fn trouble(&self) -> Option<Trouble> {
        let state = self.state.load(Ordering::Relaxed);
        if state == State::Disconnected as u8 {
            Some(Trouble::SubscriberDisconnected)
        } else if state == State::Connected as u8 {
            Some(Trouble::SubscriptionsMissing)
        } else if self.ears.are_deaf(Instant::now()) {
            Some(Trouble::SubscriberDeaf)
        } else {
            None
        }
    }

    /// Brings the metrics up to date that change with time alone.
    pub(super) fn report(&self) {
        self.metrics.subscriber_silence.set(self.ears.silence(Instant::now()).as_secs_f64());
    }

    /// Listens until `stop`.
    pub(super) async fn run(&self, listener: &Arc<dyn Listener>, stop: &CancellationToken) {
        let mut backoff = Backoff::new();
        loop {
            let lost = tokio::select! {
                () = stop.cancelled() => return,
                lost = self.listen(listener, &mut backoff) => lost,
            };
            self.enter(State::Disconnected);
            self.metrics.subscriptions.set(0);
            let Err(error) = lost;
            self.outages.fails(Part::Subscriber, &error);
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(backoff.next(rand::random())) => {}
            }
        }
    }

    /// Connects, subscribes to all that is wanted, and keeps it so until the connection is lost.
    async fn listen(&self, listener: &Arc<dyn Listener>, backoff: &mut Backoff) -> Result<Infallible, Lost> {
        let closed = Arc::new(Notify::new());
        let ear = self.ear(listener.clone(), closed.clone());
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(Some(self.command_timeout))
            .set_push_sender(ear);
        let connecting = self.client.get_multiplexed_async_connection_with_config(&config);
        let mut subscriptions = Subscriptions {
            connection: within(self.connect_timeout, connecting).await?,
            deadline: self.command_timeout,
            channels: HashSet::new(),
            refused: HashMap::new(),
            refusals: self.refusals.clone(),
        };
        self.metrics.subscriber_connects.inc();
        self.enter(State::Connected);

        let own = within(self.command_timeout, subscriptions.connection.subscribe(self.ears.channel()));
        own.await?;
        self.ears.heard(Instant::now());

        // What changes after this moment is looked at again; what changed before is part of what is wanted now.
        self.interest.take();
        self.reconcile(&mut subscriptions, listener, listener.wanted()).await?;
        self.enter(State::Subscribed);
        *backoff = Backoff::new();
        self.outages.works(Part::Subscriber);
        tracing::info!(channels = subscriptions.channels.len(), "the subscriber listens");

        let mut tests = interval(self.ears.interval() / 4);
        tests.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = closed.notified() => return Err(Lost::Closed),
                changed = self.interest.next() => self.reconcile(&mut subscriptions, listener, changed).await?,
                // What is in the logs now may be something else than what has been heard.
                () = self.publisher.writes_lost() => {
                    subscriptions.channels.iter().for_each(|channel| listener.subscribed(channel));
                }
                _ = tests.tick() => {
                    self.test_ears().await?;
                    let again = subscriptions.refused_long_ago(Instant::now());
                    self.reconcile(&mut subscriptions, listener, again).await?;
                }
            }
        }
    }

    /// After a silence, says something to itself by way of Redis; after a longer one, gives the connection up. A
    /// connection can be sound and yet lead to a server to which nobody publishes any more.
    async fn test_ears(&self) -> Result<(), Lost> {
        let now = Instant::now();
        match self.ears.check(now) {
            Check::Fine => Ok(()),
            Check::Deaf => {
                self.metrics.subscriber_deaf.inc();
                Err(Lost::Deaf(self.ears.silence(now)))
            }
            Check::Test => {
                self.ears.testing(now);
                if self.publisher.publish_on(self.ears.channel(), self.ears.payload()).await.is_err() {
                    self.ears.not_tested();
                }
                Ok(())
            }
        }
    }

    /// Subscribes to those of the channels that are wanted, and unsubscribes from those that are not.
    async fn reconcile(
        &self,
        subscriptions: &mut Subscriptions,
        listener: &Arc<dyn Listener>,
        channels: impl IntoIterator<Item = Channel>,
    ) -> Result<(), Lost> {
        let (wanted, unwanted): (Vec<_>, Vec<_>) = channels.into_iter().partition(|channel| listener.wants(channel));
        for batch in unwanted.chunks(BATCH) {
            subscriptions.unsubscribe(batch, &self.keys).await?;
        }
        for batch in wanted.chunks(BATCH) {
            subscriptions.subscribe(batch, &self.keys).await?;
            for channel in batch {
                if subscriptions.channels.contains(channel) {
                    listener.subscribed(channel);
                } else {
                    listener.refused(channel);
                }
            }
        }
        self.metrics.subscriptions.set(subscriptions.channels.len());
        Ok(())
    }

    /// Takes what Redis pushes, in the task that reads the connection: there is no queue in between that could grow,
    /// and a server that cannot keep up is slowed by TCP, and in the end cut off by Redis and brought up to date from
    /// the log.
    fn ear(
        &self,
        listener: Arc<dyn Listener>,
        closed: Arc<Notify>,
    ) -> impl Fn(PushInfo) -> Result<(), Infallible> + use<> {
        let (keys, ears, vouching) = (self.keys.clone(), self.ears.clone(), self.vouching.clone());
        let (metrics, max_push) = (self.metrics.clone(), self.max_push);
        move |PushInfo { kind, data }| {
            match kind {
                PushKind::Message => {
                    ears.heard(Instant::now());
                    if let Ok([Value::BulkString(name), Value::BulkString(mut payload)]) = <[Value; 2]>::try_from(data)
                        && let Some(channel) = keys.parse(&name)
                    {
                        if payload.len() > max_push {
                            metrics.envelope_heard(EnvelopeKind::Unreadable);
                        } else {
                            let is_vouched = vouching.current().check(&name, &mut payload);
                            listener.heard(&channel, payload.into(), is_vouched);
                        }
                    }
                }
                PushKind::Disconnection => closed.notify_one(),
                _ => {}
            }
            Ok(())
        }
    }

    fn enter(&self, state: State) {
        self.state.store(state as u8, Ordering::Relaxed);
        self.metrics.subscriber_connected.set_flag(state == State::Subscribed);
    }
}

impl std::fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscriber").field("interest", &self.interest).finish_non_exhaustive()
    }
}

/// A connection and what it is subscribed to, as Redis has confirmed it.
struct Subscriptions {
    connection: MultiplexedConnection,
    deadline: Duration,
    channels: HashSet<Channel>,
    /// Channels that Redis did not allow, and when it was asked.
    refused: HashMap<Channel, Instant>,
    refusals: Arc<Refusals>,
}

impl Subscriptions {
    /// Subscribes to what it can. What Redis does not allow is written down, and costs nothing else.
    async fn subscribe(&mut self, channels: &[Channel], keys: &Keys) -> Result<(), Lost> {
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
                Err(Lost::Redis(error)) if is_refusal(&error) => match &batch[..] {
                    [channel] => self.write_down(channel, &names[0], error),
                    // One that is not allowed has all of them refused, so it is found by halving.
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

    fn write_down(&mut self, channel: &Channel, name: &str, error: redis::RedisError) {
        if self.refused.len() < MAX_REFUSED || self.refused.contains_key(channel) {
            self.refused.insert(channel.clone(), Instant::now());
        }
        self.refusals.log(name, &Failure::Redis(error));
    }

    /// The refused channels that are to be asked for again, if they are still wanted.
    fn refused_long_ago(&mut self, now: Instant) -> Vec<Channel> {
        let is_due = |at: &Instant| now.saturating_duration_since(*at) >= REFUSED_FOR;
        self.refused.extract_if(|_, at| is_due(at)).map(|(channel, _)| channel).collect()
    }

    async fn unsubscribe(&mut self, channels: &[Channel], keys: &Keys) -> Result<(), Lost> {
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

fn is_refusal(error: &redis::RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::NoPerm)
}

async fn within<T>(deadline: Duration, call: impl Future<Output = redis::RedisResult<T>>) -> Result<T, Lost> {
    timeout(deadline, call).await.map_err(|_| Lost::TimedOut(deadline))?.map_err(Lost::Redis)
}
