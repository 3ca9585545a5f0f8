use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::{net::TcpStream, time::Instant};

use super::{
    commands::authenticated,
    connection::Connection,
    event_stream::{EventBody, EventStream},
    guest::Guest,
    state::Rules,
};
use crate::{
    access::{Allowance, Door, Pass, Seat, Source, TokenError},
    hub::Hub,
    protocol::{Batch, CloseCode, Dialect, ErrorCode, History, Item, Rejection, RoomId, Username},
    socket::{Bounds, Buffers, End, EventLines, EventOutbox, Inbound, Intake, Outbox, pipe},
    telemetry::{Limit, Metrics},
};

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
    pub(super) hub: Arc<Hub>,
    pub(super) door: Arc<Door>,
    pub(super) options: Options,
    pub(super) metrics: Arc<Metrics>,
}

/// How a client comes in.
#[derive(Debug)]
pub struct Arrival {
    /// With a pass, without one, so that it has to show a token first, or refused.
    pub admission: Result<Option<Arc<Pass>>, Refused>,
    /// From where, if limits by address apply to it.
    pub source: Option<Source>,
    /// Its place among the connections from there.
    pub seat: Option<Seat>,
    /// How its frames are encoded.
    pub dialect: Dialect,
}

/// How a client comes in that listens to a stream of events.
#[derive(Debug)]
pub struct StreamArrival {
    /// What it may do.
    pub pass: Arc<Pass>,
    /// Its name in the rooms, if its pass names nobody.
    pub username: Option<Username>,
    /// The rooms, and what it wants of what was said.
    pub rooms: Vec<(RoomId, History)>,
    /// What is wrong with other rooms that it wanted.
    pub refused: Vec<Rejection>,
    /// Whether the ids of events name the rooms.
    pub names_rooms: bool,
    /// From where it comes, if limits by address apply to it.
    pub source: Option<Source>,
    /// Its place among the connections from there.
    pub seat: Option<Seat>,
}

/// Why a client does not come in, or not under this token.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Its token is refused.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// Its user has as many connections as it may.
    #[error("you have as many connections as one user may; close another one first")]
    TooMany,
}

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
    ///
    /// The future is boxed by itself, as a task that holds it beside what it is made of would need twice the memory for as
    /// long as the client stays.
    pub fn serve(self: Arc<Self>, stream: TcpStream, unread: Bytes, arrival: Arrival) -> BoxFuture<'static, ()> {
        self.metrics.connections.inc();
        self.options.buffers.bound(&stream);
        let (receiving, sending) = stream.into_split();
        let Arrival { admission, source, seat, dialect } = arrival;
        let outbox = Arc::new(Outbox::new(sending, dialect, self.options.bounds.clone()));
        let inbound = Inbound::new(receiving, unread, outbox.clone(), &self.options.intake);
        let admitted =
            admission.and_then(|pass| self.allowance(pass.as_deref(), seat).map(|allowance| (pass, allowance)));
        match admitted {
            Ok((pass, allowance)) => {
                let guest = Guest::new(self, outbox.clone(), pass, source, allowance);
                Connection::new(guest, inbound, outbox).run()
            }
            Err(why) => Box::pin(async move { self.turn_away(&outbox, inbound, &why).await }),
        }
    }

    /// Serves one client with a stream of events, which the body carries, until either side ends it. When the future returns,
    /// or is dropped, the client has left all its rooms.
    ///
    /// # Errors
    /// If the user has as many connections as it may.
    pub fn stream(
        self: Arc<Self>,
        arrival: StreamArrival,
    ) -> Result<(impl Future<Output = ()> + Send + use<>, EventBody), Rejection> {
        let StreamArrival { pass, username, rooms, refused, names_rooms, source, seat } = arrival;
        let allowance = self.allowance(Some(&pass), seat).map_err(|why| self.refusal(&why).1)?;
        self.metrics.connections.inc();
        let places = rooms.iter().map(|(room, history)| match history {
            History::After(position) => (room.clone(), Some(*position)),
            _ => (room.clone(), None),
        });
        let greeting = pass.user.is_some().then(|| Item::Event(authenticated(&pass)));
        let lines = EventLines::new(places.collect(), names_rooms, greeting);
        let (sending, receiving) = pipe();
        let outbox = Arc::new(EventOutbox::new(sending, lines, self.options.bounds.clone()));
        let mut guest = Guest::new(self, outbox.clone(), Some(pass), source, allowance);
        // What greets the client goes out with the first event, once it is sure that there is one.
        guest.answers.clear();
        refused.into_iter().for_each(|why| guest.refuse(why));
        let (stream, body) = EventStream::new(guest, outbox, receiving, username, rooms);
        Ok((stream.run(), body))
    }

    /// Bounds the connection below a stream of events: what the system holds for it, and how long its client may be gone before
    /// that is noticed.
    pub fn bound(&self, connection: &TcpStream) {
        self.options.buffers.bound_for(connection, 2 * self.options.ping_interval);
    }

    /// What a connection may do with this pass that has this place among those from its address.
    fn allowance(&self, pass: Option<&Pass>, seat: Option<Seat>) -> Result<Allowance, Refused> {
        let user = pass.and_then(|pass| pass.user.as_ref());
        let of_user = user.map(|user| self.door.user_seat(user, Instant::now())).transpose();
        let of_user = of_user.map_err(|_| Refused::TooMany)?;
        let mut allowance = self.door.allowance(seat);
        allowance.belongs_to(of_user);
        Ok(allowance)
    }

    /// The pass of whoever shows this token; see [`Door::admit`].
    ///
    /// # Errors
    /// Why the token is refused.
    pub async fn admit(&self, token: &str) -> Result<Arc<Pass>, TokenError> {
        let pass = self.door.admit(token).await?;
        let is_revoked = self.hub.sanctions().revoke(&pass, SystemTime::now());
        if is_revoked { Err(TokenError::Revoked) } else { Ok(pass) }
    }

    /// Tells a client why it is refused, and closes. Browsers do not see the status of an upgrade, so it has been
    /// granted.
    async fn turn_away(&self, outbox: &Outbox, inbound: Inbound, why: &Refused) {
        let (code, rejection) = self.refusal(why);
        self.metrics.error_sent(rejection.code);
        outbox.deliver(&Batch::from(rejection.into_event()));
        let end = End::from(code.unwrap_or(CloseCode::Unauthorized));
        self.metrics.disconnected(end.code());
        inbound.close(&end, self.options.write_timeout).await;
    }

    /// What to tell a client that is refused, and with which code to close, if at all.
    pub(super) fn refusal(&self, why: &Refused) -> (Option<CloseCode>, Rejection) {
        let (close, code) = match why {
            Refused::Token(TokenError::NoKeys) => (None, ErrorCode::Unauthorized),
            Refused::Token(TokenError::KeysAway) => (Some(CloseCode::Overloaded), ErrorCode::Unavailable),
            Refused::Token(TokenError::Expired(_)) => (Some(CloseCode::TokenExpired), ErrorCode::Unauthorized),
            Refused::Token(_) => (Some(CloseCode::Unauthorized), ErrorCode::Unauthorized),
            Refused::TooMany => (Some(CloseCode::TooFast), ErrorCode::RateLimited),
        };
        if matches!(why, Refused::TooMany) {
            self.metrics.limited(Limit::ConnectionsPerUser);
        }
        (close, Rejection::new(code, why.to_string()))
    }
}
