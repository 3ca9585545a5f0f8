use std::{collections::VecDeque, sync::Arc};

use super::refusals::{about, concerning, forbidden, kicked};

use crate::{
    access::{Pass, Rights, Sanctions},
    protocol::{
        Channel, Command, Content, Draft, ErrorCode, Event, History, Limits, Measure, MessageId, Position, Rejection,
        Right, RoomId, Username,
    },
};

/// How many messages `history` has if the client does not say how many.
const PAGE: u64 = 50;

/// What holds for every session of a server.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The name of this server in the messages of its clients.
    pub origin_server: Arc<str>,
    /// The bounds on what clients may send.
    pub limits: Limits,
    /// Most rooms that one connection may be in.
    pub max_rooms: usize,
}

/// One client's state: what it may do, its rooms, its name in each, and what keeps it a member there (`M`).
#[derive(Debug)]
pub(super) struct Session<M> {
    /// `None` for a client that has to show a token before anything else.
    pass: Option<Arc<Pass>>,
    rooms: Vec<Joined<M>>,
    /// Rooms that the server still has to join for it.
    to_join: VecDeque<RoomId>,
}

#[derive(Debug)]
struct Joined<M> {
    room: RoomId,
    username: Username,
    rights: Rights,
    /// Whether the server has joined it for the client, which may then join it once more from its position.
    by_server: bool,
    membership: M,
}

/// A room to join, and how.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) room: RoomId,
    pub(super) username: Username,
    pub(super) history: History,
    /// Whether the server joins it for the client.
    pub(super) by_server: bool,
}

/// What to do about a frame.
#[derive(Debug)]
pub(super) enum Action<M> {
    /// Answer it with this.
    Reply(Event),
    /// Check this token; [`Session::admit`] follows, or the end.
    Authenticate(String),
    /// End this membership of the same room, if there is one, and join; [`Session::joined`] or [`not_joined`](super::refusals::not_joined) follows.
    Join(Entry, Option<M>),
    /// End this membership, then answer with this.
    Leave(M, Event),
    /// Take this measure, in the name of this user; the answer is for when it holds.
    Moderate(Option<RoomId>, Measure, Username, Event),
    /// Publish; the hub tells the client if that succeeds, and [`not_published`](super::refusals::not_published) if it does not.
    Publish(Channel, Draft),
    /// Tell the other members of the room; [`not_signalled`](super::refusals::not_signalled) if that is not allowed.
    Signal(RoomId, Draft),
    /// Answer with at most so many messages of this room before this position, or the last ones; [`not_read`](super::refusals::not_read) if that is
    /// not possible. The user, if it is known, must not be banned there.
    ReadBack { room: RoomId, user: Option<Username>, before: Option<Position>, limit: u64 },
}

/// A token is of somebody else than the one before, whose rooms and messages these are.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AnotherUser;

impl<M> Session<M> {
    /// A client that is in no room.
    pub(super) fn new(pass: Option<Arc<Pass>>) -> Self {
        let to_join = pass.iter().flat_map(|pass| pass.auto_join.iter().cloned()).collect();
        Self { pass, rooms: Vec::new(), to_join }
    }

    /// What the client may do, once it is known.
    pub(super) fn pass(&self) -> Option<&Arc<Pass>> {
        self.pass.as_ref()
    }

    /// Whether this is the client's user or, without a token, its name in some room.
    pub(super) fn is_of(&self, user: &str) -> bool {
        match self.pass.as_ref().and_then(|pass| pass.user.as_ref()) {
            Some(own) => own.as_str() == user,
            None => self.rooms.iter().any(|joined| joined.username.as_str() == user),
        }
    }

    /// The client has shown a true token: from now on it has this pass. Returns the memberships that it no longer
    /// allows, each with what to tell the client; all others stay as they are.
    ///
    /// # Errors
    /// If it had shown a token of another user before.
    pub(super) fn admit(&mut self, pass: Arc<Pass>) -> Result<Vec<(M, Event)>, AnotherUser> {
        let before = self.pass.as_ref().and_then(|pass| pass.user.as_ref());
        if before.is_some() && before != pass.user.as_ref() {
            return Err(AnotherUser);
        }
        let (mut kept, mut ended) = (Vec::new(), Vec::new());
        for mut joined in self.rooms.drain(..) {
            joined.rights = pass.in_room(&joined.room);
            // Somebody without a token may have taken another name.
            if joined.rights.has(Right::Join) && pass.user.as_ref() == Some(&joined.username) {
                kept.push(joined);
            } else {
                let reason = Some(ErrorCode::Forbidden.as_str());
                ended.push((joined.membership, Event::Left { room: joined.room, reason }));
            }
        }
        self.rooms = kept;
        self.to_join = pass.auto_join.iter().filter(|room| self.joined_in(room).is_none()).cloned().collect();
        self.pass = Some(pass);
        Ok(ended)
    }

