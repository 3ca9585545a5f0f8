//! What the judge has to say about a run.

use std::{fmt, time::Duration};

use crate::{
    herd::Herd,
    record::{Client, Room},
};

/// The three things that must never happen, and what else may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A member did not get a message and was not told so.
    SilentlyLost,
    /// A member got a message twice.
    Doubled,
    /// A member got messages in an order that is not that of their numbers, or a number means two messages.
    OutOfOrder,
    /// When all was over, a member was not where the others were, or a message was never acknowledged.
    NotConverged,
    /// The scenario did not do what it is for, or a frame was not understood.
    Unexpected,
}

impl Kind {
    /// All there are, the worst first.
    pub const ALL: [Self; 5] =
        [Self::SilentlyLost, Self::Doubled, Self::OutOfOrder, Self::NotConverged, Self::Unexpected];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SilentlyLost => "silently lost",
            Self::Doubled => "doubled",
            Self::OutOfOrder => "out of order",
            Self::NotConverged => "not converged",
            Self::Unexpected => "unexpected",
        })
    }
}

/// One thing that was wrong, for a person to read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Violation {
    pub kind: Kind,
    pub client: Option<Client>,
    pub room: Option<Room>,
    pub text: String,
}

impl Violation {
    /// Something that concerns one member.
    pub fn of(kind: Kind, client: Client, room: Room, text: String) -> Self {
        Self { kind, client: Some(client), room: Some(room), text }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.kind)?;
        if let Some(client) = self.client {
            write!(f, " client {client}")?;
        }
        if let Some(room) = self.room {
            write!(f, " in room {room}")?;
        }
        write!(f, " {}", self.text)
    }
}

/// The row of a scenario in the table, and what was wrong.
#[derive(Clone, Debug, Default)]
pub struct Verdict {
    /// Different messages that were sent.
    pub sent: usize,
    /// Those of them that were acknowledged.
    pub acked: usize,
    /// `message` events that came, to all members together.
    pub delivered: usize,
    /// Those of them that a resumed client got because it had missed them.
    pub replayed: usize,
    /// Replays that ended too early, as the connection was lost or the server gave up.
    pub interrupted: usize,
    /// Per member and message: not delivered, and a `reset` said so.
    pub reported_lost: usize,
    /// From the healing of the fault to the first delivery, at the member that was last, of something sent later.
    pub live_again: Option<Duration>,
    /// What came of a crowd that came back, where there was one.
    pub herd: Option<Herd>,
    /// All that was wrong.
    pub violations: Vec<Violation>,
}

impl Verdict {
    /// How often something of this kind happened.
    pub fn count(&self, kind: Kind) -> usize {
        self.violations.iter().filter(|violation| violation.kind == kind).count()
    }

    /// Whether all promises were kept.
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty()
    }
}
