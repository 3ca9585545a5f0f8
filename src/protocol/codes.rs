//! The closed lists of what can go wrong for a client: error codes, reasons of a `reset`, and close codes.

use serde::Serialize;

/// The `code` of an `error` event. An error leaves the socket open and loses nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The frame is not a JSON object.
    BadJson,
    /// `type` is missing, or this server does not know it.
    UnknownType,
    /// A field that this type needs is missing.
    MissingField,
    /// A field is not a string, or one with half of a surrogate pair.
    BadField,
    /// The room id is empty, too long or has characters that are not allowed.
    BadRoom,
    /// The username is blank, too long or has characters that cannot be seen.
    BadUsername,
    /// The message id is empty, too long or has control characters.
    BadId,
    /// The text is longer than the server takes.
    TextTooLong,
    /// `room` is missing, and the client is in no room or in several.
    RoomNeeded,
    /// The sender is not a member of the room.
    NotMember,
    /// This connection is already a member of the room.
    AlreadyMember,
    /// This connection is in as many rooms as the server allows.
    TooManyRooms,
    /// The message id was recently used in this room for another message.
    IdConflict,
    /// The message may not have been kept. Send it again with the same `id`.
    Unavailable,
    /// The room would be new, and there is no space for new rooms now.
    Overloaded,
    /// The connection has to show a token first, or the token that it showed is refused.
    Unauthorized,
    /// The connection's token does not grant the right that this needs.
    Forbidden,
    /// The client is too fast.
    RateLimited,
    /// A moderator has muted the user.
    Muted,
    /// A moderator has banned the user from the room.
    Banned,
    /// The room is slow: the user has to wait before its next message.
    SlowMode,
}

impl ErrorCode {
    /// Every code there is, for documentation, metrics and tests.
    pub const ALL: [Self; 21] = [
        Self::BadJson,
        Self::UnknownType,
        Self::MissingField,
        Self::BadField,
        Self::BadRoom,
        Self::BadUsername,
        Self::BadId,
        Self::TextTooLong,
        Self::RoomNeeded,
        Self::NotMember,
        Self::AlreadyMember,
        Self::TooManyRooms,
        Self::IdConflict,
        Self::Unavailable,
        Self::Overloaded,
        Self::Unauthorized,
        Self::Forbidden,
        Self::RateLimited,
        Self::Muted,
        Self::Banned,
        Self::SlowMode,
    ];

    /// The code as it stands in the `error` event.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BadJson => "bad_json",
            Self::UnknownType => "unknown_type",
            Self::MissingField => "missing_field",
            Self::BadField => "bad_field",
            Self::BadRoom => "bad_room",
            Self::BadUsername => "bad_username",
            Self::BadId => "bad_id",
            Self::TextTooLong => "text_too_long",
            Self::RoomNeeded => "room_needed",
            Self::NotMember => "not_member",
            Self::AlreadyMember => "already_member",
            Self::TooManyRooms => "too_many_rooms",
            Self::IdConflict => "id_conflict",
            Self::Unavailable => "unavailable",
            Self::Overloaded => "overloaded",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::RateLimited => "rate_limited",
            Self::Muted => "muted",
            Self::Banned => "banned",
            Self::SlowMode => "slow_mode",
        }
    }
}

/// A right that a token can grant. The `right` of an error says which one was missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    /// Become a member of a room.
    Join,
    /// Send messages to a room.
    Send,
    /// Read what was said in a room before: by `after` and `last` of a join.
    History,
    /// Send what is not kept to a room.
    Signal,
    /// See who else is in a room.
    Presence,
    /// Speak to everybody.
    Broadcast,
    /// Mute, ban and slow down others in a room.
    Moderate,
}

impl Right {
    /// Every right there is, for documentation and tests.
    pub const ALL: [Self; 7] =
        [Self::Join, Self::Send, Self::History, Self::Signal, Self::Presence, Self::Broadcast, Self::Moderate];

    /// The right as it stands in tokens and errors.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Join => "join",
            Self::Send => "send",
            Self::History => "history",
            Self::Signal => "signal",
            Self::Presence => "presence",
            Self::Broadcast => "broadcast",
            Self::Moderate => "moderate",
        }
    }

    /// Reads what [`as_str`](Self::as_str) gives.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|right| right.as_str() == name)
    }
}

