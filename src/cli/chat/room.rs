use std::time::Duration;

use serde_json::{Value, json};

use super::{
    backoff::Backoff,
    event::{Position, Refusal, Said},
    news::{Came, News},
    unsent::{Message, Next, Seen, Unsent},
};

/// What a room wants to do, and to tell.
#[derive(Debug, Default)]
pub(super) struct Wants {
    pub(super) frames: Vec<Value>,
    pub(super) news: Vec<News>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Membership {
    /// Not a member; tries again at this time, or else with the next connection.
    Out(Option<Duration>),
    Joining,
    /// A member since this time.
    In(Duration),
    /// `leave` is under way. Afterwards it joins again, if wanted.
    Leaving(Option<Again>),
}

/// How to join again after having left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    /// Asks for this many of the last messages.
    Last(u64),
    /// From its position, so that the server reads the log.
    Here,
    /// As if for the first time: the person left for good, and then changed their mind.
    Anew(u64),
}

/// The history that comes first after a join.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Replay {
    until: u64,
    /// The epoch of `until`, once the first frame with a position has shown it.
    epoch: Option<String>,
}

/// One room that this client is in, or wants to be in: its position, and what is not sent yet.
#[derive(Debug)]
pub(super) struct Room {
    pub(super) name: String,
    pub(super) unsent: Unsent,
    membership: Membership,
    /// When to leave even if something is not kept yet; set once the person wants to leave.
    leaves_at: Option<Duration>,
    /// Up to here it has every message, or was told about a gap.
    position: Option<Position>,
    /// Whether it was a member before.
    was_in: bool,
    /// How many of the last messages to ask for with the next `join`.
    last: u64,
    /// Its position before it asked for the last messages, and so went back.
    before_last: Option<Position>,
    replay: Option<Replay>,
    seen: Seen,
    backoff: Backoff,
}

impl Room {
    pub(super) fn new(name: String, last: u64) -> Self {
        Self {
            name,
            unsent: Unsent::default(),
            membership: Membership::Out(None),
            leaves_at: None,
            position: None,
            was_in: false,
            last,
            before_last: None,
            replay: None,
            seen: Seen { gaps: 0, replays: 0, history: true },
            backoff: Backoff::default(),
        }
    }

    pub(super) fn is_joining(&self) -> bool {
        self.membership == Membership::Joining
    }

    /// Whether it is a member whose replay has ended.
    pub(super) fn has_caught_up(&self) -> bool {
        matches!(self.membership, Membership::In(_)) && self.replay.is_none()
    }

    /// Whether the person leaves it for good, now or once its messages are kept.
    pub(super) fn is_going(&self) -> bool {
        self.leaves_at.is_some() || self.is_gone_without_connection()
    }

    /// Whether it is being left for good, so that it ends with the connection.
    pub(super) fn is_gone_without_connection(&self) -> bool {
        self.membership == Membership::Leaving(None)
    }

    /// Leaves when everything that was said here is kept, at the latest at this time.
    pub(super) fn leave_by(&mut self, at: Duration) {
        self.leaves_at.get_or_insert(at);
    }

    pub(super) fn leaves_at(&self) -> Option<Duration> {
        self.leaves_at
    }

    /// Whether it is time to leave it.
    pub(super) fn is_to_be_left(&self, now: Duration) -> bool {
        self.leaves_at.is_some_and(|at| self.unsent.len() == 0 || now >= at)
    }

    /// Joins, over a connection on which it is not a member.
    pub(super) fn join(&mut self, username: &str, wants: &mut Wants) {
        self.membership = Membership::Joining;
        let mut frame = json!({"type": "join", "room": self.name, "username": username});
        if let Some(Position { epoch, seq }) = &self.position {
            frame["after"] = json!({"epoch": epoch, "seq": seq});
        } else if self.last > 0 {
            frame["last"] = self.last.into();
        }
        wants.frames.push(frame);
    }

    /// Leaves for good, and returns what was not sent. The room ends when `left` has come, or at once if this says so.
    pub(super) fn leave(&mut self, wants: &mut Wants) -> (bool, Vec<Message>) {
        self.leaves_at = None;
        match self.membership {
            Membership::Out(_) => return (true, self.unsent.take_all()),
            Membership::Joining | Membership::In(_) => self.say_leave(None, wants),
            Membership::Leaving(_) => self.membership = Membership::Leaving(None),
        }
        (false, self.unsent.take_all())
    }

    /// Comes back to a room that is being left.
    pub(super) fn come_again(&mut self, last: u64) {
        self.leaves_at = None;
        if self.is_gone_without_connection() {
            self.membership = Membership::Leaving(Some(Again::Anew(last)));
        }
    }

    /// Asks for the last messages, even those shown before; `false` if it is not in the room now.
    pub(super) fn show_last(&mut self, count: u64, wants: &mut Wants) -> bool {
        let is_in = matches!(self.membership, Membership::In(_));
        if is_in {
            self.say_leave(Some(Again::Last(count)), wants);
        }
        is_in
    }

