//! How a publication gets its place in the order, is kept, and reaches the other servers.
//!
//! [`Broker`] is the contract; [`RedisBroker`] keeps it between servers and [`MemoryBroker`] within one process. A
//! broker knows channels and bytes, and nothing about members or sockets. It hands what it hears to a [`Listener`].

mod diagnosis;
mod interest;
mod memory;
mod moderation;
mod redis;

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio_util::sync::CancellationToken;

pub use self::{
    diagnosis::{Cause, Diagnosis},
    memory::MemoryBroker,
    moderation::{FOR_EVER, MOST_RULES, Rule},
    redis::{BadUrl, ClientCertificate, Options as RedisOptions, RedisBroker},
};
use crate::{
    access::Rate,
    order::{LogSlice, Past, Publication, ReadFrom},
    protocol::{Channel, Draft, Frame, Position, RoomId, Stamp, Username},
};

/// Most entries in one page of a log.
const READ_LIMIT: usize = 256;

/// About the most bytes in one page of a log. A page always has two entries if there are two: the one at the position,
/// and one more.
const READ_BYTES: usize = 256 << 10;

/// How long a channel without messages keeps its epoch after the last reading.
const EMPTY_META: Duration = Duration::from_secs(10 * 60);

/// How much longer a channel keeps its epoch and top than its log and ids. A client that comes back to a silent room
/// within this time learns, correctly, that it missed nothing.
const META_SLACK: Duration = Duration::from_secs(3600);

