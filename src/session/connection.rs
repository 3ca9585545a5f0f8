use std::{
    convert::Infallible,
    future::pending,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future::BoxFuture;
use tokio::{
    sync::watch,
    task::yield_now,
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until},
};

use super::{
    context::{Context, Refused},
    lease::{Due, Lease},
    state::{Action, Entry, Session, banned, muted, not_joined, not_published, put_out},
};
use crate::{
    access::{Act, Allowance, Pass, Rate, Sanctions, Source, TokenError, Verdict},
    broker::PublishError,
    hub::{Client, Hub, JoinError, Membership},
    protocol::{Batch, Channel, CloseCode, Draft, ErrorCode, Event, History, Item, MessageId, Rejection, RoomId},
    socket::{End, Inbound, Outbox, Received},
    telemetry::Limit,
};

/// How long to wait before joining a room for a client once more.
const JOIN_AGAIN: Duration = Duration::from_secs(1);

/// After this many frames, or this many KiB, a connection lets others take their turn.
const TURN: usize = 64;

/// A command of this client that waits for the hub. There is one at a time, and the next message is held back until it
/// ends: this keeps a client's messages in order, and slows a client that sends faster than the broker keeps up.
/// Meanwhile the client gets what waits for it, and its control frames are seen.
enum Outcome {
    Authenticated(Result<Arc<Pass>, Refused>),
    Joined(Entry, Result<Membership, JoinError>),
    Moderated(Event),
    NotModerated(Option<RoomId>),
    /// The user is banned from this room.
    Banned(RoomId, u64),
    /// The client is too fast for this limit.
    TooFast(Limit, Duration, Option<RoomId>, Option<MessageId>),
    Published,
    NotPublished(Channel, Option<MessageId>, PublishError),
}

type Pending = Option<BoxFuture<'static, Outcome>>;

/// What a command costs in a purse that all servers share.
struct Charge {
    limit: Limit,
    purse: String,
    rate: Rate,
}

/// One client's connection.
pub(super) struct Connection {
    context: Arc<Context>,
    inbound: Inbound,
    outbox: Arc<Outbox>,
    client: Client,
    session: Session<Membership>,
    lease: Lease,
    /// What holds on all servers, and what this connection has kept to so far.
    sanctions: watch::Receiver<Arc<Sanctions>>,
    kept_to: Arc<Sanctions>,
    /// What held when the join began that is under way.
    joins_under: Arc<Sanctions>,
    /// From where it comes, if limits by address apply to it.
    source: Option<Source>,
    allowance: Allowance,
    /// Until when not to read from the client, which was too fast.
    slowed_until: Option<Instant>,
    /// Until when not to join rooms for the client, after it failed.
    joins_from: Option<Instant>,
    /// Every client is a member of the broadcast channel.
    broadcasts: Membership,
    pending: Pending,
    /// Answers that go out together, before anything else happens.
    answers: Vec<Item>,
    heartbeat: Interval,
    /// For how many heartbeats the client has given no sign of life.
    silent_beats: u32,
    /// How much was done since others had their turn.
    turn: usize,
}

impl Connection {
    /// Serves one client until either side closes. When this returns, or is dropped, the client has left all its rooms.
    pub(super) async fn run(
        context: Arc<Context>,
        inbound: Inbound,
        outbox: Arc<Outbox>,
        pass: Option<Arc<Pass>>,
        source: Option<Source>,
        allowance: Allowance,
    ) {
        let (client, broadcasts) = context.hub.connect(outbox.clone());
        let mut sanctions = context.hub.sanctions();
        let kept_to = sanctions.borrow_and_update().clone();
        // Its token may have been revoked since it was checked.
        sanctions.mark_changed();
        let mut connection = Self {
            client,
            outbox,
            heartbeat: heartbeat(context.options.ping_interval),
            silent_beats: 0,
            turn: 0,
            lease: Lease::of(pass.as_deref(), Instant::now(), SystemTime::now()),
            session: Session::new(pass),
            sanctions,
            joins_under: kept_to.clone(),
            kept_to,
            source,
            allowance,
            slowed_until: None,
            broadcasts,
            pending: None,
            joins_from: None,
            answers: Vec::new(),
            inbound,
            context,
        };
        connection.greet();
        let Err(end) = connection.serve().await;
        // Boxed, because it is large and rarely there.
        Box::pin(connection.close(end)).await;
    }

