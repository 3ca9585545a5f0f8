use std::{future::pending, pin::pin, sync::Arc, time::Duration};

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use futures_util::{SinkExt, StreamExt, future::BoxFuture};
use prometheus::IntGauge;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at, timeout};

use super::state::{Action, Rules, Session, published};
use crate::{
    broker::{PublishError, Unavailable},
    config::Config,
    hub::{Client, Hub, Membership, Waiting},
    protocol::{Channel, CloseCode, Frame, MessageId, Rejection, RoomId, Username},
    room::Position,
    telemetry::Metrics,
};

/// How long a closed connection waits for the client's close frame.
const LINGER: Duration = Duration::from_secs(1);

/// What a connection needs of its server, made once and shared by all.
#[derive(Debug)]
pub struct Connection {
    hub: Arc<Hub>,
    rules: Rules,
    write_timeout: Duration,
    ping_interval: Duration,
    metrics: Arc<Metrics>,
}

/// A place among the connected clients, which is free again when it is dropped.
#[derive(Debug)]
pub struct Connected(IntGauge);

impl Connected {
    /// Takes a place.
    pub fn new(metrics: &Metrics) -> Self {
        metrics.connected_clients.inc();
        Self(metrics.connected_clients.clone())
    }

    /// How many places are taken, this one included.
    pub fn count(&self) -> usize {
        usize::try_from(self.0.get()).unwrap_or(0)
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
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
            write_timeout: config.write_timeout,
            ping_interval: config.ping_interval,
            metrics,
        }
    }

    /// Serves one client until either side closes. What the client was a member of, it has left when this
    /// returns, and also if the future is dropped.
    pub async fn serve(self: Arc<Self>, socket: WebSocket, connected: Connected) {
        self.metrics.connections.inc();
        let mut serving = Serving {
            client: Arc::new(self.hub.connect()),
            heartbeat: heartbeat(self.ping_interval),
            silent_beats: 0,
            session: Session::default(),
            memberships: Vec::new(),
            pending: None,
            socket,
            server: self.clone(),
        };
        let end = serving.run().await;
        // Boxed, as it is large and most of a connection's life it is not needed.
        Box::pin(serving.close(end)).await;
        drop(connected);
    }
}