/// Orders, keeps and carries publications. All methods may be called from any task.
pub trait Broker: Send + Sync + 'static {
    /// Listens on exactly the channels that `listener` wants, and tells it what it hears, until `stop`. Call it once.
    /// It survives the loss of its connection and ends only on `stop`.
    fn listen(self: Arc<Self>, listener: Arc<dyn Listener>, stop: CancellationToken) -> BoxFuture<'static, ()>;

    /// Says that [`Listener::wants`] may have a new answer for this channel. Never blocks; several calls for one
    /// channel may be answered together. If the channel is wanted, [`Listener::subscribed`] follows after this call,
    /// even if the channel was subscribed before.
    fn interest_changed(&self, channel: Channel);

    /// Gives a draft its place, keeps it, and sends it to the servers that listen. `known` is the highest position of
    /// the channel that this server knows of: a log behind it was wound back, and starts a new epoch.
    ///
    /// Every call ends within the command timeout. After [`PublishError::Unavailable`] the draft may have been kept;
    /// publishing it again with the same id is safe. Dropping the future is like a timeout.
    fn publish<'a>(
        &'a self,
        channel: &'a Channel,
        draft: &'a Draft,
        known: Option<Position>,
    ) -> BoxFuture<'a, Result<Published, PublishError>>;

    /// Sends a frame to the servers that listen, with no place in the order and without keeping it.
    ///
    /// # Errors
    /// If Redis did not confirm it within the command timeout.
    fn send<'a>(&'a self, channel: &'a Channel, frame: &'a Frame) -> BoxFuture<'a, Result<(), Unavailable>>;

    /// Sends a draft of a speaker to the servers that listen, with no place in the order and without keeping it, if the
    /// speaker may speak in the room. Slow mode does not apply. Returns the frame for this server's members.
    ///
    /// # Errors
    /// Why it was not sent, or if Redis did not confirm it within the command timeout.
    fn signal<'a>(&'a self, channel: &'a Channel, draft: &'a Draft) -> BoxFuture<'a, Result<Frame, PublishError>>;

    /// Brings a server that follows a channel up to date: reads a page of the log from the server's position, or,
    /// without a position, only the log's top. Begins an epoch for a channel that has none, so that there is a position
    /// to start from, and a new one if [`ReadFrom`] says so.
    ///
    /// # Errors
    /// [`RecoverError::Overloaded`] if the channel has no epoch and cannot get one now. A failed or late call affects
    /// neither publishing nor other calls.
    fn recover<'a>(
        &'a self,
        channel: &'a Channel,
        from: Option<ReadFrom>,
    ) -> BoxFuture<'a, Result<LogSlice<Frame>, RecoverError>>;

    /// Reads a page of the log: bounded in entries and in bytes, with at least one entry if there is one. If the log
    /// has the position's epoch, the page begins with the entry at the position, else with the log's first. Changes
    /// nothing; `None` if there is no log.
    ///
    /// # Errors
    /// As with [`recover`](Self::recover), a failed call affects no other.
    fn read<'a>(
        &'a self,
        channel: &'a Channel,
        from: Position,
    ) -> BoxFuture<'a, Result<Option<LogSlice<Frame>>, Unavailable>>;

    /// Reads the part of the log that ends right before a position, or at its end: at most `limit` entries, and bounded in
    /// bytes, with at least one entry if there is one. Changes nothing; `None` if there is no log.
    ///
    /// # Errors
    /// As with [`recover`](Self::recover), a failed call affects no other.
    fn read_back<'a>(
        &'a self,
        channel: &'a Channel,
        before: Option<Position>,
        limit: u64,
    ) -> BoxFuture<'a, Result<Option<Past<Frame>>, Unavailable>>;

    /// Looks up the top of each channel's log and when it was written; `None` for a channel without a log. Each channel
    /// has its own answer: broken keys of one do not affect the others.
    ///
    /// # Errors
    /// If no answer came at all.
    fn tops<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<Vec<LookedUp>, Unavailable>>;

    /// Changes what holds for the speakers of a room. From then on, [`publish`](Self::publish) and
    /// [`banned`](Self::banned) keep to it, whichever server asks. Without history, nothing holds for speakers.
    ///
    /// # Errors
    /// If the room has [`MOST_RULES`] already, or Redis did not answer within the command timeout.
    fn moderate<'a>(&'a self, room: &'a RoomId, rule: Rule) -> BoxFuture<'a, Result<(), ModerateError>>;

    /// Until when this user may not enter this room, in Unix milliseconds; `None` if it may.
    ///
    /// # Errors
    /// If Redis did not answer within the command timeout.
    fn banned<'a>(&'a self, room: &'a RoomId, user: &'a Username) -> BoxFuture<'a, Result<Option<u64>, Unavailable>>;

    /// Changes what holds on all servers. When this returns, the [`Listener`] of this server has been told; those of the
    /// others are told in the same moment, or as soon as they reach Redis again.
    ///
    /// # Errors
    /// If Redis did not answer within the command timeout.
    fn proclaim<'a>(&'a self, changes: &'a [Proclaimed]) -> BoxFuture<'a, Result<(), Unavailable>>;

    /// Takes this much from a purse that all servers share, if it is left. Returns how long it takes until it is, if it is
    /// not.
    ///
    /// # Errors
    /// If Redis did not answer within the command timeout.
    fn spend<'a>(
        &'a self,
        purse: &'a str,
        rate: Rate,
        cost: f64,
    ) -> BoxFuture<'a, Result<Option<Duration>, Unavailable>>;

    /// Asks all servers, this one too, each by [`Listener::asked`], and waits until all have answered that should be there, but
    /// only for some seconds.
    ///
    /// # Errors
    /// If the broker is away.
    fn ask<'a>(&'a self, question: &'a str) -> BoxFuture<'a, Result<Answers, Unavailable>>;

    /// Its kind: `redis` or `memory`.
    fn kind(&self) -> &'static str;

    /// Everything that now keeps this broker from carrying messages; empty if all is well.
    fn troubles(&self) -> Vec<Trouble>;

    /// What is wrong with Redis now, for operators; `None` if nothing is, or if this broker has no Redis. A Redis that is
    /// nearly full is wrong too, although it carries messages.
    fn diagnosis(&self) -> Option<Diagnosis>;
}