    async fn serve(&mut self) -> Result<Infallible, End> {
        loop {
            while self.turn < TURN
                && self.slowed_until.is_none()
                && let Some(received) = self.inbound.next(self.pending.is_some())?
            {
                self.turn += 1;
                self.receive(&received)?;
            }
            self.send_answers();
            if self.turn >= TURN {
                self.turn = 0;
                self.inbound.answer_pings();
                // Other tasks' events come first, before this connection goes on.
                yield_now().await;
                continue;
            }
            self.join_next();
            let is_busy = self.pending.is_some();
            tokio::select! {
                code = self.outbox.attend(self.context.options.write_timeout) => return Err(code.map_or(End::Lost, End::from)),
                outcome = ended(&mut self.pending) => {
                    self.pending = None;
                    self.conclude(outcome)?;
                }
                length = self.inbound.read(is_busy), if self.slowed_until.is_none() => self.turn += length? / 1024,
                () = until(self.slowed_until) => self.slowed_until = None,
                _ = self.heartbeat.tick() => self.beat()?,
                () = until(self.lease.next()) => self.keep_lease()?,
                Ok(()) = self.sanctions.changed() => self.keep_to_sanctions()?,
                () = until(self.joins_from) => self.joins_from = None,
            }
        }
    }

    /// Tells a client who it is, if its token came with its upgrade.
    fn greet(&mut self) {
        let pass = self.session.pass().filter(|pass| pass.user.is_some()).cloned();
        if let Some(pass) = pass {
            self.answers.push(Item::Event(authenticated(&pass)));
        }
    }

    /// The client's token ends, or its time to show one.
    fn keep_lease(&mut self) -> Result<(), End> {
        match self.lease.due(Instant::now()) {
            Some(Due::Warning(left)) => self.answers.push(Item::Event(Event::Expiring { in_ms: millis(left) })),
            Some(Due::End(code)) => {
                if code == CloseCode::Unauthorized {
                    self.refuse(Rejection::new(ErrorCode::Unauthorized, "no token came in time"));
                }
                return Err(code.into());
            }
            None => {}
        }
        Ok(())
    }

    /// What holds on all servers has changed.
    fn keep_to_sanctions(&mut self) -> Result<(), End> {
        let now = self.sanctions.borrow_and_update().clone();
        if self.session.pass().is_some_and(|pass| now.revoke(pass, SystemTime::now())) {
            self.turn_away(&Refused::Token(TokenError::Revoked))?;
        }
        let before = std::mem::replace(&mut self.kept_to, now);
        self.kick(&before);
        Ok(())
    }

    /// Ends the memberships from which the client was kicked since then.
    fn kick(&mut self, since: &Sanctions) {
        for (membership, left) in self.session.kick(since, &self.kept_to) {
            drop(membership);
            self.answers.push(Item::Event(left));
        }
    }

    /// Joins the next of the rooms that the server joins for this client.
    fn join_next(&mut self) {
        while self.pending.is_none() && self.joins_from.is_none() {
            match self.session.next_to_join(&self.context.options.rules) {
                Some(Ok(entry)) => self.join(entry),
                Some(Err(rejection)) => {
                    self.refuse(rejection);
                    self.send_answers();
                }
                None => return,
            }
        }
    }

    fn receive(&mut self, received: &Received) -> Result<(), End> {
        self.spend(Act::Frame)?;
        match received {
            Received::Text(text) => {
                self.context.metrics.messages_received.inc();
                self.act(text)?;
            }
            Received::Binary => self.context.metrics.messages_received.inc(),
            // Answers pings, and ends the connection when its time has come.
            Received::Part | Received::Ping(_) | Received::Pong | Received::Close(_) => {}
        }
        Ok(())
    }

    /// The client does something that is limited. It may be slowed, and told.
    ///
    /// # Errors
    /// If it has been too fast for long.
    fn spend(&mut self, act: Act) -> Result<(), End> {
        let now = Instant::now();
        match self.allowance.spend(act, now) {
            Verdict::Fine => Ok(()),
            Verdict::Slow { limit, wait, begins, tell } => {
                self.slowed_until = self.slowed_until.max(Some(now + wait));
                if begins {
                    self.context.metrics.limited(limit);
                }
                if tell {
                    self.refuse(Rejection::too_fast(limit.as_str(), wait));
                }
                Ok(())
            }
            Verdict::Close(limit) => {
                self.refuse(Rejection::too_fast(limit.as_str(), Duration::ZERO));
                Err(CloseCode::TooFast.into())
            }
        }
    }

