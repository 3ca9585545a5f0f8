use std::{future::pending, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::{
    net::TcpStream,
    time::{Instant, Interval, MissedTickBehavior, interval_at, timeout},
};
use tungstenite::{
    Error, Message,
    error::{CapacityError, ProtocolError},
};

use super::{
    inbound::Inbound,
    state::{Action, Rules, Session, published},
};
use crate::{
    broker::{PublishError, Unavailable},
    config::Config,
    hub::{Client, Hub, Membership},
    protocol::{Channel, CloseCode, MessageId, Rejection, RoomId, Username},
    room::Position,
    telemetry::Metrics,
};

/// A WebSocket ping without a payload, as it goes over the socket.
const PING: &[u8] = &[0x89, 0];

/// How long a closed connection waits for the client's close frame, and for the end of what it sends.
const LINGER: Duration = Duration::from_secs(1);

/// What a connection needs of its server, made once and shared by all.
#[derive(Debug)]
pub struct Connection {
    hub: Arc<Hub>,
    rules: Rules,
    max_frame: usize,
    write_timeout: Duration,
    ping_interval: Duration,
    metrics: Arc<Metrics>,
}

/// Why the loop of a connection ended.
enum End {
    /// The server closes it.
    Close(CloseCode),
    /// The client closed it, with a close frame.
    Closed,
    /// It broke.
    Lost,
}

/// Something that is under way outside for this client. There is one at a time, and the next frame is not read
/// before it has ended: this keeps the order of a client's messages, and slows a client that sends faster than
/// they are kept. What waits for the client is written all the while.
enum Outcome {
    Joined(RoomId, Username, Result<Membership, Unavailable>),
    Published(Channel, Option<MessageId>, Result<Option<Position>, PublishError>),
}

type Pending = Option<BoxFuture<'static, Outcome>>;

impl Connection {
    /// What every connection to this hub goes by.
    pub fn new(hub: Arc<Hub>, config: &Config, metrics: Arc<Metrics>) -> Self {
        Self {
            rules: Rules::new(hub.origin_server(), config),
            hub,
            max_frame: config.max_frame_bytes,
            write_timeout: config.write_timeout,
            ping_interval: config.ping_interval,
            metrics,
        }
    }

    /// Serves one client until either side closes. `unread` is what it has sent already. What the client was a
    /// member of, it has left when this returns, and also if the future is dropped.
    pub async fn serve(self: Arc<Self>, stream: TcpStream, unread: Bytes) {
        self.metrics.connections.inc();
        let (receiving, sending) = stream.into_split();
        let (client, broadcasts) = self.hub.connect(sending);
        let inbound = Inbound::new(receiving, unread, client.outbox().clone(), self.max_frame);
        let mut serving = Serving {
            client: Arc::new(client),
            heartbeat: heartbeat(self.ping_interval),
            silent_beats: 0,
            session: Session::default(),
            memberships: vec![broadcasts],
            pending: None,
            inbound,
            server: self.clone(),
        };
        let end = serving.run().await;
        // Boxed, as it is large and most of a connection's life it is not needed.
        Box::pin(serving.close(end)).await;
    }
}

struct Serving {
    server: Arc<Connection>,
    inbound: Inbound,
    client: Arc<Client>,
    session: Session,
    memberships: Vec<Membership>,
    pending: Pending,
    heartbeat: Interval,
    /// How many heartbeats ago something came from the client.
    silent_beats: u32,
}

impl Serving {
    async fn run(&mut self) -> End {
        loop {
            let result = tokio::select! {
                code = self.client.outbox().attend(self.server.write_timeout) => Err(code.map_or(End::Lost, End::Close)),
                outcome = ended(&mut self.pending) => {
                    self.pending = None;
                    self.conclude(outcome);
                    Ok(())
                }
                message = self.inbound.next(), if self.pending.is_none() => self.receive(message),
                _ = self.heartbeat.tick() => self.beat(),
            };
            if let Err(end) = result {
                return end;
            }
        }
    }

    fn receive(&mut self, message: Result<Message, Error>) -> Result<(), End> {
        self.silent_beats = 0;
        match message.map_err(|error| broken(&error))? {
            Message::Text(text) => {
                self.server.metrics.messages_received.inc();
                self.act(&text);
                Ok(())
            }
            Message::Binary(_) => {
                self.server.metrics.messages_received.inc();
                Err(End::Close(CloseCode::Binary))
            }
            Message::Close(_) => Err(End::Closed),
            // A ping has been answered already.
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(()),
        }
    }

    /// Does what the session says about a text frame.
    fn act(&mut self, text: &str) {
        match self.session.receive(text, &self.server.rules) {
            Ok(Action::Reply(frame)) => self.client.outbox().push(&frame),
            Ok(Action::Join(room, username, history)) => {
                let (hub, client) = (self.server.hub.clone(), self.client.clone());
                self.pending = Some(Box::pin(async move {
                    let result = hub.join(&client, &room, history).await;
                    Outcome::Joined(room, username, result)
                }));
            }
            Ok(Action::Leave(room, left)) => {
                self.memberships.retain(|membership| membership.room() != Some(&room));
                self.client.outbox().push(&left);
            }
            Ok(Action::Publish(channel, draft)) => {
                let hub = self.server.hub.clone();
                self.pending = Some(Box::pin(async move {
                    let result = hub.publish(&channel, &draft).await;
                    Outcome::Published(channel, draft.id().cloned(), result)
                }));
            }
            Err(rejection) => self.refuse(&rejection),
        }
    }

    /// Takes the outcome in, and tells the client.
    fn conclude(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Joined(room, username, Ok(membership)) => {
                self.memberships.push(membership);
                self.session.joined(room, username);
            }
            Outcome::Joined(room, _, Err(_)) => self.refuse(&Session::not_joined(room)),
            Outcome::Published(channel, id, result) => match published(&channel, id.as_ref(), &result) {
                Ok(ack) => self.server.hub.answer(&channel, &self.client, ack.as_ref()),
                Err(rejection) => self.refuse(&rejection),
            },
        }
    }

    fn refuse(&self, rejection: &Rejection) {
        self.server.metrics.error_sent(rejection.code);
        self.client.outbox().push(&rejection.encode());
    }

    fn beat(&mut self) -> Result<(), End> {
        // While something is under way nothing is read, so that nothing is heard says nothing.
        if self.pending.is_none() {
            self.silent_beats += 1;
        }
        if self.silent_beats > 2 {
            return Err(End::Close(CloseCode::Idle));
        }
        self.client.outbox().push_control(Bytes::from_static(PING));
        Ok(())
    }

    /// Finishes what is under way, leaves everything, writes what still waits, and says goodbye.
    async fn close(mut self, end: End) {
        let outbox = self.client.outbox().clone();
        // Whoever waits to send something to the client need wait no longer.
        outbox.close(CloseCode::Normal);
        // A message that was taken is published even if its sender has gone; the broker's deadline bounds this.
        if let Some(pending) = self.pending.take() {
            let outcome = tokio::select! {
                outcome = pending => outcome,
                never = outbox.keep_writing() => match never {},
            };
            self.conclude(outcome);
        }
        self.memberships.clear();
        let code = match end {
            End::Close(code) => {
                let code = if outbox.has_overflowed() { CloseCode::SlowConsumer } else { code };
                // Answers to what came before a bad frame still wait. A slow client could not take them in time.
                outbox.end(code == CloseCode::SlowConsumer);
                self.inbound.say_goodbye(code);
                Some(code)
            }
            End::Closed => {
                outbox.end(false);
                Some(CloseCode::Normal)
            }
            End::Lost => None,
        };
        self.server.metrics.disconnected(code);
        if code.is_some() {
            let _ = timeout(self.server.write_timeout, outbox.drained()).await;
            // A system resets a connection that is closed while the client still sends, and the reset takes from the
            // client what it has not read yet: the close frame that would have told it why.
            let _ = timeout(LINGER, async {
                while self.inbound.next().await.is_ok() {}
                // The answer to the client's close frame may still wait.
                outbox.drained().await;
                outbox.shut();
                self.inbound.drained().await;
            })
            .await;
        }
        outbox.shut();
    }
}

/// What an error of the socket means for the client.
fn broken(error: &Error) -> End {
    match error {
        Error::Capacity(CapacityError::MessageTooLong { .. }) => End::Close(CloseCode::TooBig),
        Error::Utf8(_) => End::Close(CloseCode::NotUtf8),
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => End::Lost,
        Error::Capacity(_) | Error::Protocol(_) => End::Close(CloseCode::ProtocolError),
        _ => End::Lost,
    }
}

async fn ended(pending_outcome: &mut Pending) -> Outcome {
    match pending_outcome {
        Some(outcome) => outcome.await,
        None => pending().await,
    }
}

/// Beats at a random phase, so that the pings of clients that came together do not go out together.
fn heartbeat(period: Duration) -> Interval {
    let mut heartbeat = interval_at(Instant::now() + period.mul_f64(rand::random_range(0.5..1.0)), period);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat
}
