use serde_json::Value;

/// A place in the order of a room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) epoch: String,
    pub(super) seq: u64,
}

/// What somebody said. A message of another program on the same Redis may lack any field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) username: Option<String>,
    pub(super) text: String,
    /// Milliseconds since 1970.
    pub(super) ts: Option<i64>,
    pub(super) server: Option<String>,
    pub(super) position: Option<Position>,
    pub(super) id: Option<String>,
}

/// A refusal of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: String,
    pub(super) message: String,
}

impl Refusal {
    /// Whether the same may be taken later.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self.code.as_str(), "unavailable" | "overloaded" | "rate_limited" | "slow_mode")
    }
}

/// A frame from the server, as in docs/protocol.md.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Event {
    Joined {
        room: String,
        position: Option<Position>,
        until: Option<u64>,
        resumed: Option<bool>,
        server: Option<String>,
    },
    Left {
        room: String,
        reason: Option<String>,
    },
    Message {
        room: String,
        said: Said,
    },
    Broadcast(Said),
    Ack {
        id: String,
        position: Option<Position>,
    },
    /// Without a room it is about broadcasts.
    Reset {
        room: Option<String>,
        position: Option<Position>,
        reason: String,
    },
    Reconnect,
    Error {
        id: Option<String>,
        room: Option<String>,
        refusal: Refusal,
    },
    Pong,
    /// An event that this client does not know, or not JSON.
    Unknown,
}

impl Event {
    pub(super) fn read(frame: &str) -> Self {
        let frame: Value = serde_json::from_str(frame).unwrap_or_default();
        let text = |name: &str| frame[name].as_str().map(str::to_owned);
        let position = || Some(Position { epoch: text("epoch")?, seq: frame["seq"].as_u64()? });
        let said = || Said {
            username: text("username"),
            text: text("text").unwrap_or_default(),
            ts: frame["ts"].as_i64(),
            server: text("originServer"),
            position: position(),
            id: text("id"),
        };
        let known = || {
            Some(match frame["type"].as_str()? {
                "joined" => Self::Joined {
                    room: text("room")?,
                    position: position(),
                    until: frame["until"].as_u64(),
                    resumed: frame["resumed"].as_bool(),
                    server: text("originServer"),
                },
                "left" => Self::Left { room: text("room")?, reason: text("reason") },
                "message" => Self::Message { room: text("room")?, said: said() },
                "broadcast" => Self::Broadcast(said()),
                "ack" => Self::Ack { id: text("id")?, position: position() },
                "reset" => {
                    Self::Reset { room: text("room"), position: position(), reason: text("reason").unwrap_or_default() }
                }
                "reconnect" => Self::Reconnect,
                "error" => Self::Error {
                    id: text("id"),
                    room: text("room"),
                    refusal: Refusal { code: text("code")?, message: text("message").unwrap_or_default() },
                },
                "pong" => Self::Pong,
                _ => return None,
            })
        };
        known().unwrap_or(Self::Unknown)
    }
}
