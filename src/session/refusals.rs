//! What a client is told when something does not happen: in the words of an `error` or of a `left`.

use std::time::Duration;

use crate::{
    broker::{FOR_EVER, ModerateError, PublishError, RecoverError, unix_millis},
    protocol::{Channel, Command, ErrorCode, Event, MessageId, Rejection, Right, RoomId},
};

const NO_NEW_ROOMS: &str = "the server accepts no new rooms at the moment; try again later";

/// A moderator has removed the user from a room. Returns what to tell the client.
pub(super) fn kicked(room: RoomId, banned: bool) -> Event {
    Event::Left { room, reason: Some(if banned { ErrorCode::Banned.as_str() } else { "kicked" }) }
}

/// [`Action::Join`](super::state::Action::Join) failed. Returns what to tell the client.
pub(super) fn not_joined(room: RoomId, why: &RecoverError) -> Rejection {
    match why {
        RecoverError::Overloaded => about(room, ErrorCode::Overloaded, NO_NEW_ROOMS),
        RecoverError::Unavailable(_) => {
            about(room, ErrorCode::Unavailable, "the server cannot open the room at the moment; join again")
        }
    }
}

/// [`Action::Join`](super::state::Action::Join) succeeded, but the requested history could not be read to its end. Returns what to tell the client,
/// which goes on from what it got.
pub(super) fn put_out(room: RoomId) -> Event {
    Event::Left { room, reason: Some(ErrorCode::Unavailable.as_str()) }
}

/// A message was not published. Returns what to tell its sender.
pub fn not_published(channel: &Channel, id: Option<MessageId>, why: &PublishError) -> Rejection {
    let rejection = match why {
        PublishError::IdConflict => {
            Rejection::new(ErrorCode::IdConflict, "this `id` belongs to another message; ids must be unique")
        }
        PublishError::Overloaded => Rejection::new(ErrorCode::Overloaded, NO_NEW_ROOMS),
        PublishError::Muted(until) => muted(left(*until)),
        PublishError::Banned(until) => banned(*until),
        PublishError::SlowMode(wait) => {
            let message = format!("this room is slow; say the next thing after {} s", wait.as_secs() + 1);
            let retry_after_ms = u64::try_from(wait.as_millis()).ok();
            Rejection { retry_after_ms, ..Rejection::new(ErrorCode::SlowMode, message) }
        }
        PublishError::Unavailable(_) => Rejection::new(
            ErrorCode::Unavailable,
            "the message may not have been kept; send it again with the same `id`",
        ),
    };
    Rejection { id, room: channel.room().cloned(), ..rejection }
}

/// [`Action::Signal`](super::state::Action::Signal) failed. Returns what to tell the client, if anything: a signal that got lost is no error.
pub(super) fn not_signalled(room: RoomId, why: &PublishError) -> Option<Rejection> {
    let channel = Channel::Room(room);
    (!matches!(why, PublishError::Unavailable(_))).then(|| not_published(&channel, None, why))
}

/// [`Action::ReadBack`](super::state::Action::ReadBack) failed. Returns what to tell the client.
pub(super) fn not_read(room: RoomId) -> Rejection {
    about(room, ErrorCode::Unavailable, "the server cannot read what was said at the moment; try again")
}

/// [`Action::Moderate`](super::state::Action::Moderate) failed. Returns what to tell the client.
pub(super) fn not_moderated(why: &ModerateError) -> Rejection {
    match why {
        ModerateError::Full => {
            let message = "this room has as many mutes and bans as it may; end some first";
            Rejection::new(ErrorCode::Overloaded, message)
        }
        ModerateError::Unavailable(_) => Rejection::new(ErrorCode::Unavailable, "this may not hold yet; try again"),
    }
}

/// A moderator has muted the user for so long.
pub fn muted(left: Option<Duration>) -> Rejection {
    let retry_after_ms = left.and_then(|left| u64::try_from(left.as_millis()).ok());
    Rejection { retry_after_ms, ..Rejection::new(ErrorCode::Muted, "a moderator has muted you") }
}

/// A moderator has banned the user from the room until then.
pub fn banned(until: u64) -> Rejection {
    let rejection = Rejection::new(ErrorCode::Banned, "a moderator has banned you from this room");
    Rejection { retry_after_ms: left(until).and_then(|left| u64::try_from(left.as_millis()).ok()), ..rejection }
}

/// How long it is until then; `None` for one that never comes.
fn left(until: u64) -> Option<Duration> {
    (until < FOR_EVER).then(|| Duration::from_millis(until.saturating_sub(unix_millis())))
}

/// A right is missing.
pub(super) fn forbidden(right: Right, room: Option<RoomId>) -> Rejection {
    let message = format!("this needs the right `{}`, which you do not have here", right.as_str());
    Rejection { room, right: Some(right), ..Rejection::new(ErrorCode::Forbidden, message) }
}

/// The rejection of this command, with the message and the room that it is about.
pub(super) fn concerning(command: Command<'_>, rejection: Rejection) -> Rejection {
    let (room, id) = match command {
        Command::Join { room, .. } | Command::Leave { room } => (Some(room), None),
        Command::Message { room, id, .. } => (room, id),
        Command::Broadcast { id, .. } => (None, id),
        Command::Signal { room, .. } | Command::History { room, .. } | Command::Moderate { room, .. } => (room, None),
        Command::Auth { .. } | Command::Ping => (None, None),
    };
    Rejection { room, id, ..rejection }
}

/// What is wrong with this room.
pub(super) fn about(room: RoomId, code: ErrorCode, message: &'static str) -> Rejection {
    Rejection { room: Some(room), ..Rejection::new(code, message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_published_is_told_by_its_id_and_room() {
        let (room, id) = (RoomId::parse("a", 9).unwrap(), MessageId::parse("7", 9).unwrap());
        let told = not_published(&Channel::Room(room.clone()), Some(id.clone()), &PublishError::IdConflict);
        assert_eq!((told.code, told.id, told.room), (ErrorCode::IdConflict, Some(id), Some(room)));
        let told = not_published(&Channel::Broadcast, None, &PublishError::Overloaded);
        assert_eq!((told.code, told.id, told.room), (ErrorCode::Overloaded, None, None));
    }
}
