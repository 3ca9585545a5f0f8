use std::time::Duration;

use super::event::{Position, Refusal, Said};

/// How a room was come into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Came {
    /// For the first time; this many of the last messages follow.
    New { last: u64 },
    /// Back, after a connection broke; this many missed messages follow.
    Back { missed: u64 },
    /// Back, and some of what was missed is gone.
    BackWithGap,
    /// Back on a server that keeps no history, so that what was said meanwhile may be lost.
    BackUnkept,
    /// To show the last messages again.
    ForLast { last: u64 },
    /// For that, in vain: the server keeps no history.
    ForLastUnkept,
}

/// What there is to tell the person, or the program, that talks.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum News {
    /// There is a connection.
    Opened,
    /// There is none, and the next try is in so long.
    Waiting {
        why: String,
        wait: Duration,
    },
    /// There is none, and there will be none.
    Over {
        why: String,
        remedy: String,
    },
    /// The server is about to stop, and says so.
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
    /// The room is out of the question.
    JoinRefused {
        room: String,
        refusal: Refusal,
    },
    /// The server has ended the membership; it is tried again in so long.
    PutOut {
        room: String,
        reason: String,
        wait: Duration,
    },
    /// The room was left, as was wanted.
    Left {
        room: String,
    },
    Said {
        room: String,
        said: Said,
    },
    Broadcast(Said),
    /// All messages after one place and up to another are lost.
    Gap {
        room: String,
        after: Option<Position>,
        up_to: Option<Position>,
        reason: String,
    },
    BroadcastsMissed,
    /// A message of one's own is kept.
    Kept {
        room: String,
        id: String,
    },
    MessageDelayed {
        room: String,
        refusal: Refusal,
        wait: Duration,
    },
    /// A message of one's own will not be sent again.
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