    fn say_leave(&mut self, again: Option<Again>, wants: &mut Wants) {
        self.membership = Membership::Leaving(again);
        wants.frames.push(json!({"type": "leave", "room": self.name}));
    }

    /// Ends the leaving, after `left` or with the connection; returns `false` if the room is gone.
    fn end_leave(&mut self) -> bool {
        let Membership::Leaving(again) = self.membership else { return true };
        self.membership = Membership::Out(None);
        match again {
            None => return false,
            Some(Again::Here) => {}
            Some(Again::Last(count)) => {
                self.before_last = self.position.take();
                self.last = count;
            }
            Some(Again::Anew(last)) => {
                *self = Self { unsent: std::mem::take(&mut self.unsent), ..Self::new(self.name.clone(), last) }
            }
        }
        true
    }

    /// The connection is gone, and the room is still wanted.
    pub(super) fn cut_off(&mut self) {
        self.end_leave();
        self.membership = Membership::Out(None);
        self.replay = None;
        self.unsent.cut_off();
    }

    /// The server has ended the membership, or answered `leave`. Returns whether the room is still wanted.
    pub(super) fn left(
        &mut self,
        now: Duration,
        random: f64,
        reason: Option<&str>,
        username: &str,
        wants: &mut Wants,
    ) -> bool {
        self.replay = None;
        match self.membership {
            Membership::Leaving(_) => {
                let is_wanted = self.end_leave();
                if is_wanted {
                    self.join(username, wants);
                }
                is_wanted
            }
            Membership::In(since) => {
                let wait = self.backoff.next(now.saturating_sub(since), random);
                self.membership = Membership::Out(Some(now + wait));
                self.unsent.cut_off();
                let reason = reason.unwrap_or_default().to_owned();
                wants.news.push(News::PutOut { room: self.name.clone(), reason, wait });
                true
            }
            Membership::Out(_) | Membership::Joining => true,
        }
    }

    /// `join` was refused. Returns whether to try again.
    pub(super) fn not_joined(&mut self, now: Duration, random: f64, refusal: Refusal, wants: &mut Wants) -> bool {
        let room = self.name.clone();
        match refusal.code.as_str() {
            // An answer to a `leave` that crossed with the end of the membership.
            "not_member" => return true,
            _ if refusal.may_pass() => {
                let wait = self.backoff.next(Duration::ZERO, random);
                self.membership = Membership::Out(Some(now + wait));
                wants.news.push(News::JoinDelayed { room, refusal, wait });
                return true;
            }
            _ => {}
        }
        self.membership = Membership::Out(None);
        wants.news.push(News::JoinRefused { room, refusal });
        false
    }

