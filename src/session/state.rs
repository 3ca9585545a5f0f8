use std::sync::Arc;

use crate::{
    broker::{PublishError, RecoverError},
    protocol::{Channel, Command, Draft, ErrorCode, Event, History, Limits, MessageId, Rejection, RoomId, Username},
};

const NO_NEW_ROOMS: &str = "the server accepts no new rooms at the moment; try again later";

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

/// One client's state: its rooms, its name in each, and what keeps it a member there (`M`).
#[derive(Debug)]
pub(super) struct Session<M> {
    rooms: Vec<Joined<M>>,
}

#[derive(Debug)]
struct Joined<M> {
    room: RoomId,
    username: Username,
    membership: M,
}

/// What to do about a frame.
#[derive(Debug)]
pub(super) enum Action<M> {
    /// Answer it with this.
    Reply(Event),
    /// Join the room; [`Session::joined`] or [`not_joined`] follows.
    Join(RoomId, Username, History),
    /// End this membership, then answer with this.
    Leave(M, Event),
    /// Publish; the hub tells the client if that succeeds, and [`not_published`] if it does not.
    Publish(Channel, Draft),
}

impl<M> Session<M> {
    /// A client that is in no room.
    pub(super) fn new() -> Self {
        Self { rooms: Vec::new() }
    }

    /// A text frame came.
    pub(super) fn receive(&mut self, text: &str, rules: &Rules) -> Result<Action<M>, Rejection> {
        match Command::decode(text, &rules.limits)? {
            Command::Join { room, username, history } => self.join(room, username, history, rules),
            Command::Leave { room } => self.leave(room),
            Command::Message { room, text, id } => self.message(room, &text, id, rules),
            Command::Broadcast { text, id } => {
                // A broadcast belongs to no room; its sender has the name of its last join.
                let username = self.rooms.last().map(|joined| &joined.username);
                let draft = Draft::new(&rules.origin_server, None, username, &text, id.as_ref());
                Ok(Action::Publish(Channel::Broadcast, draft))
            }
            Command::Ping => Ok(Action::Reply(Event::Pong)),
        }
    }

    fn join(&self, room: RoomId, username: Username, history: History, rules: &Rules) -> Result<Action<M>, Rejection> {
        if self.name_in(&room).is_some() {
            return Err(about(room, ErrorCode::AlreadyMember, "this connection is already a member of the room"));
        }
        if self.rooms.len() >= rules.max_rooms {
            let message = format!("a connection may be in at most {} rooms; leave one first", rules.max_rooms);
            return Err(Rejection { room: Some(room), ..Rejection::new(ErrorCode::TooManyRooms, message) });
        }
        Ok(Action::Join(room, username, history))
    }

    /// [`Action::Join`] succeeded; the client has been told already.
    pub(super) fn joined(&mut self, room: RoomId, username: Username, membership: M) {
        self.rooms.push(Joined { room, username, membership });
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
        text: &str,
        id: Option<MessageId>,
        rules: &Rules,
    ) -> Result<Action<M>, Rejection> {
        let (room, username) = match (room, &self.rooms[..]) {
            (Some(room), _) => match self.name_in(&room) {
                Some(username) => (room, username),
                None => {
                    let message = "only members may send to a room; join it first";
                    return Err(Rejection { id, ..about(room, ErrorCode::NotMember, message) });
                }
            },
            (None, [joined]) => (joined.room.clone(), &joined.username),
            (None, rooms) => {
                let message =
                    format!("`room` may be left out only by a client in exactly one room, not {}", rooms.len());
                return Err(Rejection { id, ..Rejection::new(ErrorCode::RoomNeeded, message) });
            }
        };
        let draft = Draft::new(&rules.origin_server, Some(&room), Some(username), text, id.as_ref());
        Ok(Action::Publish(Channel::Room(room), draft))
    }

    fn name_in(&self, room: &RoomId) -> Option<&Username> {
        self.rooms.iter().find(|joined| joined.room == *room).map(|joined| &joined.username)
    }
}

/// [`Action::Join`] failed. Returns what to tell the client.
pub(super) fn not_joined(room: RoomId, why: &RecoverError) -> Rejection {
    match why {
        RecoverError::Overloaded => about(room, ErrorCode::Overloaded, NO_NEW_ROOMS),
        RecoverError::Unavailable(_) => {
            about(room, ErrorCode::Unavailable, "the server cannot open the room at the moment; join again")
        }
    }
}

/// [`Action::Join`] succeeded, but the requested history could not be read to its end. Returns what to tell the client,
/// which goes on from what it got.
pub(super) fn put_out(room: RoomId) -> Event {
    Event::Left { room, reason: Some(ErrorCode::Unavailable.as_str()) }
}

/// [`Action::Publish`] failed. Returns what to tell the client.
pub(super) fn not_published(channel: &Channel, id: Option<MessageId>, why: &PublishError) -> Rejection {
    let rejection = match why {
        PublishError::IdConflict => {
            Rejection::new(ErrorCode::IdConflict, "this `id` belongs to another message; ids must be unique")
        }
        PublishError::Overloaded => Rejection::new(ErrorCode::Overloaded, NO_NEW_ROOMS),
        PublishError::Unavailable(_) => Rejection::new(
            ErrorCode::Unavailable,
            "the message may not have been kept; send it again with the same `id`",
        ),
    };
    Rejection { id, room: channel.room().cloned(), ..rejection }
}

fn about(room: RoomId, code: ErrorCode, message: &'static str) -> Rejection {
    Rejection { room: Some(room), ..Rejection::new(code, message) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::Unavailable;

    fn rules() -> Rules {
        let limits = Limits { room: 128, username: 64, id: 64, text: 100 };
        Rules { origin_server: "a:1".into(), limits, max_rooms: 2 }
    }

    fn joined(rooms: &[&str]) -> Session<()> {
        let mut session = Session::new();
        for room in rooms {
            let frame = format!(r#"{{"type":"join","room":"{room}","username":"in-{room}"}}"#);
            let Ok(Action::Join(room, username, History::None)) = session.receive(&frame, &rules()) else {
                panic!("{room}")
            };
            session.joined(room, username, ());
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
        let mut session: Session<()> = Session::new();
        let frame = r#"{"type":"join","room":"a","username":"u"}"#;
        let Ok(Action::Join(room, ..)) = session.receive(frame, &rules()) else { panic!("refused") };
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
        assert!(!tail(&mut Session::new(), frame).contains("username"));
        assert!(tail(&mut joined(&["a", "b"]), frame).contains(r#""username":"in-b""#));
    }

    #[test]
    fn what_was_not_published_is_told_by_its_id_and_room() {
        let (room, id) = (RoomId::parse("a", 9).unwrap(), MessageId::parse("7", 9).unwrap());
        let told = not_published(&Channel::Room(room.clone()), Some(id.clone()), &PublishError::IdConflict);
        assert_eq!((told.code, told.id, told.room), (ErrorCode::IdConflict, Some(id), Some(room)));
        let told = not_published(&Channel::Broadcast, None, &PublishError::Overloaded);
        assert_eq!((told.code, told.id, told.room), (ErrorCode::Overloaded, None, None));
    }
}
