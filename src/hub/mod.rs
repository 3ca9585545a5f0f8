//! The rooms and members of this server: who gets what, in which order, and which channels are wanted for it.
//!
//! Each room has one owner at a time, whoever holds the lock of its shard. Under that lock a publication goes
//! through the room's sequencer and in line for all members, and a few members at a time are written to, so every
//! member sees one order. No lock is held across an await, and under it nothing waits: a socket takes what is written or
//! it waits in the member's outbox.

mod agenda;
mod audience;
mod catch_up;
mod fan_out;
mod join;
mod local_room;
mod membership;

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{net::tcp::OwnedWriteHalf, time::Instant};
use tracing::Instrument;

pub use self::membership::{Client, Membership};
use self::{agenda::Agenda, fan_out::Queue, local_room::LocalRoom};
use crate::{
    broker::{Broker, Listener, PublishError, Published, Trouble, Unavailable, unix_millis},
    config::Config,
    protocol::{Channel, CloseCode, Draft, Envelope, Frame},
    room::{Placed, Position},
    socket::{Bounds, Outbox},
    telemetry::{EnvelopeKind, Metrics, trace, trace::Tracer},
};

/// More than there are cores, so that rooms seldom share a lock that is in use.
const SHARDS: usize = 64;

type Rooms = HashMap<Channel, LocalRoom>;

/// The meeting point of this server's sessions and its broker.
pub struct Hub {
    origin_server: String,
    broker: Arc<dyn Broker>,
    shards: [Mutex<Rooms>; SHARDS],
    hasher: RandomState,
    agenda: Agenda,
    queue: Queue,
    /// Rooms that have something in line, and rest.
    resting: Agenda,
    next_number: AtomicU64,
    outbox_bounds: Arc<Bounds>,
    keeps_history: bool,
    max_last: u64,
    compare_interval: Duration,
    join_timeout: Duration,
    closing: OnceLock<CloseCode>,
    metrics: Arc<Metrics>,
    tracer: Tracer,
}

impl Hub {
    /// A hub with no clients. It hears nothing until [`Hub::run`] runs.
    pub fn new(origin_server: String, broker: Arc<dyn Broker>, config: &Config, metrics: Arc<Metrics>) -> Self {
        let hub = Self {
            origin_server,
            broker,
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            agenda: Agenda::default(),
            queue: Queue::default(),
            resting: Agenda::default(),
            next_number: AtomicU64::new(1),
            outbox_bounds: Arc::new(Bounds::new(
                config.outbox_messages,
                config.outbox_bytes,
                config.outbox_total_bytes,
                metrics.messages_sent.clone(),
            )),
            keeps_history: config.history_length > 0,
            max_last: config.max_last as u64,
            compare_interval: config.compare_interval,
            // A join waits for a subscription and for a reading of the log.
            join_timeout: 2 * config.redis_command_timeout,
            closing: OnceLock::new(),
            metrics,
            tracer: Tracer::new(config),
        };
        // The broadcast channel has every client as its member and is wanted for as long as the server runs.
        let broadcast = hub.new_room();
        hub.rooms(&Channel::Broadcast).insert(Channel::Broadcast, broadcast);
        hub
    }

    /// The name of this server in what it publishes.
    pub fn origin_server(&self) -> &str {
        &self.origin_server
    }

    /// Takes a new client in, by the sending side of its socket. It gets every broadcast from now on, until the
    /// membership is dropped.
    pub fn connect(self: &Arc<Self>, socket: OwnedWriteHalf) -> (Client, Membership) {
        let client = Client::new(self.number(), Outbox::new(socket, self.outbox_bounds.clone()));
        self.with(&Channel::Broadcast, |room| room.admit(client.number(), client.outbox().clone()));
        // Either this sees that the hub closes, or the hub, closing, sees the new member.
        if let Some(code) = self.closing.get() {
            client.outbox().close(*code);
        }
        let membership = Membership::new(self.clone(), Channel::Broadcast, client.number());
        (client, membership)
    }

