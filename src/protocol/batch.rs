use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::{Dialect, Event, Frame};

/// About how many bytes an event takes on the wire, for limits that apply before it is encoded.
const EVENT: usize = 128;

/// One thing that a client is told.
#[derive(Clone, Debug)]
pub enum Item {
    /// What somebody said: an envelope, which is also the client's frame.
    Message(Frame),
    /// What somebody said before this client came in. It may be the client's own, and the only answer that it gets.
    Past(Frame),
    /// What the server itself says.
    Event(Event),
}

impl Item {
    /// About how many bytes it takes on the wire.
    pub fn len(&self) -> usize {
        match self {
            Self::Message(frame) | Self::Past(frame) => frame.len(),
            Self::Event(Event::History { messages, .. }) => EVENT + messages.iter().map(Frame::len).sum::<usize>(),
            Self::Event(_) => EVENT,
        }
    }

    /// Whether it is empty; items of this protocol never are.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Items that go out together, in this order. Cloning a batch copies a pointer.
///
/// The first recipient of each [`Dialect`] encodes the batch; all others who speak that dialect share the bytes.
#[derive(Clone, Debug)]
pub struct Batch(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    items: Vec<Item>,
    encoded: [OnceLock<Bytes>; Dialect::COUNT],
}

impl Batch {
    /// These items as one batch.
    pub fn new(items: Vec<Item>) -> Self {
        Self(Arc::new(Shared { items, encoded: Default::default() }))
    }

    /// Its items.
    pub fn items(&self) -> &[Item] {
        &self.0.items
    }

    /// The bytes of the batch in this dialect. Only the first call for a dialect calls `encode`.
    pub fn encoded(&self, dialect: Dialect, encode: impl FnOnce(&[Item]) -> Bytes) -> &Bytes {
        self.0.encoded[dialect.index()].get_or_init(|| encode(&self.0.items))
    }
}

impl From<Item> for Batch {
    fn from(item: Item) -> Self {
        Self::new(vec![item])
    }
}

impl From<Event> for Batch {
    fn from(event: Event) -> Self {
        Item::Event(event).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_encoded_once_for_all_who_share_it() {
        let batch = Batch::from(Event::Pong);
        let others = batch.clone();
        assert_eq!(batch.encoded(Dialect::Json, |_| Bytes::from_static(b"once")), "once");
        assert_eq!(others.encoded(Dialect::Json, |_| panic!("a second time")), "once");
    }
}
