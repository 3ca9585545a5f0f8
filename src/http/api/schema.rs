//! What goes in and out, as the OpenAPI document describes it.

use serde::Serialize;
use serde_json::Value;
use utoipa::{IntoResponses, ToSchema};

use crate::protocol::{Frame, MessageId, RoomId, Username};

/// Something to say: a text, data or both.
#[derive(Debug, ToSchema)]
#[allow(dead_code, reason = "it only describes what `Post` reads")]
pub(super) struct NewMessage {
    /// Who says it. A back end may leave it out; with a token it is the token's user.
    username: Option<String>,
    /// For people.
    text: Option<String>,
    /// For programs: any JSON, kept byte for byte.
    data: Option<Value>,
    /// What kind of message it is.
    #[schema(min_length = 1, max_length = 64)]
    event: Option<String>,
    /// Makes it safe to send this again: the same id makes one message.
    #[schema(min_length = 1, max_length = 128)]
    id: Option<String>,
}

/// Something that is not kept.
#[derive(Debug, ToSchema)]
#[allow(dead_code, reason = "it only describes what `Post` reads")]
pub(super) struct NewSignal {
    /// Who it is of. A back end may leave it out; with a token it is the token's user.
    username: Option<String>,
    /// What kind of signal it is.
    #[schema(min_length = 1, max_length = 64)]
    event: String,
    /// Any JSON.
    data: Option<Value>,
}

/// The same for many rooms.
#[derive(Debug, ToSchema)]
#[allow(dead_code, reason = "it only describes what is read")]
pub(super) struct NewMessages {
    #[schema(min_items = 1, max_items = 100)]
    rooms: Vec<String>,
    #[schema(inline)]
    #[serde(flatten)]
    message: NewMessage,
}

/// A message with its room.
#[derive(Debug, ToSchema)]
#[allow(dead_code, reason = "it only describes what is read")]
pub(super) struct NewRoomMessage {
    room: String,
    #[schema(inline)]
    #[serde(flatten)]
    message: NewMessage,
}

/// Many messages.
#[derive(Debug, ToSchema)]
#[allow(dead_code, reason = "it only describes what is read")]
pub(super) struct NewBatch {
    #[schema(min_items = 1, max_items = 100)]
    messages: Vec<NewRoomMessage>,
}

/// What became of a message. Without history it has no place.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Kept {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(super) room: Option<RoomId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub(super) id: Option<MessageId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) epoch: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seq: Option<u64>,
    /// When it got its place, in milliseconds since 1970; absent of a duplicate that the log no longer has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ts: Option<u64>,
    /// Whether it was kept before, so that this made no second message.
    pub(super) duplicate: bool,
}

/// For each item, what became of it ([`Kept`]) or why it failed ([`ProblemBody`]).
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Results {
    pub(super) results: Vec<Value>,
}

/// Which connections end.
#[derive(Debug, ToSchema)]
#[allow(dead_code, reason = "it only describes what is read")]
pub(super) struct Disconnect {
    /// The id of the only one; without it, all of the user's do.
    connection: Option<String>,
}

/// A page of the rooms that have members.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RoomList {
    /// By their names.
    pub(super) rooms: Vec<RoomCount>,
    /// Where the next page begins; absent on the last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cursor: Option<String>,
    /// The servers that did not answer, whose members are not counted.
    pub(super) missing: Vec<String>,
}

/// A room, and how many connections are its members.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RoomCount {
    pub(super) room: String,
    pub(super) members: usize,
}

/// What is known of a room.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RoomState {
    #[schema(value_type = String)]
    pub(super) room: RoomId,
    /// How many connections are its members.
    pub(super) members: usize,
    /// Absent if it has no log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) epoch: Option<String>,
    /// The number of its last message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) seq: Option<u64>,
    /// The servers that did not answer, whose members are not counted.
    pub(super) missing: Vec<String>,
}

/// Who is in a room.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MemberList {
    #[schema(value_type = String)]
    pub(super) room: RoomId,
    /// How many connections are its members.
    pub(super) count: usize,
    /// By their names.
    pub(super) users: Vec<UserCount>,
    /// Whether there are more users.
    pub(super) has_more: bool,
    /// The servers that did not answer, whose members are not here.
    pub(super) missing: Vec<String>,
}

/// A user, and how many of its connections are in the room.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UserCount {
    pub(super) username: String,
    pub(super) connections: usize,
}

