//! What the server says to a client, except `message` and `broadcast`, which are envelopes.

use std::{borrow::Cow, sync::Arc};

use serde::Serialize;

use super::{Action, Epoch, ErrorCode, Frame, MessageId, Position, ResetReason, Right, RoomId, Username};

/// An answer or a notice to one client, or to the members of one room.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs, reason = "docs/protocol.md documents each field, and a test parses its examples")]
pub enum Event {
    /// The client is a member of the room and gets every message after this position. A room that keeps no history has no
    /// positions, here and in all other events.
    Joined {
        room: RoomId,
        #[serde(flatten)]
        position: Option<Position>,
        /// The last `seq` of the requested history, in the room's current epoch; later messages are live. Only if any
        /// of that history follows.
        #[serde(skip_serializing_if = "Option::is_none")]
        until: Option<u64>,
        members: usize,
        /// The server that this connection leads to.
        #[serde(rename = "originServer")]
        origin_server: Arc<str>,
        /// Whether everything that the client missed follows without a gap; only if it gave its position.
        #[serde(skip_serializing_if = "Option::is_none")]
        resumed: Option<bool>,
    },
    /// The client is no longer a member of the room; nothing of that room follows.
    Left {
        room: RoomId,
        /// Why the server ended the membership; absent if the client asked for it.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'static str>,
    },
    /// The message called `id` is kept by the broker, at this position.
    Ack {
        id: MessageId,
        #[serde(skip_serializing_if = "Option::is_none")]
        room: Option<RoomId>,
        #[serde(flatten)]
        position: Option<Position>,
    },
    /// Messages up to `seq` that were not delivered are lost; the stream goes on from there.
    Reset {
        #[serde(skip_serializing_if = "Option::is_none")]
        room: Option<RoomId>,
        #[serde(flatten)]
        position: Option<Position>,
        reason: ResetReason,
    },
    /// The server refused something that the client sent.
    Error {
        code: ErrorCode,
        message: Cow<'static, str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<MessageId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        room: Option<RoomId>,
        /// With `forbidden`, the right that was missing.
        #[serde(skip_serializing_if = "Option::is_none")]
        right: Option<Right>,
        /// With `rate_limited`, after which time to try again.
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
    /// The client's token is true.
    Authenticated {
        username: Username,
        /// How long the token is still good, in milliseconds; absent if it does not end.
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_ms: Option<u64>,
        /// The rooms that the server joins for the client; a `joined` for each follows.
        rooms: Vec<RoomId>,
    },
    /// The client's token ends after this time. The server closes the connection then, unless another token comes.
    Expiring { in_ms: u64 },
    /// What was said in a room before the position that the client named, or last.
    History {
        room: RoomId,
        /// Of which epoch the messages are; absent if the room has no log.
        #[serde(skip_serializing_if = "Option::is_none")]
        epoch: Option<Epoch>,
        /// In rising order.
        messages: Vec<Frame>,
        /// Whether the log has still earlier ones.
        has_more: bool,
    },
    /// A measure holds.
    Moderated {
        #[serde(skip_serializing_if = "Option::is_none")]
        room: Option<RoomId>,
        action: Action,
        #[serde(skip_serializing_if = "Option::is_none")]
        username: Option<Username>,
        /// How long it lasts; for slow mode, the pause. Absent: until it is taken back.
        #[serde(skip_serializing_if = "Option::is_none")]
        seconds: Option<u64>,
    },
    /// This server stops, and closes the connection after this time; the client should then come back.
    Reconnect { after_ms: u64, reason: &'static str },
    /// The answer to a `ping`.
    Pong,
}

impl Event {
    /// The event as the frame that goes to clients.
    pub fn encode(&self) -> Frame {
        serde_json::to_string(self).expect("an event has only strings, numbers and frames").into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_says_its_type_and_leaves_out_what_it_does_not_have() {
        let id = MessageId::parse("m1", 10).unwrap();
        let ack = |position| Event::Ack { id: id.clone(), room: None, position }.encode();
        let placed = ack(Some(Position::new(Epoch(10), 7)));
        assert_eq!(placed.as_bytes(), br#"{"type":"ack","id":"m1","epoch":"000000000000000a","seq":7}"#);
        assert_eq!(ack(None).as_bytes(), br#"{"type":"ack","id":"m1"}"#);
        assert_eq!(Event::Pong.encode().as_bytes(), br#"{"type":"pong"}"#);
    }
}