    /// The next room that the server has to join for the client. Whoever takes it joins it, or gives it back with
    /// [`join_later`](Self::join_later).
    pub(super) fn next_to_join(&mut self, rules: &Rules) -> Option<Result<Entry, Rejection>> {
        let username = self.pass.as_ref()?.user.clone()?;
        let room = loop {
            let room = self.to_join.pop_front()?;
            if self.joined_in(&room).is_none() {
                break room;
            }
        };
        let entry = Entry { room: room.clone(), username, history: History::None, by_server: true };
        Some(self.has_place(&room, rules).map(|()| entry))
    }

    /// The server could not join this room for the client yet.
    pub(super) fn join_later(&mut self, room: RoomId) {
        self.to_join.push_back(room);
    }

    /// A text frame came.
    pub(super) fn receive(&mut self, text: &str, rules: &Rules) -> Result<Action<M>, Rejection> {
        self.obey(Command::decode(text, &rules.limits)?, rules)
    }

    /// The client wants this.
    pub(super) fn obey(&mut self, command: Command<'_>, rules: &Rules) -> Result<Action<M>, Rejection> {
        let pass = match (&self.pass, &command) {
            (Some(pass), _) => pass.clone(),
            (None, Command::Auth { .. } | Command::Ping) => Arc::default(),
            (None, _) => {
                let message = "show who you are first: send {\"type\":\"auth\",\"token\":…}";
                return Err(concerning(command, Rejection::new(ErrorCode::Unauthorized, message)));
            }
        };
        match command {
            Command::Auth { token } => Ok(Action::Authenticate(token.into_owned())),
            Command::Join { room, username, history } => self.join(&pass, room, username, history, rules),
            Command::Leave { room } => self.leave(room),
            Command::Message { room, content, id } => self.message(room, &content, id, rules),
            Command::Signal { room, content } => {
                let joined = self.member_of(room)?;
                let room = joined.room.clone();
                if !joined.rights.has(Right::Signal) {
                    return Err(forbidden(Right::Signal, Some(room)));
                }
                let draft = Draft::signal(&rules.origin_server, &room, Some(&joined.username), &content);
                Ok(Action::Signal(room, draft))
            }
            Command::History { room, before, limit } => {
                let room = match room {
                    Some(room) => room,
                    None => self.member_of(None)?.room.clone(),
                };
                if !pass.in_room(&room).has(Right::History) {
                    return Err(forbidden(Right::History, Some(room)));
                }
                let user = self.joined_in(&room).map(|joined| joined.username.clone()).or_else(|| pass.user.clone());
                Ok(Action::ReadBack { room, user, before, limit: limit.unwrap_or(PAGE) })
            }
            Command::Broadcast { content, id } => {
                if !pass.grants.may_broadcast() {
                    return Err(Rejection { id, ..forbidden(Right::Broadcast, None) });
                }
                // A broadcast belongs to no room; without a token, its sender has the name of its last join.
                let username = pass.user.as_ref().or_else(|| self.rooms.last().map(|joined| &joined.username));
                let draft = Draft::new(&rules.origin_server, None, username, &content, id.as_ref());
                Ok(Action::Publish(Channel::Broadcast, draft))
            }
            Command::Moderate { room, measure } => moderate(&pass, room, measure),
            Command::Ping => Ok(Action::Reply(Event::Pong)),
        }
    }

    /// Ends the memberships from which this user is kicked by what holds now and did not before. Returns each with what to
    /// tell the client.
    pub(super) fn kick(&mut self, before: &Sanctions, now: &Sanctions) -> Vec<(M, Event)> {
        let (mut kept, mut ended) = (Vec::new(), Vec::new());
        for joined in self.rooms.drain(..) {
            match now.new_kick(before, &joined.room, &joined.username) {
                Some(banned) => ended.push((joined.membership, kicked(joined.room, banned))),
                None => kept.push(joined),
            }
        }
        self.rooms = kept;
        ended
    }

