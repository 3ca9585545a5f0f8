//! The rooms and members of this server: who gets what, in which order, and which channels are wanted for it.
//!
//! Each room has one owner at a time, whoever holds the lock of its shard. Under that lock a publication goes
//! through the room's sequencer and in line for all members, and a few members at a time are written to, so every
//! member sees one order. No lock is held across an await, and under it nothing waits: a socket takes what is written or
//! it waits in the member's outbox.

mod agenda;
mod arrival;
mod audience;
mod catch_up;
mod claims;
mod fan_out;
mod join;
mod local_room;
mod log_watch;
mod membership;
mod page_requests;
mod recent;

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
use tokio::{
    net::tcp::OwnedWriteHalf,
    sync::Semaphore,
    time::{Instant, timeout},
};
use tracing::Instrument;

use self::{
    agenda::Agenda,
    arrival::Refusal,
    claims::Claim,
    fan_out::Queue,
    local_room::{LocalRoom, RoomRules, Upkeep},
    recent::{Budget, RecentLimits},
};
pub use self::{
    join::JoinError,
    membership::{Client, Membership},
};
use crate::{
    broker::{Broker, Listener, PublishError, Published, Trouble, Unavailable, unix_millis},
    config::Config,
    order::Publication,
    protocol::{Channel, CloseCode, Draft, Envelope, Frame, Position},
    socket::{Bounds, Outbox},
    telemetry::{EnvelopeKind, Metrics, trace, trace::Tracer},
};

/// More than there are cores, so that rooms seldom share a lock that is in use.
const SHARDS: usize = 64;

/// How many clients that come in are dealt with at a time, beside all else.
const ARRIVAL_TURNS: usize = 4;

/// How long a publisher waits, at most, for members that are given more than they are sent.
const PATIENCE: Duration = Duration::from_millis(100);

type Rooms = HashMap<Channel, LocalRoom>;

/// The meeting point of this server's sessions and its broker.
pub struct Hub {
    origin_server: String,
    broker: Arc<dyn Broker>,
    shards: [Mutex<Rooms>; SHARDS],
    hasher: RandomState,
    /// Rooms whose log is to be read.
    agenda: Agenda,
    /// Rooms that are due for a look-up of their log's top.
    look_ups: Agenda,
    /// Rooms where somebody waits for a part of the log.
    pages: Queue,
    /// Rooms that have something in line for their members.
    queue: Queue,
    /// Rooms that have something in line, and rest.
    resting: Agenda,
    arrival_turns: Semaphore,
    next_number: AtomicU64,
    outbox_bounds: Arc<Bounds>,
    rules: RoomRules,
    max_last: u64,
    join_timeout: Duration,
    closing: OnceLock<CloseCode>,
    metrics: Arc<Metrics>,
    tracer: Tracer,
}

impl Hub {
    /// A hub with no clients. It hears nothing until [`Hub::run`] runs.
    pub fn new(origin_server: String, broker: Arc<dyn Broker>, config: &Config, metrics: Arc<Metrics>) -> Self {
        let outbox_bounds = Arc::new(Bounds::new(
            config.outbox_messages,
            config.outbox_bytes,
            config.outbox_total_bytes,
            metrics.messages_sent.clone(),
        ));
        let rules = RoomRules {
            keeps_history: config.history_length > 0,
            compare_interval: config.compare_interval,
            recent: RecentLimits {
                length: config.history_length,
                bytes: config.history_bytes,
                age: u64::try_from(config.history_age.as_millis()).unwrap_or(u64::MAX),
            },
            budget: Arc::new(Budget::new(config.recent_bytes)),
            bounds: outbox_bounds.clone(),
        };
        let hub = Self {
            origin_server,
            broker,
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            agenda: Agenda::default(),
            look_ups: Agenda::default(),
            pages: Queue::default(),
            queue: Queue::default(),
            resting: Agenda::default(),
            arrival_turns: Semaphore::new(ARRIVAL_TURNS),
            next_number: AtomicU64::new(1),
            outbox_bounds,
            rules,
            max_last: config.max_last as u64,
            // A join waits for a subscription and for a reading of the log.
            join_timeout: 2 * config.redis_command_timeout,
            closing: OnceLock::new(),
            metrics,
            tracer: Tracer::new(
                config.otlp_endpoint.is_some().then_some(config.trace_ratio),
                if config.redis_url.is_some() { "redis" } else { "roomcast" },
            ),
        };
        // The broadcast channel has every client as its member and is wanted for as long as the server runs.
        let broadcast = hub.new_room(Channel::Broadcast);
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
        self.settle(&Channel::Broadcast, |room| room.admit(client.number(), client.outbox().clone()));
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
        let known = self.peek(channel, |room| room.is_open().then(|| room.known())).flatten();
        let Some(known) = known else {
            // There is no place yet from which members could be served.
            return Err(Unavailable("the channel is not open yet".into()).into());
        };
        let started = Instant::now();
        let published = if self.rules.keeps_history {
            self.publish_in_order(channel, draft, known).await
        } else {
            self.send(channel, draft).await
        };
        self.metrics.publish_duration.observe(started.elapsed());
        if matches!(published, Err(PublishError::Unavailable(_))) {
            self.metrics.publishes_failed.inc();
        }
        if published.is_ok() {
            self.relieve(channel).await;
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
            Published::New(placed) => {
                let position = placed.position;
                self.settle(channel, |room| room.accept(placed, Instant::now()));
                position
            }
            Published::Repeated(position) => {
                self.metrics.publishes_repeated.inc();
                // The answer of the first try may have been lost on its way here, and its delivery with it.
                self.settle(channel, |room| room.observe(position, Instant::now()));
                position
            }
        };
        Ok(Some(position))
    }

