//! What was seen from outside during a run: the judge's only input.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use serde_json::{Value, json};

/// The number of a client. A client is one person, over all of its connections.
pub type Client = u32;

/// The number of a room.
pub type Room = u32;

/// A place in the order of a room, as roomcast gives it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// Numbers are only comparable within one epoch, and epochs have no order among themselves.
    pub epoch: u64,
    /// Counts up by one.
    pub seq: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}/{}", self.epoch, self.seq)
    }
}

/// The `id` of a message: its sender, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId {
    /// The sender.
    pub client: Client,
    /// Counts up for each sender.
    pub number: u32,
}

impl MessageId {
    /// Reads what [`Display`](fmt::Display) wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (client, number) = text.strip_prefix('m')?.split_once('-')?;
        Some(Self { client: client.parse().ok()?, number: number.parse().ok()? })
    }

    /// That of a message by somebody who is no client of the run, by a hash of whatever id it has.
    pub fn of_stranger(id: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        Self { client: Client::MAX, number: hasher.finish() as u32 }
    }

    /// Whether it is of somebody who is no client of the run.
    pub fn is_of_stranger(self) -> bool {
        self.client == Client::MAX
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "m{}-{}", self.client, self.number)
    }
}

/// Something that a client did or saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Since the start of the run, on one clock for all clients.
    pub at: Duration,
    /// Whose event it is.
    pub client: Client,
    /// What it is.
    pub what: What,
}

/// The kinds of events.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the protocol")]
pub enum What {
    /// The WebSocket to this server is open.
    Connected { server: String },
    /// The connection is gone; with a code if the server gave one.
    Disconnected { code: Option<u16> },
    /// `join` was sent.
    Joining { room: Room, after: Option<Position> },
    /// `joined` came.
    Joined { room: Room, position: Position, until: Option<u64>, resumed: Option<bool> },
    /// `left` came, though nobody had asked for it.
    Left { room: Room, reason: Option<String> },
    /// `reset` came.
    Reset { room: Room, position: Position },
    /// A `message` of the room came.
    Delivered { room: Room, position: Position, id: MessageId },
    /// A message was sent, for the first time or again.
    Sent { room: Room, id: MessageId },
    /// `ack` came.
    Acked { room: Room, id: MessageId, position: Position },
    /// `error` came.
    Refused { code: String, id: Option<MessageId>, room: Option<Room> },
    /// Something outside the protocol came, or a frame without a required field.
    Nonsense { frame: String },
}

impl Event {
    /// One line of the file in which a record is kept.
    pub fn to_json(&self) -> Value {
        let place = |position: &Position| position.to_string();
        let mut value = match &self.what {
            What::Connected { server } => json!({ "connected": server }),
            What::Disconnected { code } => json!({ "disconnected": code }),
            What::Joining { room, after } => json!({ "joining": room, "after": after.as_ref().map(place) }),
            What::Joined { room, position, until, resumed } => {
                json!({ "joined": room, "position": place(position), "until": until, "resumed": resumed })
            }
            What::Left { room, reason } => json!({ "left": room, "reason": reason }),
            What::Reset { room, position } => json!({ "reset": room, "position": place(position) }),
            What::Delivered { room, position, id } => {
                json!({ "delivered": room, "position": place(position), "id": id.to_string() })
            }
            What::Sent { room, id } => json!({ "sent": room, "id": id.to_string() }),
            What::Acked { room, id, position } => {
                json!({ "acked": room, "id": id.to_string(), "position": place(position) })
            }
            What::Refused { code, id, room } => {
                json!({ "refused": code, "id": id.map(|id| id.to_string()), "room": room })
            }
            What::Nonsense { frame } => json!({ "nonsense": frame }),
        };
        value["at_ms"] = json!(self.at.as_micros() as f64 / 1000.0);
        value["client"] = json!(self.client);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let id = MessageId { client: 7, number: 42 };
        assert_eq!(id.to_string(), "m7-42");
        assert_eq!(MessageId::parse("m7-42"), Some(id));
        assert_eq!(MessageId::parse("m7"), None);
    }

    #[test]
    fn a_line_says_who_when_and_what() {
        let position = Position { epoch: 10, seq: 3 };
        let event = Event { at: Duration::from_millis(1500), client: 2, what: What::Reset { room: 1, position } };
        let line = json!({ "at_ms": 1500.0, "client": 2, "reset": 1, "position": "000000000000000a/3" });
        assert_eq!(event.to_json(), line);
    }
}
