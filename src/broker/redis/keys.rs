use crate::protocol::{Channel, Identity, RoomId, Username};

/// The names of channels and keys in Redis.
///
/// Every key of a channel has the channel's name as its hash tag, so that on a Redis Cluster all of them, and a sharded
/// channel of that name, are in the same slot.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    prefix: String,
}

impl Keys {
    pub(super) fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }

    pub(super) fn channel(&self, channel: &Channel) -> String {
        match channel {
            Channel::Broadcast => format!("{}:broadcast", self.prefix),
            Channel::Room(room) => format!("{}:room:{}", self.prefix, room.as_str()),
        }
    }

    /// The channel on which a server probes its own subscriber.
    pub(super) fn subscriber_probe(&self, origin_server: &str) -> String {
        format!("{}:probe:{origin_server}", self.prefix)
    }

    /// A string: the secret with which Redis vouches for pushes.
    pub(super) fn secret(&self) -> String {
        format!("{}:secret", self.prefix)
    }

    /// A string that a server writes regularly, to see that Redis takes writes and keeps them.
    pub(super) fn mark(&self, origin_server: &str) -> String {
        format!("{}:mark:{origin_server}", self.prefix)
    }

    /// A string: when a purse is full again, in milliseconds since 1970.
    pub(super) fn purse(&self, purse: &str) -> String {
        format!("{}:purse:{purse}", self.prefix)
    }

    /// A hash: when each server gave its last sign of life, in Unix milliseconds by its own clock.
    pub(super) fn servers(&self) -> String {
        format!("{}:servers", self.prefix)
    }

    /// A list: what servers answer to a question.
    pub(super) fn answers(&self, id: u64) -> String {
        format!("{}:answers:{id:016x}", self.prefix)
    }

    /// The channel on which servers hear that something has changed that holds on all of them, and what they are asked.
    pub(super) fn sanctions_channel(&self) -> String {
        format!("{}:control", self.prefix)
    }

    /// What holds on all servers: a sorted set, by until when in Unix milliseconds; and a number, how often it changed.
    pub(super) fn sanctions(&self) -> (String, String) {
        let tag = self.sanctions_channel();
        (format!("{}:sanctions:{{{tag}}}", self.prefix), format!("{}:version:{{{tag}}}", self.prefix))
    }

    /// The channel with this name; `None` if it is not one of roomcast's.
    pub(super) fn parse(&self, name: &[u8]) -> Option<Channel> {
        let rest = std::str::from_utf8(name).ok()?.strip_prefix(self.prefix.as_str())?.strip_prefix(':')?;
        match rest.strip_prefix("room:") {
            Some(room) => RoomId::parse(room, usize::MAX).ok().map(Channel::Room),
            None => (rest == "broadcast").then_some(Channel::Broadcast),
        }
    }

    /// A hash: `epoch` and `seq`, the last position assigned.
    pub(super) fn meta(&self, channel: &str) -> String {
        format!("{}:meta:{{{channel}}}", self.prefix)
    }

    /// A hash: what holds for the speakers of a room; see moderate.lua. With `:` and a username behind it, a string that
    /// lives for that user's pause.
    pub(super) fn moderation(&self, channel: &str) -> String {
        format!("{}:mod:{{{channel}}}", self.prefix)
    }

    /// A stream: one entry for each publication, with the id `<seq>-0`.
    pub(super) fn log(&self, channel: &str) -> String {
        format!("{}:log:{{{channel}}}", self.prefix)
    }

    /// A string: the position and the fingerprint of the message with this sender and id. The length before the
    /// sender's name says where the name ends.
    pub(super) fn id(&self, channel: &str, identity: &Identity) -> String {
        let sender = identity.sender.as_ref().map_or("", Username::as_str);
        format!("{}:id:{{{channel}}}:{}:{sender}:{}", self.prefix, sender.len(), identity.id.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::MessageId;

    #[test]
    fn channels_and_keys_have_exactly_the_names_that_others_rely_on() {
        let keys = Keys::new("ws");
        let lobby = Channel::Room(RoomId::parse("lobby:1", 128).unwrap());
        for (channel, name) in [(&lobby, "ws:room:lobby:1"), (&Channel::Broadcast, "ws:broadcast")] {
            assert_eq!(keys.channel(channel), name);
            assert_eq!(keys.parse(name.as_bytes()).as_ref(), Some(channel));
        }
        assert_eq!(keys.meta("ws:room:a"), "ws:meta:{ws:room:a}");
        assert_eq!(keys.log("ws:room:a"), "ws:log:{ws:room:a}");
        let id = |sender: Option<&str>| {
            let sender = sender.map(|name| Username::parse(name, 9).unwrap());
            keys.id("ws:room:a", &Identity { sender, id: MessageId::parse("7", 9).unwrap(), fingerprint: 0 })
        };
        assert_eq!(id(Some("a:é")), "ws:id:{ws:room:a}:4:a:é:7");
        assert_eq!(id(None), "ws:id:{ws:room:a}:0::7");
        assert_eq!(keys.secret(), "ws:secret");
        for name in ["", "ws", "ws:", "wsroom:a", "ws:room:", "ws:other", "xws:broadcast", "ws:room:a b"] {
            assert_eq!(keys.parse(name.as_bytes()), None, "{name:?}");
        }
    }
}
