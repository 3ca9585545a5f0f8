//! Which messages are known to be kept by their senders.

use std::collections::{BTreeMap, HashMap};

use crate::record::{Client, MessageId, Room, What};

/// The messages that were sent and not yet answered.
///
/// The answer is an `ack`. If none can come any more, because the connection was lost or an `error` came instead, the
/// sender takes the message itself as the answer (docs/protocol.md). Otherwise the `ack` is owed.
#[derive(Debug, Default)]
pub struct Answers {
    connections: HashMap<Client, u32>,
    open: BTreeMap<MessageId, Open>,
}

#[derive(Clone, Copy, Debug)]
struct Open {
    room: Room,
    /// The connection of its sender on which it was last sent.
    connection: u32,
    has_come_back: bool,
    is_refused: bool,
}

impl Answers {
    /// Takes the next event of the run.
    pub fn see(&mut self, client: Client, what: &What) {
        match *what {
            What::Connected { .. } => *self.connections.entry(client).or_default() += 1,
            What::Sent { room, id } => {
                let connection = self.connection(client);
                self.open.insert(id, Open { room, connection, has_come_back: false, is_refused: false });
            }
            What::Acked { id, .. } => drop(self.open.remove(&id)),
            What::Delivered { id, .. } if id.client == client => {
                let connection = self.connection(client);
                match self.open.get_mut(&id) {
                    Some(open) if open.connection == connection && !open.is_refused => open.has_come_back = true,
                    _ => drop(self.open.remove(&id)),
                }
            }
            What::Refused { id: Some(id), .. } => match self.open.get_mut(&id) {
                Some(open) if !open.has_come_back => open.is_refused = true,
                _ => drop(self.open.remove(&id)),
            },
            What::Disconnected { .. } => self.open.retain(|id, open| id.client != client || !open.has_come_back),
            _ => {}
        }
    }

    /// The messages without an answer.
    pub fn unanswered(&self) -> impl Iterator<Item = (MessageId, Room)> {
        self.open.iter().map(|(id, open)| (*id, open.room))
    }

    fn connection(&self, client: Client) -> u32 {
        self.connections.get(&client).copied().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Position;

    const CLIENT: Client = 1;
    const ID: MessageId = MessageId { client: CLIENT, number: 1 };

    fn unanswered(story: &[What]) -> usize {
        let mut answers = Answers::default();
        story.iter().for_each(|what| answers.see(CLIENT, what));
        answers.unanswered().count()
    }

    #[test]
    fn the_message_itself_is_an_answer_only_when_no_ack_can_come_any_more() {
        let (room, position) = (0, Position { epoch: 1, seq: 1 });
        let connected = || What::Connected { server: String::new() };
        let (sent, acked) = (What::Sent { room, id: ID }, What::Acked { room, id: ID, position });
        let (delivered, gone) = (What::Delivered { room, id: ID, position }, What::Disconnected { code: None });
        assert_eq!(unanswered(&[connected(), sent.clone()]), 1);
        assert_eq!(unanswered(&[connected(), sent.clone(), acked.clone()]), 0);
        assert_eq!(unanswered(&[connected(), acked, sent.clone()]), 1, "it was sent again");
        assert_eq!(unanswered(&[connected(), sent.clone(), delivered.clone()]), 1);
        assert_eq!(unanswered(&[connected(), sent.clone(), delivered.clone(), gone.clone()]), 0);
        assert_eq!(unanswered(&[connected(), sent.clone(), gone.clone()]), 1);
        let refused = What::Refused { code: "unavailable".into(), id: Some(ID), room: Some(room) };
        assert_eq!(unanswered(&[connected(), sent.clone(), refused.clone()]), 1);
        assert_eq!(unanswered(&[connected(), sent.clone(), refused.clone(), delivered.clone()]), 0);
        assert_eq!(unanswered(&[connected(), sent.clone(), delivered.clone(), refused]), 0);
        assert_eq!(unanswered(&[connected(), sent, gone, connected(), delivered]), 0);
    }
}
