use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use redis::{PushInfo, PushKind, Value};
use tokio::{
    sync::Notify,
    time::{Instant, MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{
    super::{Cause, Listener, Trouble, interest::Interest},
    backoff::Backoff,
    connector::Connector,
    failure::Failure,
    keys::Keys,
    lines::Refusals,
    outage::{Outages, Part},
    publisher::Publisher,
    roll_call::Asked,
    subscriber_probe::{Check, SubscriberProbe},
    subscriptions::Subscriptions,
    vouching::Vouching,
};
use crate::{
    protocol::Channel,
    telemetry::{EnvelopeKind, Metrics},
};

/// Most channels in one SUBSCRIBE, so that no answer takes long.
const BATCH: usize = 512;

/// Most bytes of an envelope beside what was in a client's frame: names, position, trace.
const AROUND_FRAME: usize = 8 << 10;

/// Listens, on a connection that does nothing else.
///
/// One loop owns the connection and its subscriptions. It asks the listener which channels it wants and changes the
/// subscriptions in batches; what changes meanwhile makes the next batch. When the connection is lost, the loop makes
/// another one and subscribes to everything that is wanted then. It never gives up.
pub(super) struct Subscriber {
    connector: Arc<Connector>,
    keys: Keys,
    /// Woken when something has changed that holds on all servers.
    sanctions_changed: Arc<Notify>,
    asked: Arc<Asked>,
    interest: Interest,
    probe: Arc<SubscriberProbe>,
    vouching: Arc<Vouching>,
    publisher: Arc<Publisher>,
    outages: Arc<Outages>,
    refusals: Arc<Refusals>,
    /// Longest push that is read.
    max_push: usize,
    state: AtomicU8,
    metrics: Arc<Metrics>,
}

/// The stages of the subscriber, in this order.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum State {
    Disconnected,
    Connected,
    Subscribed,
}

/// Why the subscriber gave a connection up.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error(transparent)]
    Failed(#[from] Failure),
    #[error("the connection was closed")]
    Closed,
    #[error("heard nothing for {0:?}, not even the subscriber's own probe")]
    ProbeFailed(Duration),
}

impl Lost {
    fn cause(&self) -> Cause {
        match self {
            Self::Failed(failure) => failure.cause(),
            Self::Closed => Cause::Closed,
            Self::ProbeFailed(_) => Cause::Deaf,
        }
    }
}

/// What the subscriber shares with the other parts of a shard.
pub(super) struct Shared {
    pub(super) connector: Arc<Connector>,
    pub(super) keys: Keys,
    pub(super) sanctions_changed: Arc<Notify>,
    pub(super) asked: Arc<Asked>,
    pub(super) vouching: Arc<Vouching>,
    pub(super) publisher: Arc<Publisher>,
    pub(super) outages: Arc<Outages>,
    pub(super) metrics: Arc<Metrics>,
}

impl Subscriber {
    /// Not connected yet. `max_frame` is the longest frame of a client.
    pub(super) fn new(shared: Shared, probe: SubscriberProbe, max_frame: usize) -> Self {
        let Shared { connector, keys, sanctions_changed, asked, vouching, publisher, outages, metrics } = shared;
        let refusals = Refusals::new("to subscribe", Duration::from_secs(1), outages.clone());
        Self {
            connector,
            keys,
            sanctions_changed,
            asked,
            interest: Interest::default(),
            probe: Arc::new(probe),
            vouching,
            publisher,
            refusals: Arc::new(refusals),
            outages,
            max_push: max_frame + AROUND_FRAME,
            state: AtomicU8::new(State::Disconnected as u8),
            metrics,
        }
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
        } else if self.probe.has_failed(Instant::now()) {
            Some(Trouble::SubscriberProbeFailed)
        } else {
            None
        }
    }

    /// Updates the metrics that change with time alone.
    pub(super) fn report(&self) {
        self.metrics.subscriber_silence.set(self.probe.silence(Instant::now()).as_secs_f64());
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
            self.outages.fails(Part::Subscriber, error.cause(), &error);
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(backoff.next(rand::random())) => {}
            }
        }
    }

    /// Connects, and keeps subscribed to what is wanted until the connection is lost.
    async fn listen(&self, listener: &Arc<dyn Listener>, backoff: &mut Backoff) -> Result<Infallible, Lost> {
        let closed = Arc::new(Notify::new());
        let connection = self.connector.connect(self.hearing(listener.clone(), closed.clone())).await?;
        let deadline = self.connector.command_timeout();
        let mut subscriptions = Subscriptions::new(connection, deadline, self.refusals.clone());
        self.metrics.subscriber_connects.inc();
        self.enter(State::Connected);

        subscriptions.subscribe_to(self.probe.channel()).await?;
        // Where Redis does not allow it, this server finds changes when it looks for them.
        match subscriptions.subscribe_to(&self.keys.sanctions_channel()).await {
            Err(failure) if failure.is_refusal() => {
                tracing::warn!(error = %failure, "cannot hear what changes on all servers, and looks once a second");
            }
            subscribed => subscribed?,
        }
        self.sanctions_changed.notify_one();
        self.probe.heard(Instant::now());

        // A change before this moment is part of what is wanted now; a change after it will be seen as one.
        self.interest.take();
        self.reconcile(&mut subscriptions, listener, listener.wanted()).await?;
        self.enter(State::Subscribed);
        *backoff = Backoff::new();
        self.outages.works(Part::Subscriber);
        tracing::info!(channels = subscriptions.channels().len(), "subscribed");

        let mut looks = interval(self.probe.interval() / 4);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = closed.notified() => return Err(Lost::Closed),
                changed = self.interest.next() => self.reconcile(&mut subscriptions, listener, changed).await?,
                // The logs may now differ from what has been heard.
                () = self.publisher.writes_lost() => {
                    subscriptions.channels().iter().for_each(|channel| listener.subscribed(channel));
                }
                _ = looks.tick() => {
                    self.look().await?;
                    let again = subscriptions.refused_long_ago(Instant::now());
                    self.reconcile(&mut subscriptions, listener, again).await?;
                }
            }
        }
    }

    /// Probes the connection after a silence, and gives it up if the probe is not heard: a connection can work and yet
    /// lead to a Redis on which nobody publishes any more.
    async fn look(&self) -> Result<(), Lost> {
        let now = Instant::now();
        match self.probe.check(now) {
            Check::Fine => Ok(()),
            Check::Failed => {
                self.metrics.subscriber_probe_failures.inc();
                Err(Lost::ProbeFailed(self.probe.silence(now)))
            }
            Check::Send => {
                self.probe.sending(now);
                if self.publisher.publish_on(self.probe.channel(), self.probe.payload()).await.is_err() {
                    self.probe.not_sent();
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
                if subscriptions.channels().contains(channel) {
                    listener.subscribed(channel);
                } else {
                    listener.refused(channel);
                }
            }
        }
        self.metrics.subscriptions.set(subscriptions.channels().len());
        Ok(())
    }

    /// Takes what Redis pushes, in the task that reads the connection. So no queue in between can grow: TCP slows a
    /// server that cannot keep up, and in the end Redis closes its connection and the logs bring it up to date.
    fn hearing(
        &self,
        listener: Arc<dyn Listener>,
        closed: Arc<Notify>,
    ) -> impl Fn(PushInfo) -> Result<(), Infallible> + use<> {
        let (keys, probe, vouching) = (self.keys.clone(), self.probe.clone(), self.vouching.clone());
        let (metrics, max_push) = (self.metrics.clone(), self.max_push);
        let (control, changed) = (self.keys.sanctions_channel().into_bytes(), self.sanctions_changed.clone());
        let asked = self.asked.clone();
        move |PushInfo { kind, data }| {
            match kind {
                PushKind::Message => {
                    probe.heard(Instant::now());
                    let Ok([Value::BulkString(name), Value::BulkString(mut payload)]) = <[Value; 2]>::try_from(data)
                    else {
                        return Ok(());
                    };
                    if name == control {
                        if !asked.hear(&payload, &keys) {
                            changed.notify_one();
                        }
                    } else if let Some(channel) = keys.parse(&name) {
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
