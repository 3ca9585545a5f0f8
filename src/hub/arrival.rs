use std::sync::Arc;

use tokio::sync::{futures::OwnedNotified, oneshot};

use super::recent::Stretch;
use crate::{
    protocol::{Event, History, Position, ResetReason, RoomId},
    socket::Batch,
};

/// A client on its way into a room: what it asked for, and how far it has come.
#[derive(Debug)]
pub(super) struct Arrival<'a> {
    pub(super) number: u64,
    pub(super) room: &'a RoomId,
    /// The name of this server.
    pub(super) origin_server: &'a str,
    pub(super) history: History,
    /// It has had everything up to here, or has been told otherwise; `None` before it is known where it begins.
    pub(super) at: Option<Position>,
    /// It has been told `joined`.
    pub(super) is_announced: bool,
    /// It has to be told that something is missing, as soon as it is known up to where.
    pub(super) gap: Option<ResetReason>,
    /// The reading of the log that is to show whether there is the position it claims.
    pub(super) awaited: Option<u64>,
}

/// Why a room cannot be opened at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The broker takes no new rooms.
    Overloaded,
    /// The broker does not let this server have the channel.
    NotAllowed,
}

/// What is to be done next for a client that comes in.
#[derive(Debug)]
pub(super) enum Step {
    /// It is sent this, and then is a member like the others.
    Enter(Vec<Batch>),
    /// It is sent this, and more follows.
    Send(Vec<Batch>),
    /// The room has to come to where this client can go on from; when this wakes, it is to be asked again.
    Wait(OwnedNotified),
    /// The room cannot be opened.
    Refused(Refusal),
    /// A part of the log has to be read first.
    Read(oneshot::Receiver<Arc<Stretch>>),
}

impl<'a> Arrival<'a> {
    pub(super) fn new(number: u64, room: &'a RoomId, origin_server: &'a str, history: History) -> Self {
        Self { number, room, origin_server, history, at: None, is_announced: false, gap: None, awaited: None }
    }

    /// What the client is told before it gets what comes after `at`: that it is in, the first time, and that something is
    /// missing before, if it is. `live` is up to where the replay goes.
    pub(super) fn announce(&mut self, at: Position, live: Position, members: usize) -> Announcement {
        let mut frames = Vec::new();
        if !self.is_announced {
            self.is_announced = true;
            // The position is always the one after which the next message comes, so that whoever is cut off now and
            // goes on from it misses nothing.
            let (place, resumed) = match self.history {
                History::After(position) => (position, Some(self.gap.is_none())),
                History::None | History::Last(_) => (at, None),
            };
            let until = (at.seq < live.seq).then_some(live.seq);
            frames.push(self.joined(Some(place), until, members, resumed));
        }
        let reset = self.gap.take();
        if let Some(reason) = reset {
            let reset = Event::Reset { room: Some(self.room.clone()), position: Some(at), reason };
            frames.push(Batch::from(&reset.encode()));
        }
        Announcement { frames, reset }
    }

    /// The same where no history is kept, and so there are no positions.
    pub(super) fn announce_without_history(&mut self, members: usize) -> Batch {
        self.is_announced = true;
        let resumed = matches!(self.history, History::After(..)).then_some(false);
        self.joined(None, None, members, resumed)
    }

    fn joined(&self, position: Option<Position>, until: Option<u64>, members: usize, resumed: Option<bool>) -> Batch {
        let (room, origin_server) = (self.room.clone(), self.origin_server.into());
        Batch::from(&Event::Joined { room, position, until, members, origin_server, resumed }.encode())
    }

    /// The log has nothing up to this position.
    pub(super) fn skip_to(&mut self, to: Position) {
        self.at = Some(to);
        // Whoever asks for the last so many takes what there is.
        if self.is_announced || matches!(self.history, History::After(..)) {
            self.gap.get_or_insert(ResetReason::Trimmed);
        }
    }
}

/// What a client is told before what comes next, and the gap that this tells of, to be counted.
#[derive(Debug)]
pub(super) struct Announcement {
    pub(super) frames: Vec<Batch>,
    pub(super) reset: Option<ResetReason>,
}
