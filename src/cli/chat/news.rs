use std::time::Duration;

use super::event::{Position, Refusal, Said};

/// How the client got into a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// For the first time; this many of the last messages follow.
    New { last: u64 },
    /// Back after a broken connection; this many missed messages follow.
    Back { missed: u64 },
    /// Back, and some of the missed messages are gone.
    BackWithGap,
    /// Back on a server without history, so that what was said meanwhile may be lost.
    BackUnkept,
    /// To show the last messages again.
    ForLast { last: u64 },
    /// The same, in vain: the server keeps no history.
    ForLastUnkept,
}

/// What to tell the person, or the program, that uses the chat.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum News {
    /// There is a connection.
    Opened,
    /// There is none, and the next attempt is after this time.
    Waiting {
        why: String,
        wait: Duration,
    },
    /// There is none, and there will be no further attempt.
    Over {
        why: String,
        remedy: String,
    },
    /// The server has said that it is about to stop.
    Drains,
    Joined {
        room: String,
        server: Option<String>,
        came: Came,
    },
    JoinDelayed {
        room: String,
        refusal: Refusal,
        wait: Duration,
    },
    /// The room cannot be joined.
    JoinRefused {
        room: String,
        refusal: Refusal,
    },
    /// The server has ended the membership; the next attempt is after this time.
    PutOut {
        room: String,
        reason: String,
        wait: Duration,
    },
    /// The room was left, as wanted.
    Left {
        room: String,
    },
    Said {
        room: String,
        said: Said,
    },
    Broadcast(Said),
    /// All messages after one position and up to another are lost.
    Gap {
        room: String,
        after: Option<Position>,
        up_to: Option<Position>,
        reason: String,
    },
    BroadcastsMissed,
    /// An own message is kept.
    Kept {
        room: String,
        id: String,
    },
    MessageDelayed {
        room: String,
        refusal: Refusal,
        wait: Duration,
    },
    /// An own message will not be sent again.
    Failed {
        room: String,
        id: String,
        text: String,
        why: Refusal,
        maybe_kept: bool,
    },
    /// The server refused something else.
    Error(Refusal),
}
