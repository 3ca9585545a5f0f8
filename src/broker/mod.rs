//! How a publication gets its place in the order, is kept, and reaches the other servers.
//!
//! [`Broker`] is the contract; [`RedisBroker`] keeps it between servers and [`MemoryBroker`] within one process.
//! A broker knows channels and bytes, and nothing of members or sockets: what it hears it hands to a [`Listener`].

mod interest;
mod memory;
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
    memory::MemoryBroker,
    redis::{BadUrl, Options as RedisOptions, RedisBroker},
};
use crate::{
    order::{LogSlice, Publication, ReadFrom},
    protocol::{Channel, Draft, Frame, Position, Stamp},
};

/// Most entries that one reading of a log returns.
const READ_LIMIT: usize = 256;

/// About how many bytes one reading of a log returns at most. It returns two entries in any case, if there are: the one at
/// the position, and one more.
const READ_BYTES: usize = 256 << 10;

/// How long the epoch of a channel without messages outlives the last reading.
const EMPTY_META: Duration = Duration::from_secs(10 * 60);

/// How much longer than its log and its ids the epoch and the top of a channel are kept. A client that comes back to
/// a silent room within this time is told rightly that it missed nothing.
const META_SLACK: Duration = Duration::from_secs(3600);

/// Orders, keeps and carries publications. All methods may be called from any task.
pub trait Broker: Send + Sync + 'static {
    /// Listens on exactly the channels that `listener` wants, and tells it what is heard, until `stop`. To be
    /// called once. Loss of the connection is survived; the future ends only on `stop`.
    fn listen(self: Arc<Self>, listener: Arc<dyn Listener>, stop: CancellationToken) -> BoxFuture<'static, ()>;

    /// Says that [`Listener::wants`] may have a new answer for this channel. Never blocks; calls for the same
    /// channel may be taken together. If the channel is wanted, [`Listener::subscribed`] follows, in any case
    /// after this call, also when it had been subscribed before.
    fn interest_changed(&self, channel: Channel);

    /// Gives a draft its place, keeps it, and sends it to the servers that listen. `known` is the highest
    /// position of the channel that this server knows of: a log that is behind it was wound back and starts a
    /// new epoch.
    ///
    /// Every call ends within the command timeout. After [`PublishError::Unavailable`] the draft may have been
    /// kept all the same; publishing it again with the same id is safe. Dropping the future is like a timeout.
    fn publish<'a>(
        &'a self,
        channel: &'a Channel,
        draft: &'a Draft,
        known: Option<Position>,
    ) -> BoxFuture<'a, Result<Published, PublishError>>;

    /// Sends a frame to the servers that listen, with no place in the order and without keeping it.
    ///
    /// # Errors
    /// If it is not known to have been sent within the command timeout.
    fn send<'a>(&'a self, channel: &'a Channel, frame: &'a Frame) -> BoxFuture<'a, Result<(), Unavailable>>;

    /// Brings a server that follows a channel up to date with its log: reads a page of it from where the server stands, or,
    /// without a position, only its top. It begins an epoch for a channel that has none, so that there is a position to
    /// start from, and a new one where [`ReadFrom`] says so.
    ///
    /// # Errors
    /// [`RecoverError::Overloaded`] if the channel has no epoch and gets none at the moment. A call that fails or is late
    /// fails alone: neither publishing nor other calls suffer.
    fn recover<'a>(
        &'a self,
        channel: &'a Channel,
        from: Option<ReadFrom>,
    ) -> BoxFuture<'a, Result<LogSlice<Frame>, RecoverError>>;

    /// Reads a page of the log: a bounded number of entries and of bytes, and one entry at least if there is one. If the
    /// log is of the position's epoch, the page begins with the entry there, else with the log's first. Changes nothing;
    /// `None` if there is no log.
    ///
    /// # Errors
    /// As for [`recover`](Self::recover), it fails alone.
    fn read<'a>(
        &'a self,
        channel: &'a Channel,
        from: Position,
    ) -> BoxFuture<'a, Result<Option<LogSlice<Frame>>, Unavailable>>;

    /// Looks up the top of each channel's log and when it was written; `None` for a channel that has none. Each
    /// channel has its own answer: a fault in the keys of one does not affect the others.
    ///
    /// # Errors
    /// If no answer came at all.
    fn tops<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, Result<Vec<LookedUp>, Unavailable>>;

    /// What it is, in a word: `redis` or `memory`.
    fn kind(&self) -> &'static str;

    /// Everything that keeps this broker from carrying messages at the moment; nothing if all is well.
    fn troubles(&self) -> Vec<Trouble>;
}

/// The one who hears. Its methods are called from several tasks, [`heard`](Self::heard) from one at a time, and must
/// not block.
pub trait Listener: Send + Sync + 'static {
    /// Whether this channel should be subscribed now.
    fn wants(&self, channel: &Channel) -> bool;

    /// Every channel that should be subscribed now.
    fn wanted(&self) -> Vec<Channel>;

    /// From now on all that is published on the channel will be heard, as long as the connection holds. What was
    /// published before may have been missed.
    fn subscribed(&self, channel: &Channel);

    /// The broker may not subscribe to this channel, though it is wanted. It tries again after a while for as long as
    /// the channel is wanted, and [`subscribed`](Self::subscribed) follows if that succeeds.
    fn refused(&self, channel: &Channel);

    /// Something was published on the channel, perhaps by this server itself, perhaps by one that is not
    /// roomcast. `is_vouched` says that the broker itself gave it its place: these are the bytes that its log has. The
    /// position in anything else is a mere claim.
    fn heard(&self, channel: &Channel, payload: Bytes, is_vouched: bool);
}

/// What came of looking up one channel's top.
pub type LookedUp = Result<Option<Stamp>, Unavailable>;

/// What became of a draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// It has its place and is on its way to the other servers. This server's members get the frame from here.
    New(Publication<Frame>),
    /// Its id was known: it had got this place before.
    Repeated(Position),
}

/// Why a draft was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The id belongs to another message.
    #[error("the id belongs to another message")]
    IdConflict,
    /// It would be the first message of a new room, and there is no place for new rooms at the moment.
    #[error("the broker accepts no new rooms at the moment")]
    Overloaded,
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Why a server was not brought up to date with a log.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// It would be a new room, and there is no place for new rooms at the moment.
    #[error("the broker accepts no new rooms at the moment")]
    Overloaded,
    /// See [`Unavailable`].
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// The broker did not answer, or not in time. Whether it did what it was asked to do is not known.
#[derive(Debug, thiserror::Error)]
#[error("the broker is not available: {0}")]
pub struct Unavailable(pub String);

/// Why a server is not ready, as `/readyz` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trouble {
    /// Redis does not answer commands.
    RedisUnreachable,
    /// The subscriber has no connection.
    SubscriberDisconnected,
    /// The subscriber has a connection, but not yet all subscriptions.
    SubscriptionsMissing,
    /// The subscriber has not heard its own test.
    SubscriberProbeFailed,
}

/// How much is kept of each channel, and for how long.
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
    /// How long the epoch and the top outlive the last reading or comparison, and by a little less a publication.
    meta: Duration,
}

impl Retention {
    /// How much to keep of each channel: messages, their age, their bytes, and the age of their ids.
    pub fn new(length: usize, age: Duration, bytes: usize, ids: Duration) -> Self {
        // Not every publication prolongs it in Redis, only the first one in each sixteenth of the log's age.
        let meta = age.max(ids) + META_SLACK + age / 16;
        Self { length, age, bytes, ids, meta }
    }
}

/// What the clock says, in milliseconds since 1970.
pub(crate) fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
