use std::time::Duration;

use rand::{Rng, rngs::StdRng};
use serde_json::{Value, json};

use super::{
    backoff::Backoff,
    event::{Event, Refusal},
    news::News,
    room::{Room, Wants},
};

/// How often to ask the server for a sign of life.
const PING: Duration = Duration::from_secs(20);

/// How long an answer may take.
const SILENCE: Duration = Duration::from_secs(10);

/// Longest text that a server accepts by default.
const LONGEST_TEXT: usize = 16 << 10;

/// How long to wait for acks when a person leaves a room or ends the chat.
pub(super) const PARTING: Duration = Duration::from_secs(5);

/// How a connection ended, or was not opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ending {
    pub(super) why: String,
    /// The code of the close frame, and its reason.
    pub(super) close: Option<(u16, String)>,
    /// The server's `Retry-After`.
    pub(super) retry_after: Option<Duration>,
    /// What to do about it, if another attempt will not help.
    pub(super) remedy: Option<String>,
}

/// What the task must do.
#[derive(Debug, PartialEq)]
pub(super) enum Effect {
    Connect,
    /// Send this frame.
    Send(Value),
    /// Abandon the connection.
    Drop,
    Tell(News),
}

#[derive(Debug)]
enum Link {
    /// Connects at this time.
    Waiting(Duration),
    Connecting,
    Open {
        since: Duration,
        next_ping: Duration,
        silent_since: Option<Duration>,
        is_told_to_come_back: bool,
    },
    /// Closed for good.
    Over,
}

/// The client's side of "Coming back" in docs/protocol.md: it keeps one connection, or tries to, and never loses its
/// place in a room. It is told what happens and when, by a clock that goes on while the machine sleeps, and says what
/// to do.
#[derive(Debug)]
pub(super) struct Chat {
    username: String,
    rooms: Vec<Room>,
    link: Link,
    backoff: Backoff,
    /// Whether an own message counts as kept only with its `ack`, if the connection lasts that long.
    is_ack_wanted: bool,
    /// Whether a server has ever answered, which means that the address is right.
    was_answered: bool,
    random: StdRng,
    effects: Vec<Effect>,
}

impl Chat {
    /// A client that connects at once.
    pub(super) fn new(username: String, random: StdRng) -> Self {
        let (link, backoff) = (Link::Connecting, Backoff::default());
        Self {
            username,
            rooms: Vec::new(),
            link,
            backoff,
            is_ack_wanted: false,
            was_answered: false,
            random,
            effects: vec![Effect::Connect],
        }
    }

    /// From now on, an own message counts as kept only with its `ack`, even if it was seen before.
    pub(super) fn want_acks(&mut self) {
        self.is_ack_wanted = true;
    }

