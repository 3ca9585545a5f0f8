//! The stream of one room as one client got it, checked by itself.

use std::collections::{HashMap, HashSet};

use crate::{
    record::{Client, MessageId, Position, Room, What},
    replay::Replay,
    verdict::{Kind, Violation},
};

/// A client in a room, from its first `joined` to the end of the run, over all of its connections.
#[derive(Debug)]
pub struct Member {
    client: Client,
    room: Room,
    /// Where it was let in for the first time. What came before is not owed to it.
    pub first: Option<Position>,
    /// Up to here it got everything, or was told that it cannot.
    pub at: Option<Position>,
    /// Where its connection is open and it has joined.
    pub is_live: bool,
    /// What came, where, and whether that was more than once.
    pub had: HashMap<MessageId, Position>,
    /// The resets, and how far each of them went.
    pub resets: Vec<Position>,
    /// Numbers it did not get although it got higher ones. They may still come, out of order.
    pub skipped: HashSet<Position>,
    /// Deliveries in all, and those among them that made up for what was missed.
    pub delivered: usize,
    pub replayed: usize,
    /// Replays that ended early, because the connection was lost or the server gave up.
    pub interrupted: usize,
    /// The position of the last frame that had one. A returning client asks to resume from here.
    place: Option<Position>,
    /// The position that the last `join` asked to go on from.
    asked: Option<Position>,
    /// A `joined` said that it does not go on where the client was, but no `reset` has said from where it does.
    is_unexplained: bool,
    /// What it had missed, while that is still coming.
    replay: Option<Replay>,
    since_reset: HashSet<MessageId>,
    pub violations: Vec<Violation>,
}

impl Member {
    /// Before its first `join`.
    pub fn new(client: Client, room: Room) -> Self {
        Self {
            client,
            room,
            first: None,
            at: None,
            is_live: false,
            had: HashMap::new(),
            resets: Vec::new(),
            skipped: HashSet::new(),
            delivered: 0,
            replayed: 0,
            interrupted: 0,
            place: None,
            asked: None,
            is_unexplained: false,
            replay: None,
            since_reset: HashSet::new(),
            violations: Vec::new(),
        }
    }

    /// Takes the next event of this client that concerns this room.
    pub fn see(&mut self, what: &What) {
        match *what {
            What::Joining { after, .. } => {
                self.asked = after;
                if after != self.place {
                    let text = format!("asked to go on after {}, but stands at {}", show(after), show(self.place));
                    self.wrong(Kind::Unexpected, text);
                }
            }
            What::Joined { position, until, resumed, .. } => self.joined(position, until, resumed),
            What::Reset { position, .. } => self.reset(position),
            What::Delivered { position, id, .. } => self.delivered(position, id),
            What::Left { ref reason, .. } => {
                if reason.is_none() {
                    self.wrong(Kind::Unexpected, "was put out of the room without a reason".to_owned());
                }
                self.leave();
            }
            // What it missed is told before it is live, or never.
            What::Refused { ref code, .. } if self.is_live => {
                let text = format!("was refused ({code}) though it had joined; it stood at {}", show(self.at));
                self.wrong(Kind::Unexpected, text);
            }
            What::Disconnected { .. } => self.leave(),
            _ => {}
        }
    }

    /// Nothing more comes.
    pub fn end(&mut self) {
        self.explain_nothing();
    }

    fn joined(&mut self, position: Position, until: Option<u64>, resumed: Option<bool>) {
        (self.is_live, self.place) = (true, Some(position));
        self.replay = until.map(Replay::up_to);
        self.first.get_or_insert(position);
        let Some(asked) = self.asked else {
            self.at = Some(position);
            return;
        };
        if position != asked {
            let text = format!("asked to go on after {asked}, but was let in after {position}");
            self.wrong(Kind::OutOfOrder, text);
        }
        self.is_unexplained = resumed != Some(true);
    }

    fn leave(&mut self) {
        self.interrupted += usize::from(self.replay.take().is_some());
        (self.is_live, self.is_unexplained) = (false, false);
    }

    fn reset(&mut self, to: Position) {
        (self.is_unexplained, self.place) = (false, Some(to));
        self.replay = self.replay.and_then(|replay| replay.after(to));
        if let Some(at) = self.at.filter(|at| at.epoch == to.epoch && to.seq < at.seq) {
            self.wrong(Kind::OutOfOrder, format!("was reset to {to}, but has had everything up to {at}"));
        }
        // Only in another epoch may a message come that came before: its sender had to send it again.
        if self.at.is_none_or(|at| at.epoch != to.epoch) {
            self.since_reset.clear();
        }
        self.at = Some(to);
        self.resets.push(to);
    }

    fn delivered(&mut self, position: Position, id: MessageId) {
        self.delivered += 1;
        self.explain_nothing();
        self.place = Some(position);
        self.replayed += usize::from(self.replay.is_some_and(|replay| replay.includes(position)));
        self.replay = self.replay.and_then(|replay| replay.after(position));
        self.had.entry(id).or_insert(position);
        let Some(at) = self.at else {
            self.wrong(Kind::OutOfOrder, format!("got {id} at {position} before it had joined"));
            return;
        };
        if at.epoch == position.epoch && position.seq > at.seq {
            self.skip(at, position.seq - 1);
        }
        if !self.since_reset.insert(id) {
            self.wrong(Kind::Doubled, format!("got {id} again, at {position}; it stood at {at}"));
        } else if at.epoch != position.epoch {
            self.wrong(Kind::OutOfOrder, format!("got {id} at {position} after {at} with no reset between them"));
        } else if position.seq <= at.seq {
            self.skipped.remove(&position);
            self.wrong(Kind::OutOfOrder, format!("got {id} at {position} after it had got {at}"));
        }
        self.advance(position);
    }

    fn advance(&mut self, position: Position) {
        if self.at.is_none_or(|at| at.epoch != position.epoch || at.seq < position.seq) {
            self.at = Some(position);
        }
    }

    fn skip(&mut self, at: Position, up_to: u64) {
        self.skipped.extend((at.seq + 1..=up_to).map(|seq| Position { epoch: at.epoch, seq }));
    }

    /// A client that was not resumed must hear at once from where it goes on.
    fn explain_nothing(&mut self) {
        if std::mem::take(&mut self.is_unexplained) {
            let text =
                format!("was not resumed, and no reset said from where it goes on; it stood at {}", show(self.at));
            self.wrong(Kind::OutOfOrder, text);
        }
    }

    fn wrong(&mut self, kind: Kind, text: String) {
        self.violations.push(Violation::of(kind, self.client, self.room, text));
    }
}

/// A position for a person.
pub fn show(position: Option<Position>) -> String {
    position.map_or("nowhere".into(), |position| position.to_string())
}