    fn join(
        &mut self,
        pass: &Pass,
        room: RoomId,
        username: Option<Username>,
        history: History,
        rules: &Rules,
    ) -> Result<Action<M>, Rejection> {
        let username = match (&pass.user, username) {
            (Some(user), Some(name)) if name != *user => {
                let message = "`username` must be the one of the token; leave it out";
                return Err(about(room, ErrorCode::Forbidden, message));
            }
            (Some(user), _) => user.clone(),
            (None, Some(name)) => name,
            (None, None) => return Err(about(room, ErrorCode::MissingField, "`username` is missing")),
        };
        let rights = pass.in_room(&room);
        if !rights.has(Right::Join) {
            return Err(forbidden(Right::Join, Some(room)));
        }
        if history != History::None && !rights.has(Right::History) {
            return Err(forbidden(Right::History, Some(room)));
        }
        let entry = |room| Entry { room, username, history, by_server: false };
        if let Some(index) = self.rooms.iter().position(|joined| joined.room == room) {
            // The client could not say from where on it wants a room that the server joined for it.
            if !self.rooms[index].by_server || history == History::None {
                return Err(about(room, ErrorCode::AlreadyMember, "this connection is already a member of the room"));
            }
            let membership = self.rooms.remove(index).membership;
            return Ok(Action::Join(entry(room), Some(membership)));
        }
        self.has_place(&room, rules)?;
        // The client does itself what the server was about to do.
        self.to_join.retain(|waiting| *waiting != room);
        Ok(Action::Join(entry(room), None))
    }

    fn has_place(&self, room: &RoomId, rules: &Rules) -> Result<(), Rejection> {
        if self.rooms.len() < rules.max_rooms {
            return Ok(());
        }
        let message = format!("a connection may be in at most {} rooms; leave one first", rules.max_rooms);
        Err(Rejection { room: Some(room.clone()), ..Rejection::new(ErrorCode::TooManyRooms, message) })
    }

    /// [`Action::Join`] succeeded; the client has been told already.
    pub(super) fn joined(&mut self, entry: Entry, membership: M) {
        let Entry { room, username, by_server, .. } = entry;
        let rights = self.pass.as_ref().map_or(Rights::NONE, |pass| pass.in_room(&room));
        self.rooms.push(Joined { room, username, rights, by_server, membership });
    }

    /// Whether the client is in any room.
    pub(super) fn is_in_a_room(&self) -> bool {
        !self.rooms.is_empty()
    }

    /// Ends all memberships.
    pub(super) fn leave_all(&mut self) {
        self.rooms.clear();
    }

    fn leave(&mut self, room: RoomId) -> Result<Action<M>, Rejection> {
        let Some(index) = self.rooms.iter().position(|joined| joined.room == room) else {
            return Err(about(room, ErrorCode::NotMember, "this connection is not a member of the room"));
        };
        let membership = self.rooms.remove(index).membership;
        Ok(Action::Leave(membership, Event::Left { room, reason: None }))
    }

    fn message(
        &self,
        room: Option<RoomId>,
        content: &Content<'_>,
        id: Option<MessageId>,
        rules: &Rules,
    ) -> Result<Action<M>, Rejection> {
        let joined = match self.member_of(room) {
            Ok(joined) => joined,
            Err(rejection) => return Err(Rejection { id, ..rejection }),
        };
        let room = joined.room.clone();
        if !joined.rights.has(Right::Send) {
            return Err(Rejection { id, ..forbidden(Right::Send, Some(room)) });
        }
        let draft = Draft::new(&rules.origin_server, Some(&room), Some(&joined.username), content, id.as_ref());
        let draft = draft.by_moderator(self.pass.as_ref().is_some_and(|pass| pass.grants.may_moderate(&room)));
        Ok(Action::Publish(Channel::Room(room), draft))
    }

    /// The membership in this room, or without one in the only room.
    fn member_of(&self, room: Option<RoomId>) -> Result<&Joined<M>, Rejection> {
        match (room, &self.rooms[..]) {
            (Some(room), _) => {
                let message = "only members may send to a room; join it first";
                self.joined_in(&room).ok_or_else(|| about(room, ErrorCode::NotMember, message))
            }
            (None, [joined]) => Ok(joined),
            (None, rooms) => {
                let message =
                    format!("`room` may be left out only by a client in exactly one room, not {}", rooms.len());
                Err(Rejection::new(ErrorCode::RoomNeeded, message))
            }
        }
    }

