use std::{
    future::poll_fn,
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Poll, Waker},
};

use crate::protocol::{CloseCode, Frame};

/// What waits to be written to one client.
///
/// Bounded by messages and by bytes. A client that lets it overflow is closed with
/// [`CloseCode::SlowConsumer`], and what waited is dropped: it comes back and goes on from its last position.
/// Pushing never waits, so a slow client delays no other. An empty outbox owns no memory but itself.
#[derive(Debug)]
pub struct Outbox {
    state: Mutex<State>,
    max_messages: usize,
    max_bytes: usize,
}

#[derive(Debug, Default)]
struct State {
    frames: Vec<Frame>,
    bytes: usize,
    closing: Option<CloseCode>,
    /// Nothing is taken any more.
    closed: bool,
    reader: Option<Waker>,
}

/// What an outbox has for its client.
#[derive(Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Everything that waits, oldest first; at least one frame.
    Frames(Vec<Frame>),
    /// The connection is to be closed with this code, after what [`Outbox::finish`] gives.
    Close(CloseCode),
}

impl Outbox {
    /// An empty outbox with these bounds.
    pub fn new(max_messages: usize, max_bytes: usize) -> Self {
        Self { state: Mutex::default(), max_messages, max_bytes }
    }

    /// Adds a frame. It is dropped if the outbox has closed, or closes it by overflowing.
    pub fn push(&self, frame: Frame) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        state.bytes += frame.len();
        if state.frames.len() < self.max_messages && state.bytes <= self.max_bytes {
            state.frames.push(frame);
        } else {
            state.frames = Vec::new();
            state.closing = Some(CloseCode::SlowConsumer);
            state.closed = true;
        }
        wake(state);
    }

    /// Has the connection closed with this code. The first code given stands.
    pub fn close(&self, code: CloseCode) {
        let mut state = self.state();
        state.closing.get_or_insert(code);
        wake(state);
    }

    /// Waits until there is something, and takes all of it; that it is to be closed comes before what waits. For
    /// one reader at a time; cancel-safe.
    pub async fn next(&self) -> Waiting {
        poll_fn(|context| {
            let mut state = self.state();
            if let Some(code) = state.closing {
                return Poll::Ready(Waiting::Close(code));
            }
            if !state.frames.is_empty() {
                state.bytes = 0;
                return Poll::Ready(Waiting::Frames(std::mem::take(&mut state.frames)));
            }
            if !state.reader.as_ref().is_some_and(|reader| reader.will_wake(context.waker())) {
                state.reader = Some(context.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// Takes what still waits, which is nothing after an overflow, and closes the outbox.
    pub fn finish(&self) -> Vec<Frame> {
        let mut state = self.state();
        state.closed = true;
        std::mem::take(&mut state.frames)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let reader = state.reader.take();
    drop(state);
    if let Some(reader) = reader {
        reader.wake();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn frame(text: &str) -> Frame {
        text.to_owned().into()
    }

    fn now(outbox: &Outbox) -> Option<Waiting> {
        outbox.next().now_or_never()
    }

    #[test]
    fn what_waits_comes_out_at_once_and_in_order() {
        let outbox = Outbox::new(10, 100);
        assert_eq!(now(&outbox), None);
        outbox.push(frame("a"));
        outbox.push(frame("b"));
        assert_eq!(now(&outbox), Some(Waiting::Frames(vec![frame("a"), frame("b")])));
        assert_eq!(now(&outbox), None);
    }

    #[test]
    fn what_waits_when_it_is_closed_can_still_be_had_once() {
        let outbox = Outbox::new(10, 100);
        outbox.push(frame("a"));
        outbox.close(CloseCode::ServiceRestart);
        outbox.close(CloseCode::Idle);
        assert_eq!(now(&outbox), Some(Waiting::Close(CloseCode::ServiceRestart)));
        outbox.push(frame("b"));
        assert_eq!(outbox.finish(), [frame("a"), frame("b")]);
        outbox.push(frame("c"));
        assert!(outbox.finish().is_empty());
    }

    #[test]
    fn overflow_by_messages_or_by_bytes_closes_and_drops() {
        for outbox in [Outbox::new(2, 100), Outbox::new(10, 8)] {
            (0..3).for_each(|_| outbox.push(frame("abc")));
            assert_eq!(now(&outbox), Some(Waiting::Close(CloseCode::SlowConsumer)));
            assert!(outbox.finish().is_empty());
        }
        // What has been taken no longer counts.
        let outbox = Outbox::new(2, 8);
        for _ in 0..10 {
            outbox.push(frame("abc"));
            assert!(matches!(now(&outbox), Some(Waiting::Frames(_))));
        }
    }

    #[tokio::test]
    async fn a_push_wakes_the_reader() {
        let outbox = Outbox::new(2, 8);
        let push_later = async {
            tokio::task::yield_now().await;
            outbox.push(frame("a"));
        };
        let (waiting, ()) = tokio::join!(outbox.next(), push_later);
        assert_eq!(waiting, Waiting::Frames(vec![frame("a")]));
    }
}