    /// Undoes [`Hub::connect`] and [`Hub::join`]; called when their handles are dropped.
    fn leave(&self, channel: &Channel, number: u64) {
        if *channel != Channel::Broadcast {
            self.metrics.memberships.dec();
        }
        let is_empty = {
            let mut rooms = self.rooms(channel);
            let Some(room) = rooms.get_mut(channel) else { return };
            room.leave(number);
            let is_empty = room.is_empty() && *channel != Channel::Broadcast;
            if is_empty {
                rooms.remove(channel);
                self.metrics.rooms.dec();
            }
            is_empty
        };
        if is_empty {
            self.broker.interest_changed(channel.clone());
        }
    }

    /// Publishes to a channel, and delivers to this server's members in the message's place. When this returns, the
    /// broker has the message, and it is in line for the members unless messages before it are still missing. Where no
    /// history is kept it has no position, and is in line here before the broker has it.
    ///
    /// # Errors
    /// See [`Broker::publish`].
    pub async fn publish(&self, channel: &Channel, draft: &Draft) -> Result<Option<Position>, PublishError> {
        let span = self.tracer.publish(channel);
        let traced = trace::traceparent(&span).map(|traceparent| {
            let mut draft = draft.clone();
            draft.set_traceparent(&traceparent);
            draft
        });
        let draft = traced.as_ref().unwrap_or(draft);
        let result = self.publish_in_place(channel, draft).instrument(span.clone()).await;
        if let Err(error) = &result {
            trace::failed(&span, error);
        }
        result
    }

    async fn publish_in_place(&self, channel: &Channel, draft: &Draft) -> Result<Option<Position>, PublishError> {
        let known = self.with(channel, |room| room.is_open().then(|| room.known())).flatten();
        let Some(known) = known else {
            // There is no place yet from which members could be served.
            return Err(Unavailable("the channel is not open yet".into()).into());
        };
        let started = Instant::now();
        let published = if self.keeps_history {
            self.publish_in_order(channel, draft, known).await
        } else {
            self.send(channel, draft).await
        };
        self.metrics.publish_duration.observe(started.elapsed().as_secs_f64());
        if matches!(published, Err(PublishError::Unavailable(_))) {
            self.metrics.publishes_failed.inc();
        }
        published
    }

    async fn publish_in_order(
        &self,
        channel: &Channel,
        draft: &Draft,
        known: Option<Position>,
    ) -> Result<Option<Position>, PublishError> {
        let position = match self.broker.publish(channel, draft, known).await? {
            Published::Placed(placed) => {
                let position = placed.position;
                self.settle(channel, |room| room.accept(placed));
                position
            }
            Published::Repeated(position) => {
                self.metrics.publishes_repeated.inc();
                // The answer of the first try may have been lost on its way here, and its delivery with it.
                self.settle(channel, |room| room.observe(position));
                position
            }
        };
        Ok(Some(position))
    }

    async fn send(&self, channel: &Channel, draft: &Draft) -> Result<Option<Position>, PublishError> {
        let frame = draft.unnumbered(unix_millis());
        self.settle(channel, |room| room.deliver(&frame));
        self.broker.send(channel, &frame).await?;
        Ok(None)
    }

    /// Sends a client what is in line for it in a channel, and then, if there is one, an answer to what it said there. So
    /// whatever it asks next is answered after that.
    pub fn answer(&self, channel: &Channel, client: &Client, answer: Option<&Frame>) {
        let is_member = self.with(channel, |room| room.answer(client.number(), answer)).unwrap_or(false);
        if let (false, Some(answer)) = (is_member, answer) {
            client.outbox().push(answer);
        }
    }

    /// The outboxes of all clients that are connected now.
    pub fn outboxes(&self) -> Vec<Arc<Outbox>> {
        self.with(&Channel::Broadcast, |room| room.outboxes()).unwrap_or_default()
    }

    /// Has every client closed with this code, those that are still to come too, once it has been sent what waits for it.
    pub fn close_all(&self, code: CloseCode) {
        let code = *self.closing.get_or_init(|| code);
        self.with(&Channel::Broadcast, |room| room.close_all(code));
    }