    async fn send(&self, channel: &Channel, draft: &Draft) -> Result<Option<Position>, PublishError> {
        let frame = draft.unnumbered(unix_millis());
        self.deliver(channel, &frame);
        self.broker.send(channel, &frame).await?;
        Ok(None)
    }

    /// Hands a message that has no place in the order to the members.
    fn deliver(&self, channel: &Channel, frame: &Frame) {
        if self.settle(channel, |room| room.deliver(frame)) == Some(false) {
            self.metrics.unplaced_dropped.inc();
        }
    }

    /// Waits a moment while the members of a channel are given more than they are sent. So whoever sends most is slowed, and
    /// nobody in other channels.
    async fn relieve(&self, channel: &Channel) {
        if let Some(relieved) = self.settle(channel, LocalRoom::relieved).flatten() {
            let _ = timeout(PATIENCE, relieved).await;
        }
    }

    /// Sends a client what is in line for it in a channel, and then, if there is one, an answer to what it said there. So
    /// whatever it asks next is answered after that.
    pub fn answer(&self, channel: &Channel, client: &Client, answer: Option<&Frame>) {
        let is_member = self.settle(channel, |room| room.answer(client.number(), answer)).unwrap_or(false);
        if let (false, Some(answer)) = (is_member, answer) {
            client.outbox().push(answer);
        }
    }

    /// The outboxes of all clients that are connected now.
    pub fn outboxes(&self) -> Vec<Arc<Outbox>> {
        self.peek(&Channel::Broadcast, LocalRoom::outboxes).unwrap_or_default()
    }

    /// Has every client closed with this code, those that are still to come too, once it has been sent what waits for it.
    pub fn close_all(&self, code: CloseCode) {
        let code = *self.closing.get_or_init(|| code);
        self.peek(&Channel::Broadcast, |room| room.close_all(code));
    }

    /// Everything that keeps this server from carrying messages at the moment; nothing if all is well.
    pub fn troubles(&self) -> Vec<Trouble> {
        let mut troubles = self.broker.troubles();
        let is_open = self.peek(&Channel::Broadcast, LocalRoom::is_open).unwrap_or(false);
        if !is_open && troubles.is_empty() {
            troubles.push(Trouble::SubscriptionsMissing);
        }
        troubles
    }

    /// Numbers for clients and rooms, never given out twice.
    fn number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    fn new_room(&self, channel: Channel) -> LocalRoom {
        LocalRoom::new(channel, self.number(), &self.rules)
    }

    /// Makes a room if it is not there. Returns whether it was not.
    fn open(&self, channel: &Channel) -> bool {
        let mut rooms = self.rooms(channel);
        let is_new = !rooms.contains_key(channel);
        if is_new {
            self.metrics.rooms.inc();
            rooms.insert(channel.clone(), self.new_room(channel.clone()));
        }
        is_new
    }

