use std::{convert::Infallible, future::pending, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::{
    net::TcpStream,
    task::yield_now,
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

use super::state::{Action, Rules, Session, not_joined, not_published, put_out};
use crate::{
    broker::PublishError,
    hub::{Client, Hub, JoinError, Membership},
    protocol::{Batch, Channel, CloseCode, Dialect, Item, MessageId, Rejection, RoomId, Username},
    socket::{Bounds, Buffers, End, Inbound, Intake, Outbox, Received},
    telemetry::Metrics,
};

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
    options: Options,
    metrics: Arc<Metrics>,
}

/// A command of this client that waits for the hub. There is one at a time, and the next message is held back until it
/// ends: this keeps a client's messages in order, and slows a client that sends faster than the broker keeps up.
/// Meanwhile the client gets what waits for it, and its control frames are seen.
enum Outcome {
    Joined(RoomId, Username, Result<Membership, JoinError>),
    Published,
    NotPublished(Channel, Option<MessageId>, PublishError),
}

type Pending = Option<BoxFuture<'static, Outcome>>;

impl Context {
    /// Makes what every connection to this hub needs.
    pub fn new(hub: Arc<Hub>, options: Options, metrics: Arc<Metrics>) -> Self {
        Self { hub, options, metrics }
    }

    /// Serves one client until either side closes. `unread` is what it has sent already. When this returns, or is
    /// dropped, the client has left all its rooms.
    pub async fn serve(self: Arc<Self>, stream: TcpStream, unread: Bytes) {
        self.metrics.connections.inc();
        self.options.buffers.bound(&stream);
        let (receiving, sending) = stream.into_split();
        let outbox = Arc::new(Outbox::new(sending, Dialect::default(), self.options.bounds.clone()));
        let inbound = Inbound::new(receiving, unread, outbox.clone(), &self.options.intake);
        let (client, broadcasts) = self.hub.connect(outbox.clone());
        let mut connection = Connection {
            client,
            outbox,
            heartbeat: heartbeat(self.options.ping_interval),
            silent_beats: 0,
            turn: 0,
            session: Session::new(),
            broadcasts,
            pending: None,
            answers: Vec::new(),
            inbound,
            context: self,
        };
        let Err(end) = connection.run().await;
        // Boxed, because it is large and rarely there.
        Box::pin(connection.close(end)).await;
    }
}

/// One client's connection.
struct Connection {
    context: Arc<Context>,
    inbound: Inbound,
    outbox: Arc<Outbox>,
    client: Client,
    session: Session<Membership>,
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
            let is_busy = self.pending.is_some();
            tokio::select! {
                code = self.outbox.attend(self.context.options.write_timeout) => return Err(code.map_or(End::Lost, End::from)),
                outcome = ended(&mut self.pending) => {
                    self.pending = None;
                    self.conclude(outcome);
                }
                length = self.inbound.read(is_busy) => self.turn += length? / 1024,
                _ = self.heartbeat.tick() => self.beat()?,
            }
        }
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
            Ok(Action::Join(room, username, history)) => {
                self.send_answers();
                let (hub, client) = (self.context.hub.clone(), self.client.clone());
                self.pending = Some(Box::pin(async move {
                    let result = hub.join(&client, &room, history).await;
                    Outcome::Joined(room, username, result)
                }));
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
    fn conclude(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Joined(room, username, Ok(membership)) => self.session.joined(room, username, membership),
            Outcome::Joined(room, _, Err(JoinError::Refused(why))) => self.refuse(not_joined(room, &why)),
            Outcome::Joined(room, _, Err(JoinError::Interrupted)) => self.answers.push(Item::Event(put_out(room))),
            Outcome::Published => {}
            Outcome::NotPublished(channel, id, why) => self.refuse(not_published(&channel, id, &why)),
        }
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
            self.conclude(outcome);
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
        Arc::new(Context::new(Arc::new(hub), options, metrics.clone()))
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
        let serving = TaskTracker::new().spawn(connection.serve(stream, Bytes::new()));
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