/// Receives what a broker hears. Several tasks call its methods, [`heard`](Self::heard) one at a time; they must not
/// block.
pub trait Listener: Send + Sync + 'static {
    /// Whether this channel should be subscribed now.
    fn wants(&self, channel: &Channel) -> bool;

    /// Every channel that should be subscribed now.
    fn wanted(&self) -> Vec<Channel>;

    /// From now on, and while the connection holds, everything that is published on the channel will be heard. What was
    /// published before may have been missed.
    fn subscribed(&self, channel: &Channel);

    /// Redis does not allow this channel, although it is wanted. The broker tries again after a while for as long as it
    /// is wanted; [`subscribed`](Self::subscribed) follows if that succeeds.
    fn refused(&self, channel: &Channel);

    /// Somebody published on the channel: another server, this one, or one that is not roomcast. `is_vouched` says that
    /// the broker itself gave it its place: these are the bytes in its log. In anything else, the position is only a
    /// claim.
    fn heard(&self, channel: &Channel, payload: Bytes, is_vouched: bool);

    /// All that was proclaimed and still holds on all servers, each with its end in Unix milliseconds. Called again when
    /// that changes.
    fn sanctioned(&self, all: &[(String, u64)]);

    /// A server asks this. Without an answer, this server counts as missing there.
    fn asked(&self, question: &str) -> Option<String>;

    /// Whether this text, which was proclaimed, must be put back if Redis forgets it.
    fn outlives(&self, text: &str) -> bool;
}

/// What servers said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answers {
    /// Each with the server's name.
    pub answers: Vec<(String, String)>,
    /// The servers that gave a sign of life not long ago and did not answer.
    pub missing: Vec<String>,
}

/// A text that holds on all servers until a time in Unix milliseconds, or without a time no longer does.
pub type Proclaimed = (String, Option<u64>);

/// The answer for one channel's top.
pub type LookedUp = Result<Option<Stamp>, Unavailable>;

/// The answer to a draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// It has its place and is on its way to the other servers. This server's members get this frame.
    New(Publication<Frame>),
    /// Its id was known: it already had this place.
    Repeated(Position),
}

/// Why a draft was refused.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The id belongs to another message.
    #[error("the id belongs to another message")]
    IdConflict,
    /// It would be the first message of a new room, and there is no space for new rooms now.
    #[error("the broker accepts no new rooms at the moment")]
    Overloaded,
    /// Its sender may not speak in this room until then, in Unix milliseconds.
    #[error("the sender is muted")]
    Muted(u64),
    /// Its sender may neither enter nor speak in this room until then.
    #[error("the sender is banned")]
    Banned(u64),
    /// Its sender has to wait so long, as the room is slow.
    #[error("the room is slow")]
    SlowMode(Duration),
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a rule does not hold.
#[derive(Debug, thiserror::Error)]
pub enum ModerateError {
    /// The room has as many rules as it may.
    #[error("the room has as many rules as it may")]
    Full,
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a server could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// It would be a new room, and there is no space for new rooms now.
    #[error("the broker accepts no new rooms at the moment")]
    Overloaded,
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The broker did not answer, or not in time. It may or may not have done what it was asked.
#[derive(Debug, thiserror::Error)]
#[error("the broker is not available: {0}")]
pub struct Unavailable(pub String);

/// Why a server is not ready, in the words of `/readyz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// Redis does not answer commands.
    RedisUnreachable,
    /// The subscriber has no connection.
    SubscriberDisconnected,
    /// The subscriber is connected, but not yet subscribed to everything.
    SubscriptionsMissing,
    /// The subscriber has not heard its own probe.
    SubscriberProbeFailed,
    /// It is not known yet who is revoked or muted everywhere.
    SanctionsUnknown,
}

/// How much of each channel to keep, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Entries in the log.
    length: usize,
    /// Age of an entry in the log.
    age: Duration,
    /// Size of the log.
    bytes: usize,
    /// Age of a message id.
    ids: Duration,
    /// How long the epoch and the top outlive the last reading or comparison; after a publication it is a little less.
    meta: Duration,
}

impl Retention {
    /// How much to keep of each channel: messages, their age, their bytes, and the age of their ids.
    pub fn new(length: usize, age: Duration, bytes: usize, ids: Duration) -> Self {
        // In Redis, only the first publication in each sixteenth of the log's age prolongs it.
        let meta = age.max(ids) + META_SLACK + age / 16;
        Self { length, age, bytes, ids, meta }
    }
}

/// The time now, in milliseconds since 1970.
pub(crate) fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