    /// Everything that keeps this server from carrying messages at the moment; nothing if all is well.
    pub fn troubles(&self) -> Vec<Trouble> {
        let mut troubles = self.broker.troubles();
        let is_open = self.with(&Channel::Broadcast, |room| room.is_open()).unwrap_or(false);
        if !is_open && troubles.is_empty() {
            troubles.push(Trouble::SubscriptionsMissing);
        }
        troubles
    }

    /// Numbers for clients and rooms, never given out twice.
    fn number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    fn new_room(&self) -> LocalRoom {
        LocalRoom::new(self.number(), self.keeps_history)
    }

    fn rooms(&self, channel: &Channel) -> MutexGuard<'_, Rooms> {
        let shard = usize::try_from(self.hasher.hash_one(channel) % SHARDS as u64).unwrap_or(0);
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, channel: &Channel, action: impl FnOnce(&mut LocalRoom) -> T) -> Option<T> {
        self.rooms(channel).get_mut(channel).map(action)
    }

    /// Acts on a room, has its log read if that showed something to be missing, and its members served if it put
    /// something in line for them.
    fn settle(&self, channel: &Channel, action: impl FnOnce(&mut LocalRoom)) {
        let now = Instant::now();
        let settled = self.with(channel, |room| {
            action(room);
            let is_crowded = room.is_crowded(&self.outbox_bounds);
            (room.next_reading(now), room.queue_once(now).map(|due| (due, room.number())), is_crowded)
        });
        let Some((reading, turn, is_crowded)) = settled else { return };
        if let Some((due, number)) = reading {
            self.agenda.add(due, channel.clone(), number);
        }
        if let Some((due, number)) = turn {
            self.queue(channel.clone(), number, due, now);
        }
        if is_crowded {
            self.relieve(channel);
        }
    }
}

impl Listener for Hub {
    fn wants(&self, channel: &Channel) -> bool {
        self.rooms(channel).contains_key(channel)
    }

    fn wanted(&self) -> Vec<Channel> {
        let shards = self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner));
        shards.flat_map(|rooms| rooms.keys().cloned().collect::<Vec<_>>()).collect()
    }

    fn subscribed(&self, channel: &Channel) {
        self.settle(channel, LocalRoom::subscribed);
    }

    fn heard(&self, channel: &Channel, payload: Bytes) {
        let read = Frame::new(payload).ok().and_then(|frame| {
            let envelope = Envelope::read(&frame).ok()?;
            let is_own = envelope.origin_server == self.origin_server;
            let place = envelope.placed.map(|(epoch, seq, ts)| (Position::new(epoch, seq), ts));
            let traceparent = envelope.traceparent.filter(|_| !is_own);
            let span = self.tracer.deliver(channel, traceparent);
            Some((is_own, place, span, frame))
        });
        let kind = match read {
            None => EnvelopeKind::Unreadable,
            // Nobody could be sent what does not fit into an outbox.
            Some((false, None, _, frame)) if frame.len() > self.outbox_bounds.max_bytes() => EnvelopeKind::Unreadable,
            // Our members get it, or have had it, from the answer to the publish. The echo only shows that there
            // is such a message, should the answer have been lost.
            Some((true, place, ..)) => {
                if let Some((position, _)) = place {
                    self.settle(channel, |room| room.observe(position));
                }
                EnvelopeKind::OwnEcho
            }
            Some((false, Some((position, ts)), span, item)) => {
                span.in_scope(|| self.settle(channel, |room| room.accept(Placed { position, ts, item })));
                EnvelopeKind::Numbered
            }
            Some((false, None, span, frame)) => {
                span.in_scope(|| self.settle(channel, |room| room.deliver(&frame)));
                EnvelopeKind::Foreign
            }
        };
        self.metrics.envelope_heard(kind);
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("origin_server", &self.origin_server).finish_non_exhaustive()
    }
}