    fn joined_in(&self, room: &RoomId) -> Option<&Joined<M>> {
        self.rooms.iter().find(|joined| joined.room == *room)
    }
}

/// Whether the client may take this measure, and what it is told when it holds.
fn moderate<M>(pass: &Pass, room: Option<RoomId>, measure: Measure) -> Result<Action<M>, Rejection> {
    let may = match &room {
        Some(room) => pass.grants.may_moderate(room),
        None => pass.grants.may_moderate_all(),
    };
    // Somebody without a token has no name of its own to answer for it.
    let Some(by) = pass.user.clone().filter(|_| may) else { return Err(forbidden(Right::Moderate, room)) };
    let Measure { action, username, time } = &measure;
    let seconds = time.map(|time| time.as_secs());
    let event = Event::Moderated { room: room.clone(), action: *action, username: username.clone(), seconds };
    Ok(Action::Moderate(room, measure, by, event))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::refusals::not_joined;
    use super::*;
    use crate::{
        access::Permissions,
        broker::{RecoverError, Unavailable},
    };

    fn rules() -> Rules {
        let limits = Limits { room: 128, username: 64, id: 64, text: 100 };
        Rules { origin_server: "a:1".into(), limits, max_rooms: 2 }
    }

    /// A client that may do what this claim says, with the name of a user or without one.
    fn session(user: Option<&str>, claim: &serde_json::Value) -> Session<()> {
        Session::new(Some(pass(user, claim)))
    }

    fn pass(user: Option<&str>, claim: &serde_json::Value) -> Arc<Pass> {
        let Permissions { grants, auto_join, .. } = Permissions::read(claim, 128).unwrap();
        let user = user.map(|name| Username::parse(name, 64).unwrap());
        Arc::new(Pass { user, grants, auto_join, ..Pass::default() })
    }

    /// A client without a token, where anybody may do all.
    fn anybody() -> Session<()> {
        session(None, &json!({"rooms": {"*": ["*"]}, "broadcast": true}))
    }

    /// Has a client join a room, as another succeeds to.
    fn join(session: &mut Session<()>, frame: &str) -> Username {
        let Ok(Action::Join(entry, _)) = session.receive(frame, &rules()) else { panic!("{frame}") };
        let username = entry.username.clone();
        session.joined(entry, ());
        username
    }

    fn joined(rooms: &[&str]) -> Session<()> {
        let mut session = anybody();
        for room in rooms {
            join(&mut session, &format!(r#"{{"type":"join","room":"{room}","username":"in-{room}"}}"#));
        }
        session
    }

    fn code(session: &mut Session<()>, frame: &str) -> ErrorCode {
        session.receive(frame, &rules()).expect_err(frame).code
    }

    fn tail(session: &mut Session<()>, frame: &str) -> String {
        let Ok(Action::Publish(_, draft)) = session.receive(frame, &rules()) else { panic!("{frame}") };
        draft.tail().to_owned()
    }

    #[test]
    fn a_failed_join_leaves_the_client_outside() {
        let mut session = anybody();
        let frame = r#"{"type":"join","room":"a","username":"u"}"#;
        let Ok(Action::Join(Entry { room, .. }, None)) = session.receive(frame, &rules()) else { panic!("refused") };
        let unavailable = RecoverError::Unavailable(Unavailable("away".into()));
        for (why, code) in [(unavailable, ErrorCode::Unavailable), (RecoverError::Overloaded, ErrorCode::Overloaded)] {
            let rejection = not_joined(room.clone(), &why);
            assert_eq!((rejection.code, rejection.room.unwrap().as_str()), (code, "a"));
        }
        assert_eq!(code(&mut session, r#"{"type":"leave","room":"a"}"#), ErrorCode::NotMember);
    }

    #[test]
    fn membership_decides_what_may_be_sent() {
        let mut session = joined(&["a"]);
        assert!(tail(&mut session, r#"{"type":"message","text":"x"}"#).contains(r#""room":"a","username":"in-a""#));
        assert_eq!(code(&mut session, r#"{"type":"message","room":"b","text":"x"}"#), ErrorCode::NotMember);
        assert_eq!(code(&mut session, r#"{"type":"join","room":"a","username":"u"}"#), ErrorCode::AlreadyMember);
        let mut session = joined(&["a", "b"]);
        assert_eq!(code(&mut session, r#"{"type":"message","text":"x"}"#), ErrorCode::RoomNeeded);
        assert_eq!(code(&mut session, r#"{"type":"join","room":"c","username":"u"}"#), ErrorCode::TooManyRooms);
        assert!(tail(&mut session, r#"{"type":"message","room":"b","text":"x"}"#).contains(r#""username":"in-b""#));
        assert!(matches!(session.receive(r#"{"type":"leave","room":"b"}"#, &rules()), Ok(Action::Leave(..))));
        assert_eq!(code(&mut session, r#"{"type":"message","room":"b","text":"x"}"#), ErrorCode::NotMember);
    }

    #[test]
    fn a_broadcast_carries_the_name_taken_last_if_any() {
        let frame = r#"{"type":"broadcast","text":"x"}"#;
        assert!(!tail(&mut anybody(), frame).contains("username"));
        assert!(tail(&mut joined(&["a", "b"]), frame).contains(r#""username":"in-b""#));
    }

    /// The code of a refusal, and the right that was missing.
    fn refused(session: &mut Session<()>, frame: &str) -> (ErrorCode, Option<Right>) {
        let rejection = session.receive(frame, &rules()).expect_err(frame);
        (rejection.code, rejection.right)
    }

    #[test]
    fn who_has_to_show_a_token_may_do_nothing_else() {
        let mut session: Session<()> = Session::new(None);
        for frame in [
            r#"{"type":"join","room":"a","username":"u"}"#,
            r#"{"type":"broadcast","text":"x"}"#,
            r#"{"type":"message","room":"a","text":"x"}"#,
            r#"{"type":"leave","room":"a"}"#,
        ] {
            assert_eq!(refused(&mut session, frame), (ErrorCode::Unauthorized, None), "{frame}");
        }
        let rejection = session.receive(r#"{"type":"message","room":"a","text":"x","id":"7"}"#, &rules()).unwrap_err();
        assert_eq!((rejection.id.unwrap().as_str(), rejection.room.unwrap().as_str()), ("7", "a"));
        assert!(matches!(session.receive(r#"{"type":"ping"}"#, &rules()), Ok(Action::Reply(Event::Pong))));
        let Ok(Action::Authenticate(token)) = session.receive(r#"{"type":"auth","token":"t"}"#, &rules()) else {
            panic!("refused")
        };
        assert_eq!(token, "t");
    }

    #[test]
    fn what_no_grant_allows_is_forbidden_and_the_missing_right_is_named() {
        let mut session =
            session(Some("ann"), &json!({"rooms": {"quiet": ["join"], "open": ["join", "send", "history"]}}));
        for (frame, right) in [
            (r#"{"type":"join","room":"other"}"#, Right::Join),
            (r#"{"type":"join","room":"@ann:x"}"#, Right::Join),
            (r#"{"type":"join","room":"quiet","last":1}"#, Right::History),
            (r#"{"type":"join","room":"quiet","after":{"epoch":"000000000000000a","seq":1}}"#, Right::History),
            (r#"{"type":"broadcast","text":"x"}"#, Right::Broadcast),
        ] {
            assert_eq!(refused(&mut session, frame), (ErrorCode::Forbidden, Some(right)), "{frame}");
        }
        assert_eq!(join(&mut session, r#"{"type":"join","room":"quiet"}"#).as_str(), "ann");
        let frame = r#"{"type":"message","room":"quiet","text":"x"}"#;
        assert_eq!(refused(&mut session, frame), (ErrorCode::Forbidden, Some(Right::Send)));
        join(&mut session, r#"{"type":"join","room":"open","username":"ann","last":1}"#);
        assert!(tail(&mut session, r#"{"type":"message","room":"open","text":"x"}"#).contains(r#""username":"ann""#));
    }

    #[test]
    fn a_signal_needs_its_right_and_a_membership_and_history_only_its_right() {
        let mut session =
            session(Some("ann"), &json!({"rooms": {"a": ["join", "signal"], "b": ["history"], "c": ["join"]}}));
        for room in ["a", "c"] {
            join(&mut session, &format!(r#"{{"type":"join","room":"{room}"}}"#));
        }
        let signal = |room| format!(r#"{{"type":"signal","room":"{room}","event":"typing"}}"#);
        let Ok(Action::Signal(room, draft)) = session.receive(&signal("a"), &rules()) else { panic!("refused") };
        assert_eq!((room.as_str(), draft.speaker().map(Username::as_str)), ("a", Some("ann")));
        assert_eq!(refused(&mut session, &signal("c")), (ErrorCode::Forbidden, Some(Right::Signal)));
        assert_eq!(refused(&mut session, &signal("b")), (ErrorCode::NotMember, None));
        let history = |room| format!(r#"{{"type":"history","room":"{room}"}}"#);
        assert!(matches!(
            session.receive(&history("b"), &rules()),
            Ok(Action::ReadBack { user: Some(user), before: None, limit: PAGE, .. }) if user.as_str() == "ann"
        ));
        assert_eq!(refused(&mut session, &history("a")), (ErrorCode::Forbidden, Some(Right::History)));
        assert_eq!(refused(&mut session, r#"{"type":"history"}"#), (ErrorCode::RoomNeeded, None));
    }

    #[test]
    fn nobody_takes_another_name_than_the_tokens() {
        let mut with_token = session(Some("ann"), &json!({"rooms": {"*": ["*"]}, "broadcast": true}));
        let frame = r#"{"type":"join","room":"a","username":"bob"}"#;
        assert_eq!(refused(&mut with_token, frame), (ErrorCode::Forbidden, None));
        assert!(tail(&mut with_token, r#"{"type":"broadcast","text":"x"}"#).contains(r#""username":"ann""#));
        let frame = r#"{"type":"join","room":"a"}"#;
        assert_eq!(code(&mut anybody(), frame), ErrorCode::MissingField);
        assert_eq!(join(&mut with_token, r#"{"type":"join","room":"@ann"}"#).as_str(), "ann");
    }

    #[test]
    fn another_token_ends_just_what_it_no_longer_allows() {
        let mut session = session(Some("ann"), &json!({"rooms": {"a": ["*"], "b": ["*"]}}));
        for room in ["a", "b"] {
            join(&mut session, &format!(r#"{{"type":"join","room":"{room}"}}"#));
        }
        assert_eq!(session.admit(pass(Some("bob"), &json!({}))).unwrap_err(), AnotherUser);
        let ended = session.admit(pass(Some("ann"), &json!({"rooms": {"a": ["join"]}}))).unwrap();
        let [((), Event::Left { room, reason })] = &ended[..] else { panic!("{ended:?}") };
        assert_eq!((room.as_str(), *reason), ("b", Some("forbidden")));
        let frame = r#"{"type":"message","room":"a","text":"x"}"#;
        assert_eq!(refused(&mut session, frame), (ErrorCode::Forbidden, Some(Right::Send)));
    }

    #[test]
    fn who_shows_a_token_late_keeps_the_rooms_in_which_it_has_that_name() {
        let mut session = anybody();
        join(&mut session, r#"{"type":"join","room":"a","username":"ann"}"#);
        join(&mut session, r#"{"type":"join","room":"b","username":"eve"}"#);
        let ended = session.admit(pass(Some("ann"), &json!({"rooms": {"*": ["*"]}}))).unwrap();
        assert_eq!(ended.len(), 1);
        assert_eq!(code(&mut session, r#"{"type":"message","room":"b","text":"x"}"#), ErrorCode::NotMember);
    }

    #[test]
    fn the_server_joins_rooms_for_a_client_which_may_then_say_from_where_on_it_wants_them() {
        let claim = json!({"rooms": {"a": ["history"]}, "auto_join": ["a", "b", "c"]});
        let mut session = session(Some("ann"), &claim);
        for room in ["a", "b"] {
            let entry = session.next_to_join(&rules()).unwrap().unwrap();
            assert_eq!((entry.room.as_str(), entry.username.as_str()), (room, "ann"));
            session.joined(entry, ());
        }
        let rejection = session.next_to_join(&rules()).unwrap().unwrap_err();
        assert_eq!((rejection.code, rejection.room.unwrap().as_str()), (ErrorCode::TooManyRooms, "c"));
        assert!(session.next_to_join(&rules()).is_none());
        assert_eq!(code(&mut session, r#"{"type":"join","room":"a"}"#), ErrorCode::AlreadyMember);
        let frame = r#"{"type":"join","room":"a","last":5}"#;
        let Ok(Action::Join(entry, Some(()))) = session.receive(frame, &rules()) else { panic!("refused") };
        session.joined(entry, ());
        assert_eq!(code(&mut session, frame), ErrorCode::AlreadyMember);
        // With the same token once more, nothing is joined twice.
        session.admit(pass(Some("ann"), &json!({"auto_join": ["a", "b"]}))).unwrap();
        assert!(session.next_to_join(&rules()).is_none());
    }
}
