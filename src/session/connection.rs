use std::{
    convert::Infallible,
    future::pending,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::{
    net::TcpStream,
    task::yield_now,
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until},
};

use super::{
    lease::{Due, Lease},
    state::{Action, Entry, Rules, Session, not_joined, not_published, put_out},
};
use crate::{
    access::{Door, Pass, TokenError},
    broker::PublishError,
    hub::{Client, Hub, JoinError, Membership},
    protocol::{Batch, Channel, CloseCode, Dialect, ErrorCode, Event, Item, MessageId, Rejection},
    socket::{Bounds, Buffers, End, Inbound, Intake, Outbox, Received},
    telemetry::Metrics,
};

/// How long to wait before joining a room for a client once more.
const JOIN_AGAIN: Duration = Duration::from_secs(1);

/// After this many frames, or this many KiB, a connection lets others take their turn.
const TURN: usize = 64;

/// Options of every connection of a server.
#[derive(Clone, Debug)]
pub struct Options {
    /// What a client may ask for.
    pub rules: Rules,
    /// How much may wait for a client, and for all clients together.
    pub bounds: Arc<Bounds>,
    /// How much clients may send.
    pub intake: Intake,
    /// How much the system may hold for one client.
    pub buffers: Buffers,
    /// How long a client may accept nothing of what waits for it.
    pub write_timeout: Duration,
    /// How often to ping a client.
    pub ping_interval: Duration,
}

/// What a connection needs from its server; all connections share it.
#[derive(Debug)]
pub struct Context {
    hub: Arc<Hub>,
    door: Arc<Door>,
    options: Options,
    metrics: Arc<Metrics>,
}

/// How a client comes in: with a pass, without one, so that it has to show a token first, or refused, because its
/// token is.
pub type Admission = Result<Option<Arc<Pass>>, TokenError>;

/// A command of this client that waits for the hub. There is one at a time, and the next message is held back until it
/// ends: this keeps a client's messages in order, and slows a client that sends faster than the broker keeps up.
/// Meanwhile the client gets what waits for it, and its control frames are seen.
enum Outcome {
    Authenticated(Result<Arc<Pass>, TokenError>),
    Joined(Entry, Result<Membership, JoinError>),
    Published,
    NotPublished(Channel, Option<MessageId>, PublishError),
}

type Pending = Option<BoxFuture<'static, Outcome>>;

impl Context {
    /// Makes what every connection to this hub needs.
    pub fn new(hub: Arc<Hub>, door: Arc<Door>, options: Options, metrics: Arc<Metrics>) -> Self {
        Self { hub, door, options, metrics }
    }

    /// Who comes in at this server.
    pub fn door(&self) -> &Arc<Door> {
        &self.door
    }

    /// Serves one client until either side closes. `unread` is what it has sent already. When this returns, or is
    /// dropped, the client has left all its rooms.
    pub async fn serve(self: Arc<Self>, stream: TcpStream, unread: Bytes, admission: Admission) {
        self.metrics.connections.inc();
        self.options.buffers.bound(&stream);
        let (receiving, sending) = stream.into_split();
        let outbox = Arc::new(Outbox::new(sending, Dialect::default(), self.options.bounds.clone()));
        let inbound = Inbound::new(receiving, unread, outbox.clone(), &self.options.intake);
        let pass = match admission {
            Ok(pass) => pass,
            Err(why) => return self.turn_away(&outbox, inbound, &why).await,
        };
        let (client, broadcasts) = self.hub.connect(outbox.clone());
        let mut connection = Connection {
            client,
            outbox,
            heartbeat: heartbeat(self.options.ping_interval),
            silent_beats: 0,
            turn: 0,
            lease: Lease::of(pass.as_deref(), Instant::now(), SystemTime::now()),
            session: Session::new(pass),
            broadcasts,
            pending: None,
            joins_from: None,
            answers: Vec::new(),
            inbound,
            context: self,
        };
        connection.greet();
        let Err(end) = connection.run().await;
        // Boxed, because it is large and rarely there.
        Box::pin(connection.close(end)).await;
    }

    /// Tells a client why its token is refused, and closes. Browsers do not see the status of an upgrade, so it has been
    /// granted.
    async fn turn_away(&self, outbox: &Outbox, inbound: Inbound, why: &TokenError) {
        let (code, rejection) = refusal(why);
        self.metrics.error_sent(rejection.code);
        outbox.deliver(&Batch::from(rejection.into_event()));
        let end = End::from(code.unwrap_or(CloseCode::Unauthorized));
        self.metrics.disconnected(end.code());
        inbound.close(&end, self.options.write_timeout).await;
    }
}

