use serde::Deserialize;
use serde_json::json;

use crate::record::{MessageId, Position, Room, What};

/// The room of the demo, which people join too.
pub const DEMO: Room = Room::MAX;
const DEMO_NAME: &str = "demo";

/// A server's events, with the fields that matter here.
#[derive(Debug, Deserialize)]
struct Frame<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    room: Option<&'a str>,
    epoch: Option<&'a str>,
    seq: Option<u64>,
    id: Option<&'a str>,
    until: Option<u64>,
    resumed: Option<bool>,
    reason: Option<&'a str>,
    code: Option<&'a str>,
    after_ms: Option<u64>,
}

/// A frame from a server.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// Something for the record.
    Event(What),
    /// `reconnect`: the server is going away, and closes the connection after this many milliseconds.
    Leave(u64),
    /// Anything else.
    Other,
}

/// Parses a frame.
pub fn read(text: &str) -> Heard {
    let frame: Option<Frame<'_>> = serde_json::from_str(text).ok();
    frame.and_then(|frame| frame.heard()).unwrap_or_else(|| Heard::Event(What::Nonsense { frame: text.to_owned() }))
}

impl Frame<'_> {
    /// `None` if a field that must be there is not.
    fn heard(&self) -> Option<Heard> {
        Some(Heard::Event(match self.kind {
            "joined" => What::Joined {
                room: self.room()?,
                position: self.position()?,
                until: self.until,
                resumed: self.resumed,
            },
            "left" => What::Left { room: self.room()?, reason: self.reason.map(str::to_owned) },
            // Of the channel of broadcasts, in which nothing is sent here.
            "reset" if self.room.is_none() => return Some(Heard::Other),
            "reset" => What::Reset { room: self.room()?, position: self.position()? },
            "message" => What::Delivered { room: self.room()?, position: self.position()?, id: self.id_or_stranger()? },
            "ack" => What::Acked { room: self.room()?, id: self.id()?, position: self.position()? },
            "error" => What::Refused { code: self.code?.to_owned(), id: self.id(), room: self.room() },
            "reconnect" => return Some(Heard::Leave(self.after_ms?)),
            "member_joined" | "member_left" | "pong" => return Some(Heard::Other),
            _ => return None,
        }))
    }

    fn room(&self) -> Option<Room> {
        match self.room? {
            DEMO_NAME => Some(DEMO),
            name => name.strip_prefix("room-")?.parse().ok(),
        }
    }

    fn position(&self) -> Option<Position> {
        let epoch = self.epoch.filter(|epoch| epoch.len() == 16)?;
        Some(Position { epoch: u64::from_str_radix(epoch, 16).ok()?, seq: self.seq? })
    }

    fn id(&self) -> Option<MessageId> {
        MessageId::parse(self.id?)
    }

    /// For a message by somebody outside the run, such as a person on the demo's page.
    fn id_or_stranger(&self) -> Option<MessageId> {
        let own = self.id.and_then(MessageId::parse);
        own.or_else(|| Some(MessageId::of_stranger(self.id.unwrap_or(&self.position()?.to_string()))))
    }
}

/// The `join` command.
pub fn join(room: Room, username: &str, after: Option<Position>) -> String {
    let mut command = json!({ "type": "join", "room": room_name(room), "username": username });
    if let Some(Position { epoch, seq }) = after {
        command["after"] = json!({ "epoch": format!("{epoch:016x}"), "seq": seq });
    }
    command.to_string()
}

/// The `ping` command.
pub const PING: &str = r#"{"type":"ping"}"#;

/// The `message` command.
pub fn message(room: Room, id: MessageId, text: &str) -> String {
    json!({ "type": "message", "room": room_name(room), "id": id.to_string(), "text": text }).to_string()
}

/// The id of a room, as servers know it.
pub fn room_name(room: Room) -> String {
    if room == DEMO { DEMO_NAME.to_owned() } else { format!("room-{room}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_understood_or_it_is_nonsense() {
        let position = Position { epoch: 10, seq: 7 };
        let text = r#"{"type":"ack","id":"m1-2","room":"room-3","epoch":"000000000000000a","seq":7}"#;
        let id = MessageId { client: 1, number: 2 };
        assert_eq!(read(text), Heard::Event(What::Acked { room: 3, id, position }));
        assert_eq!(read(r#"{"type":"pong"}"#), Heard::Other);
        let said = |id| format!(r#"{{"type":"message","room":"demo",{id}"epoch":"000000000000000a","seq":7}}"#);
        let (named, unnamed) = (MessageId::of_stranger("b-7"), MessageId::of_stranger(&position.to_string()));
        for (field, id) in [(r#""id":"b-7","#, named), ("", unnamed), (r#""id":"m1-2","#, id)] {
            assert_eq!(read(&said(field)), Heard::Event(What::Delivered { room: DEMO, position, id }));
        }
        assert_eq!(read(r#"{"type":"reconnect","after_ms":30,"reason":"drain"}"#), Heard::Leave(30));
        for text in ["", "{}", r#"{"type":"new"}"#, r#"{"type":"reset","room":"room-3","epoch":"a","seq":7}"#] {
            assert_eq!(read(text), Heard::Event(What::Nonsense { frame: text.to_owned() }));
        }
    }
}