    /// What to do now, in order.
    pub(super) fn effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// When [`Chat::tick`] has something to do.
    pub(super) fn deadline(&self) -> Option<Duration> {
        let of_link = match &self.link {
            Link::Waiting(until) => Some(*until),
            Link::Connecting => None,
            Link::Over => return None,
            Link::Open { next_ping, silent_since, .. } => {
                let of_link = silent_since.map_or(*next_ping, |since| since + SILENCE);
                Some(self.rooms.iter().filter_map(Room::deadline).fold(of_link, Duration::min))
            }
        };
        self.rooms.iter().filter_map(Room::leaves_at).chain(of_link).min()
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self.link, Link::Over)
    }

    pub(super) fn is_open(&self) -> bool {
        matches!(self.link, Link::Open { .. })
    }

    pub(super) fn was_answered(&self) -> bool {
        self.was_answered
    }

    /// Whether it is in all its rooms and their replays have ended.
    pub(super) fn has_caught_up(&self) -> bool {
        self.rooms.iter().all(Room::has_caught_up)
    }

    /// How many messages are not known to be kept.
    pub(super) fn unsent(&self) -> usize {
        self.rooms.iter().map(|room| room.unsent.len()).sum()
    }

    /// The rooms that it is in, or wants to be in.
    pub(super) fn rooms(&self) -> impl Iterator<Item = &str> {
        self.rooms.iter().filter(|room| !room.is_going()).map(|room| room.name.as_str())
    }

    /// Joins a room, and asks for this many of its last messages. Does nothing if it has joined the room already.
    pub(super) fn join(&mut self, now: Duration, room: &str, last: u64) {
        match self.room(room) {
            Some(known) => known.come_again(last),
            None => {
                self.rooms.push(Room::new(room.to_owned(), last));
                if self.is_open() {
                    self.with(room, |room, username, _, wants| room.join(username, wants));
                }
            }
        }
        self.go_on(now);
    }

    /// Leaves a room when everything that was said there is kept. What is not kept after a while has failed.
    pub(super) fn leave(&mut self, now: Duration, room: &str) {
        if let Some(room) = self.room(room) {
            room.leave_by(now + PARTING);
        }
        self.part(now);
    }

    /// Leaves the rooms whose time has come.
    fn part(&mut self, now: Duration) {
        let due: Vec<String> =
            self.rooms.iter().filter(|room| room.is_to_be_left(now)).map(|room| room.name.clone()).collect();
        for room in due {
            self.give_up(&room, &Refusal { code: "left".into(), message: "you left the room".into() });
            self.tell(News::Left { room });
        }
    }

    fn give_up(&mut self, name: &str, why: &Refusal) {
        let (mut failed, mut is_gone) = (Vec::new(), false);
        self.with(name, |room, _, _, wants| (is_gone, failed) = room.leave(wants));
        for message in failed {
            let (room, maybe_kept) = (name.to_owned(), message.may_be_kept());
            self.tell(News::Failed { room, id: message.id, text: message.text, why: why.clone(), maybe_kept });
        }
        if is_gone {
            self.rooms.retain(|room| room.name != name);
        }
    }

    /// Shows the last messages of a room again; `false` if it is not in the room now.
    pub(super) fn show_last(&mut self, room: &str, count: u64) -> bool {
        let mut is_done = false;
        self.with(room, |room, _, _, wants| is_done = room.show_last(count, wants));
        is_done
    }

    /// Says something in a room; `false` if it is not in the room, or if too much waits there already.
    pub(super) fn say(&mut self, now: Duration, room: &str, text: &str) -> bool {
        let id = format!("{:032x}", self.random.random::<u128>());
        let is_taken = self.room(room).is_some_and(|room| !room.is_going() && room.unsent.push(id, text.to_owned()));
        self.go_on(now);
        is_taken
    }

    pub(super) fn opened(&mut self, now: Duration) {
        let next_ping = now + PING;
        self.link = Link::Open { since: now, next_ping, silent_since: None, is_told_to_come_back: false };
        self.tell(News::Opened);
        for name in self.names() {
            self.with(&name, |room, username, _, wants| room.join(username, wants));
        }
    }

    /// Takes any frame from the open connection, including control frames.
    pub(super) fn heard(&mut self) {
        if let Link::Open { silent_since, .. } = &mut self.link {
            *silent_since = None;
        }
    }

    pub(super) fn frame(&mut self, now: Duration, frame: &str) {
        self.heard();
        let event = Event::read(frame);
        self.was_answered |= !matches!(event, Event::Unknown);
        match event {
            Event::Joined { room, position, until, resumed, server } => {
                self.with(&room, |room, _, _, wants| room.joined(now, position, until, resumed, server, wants));
            }
            Event::Left { room, reason } => {
                let mut is_wanted = true;
                self.with(&room, |room, username, random, wants| {
                    is_wanted = room.left(now, random, reason.as_deref(), username, wants);
                });
                self.rooms.retain(|known| is_wanted || known.name != room);
            }
            Event::Message { room, said } => {
                let is_ack_wanted = self.is_ack_wanted;
                self.with(&room, |room, _, _, wants| room.said(said, is_ack_wanted, wants));
            }
            Event::Broadcast(said) => self.tell(News::Broadcast(said)),
            Event::Ack { id, position } => self.with_unsent(&id, |room, username, _, wants| {
                room.acked(&id, position, username, wants);
            }),
            Event::Reset { room: Some(room), position, reason } => {
                self.with(&room, |room, _, _, wants| room.reset(position, &reason, wants));
            }
            Event::Reset { room: None, .. } => self.tell(News::BroadcastsMissed),
            Event::Reconnect => {
                if let Link::Open { is_told_to_come_back, .. } = &mut self.link {
                    *is_told_to_come_back = true;
                }
                self.tell(News::Drains);
            }
            Event::Error { id: Some(id), refusal, .. } => {
                self.with_unsent(&id, |room, _, random, wants| room.refused(now, random, &id, refusal, wants));
            }
            Event::Error { room, refusal, .. } => self.refused(now, room, refusal),
            Event::Pong | Event::Unknown => {}
        }
        self.go_on(now);
    }

    /// A command was refused, perhaps one without a room.
    fn refused(&mut self, now: Duration, room: Option<String>, refusal: Refusal) {
        // The server does not repeat an invalid room id. It can only be the room that was added last.
        let name = room.or_else(|| self.rooms.iter().rfind(|room| room.is_joining()).map(|room| room.name.clone()));
        let Some(name) = name.filter(|name| self.room(name).is_some_and(|room| room.is_joining())) else {
            // An answer to a `leave` that crossed with the end of the membership.
            if refusal.code != "not_member" {
                self.tell(News::Error(refusal));
            }
            return;
        };
        let (mut is_wanted, why) = (true, refusal.clone());
        self.with(&name, |room, _, random, wants| is_wanted = room.not_joined(now, random, refusal, wants));
        if !is_wanted {
            self.give_up(&name, &why);
        }
    }

    /// The connection has ended, or could not be opened.
    pub(super) fn closed(&mut self, now: Duration, ending: Ending) {
        let (mut lasted, mut is_expected) = (Duration::ZERO, false);
        if let Link::Open { since, is_told_to_come_back, .. } = self.link {
            (lasted, is_expected) = (now.saturating_sub(since), is_told_to_come_back);
        }
        let code = ending.close.as_ref().map(|(code, _)| *code);
        if code == Some(1009) {
            self.take_too_large(ending.close.as_ref().map_or("", |(_, reason)| reason));
        }
        self.cut_off();
        let remedy = match code {
            Some(1002 | 1003 | 1007) => Some("this program has to be mended; is it of another version?".to_owned()),
            Some(4010) => Some("set ROOMCAST_TOKEN to another token".to_owned()),
            Some(4500..=4999) => Some("the server says not to come back like this".to_owned()),
            _ => ending.remedy.filter(|_| !self.was_answered),
        };
        if let Some(remedy) = remedy {
            self.link = Link::Over;
            self.tell(News::Over { why: ending.why, remedy });
            return;
        }
        let wait = match code {
            Some(1012) if is_expected => Duration::ZERO,
            _ => self.backoff.next(lasted, self.random.random()) + ending.retry_after.unwrap_or_default(),
        };
        self.wait(now, ending.why, wait);
    }

    /// Tells each room that the connection is gone. Rooms that were being left are gone with it.
    fn cut_off(&mut self) {
        self.rooms.retain(|room| !room.is_gone_without_connection());
        self.rooms.iter_mut().for_each(Room::cut_off);
    }

    fn wait(&mut self, now: Duration, why: String, wait: Duration) {
        self.link = Link::Waiting(now + wait);
        self.tell(News::Waiting { why, wait });
        self.tick(now);
    }

    /// A frame was over the limit. Its message must not be sent again for ever.
    fn take_too_large(&mut self, reason: &str) {
        let named = reason.split_once("id=").map(|(_, id)| id.to_owned());
        for room in &mut self.rooms {
            let taken = match &named {
                Some(id) => room.unsent.remove(id).into_iter().collect(),
                None => room.unsent.take_too_large(LONGEST_TEXT),
            };
            for message in taken {
                let why =
                    Refusal { code: "frame_too_big".into(), message: "it is longer than the server takes".into() };
                let (room, id, text) = (room.name.clone(), message.id, message.text);
                self.effects.push(Effect::Tell(News::Failed { room, id, text, why, maybe_kept: false }));
            }
        }
    }

    /// Does what is due.
    pub(super) fn tick(&mut self, now: Duration) {
        match &mut self.link {
            Link::Waiting(until) if now >= *until => {
                self.link = Link::Connecting;
                self.effects.push(Effect::Connect);
            }
            Link::Open { silent_since: Some(since), .. } if now >= *since + SILENCE => {
                self.effects.push(Effect::Drop);
                self.cut_off();
                self.wait(now, "nothing came from the server for 10 s".to_owned(), Duration::ZERO);
            }
            Link::Open { next_ping, silent_since, .. } if now >= *next_ping => {
                *next_ping = now + PING;
                silent_since.get_or_insert(now);
                self.effects.push(Effect::Send(json!({"type": "ping"})));
            }
            _ => {}
        }
        self.go_on(now);
    }

    /// Has each room do what is due.
    fn go_on(&mut self, now: Duration) {
        self.part(now);
        if !self.is_open() {
            return;
        }
        for name in self.names() {
            self.with(&name, |room, username, _, wants| room.go_on(now, username, wants));
        }
    }

    fn names(&self) -> Vec<String> {
        self.rooms.iter().map(|room| room.name.clone()).collect()
    }

    fn room(&mut self, name: &str) -> Option<&mut Room> {
        self.rooms.iter_mut().find(|room| room.name == name)
    }

    /// Acts on the room in which the message with this id is unsent.
    fn with_unsent(&mut self, id: &str, act: impl FnOnce(&mut Room, &str, f64, &mut Wants)) {
        if let Some(name) = self.rooms.iter().find(|room| room.unsent.has(id)).map(|room| room.name.clone()) {
            self.with(&name, act);
        }
    }

    /// Acts on a room, with the name and a random number from 0 to 1.
    fn with(&mut self, room: &str, act: impl FnOnce(&mut Room, &str, f64, &mut Wants)) {
        let Some(room) = self.rooms.iter_mut().find(|known| known.name == room) else { return };
        let mut wants = Wants::default();
        act(room, &self.username, self.random.random(), &mut wants);
        self.effects.extend(wants.news.into_iter().map(Effect::Tell));
        self.effects.extend(wants.frames.into_iter().map(Effect::Send));
    }

    fn tell(&mut self, news: News) {
        self.effects.push(Effect::Tell(news));
    }
}