    /// Does what the session says about a text frame.
    fn act(&mut self, text: &str) -> Result<(), End> {
        match self.session.receive(text, &self.context.options.rules) {
            Ok(Action::Reply(event)) => self.answers.push(Item::Event(event)),
            Ok(Action::Authenticate(token)) => {
                self.send_answers();
                let context = self.context.clone();
                self.pending = Some(Box::pin(async move {
                    Outcome::Authenticated(context.admit(&token).await.map_err(Refused::Token))
                }));
            }
            Ok(Action::Join(entry, before)) => {
                if entry.history != History::None {
                    self.spend(Act::History)?;
                }
                drop(before);
                self.join(entry);
            }
            Ok(Action::Leave(membership, left)) => {
                self.send_answers();
                drop(membership);
                self.answers.push(Item::Event(left));
            }
            Ok(Action::Moderate(room, measure, event)) => {
                self.send_answers();
                let hub = self.context.hub.clone();
                self.pending = Some(Box::pin(async move {
                    match hub.moderate(room.as_ref(), &measure).await {
                        Ok(()) => Outcome::Moderated(event),
                        Err(_) => Outcome::NotModerated(room),
                    }
                }));
            }
            Ok(Action::Publish(channel, draft)) => {
                self.spend(Act::Message(text.len()))?;
                let user = self.session.pass().and_then(|pass| pass.user.as_ref()).or(draft.speaker());
                match user.and_then(|user| self.kept_to.muted(user, SystemTime::now())) {
                    Some(left) => {
                        let (id, room) = (draft.id().cloned(), channel.room().cloned());
                        self.refuse(Rejection { id, room, ..muted(left) });
                    }
                    None => self.publish(channel, draft),
                }
            }
            Err(rejection) => self.refuse(rejection),
        }
        Ok(())
    }

    fn join(&mut self, entry: Entry) {
        self.send_answers();
        self.joins_under = self.kept_to.clone();
        // What its token has the server join is not the client's doing.
        let charge = if entry.by_server { None } else { self.charge(Limit::NewRooms) };
        let (hub, client) = (self.context.hub.clone(), self.client.clone());
        self.pending = Some(Box::pin(async move {
            // If the broker is away, joining says so.
            if let Ok(Some(until)) = hub.banned(&entry.room, &entry.username).await {
                return Outcome::Banned(entry.room, until);
            }
            if let Some(charge) = charge
                && hub.would_make(&entry.room).await
                && let Some(wait) = charge.pay(&hub).await
            {
                return Outcome::TooFast(charge.limit, wait, Some(entry.room), None);
            }
            let result = hub.join(&client, &entry.room, entry.history).await;
            Outcome::Joined(entry, result)
        }));
    }

    fn publish(&mut self, channel: Channel, draft: Draft) {
        self.send_answers();
        let charge = if channel == Channel::Broadcast { self.charge(Limit::Broadcasts) } else { None };
        let (hub, client) = (self.context.hub.clone(), self.client.clone());
        self.pending = Some(Box::pin(async move {
            if let Some(charge) = charge
                && let Some(wait) = charge.pay(&hub).await
            {
                return Outcome::TooFast(charge.limit, wait, None, draft.id().cloned());
            }
            match hub.publish(&channel, &draft, Some(&client)).await {
                Ok(_) => Outcome::Published,
                Err(why) => Outcome::NotPublished(channel, draft.id().cloned(), why),
            }
        }));
    }

    /// What the user, or else the address, pays for something; `None` if it is free.
    fn charge(&self, limit: Limit) -> Option<Charge> {
        let limits = self.context.door.limits();
        let rate = if limit == Limit::NewRooms { limits.new_rooms? } else { limits.broadcasts? };
        let user = self.session.pass().and_then(|pass| pass.user.as_ref());
        let who = match (user, &self.source) {
            (Some(user), _) => format!("user:{}", user.as_str()),
            (None, Some(source)) => format!("address:{source}"),
            (None, None) => return None,
        };
        Some(Charge { limit, purse: format!("{}:{who}", limit.as_str()), rate })
    }

