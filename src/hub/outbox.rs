use std::{
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Poll, Waker},
};

use crate::protocol::{CloseCode, Frame};

/// How much may wait, for one client and for all together.
#[derive(Debug)]
pub struct Bounds {
    max_messages: usize,
    max_bytes: usize,
    max_total: usize,
    /// Bytes that wait behind other frames, in all outboxes with these bounds.
    total: AtomicUsize,
    /// How many outboxes have such bytes.
    laggards: AtomicUsize,
}

impl Bounds {
    /// Bounds by messages and bytes for each client, and by bytes for all.
    pub fn new(max_messages: usize, max_bytes: usize, max_total: usize) -> Self {
        Self { max_messages, max_bytes, max_total, total: AtomicUsize::new(0), laggards: AtomicUsize::new(0) }
    }

    /// Most messages that may wait for one client.
    pub(super) fn max_messages(&self) -> usize {
        self.max_messages
    }

    /// Most bytes that may wait for one client.
    pub(super) fn max_bytes(&self) -> usize {
        self.max_bytes
    }
}

/// What waits to be written to one client.
///
/// Bounded by messages and by bytes, its own and those of all clients. A client that lets it overflow is closed with
/// [`CloseCode::SlowConsumer`], and what waited is dropped: it comes back and goes on from its last position.
/// Pushing never waits, so a slow client delays no other. An empty outbox owns no memory but itself.
#[derive(Debug)]
pub struct Outbox {
    state: Mutex<State>,
    bounds: Arc<Bounds>,
}

#[derive(Debug, Default)]
struct State {
    frames: Vec<Frame>,
    bytes: usize,
    closing: Option<CloseCode>,
    /// Nothing is taken any more.
    closed: bool,
    /// Waits for frames.
    reader: Option<Waker>,
    /// Waits for room.
    writer: Option<Waker>,
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
    pub fn new(bounds: Arc<Bounds>) -> Self {
        Self { state: Mutex::default(), bounds }
    }

    /// The bounds it keeps to.
    pub(super) fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// Adds a frame. It is dropped if the outbox has closed, or closes it by overflowing.
    pub fn push(&self, frame: Frame) {
        let mut state = self.state();
        if state.closed {
            return;
        }
        // The first frame is on its way at once; only what is behind it counts as waiting.
        if !state.frames.is_empty() && !self.has_room(&mut state, frame.len()) {
            self.take(&mut state);
            state.closing = Some(CloseCode::SlowConsumer);
            state.closed = true;
            return wake(state);
        }
        state.frames.push(frame);
        wake(state);
    }

    /// Counts a frame that has to wait. Returns false if that is too much, for this client or for all together; in
    /// the latter case for those that have more than their share, so that a client that keeps up does not pay for
    /// others that do not.
    fn has_room(&self, state: &mut State, length: usize) -> bool {
        let bounds = &self.bounds;
        if state.bytes == 0 {
            bounds.laggards.fetch_add(1, Ordering::Relaxed);
        }
        state.bytes += length;
        let total = bounds.total.fetch_add(length, Ordering::Relaxed) + length;
        let share = || bounds.max_total / bounds.laggards.load(Ordering::Relaxed).max(1);
        state.frames.len() < bounds.max_messages
            && state.bytes <= bounds.max_bytes
            && (total <= bounds.max_total || state.bytes <= share())
    }

    /// Waits until half of the outbox is free, and then adds the frame. Returns false if it is closed or about to be.
    /// For one writer at a time; cancel-safe.
    pub async fn push_when_free(&self, frame: Frame) -> bool {
        let is_open = poll_fn(|context| {
            let mut state = self.state();
            if state.closed || state.closing.is_some() {
                return Poll::Ready(false);
            }
            let half_free = state.frames.len() < self.bounds.max_messages / 2
                && state.bytes + frame.len() <= self.bounds.max_bytes / 2;
            if half_free || state.frames.is_empty() {
                return Poll::Ready(true);
            }
            state.writer = Some(context.waker().clone());
            Poll::Pending
        });
        let is_open = is_open.await;
        if is_open {
            self.push(frame);
        }
        is_open
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
                return Poll::Ready(Waiting::Frames(self.take(&mut state)));
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
        self.take(&mut state)
    }

