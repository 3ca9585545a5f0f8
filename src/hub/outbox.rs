use std::{
    collections::VecDeque,
    convert::Infallible,
    future::poll_fn,
    io::{ErrorKind, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    net::tcp::OwnedWriteHalf,
    time::{Instant, Sleep, sleep_until},
};

use super::{Batch, Bounds};
use crate::protocol::{CloseCode, Frame};

/// Most pieces of a backlog that are written with one call.
const PIECES: usize = 32;

/// The sending side of one client's socket, and what waits for it.
///
/// Whoever has something for the client writes it there and then, as long as the system takes it: a message to a room
/// costs one call for each member, and no task has to be woken. What the system does not take waits here, and the
/// client's session writes it when there is room again. What was pushed first is written first.
///
/// What waits is bounded by messages and by bytes, its own and those of all clients. A client that lets it overflow is
/// closed with [`CloseCode::SlowConsumer`], and what waited is dropped: it comes back and goes on from its last
/// position. Pushing never waits, so a slow client delays no other. An outbox with nothing waiting owns no memory but
/// itself.
#[derive(Debug)]
pub struct Outbox {
    state: Mutex<State>,
    bounds: Arc<Bounds>,
}

#[derive(Debug)]
struct State {
    /// `None` when nothing can be written any more.
    socket: Option<OwnedWriteHalf>,
    backlog: VecDeque<Batch>,
    messages: usize,
    bytes: usize,
    /// A part of the first of the backlog has been written, so that the rest of it must follow.
    is_cut: bool,
    /// Since when the client takes nothing of the backlog.
    stuck_since: Option<Instant>,
    closing: Option<CloseCode>,
    /// No messages are taken any more.
    has_ended: bool,
    /// The session, which waits for a backlog or an end.
    session: Option<Waker>,
    /// Whoever waits for the backlog to be gone.
    writer: Option<Waker>,
}

impl Outbox {
    /// An empty outbox with these bounds.
    pub(super) fn new(socket: OwnedWriteHalf, bounds: Arc<Bounds>) -> Self {
        let state = State {
            socket: Some(socket),
            backlog: VecDeque::new(),
            messages: 0,
            bytes: 0,
            is_cut: false,
            stuck_since: None,
            closing: None,
            has_ended: false,
            session: None,
            writer: None,
        };
        Self { state: Mutex::new(state), bounds }
    }

    /// Sends a message. It is dropped if the outbox has ended, or ends it by overflowing.
    pub fn push(&self, frame: &Frame) {
        self.push_batch(&frame.into());
    }

    /// Sends all messages of a batch, like [`push`](Self::push), in one call if the client takes them.
    pub(super) fn push_batch(&self, batch: &Batch) {
        let state = self.state();
        if !state.has_ended {
            self.write_or_keep(state, batch);
        }
    }

    /// Sends what is no message but part of the WebSocket protocol: a ping, a pong, a close frame. Not counted, and taken
    /// after the end too.
    pub fn push_control(&self, wire: Bytes) {
        self.write_or_keep(self.state(), &Batch::new(wire, 0));
    }

    fn write_or_keep(&self, mut state: MutexGuard<'_, State>, batch: &Batch) {
        let Some(socket) = &state.socket else { return };
        if !state.backlog.is_empty() {
            // What is to be closed needs no more than its close frame.
            if !self.keep(&mut state, batch.clone()) && !state.has_ended {
                self.drop_backlog(&mut state);
                state.closing = Some(CloseCode::SlowConsumer);
                wake(state);
            }
            return;
        }
        let written = match socket.try_write(batch.wire()) {
            Ok(length) if length == batch.wire().len() => return self.bounds.sent.inc_by(batch.messages() as u64),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => {
                self.lose(&mut state);
                return wake(state);
            }
        };
        let mut rest = batch.clone();
        rest.advance(written);
        state.is_cut = written > 0;
        state.stuck_since = Some(Instant::now());
        // It is on its way already; only what comes behind it can be too much.
        self.keep(&mut state, rest);
        wake(state);
    }

    /// Adds to the backlog. Returns false if that is too much, for this client or for all together; in the latter
    /// case for those that have more than their share, so that a client that keeps up does not pay for others that
    /// do not.
    fn keep(&self, state: &mut State, batch: Batch) -> bool {
        let bounds = &self.bounds;
        state.messages += batch.messages();
        self.count(state, state.bytes + batch.wire().len());
        state.backlog.push_back(batch);
        let share = || bounds.max_total / bounds.laggards.load(Ordering::Relaxed).max(1);
        // Pongs count as no messages, but take their memory too.
        state.messages.max(state.backlog.len()) <= bounds.max_messages()
            && state.bytes <= bounds.max_bytes()
            && (bounds.total.load(Ordering::Relaxed) <= bounds.max_total || state.bytes <= share())
    }

    /// Waits until nothing waits any more. Returns false if the outbox has ended or is about to. For one writer at a time;
    /// cancel-safe.
    pub(super) async fn free(&self) -> bool {
        poll_fn(|context| {
            let mut state = self.state();
            if state.has_ended || state.closing.is_some() {
                return Poll::Ready(false);
            }
            if state.backlog.is_empty() {
                return Poll::Ready(true);
            }
            state.writer = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Has the connection closed with this code. The first code given stands, unless the outbox overflows.
    pub fn close(&self, code: CloseCode) {
        let mut state = self.state();
        state.closing.get_or_insert(code);
        wake(state);
    }

    /// Takes no more messages, and drops those that wait if the client could not take them in time anyway.
    pub fn end(&self, drop_backlog: bool) {
        let mut state = self.state();
        state.has_ended = true;
        if drop_backlog {
            self.drop_backlog(&mut state);
        }
    }

    /// Says to the client that nothing will follow (half a close of the TCP connection).
    pub fn shut(&self) {
        self.lose(&mut self.state());
    }

    /// Writes what waits whenever the client takes it, until the connection has to be closed: returns the code, or
    /// `None` if it is broken. A client that takes nothing for `write_timeout` is one to be closed. For the session
    /// alone; cancel-safe.
    pub async fn attend(&self, write_timeout: Duration) -> Option<CloseCode> {
        // Seldom needed, so it is made when it is.
        let mut deadline: Option<Pin<Box<Sleep>>> = None;
        poll_fn(|context| {
            loop {
                let mut state = self.state();
                if let Some(code) = state.closing {
                    return Poll::Ready(Some(code));
                }
                if !state.session.as_ref().is_some_and(|session| session.will_wake(context.waker())) {
                    state.session = Some(context.waker().clone());
                }
                let is_idle = self.poll_write(&mut state, context).is_ready();
                if state.socket.is_none() {
                    return Poll::Ready(None);
                }
                let Some(stuck_since) = state.stuck_since.filter(|_| !is_idle) else { return Poll::Pending };
                drop(state);
                let due = stuck_since + write_timeout;
                let deadline = deadline.get_or_insert_with(|| Box::pin(sleep_until(due)));
                if deadline.deadline() != due {
                    deadline.as_mut().reset(due);
                }
                ready!(deadline.as_mut().poll(context));
                self.close(CloseCode::SlowConsumer);
            }
        })
        .await
    }

    /// Whether it has overflowed, so that messages were dropped.
    pub fn has_overflowed(&self) -> bool {
        self.state().closing == Some(CloseCode::SlowConsumer)
    }

    /// Writes what waits whenever the client takes it, for ever. For the session alone; cancel-safe.
    pub async fn keep_writing(&self) -> Infallible {
        poll_fn(|context| {
            let mut state = self.state();
            state.session = Some(context.waker().clone());
            let _ = self.poll_write(&mut state, context);
            Poll::Pending
        })
        .await
    }

    /// Writes what waits until nothing does, or the connection is broken. For the session alone; cancel-safe.
    pub async fn drained(&self) {
        poll_fn(|context| self.poll_write(&mut self.state(), context)).await;
    }

    /// Writes until nothing waits, the client takes no more, or the connection turns out to be broken.
    fn poll_write(&self, state: &mut State, context: &mut Context<'_>) -> Poll<()> {
        while !state.backlog.is_empty() {
            let Some(socket) = &state.socket else { break };
            let pieces: Vec<IoSlice<'_>> =
                state.backlog.iter().take(PIECES).map(|batch| IoSlice::new(batch.wire())).collect();
            match socket.try_write_vectored(&pieces) {
                Ok(length) => self.written(state, length),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if ready!(socket.as_ref().poll_write_ready(context)).is_err() {
                        self.lose(state);
                    }
                }
                Err(_) => self.lose(state),
            }
        }
        Poll::Ready(())
    }

    fn written(&self, state: &mut State, mut length: usize) {
        self.count(state, state.bytes - length);
        state.stuck_since = Some(Instant::now());
        while let Some(first) = state.backlog.front_mut() {
            if length < first.wire().len() {
                first.advance(length);
                state.is_cut |= length > 0;
                return;
            }
            length -= first.wire().len();
            state.messages -= first.messages();
            self.bounds.sent.inc_by(first.messages() as u64);
            state.is_cut = false;
            state.backlog.pop_front();
        }
        state.emptied();
    }

    /// Takes no more messages, and drops those that wait, but for the rest of what the client has had a part of.
    fn drop_backlog(&self, state: &mut State) {
        state.has_ended = true;
        let rest = if state.is_cut { state.backlog.pop_front() } else { None };
        state.messages = rest.as_ref().map_or(0, Batch::messages);
        self.count(state, rest.as_ref().map_or(0, |rest| rest.wire().len()));
        state.emptied();
        state.is_cut = rest.is_some();
        state.backlog.extend(rest);
    }

    /// The connection is of no use any more.
    fn lose(&self, state: &mut State) {
        (state.socket, state.has_ended, state.messages) = (None, true, 0);
        self.count(state, 0);
        state.emptied();
    }

    /// Keeps the books of what waits.
    fn count(&self, state: &mut State, bytes: usize) {
        let Bounds { total, laggards, .. } = &*self.bounds;
        match (state.bytes, bytes) {
            (0, 1..) => _ = laggards.fetch_add(1, Ordering::Relaxed),
            (1.., 0) => _ = laggards.fetch_sub(1, Ordering::Relaxed),
            _ => {}
        }
        if bytes >= state.bytes {
            total.fetch_add(bytes - state.bytes, Ordering::Relaxed);
        } else {
            total.fetch_sub(state.bytes - bytes, Ordering::Relaxed);
        }
        state.bytes = bytes;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Nothing waits any more.
    fn emptied(&mut self) {
        // What was needed for once is not kept for the rest of a connection's life.
        self.backlog = VecDeque::new();
        (self.is_cut, self.stuck_since) = (false, None);
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        self.shut();
    }
}

/// Tells the session that there is something for it to do, and a writer that waits in vain.
fn wake(mut state: MutexGuard<'_, State>) {
    let (session, is_closing) = (state.session.take(), state.closing.is_some());
    let writer = if is_closing { state.writer.take() } else { None };
    drop(state);
    for waker in [session, writer].into_iter().flatten() {
        waker.wake();
    }
}

#[cfg(test)]
pub(super) mod tests {
    use futures_util::FutureExt;
    use prometheus::IntCounter;
    use tokio::{
        io::AsyncReadExt,
        net::{TcpListener, TcpSocket, TcpStream},
    };

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(5);

    /// Bounds that are never reached.
    pub(in crate::hub) fn wide() -> Arc<Bounds> {
        bounds(usize::MAX, usize::MAX, usize::MAX)
    }

    fn bounds(max_messages: usize, max_bytes: usize, max_total: usize) -> Arc<Bounds> {
        Arc::new(Bounds::new(max_messages, max_bytes, max_total, IntCounter::new("sent", "sent").unwrap()))
    }

    /// An outbox and its client, with as little in between as the system allows.
    pub(in crate::hub) async fn connect(bounds: &Arc<Bounds>) -> (Outbox, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(1).unwrap();
        let client = socket.connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        (Outbox::new(stream.into_split().1, bounds.clone()), client)
    }

    /// What the client gets, without the heads of the frames, until nothing more comes.
    pub(in crate::hub) async fn received(client: &mut TcpStream) -> Vec<String> {
        let mut wire = Vec::new();
        client.read_to_end(&mut wire).await.unwrap();
        let mut client = tungstenite::WebSocket::from_raw_socket(
            std::io::Cursor::new(wire),
            tungstenite::protocol::Role::Client,
            None,
        );
        let mut texts = Vec::new();
        while let Ok(message) = client.read() {
            texts.push(message.to_text().unwrap().to_owned());
        }
        texts
    }

    fn frame(text: &str) -> Frame {
        text.to_owned().into()
    }

    fn large(number: usize) -> Frame {
        format!("{number:10000}").into()
    }

    /// Pushes until something waits. Returns how many it were.
    fn fill(outbox: &Outbox) -> usize {
        let is_free = || outbox.state().backlog.is_empty();
        (0..)
            .take_while(|number| {
                is_free() && {
                    outbox.push(&large(*number));
                    true
                }
            })
            .count()
    }

    #[tokio::test]
    async fn what_is_pushed_is_on_its_way_at_once_and_in_order() {
        let bounds = wide();
        let (outbox, mut client) = connect(&bounds).await;
        let texts: Vec<String> = (0..10).map(|number| number.to_string()).collect();
        texts.iter().for_each(|text| outbox.push(&frame(text)));
        outbox.shut();
        assert_eq!(received(&mut client).await, texts);
        assert_eq!(bounds.sent.get(), 10);
    }

    #[tokio::test]
    async fn what_the_client_does_not_take_yet_is_written_by_its_session() {
        let bounds = wide();
        let (outbox, mut client) = connect(&bounds).await;
        let filled = fill(&outbox);
        (filled..filled + 100).for_each(|number| outbox.push(&large(number)));
        assert!(bounds.sent.get() < filled as u64 && bounds.total.load(Ordering::Relaxed) > 0);
        let session = async {
            tokio::select! {
                ended = outbox.attend(TIMEOUT) => panic!("{ended:?}"),
                () = outbox.drained() => outbox.shut(),
            }
        };
        let ((), texts) = tokio::join!(session, received(&mut client));
        let expected = (0..filled + 100).map(|number| format!("{number:10000}"));
        assert!(texts.into_iter().eq(expected));
        assert_eq!(bounds.sent.get(), filled as u64 + 100);
        assert_eq!((bounds.total.load(Ordering::Relaxed), bounds.laggards.load(Ordering::Relaxed)), (0, 0));
    }

    #[tokio::test]
    async fn an_overflow_closes_and_drops_but_cuts_no_message() {
        for bounds in [bounds(3, usize::MAX, usize::MAX), bounds(usize::MAX, 30_000, usize::MAX)] {
            let (outbox, mut client) = connect(&bounds).await;
            let filled = fill(&outbox);
            (0..3).for_each(|number| outbox.push(&large(number)));
            assert_eq!(outbox.attend(TIMEOUT).await, Some(CloseCode::SlowConsumer));
            outbox.push(&frame("too late"));
            outbox.end(true);
            outbox.push_control(frame("goodbye").to_wire());
            let session = async {
                outbox.drained().await;
                outbox.shut();
            };
            let ((), texts) = tokio::join!(session, received(&mut client));
            let (goodbye, texts) = texts.split_last().unwrap();
            assert_eq!(goodbye, "goodbye");
            assert!(texts.len() <= filled && texts.iter().enumerate().all(|(at, text)| *text == format!("{at:10000}")));
        }
    }

    #[tokio::test]
    async fn pongs_that_nobody_takes_are_too_much_in_the_end() {
        let (outbox, _client) = connect(&bounds(100, usize::MAX, usize::MAX)).await;
        fill(&outbox);
        (0..99).for_each(|_| outbox.push_control(Bytes::from_static(b"\x8a\x00")));
        assert_eq!(outbox.attend(TIMEOUT).now_or_never(), None);
        outbox.push_control(Bytes::from_static(b"\x8a\x00"));
        assert_eq!(outbox.attend(TIMEOUT).now_or_never(), Some(Some(CloseCode::SlowConsumer)));
    }

    #[tokio::test]
    async fn when_all_have_too_much_waiting_those_that_keep_up_stay() {
        let bounds = bounds(usize::MAX, usize::MAX, 1_000_000);
        let (hog, _hog) = connect(&bounds).await;
        let (slow, _slow) = connect(&bounds).await;
        fill(&hog);
        (0..60).for_each(|number| hog.push(&large(number)));
        fill(&slow);
        (0..40).for_each(|number| slow.push(&large(number)));
        assert_eq!(slow.attend(TIMEOUT).now_or_never(), None);
        hog.push(&large(60));
        assert_eq!(hog.attend(TIMEOUT).now_or_never(), Some(Some(CloseCode::SlowConsumer)));
        drop((hog, slow));
        assert_eq!((bounds.total.load(Ordering::Relaxed), bounds.laggards.load(Ordering::Relaxed)), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_for_too_long_is_to_be_closed() {
        let (outbox, _client) = connect(&wide()).await;
        fill(&outbox);
        assert_eq!(outbox.attend(TIMEOUT).await, Some(CloseCode::SlowConsumer));
    }

    #[tokio::test]
    async fn a_broken_connection_is_noticed_by_whoever_writes() {
        let (outbox, client) = connect(&wide()).await;
        drop(client);
        let pushing = async {
            loop {
                outbox.push(&large(0));
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            ended = outbox.attend(TIMEOUT) => assert_eq!(ended, None),
            () = pushing => {}
        }
        outbox.push(&frame("into nothing"));
        outbox.drained().await;
    }

    #[tokio::test]
    async fn a_writer_that_waits_goes_on_when_nothing_waits_or_at_an_end() {
        let (outbox, mut client) = connect(&wide()).await;
        assert!(outbox.free().await);
        fill(&outbox);
        assert_eq!(outbox.free().now_or_never(), None);
        let reading = async {
            let mut bytes = [0; 4096];
            while client.read(&mut bytes).await.unwrap() > 0 {}
        };
        tokio::select! {
            is_open = outbox.free() => assert!(is_open),
            ended = outbox.attend(TIMEOUT) => panic!("{ended:?}"),
            () = reading => panic!("the client has been closed"),
        }
        fill(&outbox);
        let close = async { outbox.close(CloseCode::Idle) };
        let (is_open, ()) = tokio::join!(outbox.free(), close);
        assert!(!is_open);
    }
}