    /// Takes the outcome in, and tells the client what the hub did not tell it.
    ///
    /// # Errors
    /// If the client showed a token that is refused.
    fn conclude(&mut self, outcome: Outcome) -> Result<(), End> {
        match outcome {
            Outcome::Authenticated(Ok(pass)) => self.admit(&pass)?,
            Outcome::Authenticated(Err(why)) => self.turn_away(&why)?,
            Outcome::Moderated(event) => self.answers.push(Item::Event(event)),
            Outcome::NotModerated(room) => {
                let message = "this may not hold yet; try again";
                self.refuse(Rejection { room, ..Rejection::new(ErrorCode::Unavailable, message) });
            }
            Outcome::Banned(room, until) => self.refuse(Rejection { room: Some(room), ..banned(until) }),
            Outcome::TooFast(limit, wait, room, id) => {
                self.context.metrics.limited(limit);
                self.refuse(Rejection { room, id, ..Rejection::too_fast(limit.as_str(), wait) });
            }
            Outcome::Joined(entry, Ok(membership)) => {
                self.session.joined(entry, membership);
                self.kick(&self.joins_under.clone());
            }
            Outcome::Joined(entry, Err(_)) if entry.by_server => {
                self.session.join_later(entry.room);
                self.joins_from = Some(Instant::now() + JOIN_AGAIN);
            }
            Outcome::Joined(entry, Err(JoinError::Refused(why))) => self.refuse(not_joined(entry.room, &why)),
            Outcome::Joined(entry, Err(JoinError::Interrupted)) => {
                self.answers.push(Item::Event(put_out(entry.room)));
            }
            Outcome::Published => {}
            Outcome::NotPublished(channel, id, why) => self.refuse(not_published(&channel, id, &why)),
        }
        Ok(())
    }

    /// The client has shown a true token.
    fn admit(&mut self, pass: &Arc<Pass>) -> Result<(), End> {
        let Ok(ended) = self.session.admit(pass.clone()) else {
            let message = "this token is another user's than the one before; open another connection for it";
            self.refuse(Rejection::new(ErrorCode::Unauthorized, message));
            return Err(CloseCode::Unauthorized.into());
        };
        if let Some(user) = pass.user.as_ref().filter(|_| !self.allowance.has_user()) {
            match self.context.door.user_seat(user, Instant::now()) {
                Ok(seat) => self.allowance.belongs_to(Some(seat)),
                Err(_) => self.turn_away(&Refused::TooMany)?,
            }
        }
        for (membership, left) in ended {
            drop(membership);
            self.answers.push(Item::Event(left));
        }
        self.lease = Lease::of(Some(pass), Instant::now(), SystemTime::now());
        self.joins_from = None;
        // The token may have been revoked since it was checked.
        self.sanctions.mark_changed();
        self.answers.push(Item::Event(authenticated(pass)));
        Ok(())
    }

    /// Tells the client why its token is refused.
    ///
    /// # Errors
    /// If that ends the connection.
    fn turn_away(&mut self, why: &Refused) -> Result<(), End> {
        let (code, rejection) = self.context.refusal(why);
        self.refuse(rejection);
        code.map_or(Ok(()), |code| Err(End::from(code)))
    }

    fn refuse(&mut self, rejection: Rejection) {
        self.context.metrics.error_sent(rejection.code);
        self.answers.push(Item::Event(rejection.into_event()));
    }

    fn send_answers(&mut self) {
        if !self.answers.is_empty() {
            self.outbox.deliver(&Batch::new(std::mem::take(&mut self.answers)));
        }
    }

    fn beat(&mut self) -> Result<(), End> {
        // The server does not read while a command is pending or the client is slowed, so silence then does not mean that the client is dead.
        let may_read = self.slowed_until.is_none() && self.inbound.may_read(self.pending.is_some());
        if self.inbound.is_alive() || !may_read {
            self.silent_beats = 0;
        } else {
            self.silent_beats += 1;
        }
        if self.silent_beats > 1 {
            return Err(CloseCode::Idle.into());
        }
        self.outbox.ping();
        Ok(())
    }

    /// Finishes what is under way, leaves all rooms, writes what still waits, and closes.
    async fn close(mut self, mut end: End) {
        let outbox = self.outbox.clone();
        // Nobody needs to wait any more to send something to this client.
        outbox.close(CloseCode::Normal);
        // An accepted message is published even if its sender has gone; the broker's deadline bounds this.
        let mut pending = self.pending.take();
        if !matches!(end, End::Closed(_))
            && let Some(pending) = pending.take()
        {
            let outcome = tokio::select! {
                outcome = pending => outcome,
                never = outbox.keep_writing() => match never {},
            };
            // The connection ends anyway.
            let _ = self.conclude(outcome);
        }
        self.send_answers();
        self.session.leave_all();
        drop(self.broadcasts);
        if matches!(end, End::Refused(_)) && outbox.has_overflowed() {
            end = CloseCode::SlowConsumer.into();
        }
        self.context.metrics.disconnected(end.code());
        // A client that has closed cannot be told anything, so nothing waits for it.
        let finished = async {
            if let Some(pending) = pending {
                pending.await;
            }
        };
        tokio::join!(self.inbound.close(&end, self.context.options.write_timeout), finished);
    }
}