    fn rooms(&self, channel: &Channel) -> MutexGuard<'_, Rooms> {
        let shard = usize::try_from(self.hasher.hash_one(channel) % SHARDS as u64).unwrap_or(0);
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at a room, if it is there.
    fn peek<T>(&self, channel: &Channel, look: impl FnOnce(&LocalRoom) -> T) -> Option<T> {
        self.rooms(channel).get(channel).map(look)
    }

    /// Acts on a room, if it is there, and has done what follows from that: its log read if something is missing, its
    /// members served if something is in line for them.
    fn settle<T>(&self, channel: &Channel, action: impl FnOnce(&mut LocalRoom) -> T) -> Option<T> {
        let (value, number, upkeep, now) = {
            let mut rooms = self.rooms(channel);
            let room = rooms.get_mut(channel)?;
            let value = action(room);
            let now = Instant::now();
            (value, room.number(), room.upkeep(now), now)
        };
        let Upkeep { reading, look_up, turn, page } = upkeep;
        if let Some(due) = reading {
            self.agenda.add(due, channel.clone(), number);
        }
        if let Some(due) = look_up {
            self.look_ups.add(due, channel.clone(), number);
        }
        if let Some(due) = turn {
            self.queue(channel.clone(), number, due, now);
        }
        if page {
            self.pages.push(channel.clone(), number);
        }
        Some(value)
    }

    /// The same for one room of that name, and not for a later one: it may have been left meanwhile.
    fn settle_if_same<T>(&self, channel: &Channel, number: u64, action: impl FnOnce(&mut LocalRoom) -> T) -> Option<T> {
        self.settle(channel, |room| (room.number() == number).then(|| action(room))).flatten()
    }

    fn for_each_room(&self, mut action: impl FnMut(&Channel, &mut LocalRoom)) {
        for shard in &self.shards {
            let mut rooms = shard.lock().unwrap_or_else(PoisonError::into_inner);
            rooms.iter_mut().for_each(|(channel, room)| action(channel, room));
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
        self.settle(channel, |room| room.subscribed(Instant::now()));
    }

    fn refused(&self, channel: &Channel) {
        self.settle(channel, |room| room.refused(Refusal::NotAllowed));
    }

    fn heard(&self, channel: &Channel, payload: Bytes, is_vouched: bool) {
        let kind = self.hear(channel, payload, is_vouched).unwrap_or(EnvelopeKind::Unreadable);
        self.metrics.envelope_heard(kind);
    }
}

impl Hub {
    /// Deals with what was published on a channel; `None` if it is none of what members may get.
    fn hear(&self, channel: &Channel, payload: Bytes, is_vouched: bool) -> Option<EnvelopeKind> {
        let frame = Frame::new(payload).ok()?;
        let envelope = Envelope::read(&frame).ok()?;
        // Who is in another room must not take it for what was said there.
        if envelope.room.as_deref().is_some_and(|room| channel.room().is_none_or(|id| id.as_str() != room)) {
            return None;
        }
        let place = envelope.stamp.map(|stamp| (stamp.position, stamp.ts));
        if envelope.origin_server == self.origin_server {
            // Our members get it, or have had it, from the answer to the publish. The echo only shows that there
            // is such a message, should the answer have been lost.
            if let Some((position, _)) = place.filter(|_| is_vouched) {
                self.settle(channel, |room| room.observe(position, Instant::now()));
            }
            return Some(EnvelopeKind::OwnEcho);
        }
        let span = self.tracer.deliver(channel, envelope.traceparent);
        match place {
            Some((position, ts)) if is_vouched => {
                let accept =
                    |room: &mut LocalRoom| room.accept(Publication { position, ts, item: frame }, Instant::now());
                span.in_scope(|| self.settle(channel, accept));
                Some(EnvelopeKind::Numbered)
            }
            // Nobody could be sent what does not fit into an outbox.
            _ if frame.len() > self.outbox_bounds.max_bytes() => None,
            Some((position, _)) => {
                let is_taken = span.in_scope(|| self.settle(channel, |room| room.claim(Claim { position, frame })));
                (is_taken != Some(false)).then_some(EnvelopeKind::Unvouched)
            }
            None => {
                span.in_scope(|| self.deliver(channel, &frame));
                Some(EnvelopeKind::Foreign)
            }
        }
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("origin_server", &self.origin_server).finish_non_exhaustive()
    }
}
