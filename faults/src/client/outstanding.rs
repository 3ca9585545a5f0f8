use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::record::{MessageId, Room};

/// How many messages of a client may wait for their acks; more are not sent.
const WINDOW: usize = 4;

/// When a message is sent again that got neither an ack nor an error. Servers have deadlines of their own, which
/// are much shorter; only a lost connection should ever make this necessary.
const ANSWER: Duration = Duration::from_secs(15);

/// The messages of one client that are not acknowledged yet, each with the time at which it is sent, or sent again.
#[derive(Debug, Default)]
pub struct Outstanding {
    messages: BTreeMap<MessageId, (Room, Instant)>,
    last: u32,
}

impl Outstanding {
    /// Whether another message may be sent.
    pub fn has_place(&self) -> bool {
        self.messages.len() < WINDOW
    }

    /// A new message of this client, to be sent now.
    pub fn add(&mut self, client: u32, room: Room) -> MessageId {
        self.last += 1;
        let id = MessageId { client, number: self.last };
        self.messages.insert(id, (room, Instant::now()));
        id
    }

    /// It was sent.
    pub fn sent(&mut self, id: MessageId) {
        self.again_in(id, ANSWER);
    }

    /// It has to be sent again after this time.
    pub fn again_in(&mut self, id: MessageId, pause: Duration) {
        if let Some((_, due)) = self.messages.get_mut(&id) {
            *due = Instant::now() + pause;
        }
    }

    /// The client is in this room again, over a new connection. What was sent over the last one may have got
    /// lost on either way.
    pub fn all_again(&mut self, room: Room) {
        for (_, due) in self.messages.values_mut().filter(|(of, _)| *of == room) {
            *due = Instant::now();
        }
    }

    /// It was acknowledged.
    pub fn acked(&mut self, id: MessageId) {
        self.messages.remove(&id);
    }

    /// What has to be sent next, and when, of all that goes to a room for which `is_open` holds.
    pub fn next(&self, is_open: impl Fn(Room) -> bool) -> Option<(Instant, MessageId, Room)> {
        let open = self.messages.iter().filter(|(_, (room, _))| is_open(*room));
        open.map(|(id, (room, due))| (*due, *id, *room)).min()
    }
}
