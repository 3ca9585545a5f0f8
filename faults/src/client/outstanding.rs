use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::record::{MessageId, Room};

/// Most messages of a client that may wait for their acks; it sends no more.
const WINDOW: usize = 4;

/// After how long to send a message again that got neither an ack nor an error. Servers have much shorter deadlines of
/// their own, so only a lost connection should make this necessary.
const ANSWER: Duration = Duration::from_secs(15);

/// A message, and when it is sent next.
#[derive(Debug)]
struct Waiting {
    room: Room,
    /// The same for each attempt: an id belongs to one message.
    text: String,
    /// `None`: not before the client is back in the room and up to date.
    due: Option<Instant>,
}

/// The unacknowledged messages of one client, each with the time of its next sending.
#[derive(Debug, Default)]
pub struct Outstanding {
    messages: BTreeMap<MessageId, Waiting>,
    last: u32,
}

impl Outstanding {
    /// Whether another message may be sent.
    pub fn has_place(&self) -> bool {
        self.messages.len() < WINDOW
    }

    /// A new message of this client, to be sent now.
    pub fn add(&mut self, client: u32, room: Room, text: impl FnOnce(MessageId) -> String) {
        self.last += 1;
        let id = MessageId { client, number: self.last };
        self.messages.insert(id, Waiting { room, text: text(id), due: Some(Instant::now()) });
    }

    /// It was sent.
    pub fn sent(&mut self, id: MessageId) {
        self.again_in(id, ANSWER);
    }

    /// Send it again after this time.
    pub fn again_in(&mut self, id: MessageId, pause: Duration) {
        if let Some(message) = self.messages.get_mut(&id) {
            message.due = Some(Instant::now() + pause);
        }
    }

    /// The connection is lost: messages or acks on it may be lost.
    pub fn hold_all(&mut self) {
        self.messages.values_mut().for_each(|message| message.due = None);
    }

    /// The client is no longer in this room.
    pub fn hold(&mut self, room: Room) {
        self.set(room, None);
    }

    /// The client is back in this room and has everything it missed, including its own messages.
    pub fn all_again(&mut self, room: Room) {
        self.set(room, Some(Instant::now()));
    }

    /// It is known to be kept.
    pub fn kept(&mut self, id: MessageId) {
        self.messages.remove(&id);
    }

    /// What to send next, and when.
    pub fn next(&self) -> Option<(Instant, MessageId, Room)> {
        self.messages.iter().filter_map(|(id, message)| Some((message.due?, *id, message.room))).min()
    }

    /// What it says.
    pub fn text(&self, id: MessageId) -> &str {
        self.messages.get(&id).map_or("", |message| &message.text)
    }

    fn set(&mut self, room: Room, due: Option<Instant>) {
        self.messages.values_mut().filter(|message| message.room == room).for_each(|message| message.due = due);
    }
}