/// The connections of a user.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UserState {
    #[schema(value_type = String)]
    pub(super) username: Username,
    pub(super) connections: Vec<ConnectionState>,
    /// The servers that did not answer, whose connections are not here.
    pub(super) missing: Vec<String>,
}

/// A connection, and the rooms that it is in.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ConnectionState {
    pub(super) id: String,
    pub(super) rooms: Vec<String>,
}

/// The servers that share this Redis.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ServerList {
    pub(super) servers: Vec<ServerState>,
    /// Those that lived not long ago and did not answer.
    pub(super) missing: Vec<String>,
}

/// A server.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ServerState {
    pub(super) name: String,
    pub(super) clients: usize,
    /// How many rooms have members there.
    pub(super) rooms: usize,
    pub(super) version: String,
    /// Since when it runs, in milliseconds since 1970.
    pub(super) since: u64,
}

/// What was said in a room, in rising order.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct History {
    #[schema(value_type = String)]
    pub(super) room: RoomId,
    /// Absent if the room has no log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) epoch: Option<String>,
    #[schema(value_type = Vec<Value>)]
    pub(super) messages: Vec<Frame>,
    /// Whether there are more in the direction of the reading.
    pub(super) has_more: bool,
    /// With `after`: whether some that followed it are gone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gap: Option<bool>,
}

/// How long a measure lasts.
#[derive(Debug, ToSchema)]
#[allow(dead_code, reason = "it only describes what is read")]
pub(super) struct Lasting {
    /// Without it, until it is taken back.
    #[schema(minimum = 1, maximum = 315_360_000)]
    seconds: Option<u64>,
}

/// The pause of a slow room.
#[derive(Debug, ToSchema)]
#[allow(dead_code, reason = "it only describes what is read")]
pub(super) struct SlowMode {
    /// 0 ends it.
    #[schema(maximum = 86_400)]
    seconds: u64,
}

/// Who must leave.
#[derive(Debug, ToSchema)]
#[allow(dead_code, reason = "it only describes what is read")]
pub(super) struct Kick {
    username: String,
}

/// Which tokens are revoked: one of these.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "it only describes what is read")]
pub(super) enum Revocation {
    /// The token with this `jti`.
    Token {
        #[schema(min_length = 1)]
        jti: String,
    },
    /// All of this user that were issued until now.
    User { user: String },
    /// All that were issued before this time, in seconds since 1970.
    IssuedBefore { issued_before: u64 },
}

/// Why a call failed: `application/problem+json` (RFC 9457).
#[derive(Debug, ToSchema)]
#[allow(dead_code, reason = "it only describes what `Problem` writes")]
pub(super) struct ProblemBody {
    r#type: String,
    title: String,
    status: u16,
    /// For programs, from a closed list.
    code: String,
    detail: String,
    id: Option<String>,
    room: Option<String>,
    right: Option<String>,
    retry_after_ms: Option<u64>,
}

/// What every call may answer.
#[derive(Debug, IntoResponses)]
#[allow(dead_code, reason = "it only describes the answers")]
pub(super) enum Answer {
    /// Something in the call is not as it must be.
    #[response(status = 400, content_type = "application/problem+json")]
    Bad(#[to_schema] ProblemBody),
    /// There is no key and no token, or one that is refused.
    #[response(status = 401, content_type = "application/problem+json")]
    Unauthorized(#[to_schema] ProblemBody),
    /// The key or the token does not allow this, or the speaker is muted or banned.
    #[response(status = 403, content_type = "application/problem+json")]
    Forbidden(#[to_schema] ProblemBody),
    /// The id belongs to another message.
    #[response(status = 409, content_type = "application/problem+json")]
    Conflict(#[to_schema] ProblemBody),
    /// The text and data, or the body, are too long.
    #[response(status = 413, content_type = "application/problem+json")]
    TooLarge(#[to_schema] ProblemBody),
    /// The body is not JSON.
    #[response(status = 415, content_type = "application/problem+json")]
    Unsupported(#[to_schema] ProblemBody),
    /// Too fast, or the room is slow.
    #[response(status = 429, content_type = "application/problem+json")]
    TooFast(#[to_schema] ProblemBody),
    /// Redis is away or full: try again after `Retry-After`.
    #[response(status = 503, content_type = "application/problem+json")]
    Away(#[to_schema] ProblemBody),
}
