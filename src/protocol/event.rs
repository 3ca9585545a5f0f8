//! What the server says to a client, but for `message` and `broadcast`, which are envelopes.

use serde::Serialize;

use super::{Epoch, ErrorCode, Frame, MessageId, RoomId};

/// A position as it stands in an event; empty in a room that keeps no history and so has none.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct Place {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<Epoch>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
}

/// An answer or a notice to one client, or to the members of one room.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
#[allow(missing_docs, reason = "docs/protocol.md documents each field, and a test parses its examples")]
pub enum Event<'a> {
    /// The client is a member of the room and gets every message after this position.
    Joined {
        room: &'a RoomId,
        #[serde(flatten)]
        place: Place,
        /// The last `seq`, of the epoch that the room has now, of the history that the client asked for; later
        /// messages are live. Only if any of that history follows.
        #[serde(skip_serializing_if = "Option::is_none")]
        until: Option<u64>,
        members: usize,
        /// The server that this connection leads to.
        #[serde(rename = "originServer")]
        origin_server: &'a str,
        /// Whether what it missed follows without a gap; only for those that said what they have.
        #[serde(skip_serializing_if = "Option::is_none")]
        resumed: Option<bool>,
    },
    /// The client is no longer a member of the room; nothing of that room follows.
    Left {
        room: &'a RoomId,
        /// Why the server ended the membership; nothing if the client asked for it.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'static str>,
    },
    /// The message called `id` is kept by the broker, at this position.
    Ack {
        id: &'a MessageId,
        #[serde(skip_serializing_if = "Option::is_none")]
        room: Option<&'a RoomId>,
        #[serde(flatten)]
        place: Place,
    },
    /// What came up to `seq` and was not delivered cannot be had any more; the stream goes on from there.
    Reset {
        #[serde(skip_serializing_if = "Option::is_none")]
        room: Option<&'a RoomId>,
        #[serde(flatten)]
        place: Place,
        reason: &'static str,
    },
    /// Something the client sent was refused.
    Error {
        code: ErrorCode,
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        id: Option<&'a MessageId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        room: Option<&'a RoomId>,
    },
    /// This server is going away, and closes the connection after this time; the client is to come back then.
    Reconnect { after_ms: u64, reason: &'static str },
    /// The answer to a `ping`.
    Pong,
}

impl Event<'_> {
    /// The event as the frame that goes to clients.
    pub fn encode(&self) -> Frame {
        serde_json::to_string(self).expect("an event has only strings and numbers").into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_says_its_type_and_leaves_out_what_it_does_not_have() {
        let id = MessageId::parse("m1", 10).unwrap();
        let place = Place { epoch: Some(Epoch(10)), seq: Some(7) };
        let ack = Event::Ack { id: &id, room: None, place }.encode();
        assert_eq!(ack.as_bytes(), br#"{"type":"ack","id":"m1","epoch":"000000000000000a","seq":7}"#);
        assert_eq!(Event::Pong.encode().as_bytes(), br#"{"type":"pong"}"#);
    }
}