/// What to tell a client whose token is refused, and with which code to close, if at all.
fn refusal(why: &TokenError) -> (Option<CloseCode>, Rejection) {
    let (close, code) = match why {
        TokenError::NoKeys => (None, ErrorCode::Unauthorized),
        TokenError::KeysAway => (Some(CloseCode::Overloaded), ErrorCode::Unavailable),
        TokenError::Expired(_) => (Some(CloseCode::TokenExpired), ErrorCode::Unauthorized),
        _ => (Some(CloseCode::Unauthorized), ErrorCode::Unauthorized),
    };
    (close, Rejection::new(code, why.to_string()))
}

/// One client's connection.
struct Connection {
    context: Arc<Context>,
    inbound: Inbound,
    outbox: Arc<Outbox>,
    client: Client,
    session: Session<Membership>,
    lease: Lease,
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
    async fn run(&mut self) -> Result<Infallible, End> {
        loop {
            while self.turn < TURN
                && let Some(received) = self.inbound.next(self.pending.is_some())?
            {
                self.turn += 1;
                self.receive(&received);
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
                length = self.inbound.read(is_busy) => self.turn += length? / 1024,
                _ = self.heartbeat.tick() => self.beat()?,
                () = until(self.lease.next()) => self.keep_lease()?,
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

    fn join(&mut self, entry: Entry) {
        self.send_answers();
        let (hub, client) = (self.context.hub.clone(), self.client.clone());
        self.pending = Some(Box::pin(async move {
            let result = hub.join(&client, &entry.room, entry.history).await;
            Outcome::Joined(entry, result)
        }));
    }

    fn receive(&mut self, received: &Received) {
        match received {
            Received::Text(text) => {
                self.context.metrics.messages_received.inc();
                self.act(text);
            }
            Received::Binary => self.context.metrics.messages_received.inc(),
            // Answers pings, and ends the connection when its time has come.
            Received::Part | Received::Ping(_) | Received::Pong | Received::Close(_) => {}
        }
    }

    /// Does what the session says about a text frame.
    fn act(&mut self, text: &str) {
        match self.session.receive(text, &self.context.options.rules) {
            Ok(Action::Reply(event)) => self.answers.push(Item::Event(event)),
            Ok(Action::Authenticate(token)) => {
                self.send_answers();
                let door = self.context.door.clone();
                self.pending = Some(Box::pin(async move { Outcome::Authenticated(door.admit(&token).await) }));
            }
            Ok(Action::Join(entry, before)) => {
                drop(before);
                self.join(entry);
            }
            Ok(Action::Leave(membership, left)) => {
                self.send_answers();
                drop(membership);
                self.answers.push(Item::Event(left));
            }
            Ok(Action::Publish(channel, draft)) => {
                self.send_answers();
                let (hub, client) = (self.context.hub.clone(), self.client.clone());
                self.pending = Some(Box::pin(async move {
                    match hub.publish(&channel, &draft, Some(&client)).await {
                        Ok(_) => Outcome::Published,
                        Err(why) => Outcome::NotPublished(channel, draft.id().cloned(), why),
                    }
                }));
            }
            Err(rejection) => self.refuse(rejection),
        }
    }

    /// Takes the outcome in, and tells the client what the hub did not tell it.
    ///
    /// # Errors
    /// If the client showed a token that is refused.
    fn conclude(&mut self, outcome: Outcome) -> Result<(), End> {
        match outcome {
            Outcome::Authenticated(Ok(pass)) => self.admit(&pass)?,
            Outcome::Authenticated(Err(why)) => {
                let (code, rejection) = refusal(&why);
                self.refuse(rejection);
                if let Some(code) = code {
                    return Err(code.into());
                }
            }
            Outcome::Joined(entry, Ok(membership)) => self.session.joined(entry, membership),
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
        for (membership, left) in ended {
            drop(membership);
            self.answers.push(Item::Event(left));
        }
        self.lease = Lease::of(Some(pass), Instant::now(), SystemTime::now());
        self.joins_from = None;
        self.answers.push(Item::Event(authenticated(pass)));
        Ok(())
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
        // The server does not read while a command is pending, so silence then does not mean that the client is dead.
        if self.inbound.is_alive() || !self.inbound.may_read(self.pending.is_some()) {
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
    use tokio::{
        io::{AsyncWriteExt, copy, sink},
        net::TcpListener,
    };
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::{broker::MemoryBroker, telemetry::trace::Tracer};

    /// A masked frame; the mask is zero, so that the payload stays as it is.
    fn frame(first: u8, payload: &str) -> Vec<u8> {
        let head = [first, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0];
        [&head, payload.as_bytes()].concat()
    }

    /// A server without settings.
    fn context(metrics: &Arc<Metrics>) -> Arc<Context> {
        let config = crate::config::Config::from_env([]).unwrap().0;
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
        let admission = Ok(connection.door().anonymous());
        let serving = TaskTracker::new().spawn(connection.serve(stream, Bytes::new(), admission));
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
