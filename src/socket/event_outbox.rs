use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::timeout;

use super::{
    Bounds, End, Outbox,
    event_lines::{BEAT, EventLines, goodbye},
    pipe::PipeSending,
};
use crate::protocol::{Batch, CloseCode, Dialect};

/// The sending side of one client's stream of events: an [`Outbox`] with its bounds, into a pipe.
#[derive(Debug)]
pub struct EventOutbox {
    outbox: Outbox<PipeSending>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    lines: EventLines,
    has_begun: bool,
}

impl EventOutbox {
    /// An empty outbox for a client that gets these lines, with these bounds.
    pub fn new(pipe: PipeSending, lines: EventLines, bounds: Arc<Bounds>) -> Self {
        let state = Mutex::new(State { lines, has_begun: false });
        Self { outbox: Outbox::new(pipe, Dialect::Json, bounds), state }
    }

    /// Sends a whole batch; see [`Outbox::deliver`].
    pub fn deliver(&self, batch: &Batch) {
        // Held for the push too, so that ids rise in the order in which they go out.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.has_begun = true;
        let wire = state.lines.encode(batch.items());
        self.outbox.push(wire, batch.items().len());
    }

    /// Whether anything was sent.
    pub fn has_begun(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).has_begun
    }

    /// Shows that the stream lives, unless something waits already.
    pub fn beat(&self) {
        if self.outbox.is_free() {
            self.outbox.push(BEAT, 0);
        }
    }

    /// See [`Outbox::is_free`].
    pub fn is_free(&self) -> bool {
        self.outbox.is_free()
    }

    /// See [`Outbox::poll_free`].
    pub fn poll_free(&self, context: &mut Context<'_>) -> Poll<bool> {
        self.outbox.poll_free(context)
    }

    /// See [`Outbox::close`].
    pub fn close(&self, code: CloseCode) {
        self.outbox.close(code);
    }

    /// See [`Outbox::attend`].
    pub async fn attend(&self, write_timeout: Duration) -> Option<CloseCode> {
        self.outbox.attend(write_timeout).await
    }

    /// See [`Outbox::keep_writing`].
    pub async fn keep_writing(&self) -> Infallible {
        self.outbox.keep_writing().await
    }

    /// Whether the client was too slow; see [`Outbox::has_overflowed`].
    pub fn has_overflowed(&self) -> bool {
        self.outbox.has_overflowed()
    }

    /// Ends the stream: writes what waits, then why it ends, unless the client does not take that within `write_timeout`.
    pub async fn finish(&self, end: &End, write_timeout: Duration) {
        if let End::Refused(violation) = end {
            let is_slow = violation.code == CloseCode::SlowConsumer;
            self.outbox.finish(&goodbye(violation.code.code(), &violation.reason()), is_slow);
            // In vain if the client is too slow: then it finds the stream cut off.
            let _ = timeout(write_timeout, self.outbox.drained()).await;
        }
        self.outbox.shut();
    }
}