    pub(super) fn joined(
        &mut self,
        now: Duration,
        position: Option<Position>,
        until: Option<u64>,
        resumed: Option<bool>,
        server: Option<String>,
        wants: &mut Wants,
    ) {
        if self.membership != Membership::Joining {
            return;
        }
        self.membership = Membership::In(now);
        let count = match (&position, until) {
            (Some(position), Some(until)) => until.saturating_sub(position.seq),
            _ => 0,
        };
        let was_in = std::mem::replace(&mut self.was_in, true);
        let came = match (resumed, self.before_last.is_some()) {
            _ if was_in && position.is_none() && self.last > 0 => Came::ForLastUnkept,
            _ if was_in && position.is_none() => Came::BackUnkept,
            (None, false) => Came::New { last: count },
            (None, true) => Came::ForLast { last: count },
            // The `reset` that follows says how much is gone.
            (Some(true), _) => Came::Back { missed: count },
            (Some(false), _) => Came::BackWithGap,
        };
        wants.news.push(News::Joined { room: self.name.clone(), server, came });

        let before = std::mem::replace(&mut self.position, position).or(self.before_last.take());
        (self.last, self.seen.history) = (0, self.position.is_some());
        let is_gap = match (&before, &self.position) {
            (Some(before), Some(now)) => before.epoch != now.epoch || before.seq < now.seq,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if is_gap {
            self.seen.gaps += 1;
            // Without history, its arrival alone shows that it was kept.
            if resumed.is_none() && self.position.is_some() {
                let (up_to, reason) = (self.position.clone(), "missed".to_owned());
                wants.news.push(News::Gap { room: self.name.clone(), after: before, up_to, reason });
            }
        }
        self.replay = until.map(|until| Replay { until, epoch: None });
        if self.replay.is_none() {
            self.seen.replays += 1;
        }
    }

    /// Whether it takes what comes: until `left` it is still a member.
    fn hears(&self) -> bool {
        matches!(self.membership, Membership::In(_) | Membership::Leaving(Some(Again::Last(_) | Again::Here)))
    }

    /// Takes a message of the room, and tells it unless it came before.
    pub(super) fn said(&mut self, said: Said, is_ack_wanted: bool, wants: &mut Wants) {
        if !self.hears() {
            return;
        }
        if let Some(position) = &said.position {
            match &self.position {
                Some(own) if own.epoch == position.epoch && position.seq <= own.seq => return,
                Some(own) if own.epoch != position.epoch || own.seq + 1 != position.seq => {
                    self.seen.gaps += 1;
                    let up_to = Position { seq: position.seq.saturating_sub(1), ..position.clone() };
                    wants.news.push(self.gap(Some(up_to), "missed"));
                }
                _ => {}
            }
            self.position = Some(position.clone());
        }
        let position = said.position.clone();
        if let Some(kept) = said.id.as_deref().and_then(|id| self.unsent.seen(id, is_ack_wanted)) {
            wants.news.push(News::Kept { room: self.name.clone(), id: kept.id });
        }
        wants.news.push(News::Said { room: self.name.clone(), said });
        if let Some(position) = position {
            self.replay_is_at(&position);
        }
    }

    pub(super) fn reset(&mut self, position: Option<Position>, reason: &str, wants: &mut Wants) {
        if !self.hears() {
            return;
        }
        self.seen.gaps += 1;
        wants.news.push(self.gap(position.clone(), reason));
        if let Some(position) = position {
            self.replay_is_at(&position);
            self.position = Some(position);
        }
    }

    fn gap(&self, up_to: Option<Position>, reason: &str) -> News {
        News::Gap { room: self.name.clone(), after: self.position.clone(), up_to, reason: reason.to_owned() }
    }

    fn replay_is_at(&mut self, position: &Position) {
        let Some(replay) = &mut self.replay else { return };
        let epoch = replay.epoch.get_or_insert_with(|| position.epoch.clone());
        if *epoch != position.epoch || position.seq >= replay.until {
            self.replay = None;
            self.seen.replays += 1;
        }
    }

    /// A message of this client is kept, at this position.
    pub(super) fn acked(&mut self, id: &str, position: Option<Position>, username: &str, wants: &mut Wants) {
        let was_seen = self.unsent.is_seen(id);
        let Some(kept) = self.unsent.remove(id) else { return };
        wants.news.push(News::Kept { room: self.name.clone(), id: kept.id.clone() });
        // It also comes as a message, unless its place was in a gap.
        let is_past = |position: &Position| {
            self.position.as_ref().is_some_and(|own| own.epoch == position.epoch && position.seq <= own.seq)
        };
        if !was_seen && position.as_ref().is_some_and(is_past) {
            let (username, id) = (Some(username.to_owned()), Some(kept.id));
            let said = Said { username, text: kept.text, position, id, ..Said::default() };
            wants.news.push(News::Said { room: self.name.clone(), said });
        }
    }

    /// The server refused a message of this client.
    pub(super) fn refused(&mut self, now: Duration, random: f64, id: &str, refusal: Refusal, wants: &mut Wants) {
        let room = self.name.clone();
        if self.unsent.is_seen(id) {
            // It is kept, whatever the server says now.
            self.unsent.remove(id);
            wants.news.push(News::Kept { room, id: id.to_owned() });
            return;
        }
        match refusal.code.as_str() {
            _ if refusal.may_pass() => {
                let wait = self.unsent.delay(now, random);
                wants.news.push(News::MessageDelayed { room, refusal, wait });
            }
            // It crossed with the end of the membership, and goes out after the next join.
            "not_member" if !matches!(self.membership, Membership::In(_)) => self.unsent.cut_off(),
            _ => {
                if let Some(message) = self.unsent.remove(id) {
                    let maybe_kept = false;
                    wants.news.push(News::Failed {
                        room,
                        text: message.text,
                        id: message.id,
                        why: refusal,
                        maybe_kept,
                    });
                }
            }
        }
    }

    /// Does what is due, over an open connection.
    pub(super) fn go_on(&mut self, now: Duration, username: &str, wants: &mut Wants) {
        match self.membership {
            Membership::Out(Some(at)) if now >= at => self.join(username, wants),
            Membership::In(_) if self.replay.is_none() => self.send(now, wants),
            _ => {}
        }
    }

    fn send(&mut self, now: Duration, wants: &mut Wants) {
        loop {
            match self.unsent.next(now, self.seen) {
                Next::Nothing => return,
                Next::Send(Message { id, text, .. }) => {
                    wants.frames.push(json!({"type": "message", "id": id, "room": self.name, "text": text}));
                    return;
                }
                Next::Replay => return self.say_leave(Some(Again::Here), wants),
                Next::Unknown(Message { id, text, .. }) => {
                    let why = Refusal {
                        code: "outcome_unknown".into(),
                        message: "the connection broke, and nobody can tell any more whether it was kept".into(),
                    };
                    wants.news.push(News::Failed { room: self.name.clone(), text, id, why, maybe_kept: true });
                }
            }
        }
    }

    /// When something is due, over an open connection.
    pub(super) fn deadline(&self) -> Option<Duration> {
        match self.membership {
            Membership::Out(at) => at,
            Membership::In(_) if self.replay.is_none() => self.unsent.deadline(),
            _ => None,
        }
    }
}