impl Charge {
    /// Returns how long to wait if there is not enough in the purse. If Redis is away, what follows will say so.
    async fn pay(&self, hub: &Hub) -> Option<Duration> {
        hub.spend(&self.purse, self.rate, 1.0).await.unwrap_or_default()
    }
}

/// What tells a client who it is and for how long.
fn authenticated(pass: &Pass) -> Event {
    let left = pass.expires_at.map(|end| end.duration_since(SystemTime::now()).unwrap_or_default());
    Event::Authenticated {
        username: pass.user.clone().expect("a token names its user"),
        expires_ms: left.map(millis),
        rooms: pass.auto_join.clone(),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Waits until this time; for ever if there is none.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

async fn ended(pending_outcome: &mut Pending) -> Outcome {
    match pending_outcome {
        Some(outcome) => outcome.await,
        None => pending().await,
    }
}

/// It starts at a random phase, so that pings to clients that came together do not go out together.
fn heartbeat(period: Duration) -> Interval {
    let mut heartbeat = interval_at(Instant::now() + period.mul_f64(rand::random_range(0.5..1.0)), period);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::{
        io::{AsyncWriteExt, copy, sink},
        net::{TcpListener, TcpStream},
    };
    use tokio_util::task::TaskTracker;

    use super::{super::Arrival, *};
    use crate::{
        broker::MemoryBroker,
        telemetry::{Metrics, trace::Tracer},
    };

    /// A masked frame; the mask is zero, so that the payload stays as it is.
    fn frame(first: u8, payload: &str) -> Vec<u8> {
        let head = [first, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0];
        [&head, payload.as_bytes()].concat()
    }

    /// A server without settings.
    fn context(metrics: &Arc<Metrics>) -> Arc<Context> {
        let unlimited = [("ROOMCAST_LIMITS".into(), "off".into())];
        let config = crate::config::Config::from_env(unlimited).unwrap().0;
        let broker = Arc::new(MemoryBroker::new((&config).into(), config.memory_broker_bytes));
        let hub = Hub::new("a:1", broker, (&config).into(), Tracer::new(None, "none"), metrics.clone());
        let options = crate::server::options::session(&config, "a:1", metrics);
        let door = Arc::new(crate::server::door(&config, metrics).unwrap());
        Arc::new(Context::new(Arc::new(hub), door, options, metrics.clone()))
    }

    /// The most messages of these frames that are handled between two turns of others.
    async fn longest_turn(frames: Vec<u8>, messages: u64) -> u64 {
        let metrics = Arc::new(Metrics::new());
        let connection = context(&metrics);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        client.write_all(&frames).await.unwrap();
        let (mut answers, _sending) = client.split();
        let watching = async {
            let (mut before, mut longest) = (0, 0);
            while before < messages {
                yield_now().await;
                let now = metrics.messages_received.get();
                longest = longest.max(now - before);
                before = now;
            }
            longest
        };
        let arrival = Arrival { admission: Ok(connection.door().anonymous()), source: None, seat: None };
        let serving = TaskTracker::new().spawn(connection.serve(stream, Bytes::new(), arrival));
        let mut nowhere = sink();
        let longest = tokio::select! {
            longest = watching => longest,
            _ = copy(&mut answers, &mut nowhere) => panic!("the connection has ended"),
        };
        serving.abort();
        longest
    }

    #[tokio::test]
    async fn others_have_their_turn_after_some_frames_of_whatever_kind() {
        let text = |text| frame(0x81, text);
        for command in ["{}", "[", r#"{"type":"ping"}"#, r#"{"type":"broadcast","text":""}"#] {
            let longest = longest_turn(text(command).repeat(1000), 1000).await;
            assert!(longest <= 2 * TURN as u64, "{longest} of {command}");
        }
        let control_frames = [frame(0x89, "").repeat(20), frame(0x8a, "x").repeat(11)].concat();
        let longest = longest_turn([control_frames, text("{}")].concat().repeat(300), 300).await;
        assert!(longest <= 2 * TURN as u64 / 32, "{longest}");
        let parts = [frame(0x01, ""), frame(0x00, "").repeat(30), frame(0x80, "{}")].concat();
        let longest = longest_turn(parts.repeat(300), 300).await;
        assert!(longest <= 2 * TURN as u64 / 32, "{longest}");
    }
}