struct Serving {
    server: Arc<Connection>,
    socket: WebSocket,
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
                waiting = self.client.outbox().next() => match waiting {
                    Waiting::Frames(frames) => self.write(frames).await,
                    Waiting::Close(code) => Err(End::Close(code)),
                },
                outcome = ended(&mut self.pending) => {
                    self.pending = None;
                    self.conclude(outcome);
                    Ok(())
                }
                message = self.socket.next(), if self.pending.is_none() => self.receive(message).await,
                _ = self.heartbeat.tick() => self.beat().await,
            };
            if let Err(end) = result {
                return end;
            }
        }
    }

    async fn receive(&mut self, message: Option<Result<Message, axum::Error>>) -> Result<(), End> {
        self.silent_beats = 0;
        match message {
            Some(Ok(Message::Text(text))) => {
                self.server.metrics.messages_received.inc();
                self.act(&text);
                Ok(())
            }
            Some(Ok(Message::Binary(_))) => {
                self.server.metrics.messages_received.inc();
                Err(End::Close(CloseCode::Binary))
            }
            // The answer is in the socket's buffer already and has to be sent on its way.
            Some(Ok(Message::Ping(_))) => self.within_write_timeout(async |socket| socket.flush().await).await,
            Some(Ok(Message::Pong(_))) => Ok(()),
            Some(Ok(Message::Close(_))) => Err(End::Closed),
            Some(Err(error)) => Err(broken(error)),
            None => Err(End::Lost),
        }
    }

    /// Does what the session says about a text frame.
    fn act(&mut self, text: &str) {
        match self.session.receive(text, &self.server.rules) {
            Ok(Action::Reply(frame)) => self.client.outbox().push(frame),
            Ok(Action::Join(room, username, history)) => {
                let (hub, client) = (self.server.hub.clone(), self.client.clone());
                self.pending = Some(Box::pin(async move {
                    let result = hub.join(&client, &room, history).await;
                    Outcome::Joined(room, username, result)
                }));
            }
            Ok(Action::Leave(room, left)) => {
                self.memberships.retain(|membership| membership.room() != Some(&room));
                self.client.outbox().push(left);
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
        let answer = match outcome {
            Outcome::Joined(room, username, Ok(membership)) => {
                self.memberships.push(membership);
                self.session.joined(room, username);
                Ok(None)
            }
            Outcome::Joined(room, _, Err(_)) => Err(Session::not_joined(room)),
            Outcome::Published(channel, id, result) => published(&channel, id.as_ref(), &result),
        };
        match answer {
            Ok(Some(frame)) => self.client.outbox().push(frame),
            Ok(None) => {}
            Err(rejection) => self.refuse(&rejection),
        }
    }

    fn refuse(&self, rejection: &Rejection) {
        self.server.metrics.error_sent(rejection.code);
        self.client.outbox().push(rejection.encode());
    }

    /// Writes all that waits in one go.
    async fn write(&mut self, frames: Vec<Frame>) -> Result<(), End> {
        let count = frames.len() as u64;
        self.within_write_timeout(async |socket| {
            for frame in frames {
                let text = Utf8Bytes::try_from(frame.into_bytes()).map_err(axum::Error::new)?;
                socket.feed(Message::Text(text)).await?;
            }
            socket.flush().await
        })
        .await?;
        self.server.metrics.messages_sent.inc_by(count);
        Ok(())
    }

    async fn beat(&mut self) -> Result<(), End> {
        // While something is under way nothing is read, so that nothing is heard says nothing.
        if self.pending.is_none() {
            self.silent_beats += 1;
        }
        if self.silent_beats > 2 {
            return Err(End::Close(CloseCode::Idle));
        }
        self.within_write_timeout(async |socket| socket.send(Message::Ping("".into())).await).await
    }

    /// Writes, and meanwhile lets what is under way go on: a client that reads slowly must not hold up the room that
    /// its message goes to.
    async fn within_write_timeout(
        &mut self,
        write: impl AsyncFnOnce(&mut WebSocket) -> Result<(), axum::Error>,
    ) -> Result<(), End> {
        let Self { server, socket, pending, .. } = self;
        let mut concluded = None;
        let written = {
            let mut writing = pin!(timeout(server.write_timeout, write(socket)));
            loop {
                tokio::select! {
                    biased;
                    written = writing.as_mut() => break written,
                    outcome = ended(pending) => {
                        *pending = None;
                        concluded = Some(outcome);
                    }
                }
            }
        };
        if let Some(outcome) = concluded {
            self.conclude(outcome);
        }
        match written {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Lost),
            Err(_) => Err(End::Close(CloseCode::SlowConsumer)),
        }
    }

    /// Finishes what is under way, leaves everything, writes what still waits, and says goodbye.
    async fn close(mut self, end: End) {
        // Whoever waits for room in the outbox need wait no longer.
        self.client.outbox().close(CloseCode::Normal);
        // A message that was taken is published even if its sender has gone; the broker's deadline bounds this.
        if let Some(pending) = self.pending.take() {
            let outcome = pending.await;
            self.conclude(outcome);
        }
        self.memberships.clear();
        let rest = self.client.outbox().finish();
        let code = match end {
            End::Close(code) => {
                // Answers to what came before a bad frame are among these. A slow client could not take them in time.
                let rest = if code == CloseCode::SlowConsumer { Vec::new() } else { rest };
                if self.write(rest).await.is_ok() {
                    let goodbye = CloseFrame { code: code.code(), reason: code.reason().into() };
                    let send = async |socket: &mut WebSocket| socket.send(Message::Close(Some(goodbye))).await;
                    let _ = self.within_write_timeout(send).await;
                }
                Some(code)
            }
            End::Closed => Some(CloseCode::Normal),
            End::Lost => None,
        };
        self.server.metrics.disconnected(code);
        // After an error the socket has nothing more to read, and this ends at once.
        if code.is_some() {
            let _ = timeout(LINGER, async { while let Some(Ok(_)) = self.socket.next().await {} }).await;
        }
    }
}

/// What an error of the socket means for the client.
fn broken(error: axum::Error) -> End {
    use tungstenite::error::{CapacityError, Error, ProtocolError};

    let error = error.into_inner().downcast::<Error>();
    match error.as_deref() {
        Ok(Error::Capacity(CapacityError::MessageTooLong { .. })) => End::Close(CloseCode::TooBig),
        Ok(Error::Utf8(_)) => End::Close(CloseCode::NotUtf8),
        Ok(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => End::Lost,
        Ok(Error::Capacity(_) | Error::Protocol(_)) => End::Close(CloseCode::ProtocolError),
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