/// Why the stream of a room has a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetReason {
    /// The log no longer reaches back to what was missed.
    Trimmed,
    /// The log was lost or wound back, and numbering began anew.
    NewEpoch,
    /// A client came back with a position of another epoch, or beyond the top.
    UnknownPosition,
}

impl ResetReason {
    /// Every reason there is, for documentation, metrics and tests.
    pub const ALL: [Self; 3] = [Self::Trimmed, Self::NewEpoch, Self::UnknownPosition];

    /// The reason as it stands in the `reset` event and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trimmed => "trimmed",
            Self::NewEpoch => "new_epoch",
            Self::UnknownPosition => "unknown_position",
        }
    }
}

/// Why a socket is closed. The number tells a client what to do. Those of RFC 6455 mean what they mean there; of ours,
/// 4000 to 4499 say "come back", 4500 to 4999 "do not come back like this".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// 1000: the client closed and this is the answer.
    Normal,
    /// 1002: the frames do not follow RFC 6455.
    ProtocolError,
    /// 1003: a binary frame; roomcast speaks text.
    Binary,
    /// 1007: a text frame that is not UTF-8.
    NotUtf8,
    /// 1009: a frame over the limit.
    TooBig,
    /// 1012: the server stops or restarts; the client should come back, to any server.
    ServiceRestart,
    /// 1013: all clients together send more than the server can hold, and this one has more than its share.
    Overloaded,
    /// 4001: nothing came from the client for two ping intervals, not even a pong, and it accepted nothing.
    Idle,
    /// 4002: a message took too long from its first byte to its last.
    SlowSender,
    /// 4008: the client read too slowly and its outbox overflowed.
    SlowConsumer,
    /// 4010: the client's token has ended; the client should come back with another.
    TokenExpired,
    /// 4029: the client was too fast for long, or has as many connections as it may.
    TooFast,
    /// 4501: the client showed no token in time, or one that is refused.
    Unauthorized,
    /// 4510: somebody has ended the connections of this user.
    Disconnected,
}

impl CloseCode {
    /// Every code there is, for documentation, metrics and tests.
    pub const ALL: [Self; 14] = [
        Self::Normal,
        Self::ProtocolError,
        Self::Binary,
        Self::NotUtf8,
        Self::TooBig,
        Self::ServiceRestart,
        Self::Overloaded,
        Self::Idle,
        Self::SlowSender,
        Self::SlowConsumer,
        Self::TokenExpired,
        Self::TooFast,
        Self::Unauthorized,
        Self::Disconnected,
    ];

    /// The number in the close frame.
    pub fn code(self) -> u16 {
        match self {
            Self::Normal => 1000,
            Self::ProtocolError => 1002,
            Self::Binary => 1003,
            Self::NotUtf8 => 1007,
            Self::TooBig => 1009,
            Self::ServiceRestart => 1012,
            Self::Overloaded => 1013,
            Self::Idle => 4001,
            Self::SlowSender => 4002,
            Self::SlowConsumer => 4008,
            Self::TokenExpired => 4010,
            Self::TooFast => 4029,
            Self::Unauthorized => 4501,
            Self::Disconnected => 4510,
        }
    }

    /// The reason in the close frame, and the `reason` label in `ws_disconnects_total`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Normal => "normal",
            Self::ProtocolError => "protocol_error",
            Self::Binary => "binary_frame",
            Self::NotUtf8 => "not_utf8",
            Self::TooBig => "frame_too_big",
            Self::ServiceRestart => "service_restart",
            Self::Overloaded => "overloaded",
            Self::Idle => "idle",
            Self::SlowSender => "slow_sender",
            Self::SlowConsumer => "slow_consumer",
            Self::TokenExpired => "token_expired",
            Self::TooFast => "too_fast",
            Self::Unauthorized => "unauthorized",
            Self::Disconnected => "disconnected",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_code_is_what_serde_writes() {
        for code in ErrorCode::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
        for reason in ResetReason::ALL {
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
        }
        for right in Right::ALL {
            assert_eq!(serde_json::to_value(right).unwrap(), right.as_str());
            assert_eq!(Right::parse(right.as_str()), Some(right));
        }
    }
}
