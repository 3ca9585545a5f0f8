use std::{
    fmt,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

use super::ClientId;
use crate::protocol::{Batch, CloseCode, Username};

/// The hub's view of a client's connection. No method waits.
pub trait Recipient: fmt::Debug + Send + Sync {
    /// Sends a batch. Batches arrive in the order of the calls, and each arrives whole, or the recipient is closed.
    fn deliver(&self, batch: &Batch);

    /// Whether it has accepted everything that it was sent.
    fn is_free(&self) -> bool;

    /// Waits until it has accepted everything that it was sent (true), or is closed or about to be (false). For one
    /// task at a time.
    fn poll_free(&self, context: &mut Context<'_>) -> Poll<bool>;

    /// Asks for the connection to be closed with this code, after everything that it was sent.
    fn close(&self, code: CloseCode);
}

/// A client of this server.
#[derive(Clone, Debug)]
pub struct Client {
    pub(super) id: ClientId,
    pub(super) recipient: Arc<dyn Recipient>,
    /// Under which name it is a member, if that is known.
    pub(super) user: Option<Username>,
}

impl Client {
    /// The same client as this user.
    pub(super) fn known_as(&self, user: &Username) -> Self {
        Self { user: Some(user.clone()), ..self.clone() }
    }

    /// Who it is.
    pub fn id(&self) -> ClientId {
        self.id
    }

    /// Sends it a batch; see [`Recipient::deliver`].
    pub fn deliver(&self, batch: &Batch) {
        self.recipient.deliver(batch);
    }

    /// Asks for its connection to be closed; see [`Recipient::close`].
    pub fn close(&self, code: CloseCode) {
        self.recipient.close(code);
    }

    /// Waits until it has accepted everything that it was sent. Returns false if it is closed or about to be.
    /// Cancel-safe.
    pub(super) async fn free(&self) -> bool {
        poll_fn(|context| self.recipient.poll_free(context)).await
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    };

    use super::*;
    use crate::protocol::{Frame, Item};

    /// A recipient without a socket, which keeps what it is sent.
    #[derive(Debug, Default)]
    pub(crate) struct Listening {
        texts: Mutex<Vec<String>>,
        calls: AtomicUsize,
        lags: AtomicBool,
    }

    impl Listening {
        pub(crate) fn client(id: u64) -> (Client, Arc<Self>) {
            let listening = Arc::new(Self::default());
            (Client { id: ClientId(id), recipient: listening.clone(), user: None }, listening)
        }

        /// What it got, in order: messages as they are, events as their type and `seq`.
        pub(crate) fn texts(&self) -> Vec<String> {
            self.texts.lock().unwrap().clone()
        }

        /// In how many calls it came.
        pub(crate) fn calls(&self) -> usize {
            self.calls.load(Ordering::Relaxed)
        }

        /// Sets whether it lags behind what it was sent.
        pub(crate) fn lags(&self, lags: bool) {
            self.lags.store(lags, Ordering::Relaxed);
        }
    }

    impl Recipient for Listening {
        fn deliver(&self, batch: &Batch) {
            self.calls.fetch_add(1, Ordering::Relaxed);
            self.texts.lock().unwrap().extend(batch.items().iter().map(text));
        }

        fn is_free(&self) -> bool {
            !self.lags.load(Ordering::Relaxed)
        }

        fn poll_free(&self, _: &mut Context<'_>) -> Poll<bool> {
            Poll::Ready(true)
        }

        fn close(&self, _: CloseCode) {}
    }

    /// A message whose whole frame is this text.
    pub(crate) fn message(text: &str) -> Item {
        Item::Message(Frame::from(text.to_owned()))
    }

    pub(crate) fn text(item: &Item) -> String {
        match item {
            Item::Message(frame) | Item::Past(frame) => String::from_utf8(frame.as_bytes().to_vec()).unwrap(),
            Item::Event(event) => {
                let json = serde_json::to_value(event).unwrap();
                let kind = json["type"].as_str().unwrap().to_owned();
                json["seq"].as_u64().map_or(kind.clone(), |seq| format!("{kind} {seq}"))
            }
        }
    }
}