    fn take(&self, state: &mut State) -> Vec<Frame> {
        if state.bytes > 0 {
            self.bounds.total.fetch_sub(state.bytes, Ordering::Relaxed);
            self.bounds.laggards.fetch_sub(1, Ordering::Relaxed);
            state.bytes = 0;
        }
        if let Some(writer) = state.writer.take() {
            writer.wake();
        }
        std::mem::take(&mut state.frames)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.finish();
    }
}

fn wake(mut state: MutexGuard<'_, State>) {
    let (reader, is_closing) = (state.reader.take(), state.closing.is_some());
    let writer = if is_closing { state.writer.take() } else { None };
    drop(state);
    for waker in [reader, writer].into_iter().flatten() {
        waker.wake();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn frame(text: &str) -> Frame {
        text.to_owned().into()
    }

    fn outbox(max_messages: usize, max_bytes: usize) -> Outbox {
        Outbox::new(Arc::new(Bounds::new(max_messages, max_bytes, usize::MAX)))
    }

    fn now(outbox: &Outbox) -> Option<Waiting> {
        outbox.next().now_or_never()
    }

    #[test]
    fn what_waits_comes_out_at_once_and_in_order() {
        let outbox = outbox(10, 100);
        assert_eq!(now(&outbox), None);
        outbox.push(frame("a"));
        outbox.push(frame("b"));
        assert_eq!(now(&outbox), Some(Waiting::Frames(vec![frame("a"), frame("b")])));
        assert_eq!(now(&outbox), None);
    }

    #[test]
    fn what_waits_when_it_is_closed_can_still_be_had_once() {
        let outbox = outbox(10, 100);
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
        for outbox in [outbox(2, 100), outbox(10, 5)] {
            (0..3).for_each(|_| outbox.push(frame("abc")));
            assert_eq!(now(&outbox), Some(Waiting::Close(CloseCode::SlowConsumer)));
            assert!(outbox.finish().is_empty());
        }
        // What has been taken no longer counts.
        let outbox = outbox(2, 5);
        for _ in 0..10 {
            outbox.push(frame("abc"));
            assert!(matches!(now(&outbox), Some(Waiting::Frames(_))));
        }
    }

    #[test]
    fn when_all_have_too_much_waiting_those_that_keep_up_stay() {
        let bounds = Arc::new(Bounds::new(1000, 1000, 100));
        let [hog, quick] = [Outbox::new(bounds.clone()), Outbox::new(bounds.clone())];
        (0..34).for_each(|_| hog.push(frame("abc")));
        (0..10).for_each(|_| quick.push(frame("abc")));
        assert!(matches!(now(&quick), Some(Waiting::Frames(_))));
        (0..10).for_each(|_| hog.push(frame("abc")));
        assert_eq!(now(&hog), Some(Waiting::Close(CloseCode::SlowConsumer)));
        (0..3).for_each(|_| quick.push(frame("abc")));
        drop(quick);
        assert_eq!((bounds.total.load(Ordering::Relaxed), bounds.laggards.load(Ordering::Relaxed)), (0, 0));
    }

    #[tokio::test]
    async fn a_writer_that_waits_goes_on_when_there_is_room_or_an_end() {
        let outbox = outbox(4, 100);
        assert!(outbox.push_when_free(frame("a")).await && outbox.push_when_free(frame("b")).await);
        assert_eq!(outbox.push_when_free(frame("c")).now_or_never(), None);
        let (is_in, waiting) = tokio::join!(outbox.push_when_free(frame("c")), outbox.next());
        assert!(is_in && waiting == Waiting::Frames(vec![frame("a"), frame("b")]));
        let huge = frame(&"x".repeat(90));
        assert_eq!(outbox.push_when_free(huge.clone()).now_or_never(), None);
        let (is_in, waiting) = tokio::join!(outbox.push_when_free(huge), outbox.next());
        assert!(is_in && waiting == Waiting::Frames(vec![frame("c")]), "alone, a frame may be of any size");
        outbox.push(frame("d"));
        let close = async { outbox.close(CloseCode::Idle) };
        let (is_in, ()) = tokio::join!(outbox.push_when_free(frame("e")), close);
        assert!(!is_in);
    }

    #[tokio::test]
    async fn a_push_wakes_the_reader() {
        let outbox = outbox(2, 8);
        let push_later = async {
            tokio::task::yield_now().await;
            outbox.push(frame("a"));
        };
        let (waiting, ()) = tokio::join!(outbox.next(), push_later);
        assert_eq!(waiting, Waiting::Frames(vec![frame("a")]));
    }
}
