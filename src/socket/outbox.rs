use std::{
    collections::VecDeque,
    convert::Infallible,
    future::poll_fn,
    io::{ErrorKind, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use rustix::net::{SendFlags, send};
use tokio::{
    net::tcp::OwnedWriteHalf,
    time::{Instant, Sleep, sleep_until},
};

use super::{Batch, Bounds, wire};
use crate::protocol::{self, CloseCode, Dialect, Frame};

/// Most pieces of a backlog that are written with one call.
const PIECES: usize = 32;

/// How often within its time a client that seems to take nothing is looked at more closely.
const LOOKS: u32 = 4;

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
    dialect: Dialect,
    bounds: Arc<Bounds>,
}

/// How far the way of an outbox to its end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It takes messages.
    Open,
    /// It still takes messages, and the session is to close it with this code.
    Closing(CloseCode),
    /// It takes no more messages. This code was asked for, or is why.
    Ended(CloseCode),
    /// Nothing can be written any more.
    Lost,
}

impl Phase {
    /// The code with which the connection is to be closed, if it is.
    fn code(self) -> Option<CloseCode> {
        match self {
            Self::Closing(code) | Self::Ended(code) => Some(code),
            Self::Open | Self::Lost => None,
        }
    }

    fn takes_messages(self) -> bool {
        matches!(self, Self::Open | Self::Closing(_))
    }
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// `None` when the phase is [`Phase::Lost`].
    socket: Option<OwnedWriteHalf>,
    backlog: VecDeque<Batch>,
    messages: usize,
    bytes: usize,
    /// A part of the first of the backlog has been written, so that the rest of it must follow.
    is_cut: bool,
    /// Since when the client takes nothing of the backlog.
    stuck_since: Option<Instant>,
    /// The client has taken something of the backlog since this was asked last.
    has_moved: bool,
    /// The session, which waits for a backlog or an end.
    session: Option<Waker>,
    /// Whoever waits for the backlog to be gone.
    writer: Option<Waker>,
}

impl Outbox {
    /// An empty outbox with these bounds.
    pub fn new(socket: OwnedWriteHalf, dialect: Dialect, bounds: Arc<Bounds>) -> Self {
        let state = State {
            phase: Phase::Open,
            socket: Some(socket),
            backlog: VecDeque::new(),
            messages: 0,
            bytes: 0,
            is_cut: false,
            stuck_since: None,
            has_moved: false,
            session: None,
            writer: None,
        };
        Self { state: Mutex::new(state), dialect, bounds }
    }

    /// Sends a batch of values.
    pub fn deliver(&self, batch: &protocol::Batch) {
        let wire = batch.encoded(self.dialect, wire::encode);
        self.push_batch(&Batch::new(wire.clone(), batch.items().len()));
    }

    /// Sends a message. It is dropped if the outbox has ended, or ends it by overflowing.
    pub fn push(&self, frame: &Frame) {
        self.push_batch(&frame.into());
    }

    /// Sends all messages of a batch, like [`push`](Self::push), in one call if the client takes them.
    pub fn push_batch(&self, batch: &Batch) {
        let state = self.state();
        if state.phase.takes_messages() {
            self.write_or_keep(state, batch);
        }
    }

    /// Sends what is no message but part of the WebSocket protocol. Not counted, and taken after the end too.
    pub fn push_control(&self, wire: Bytes) {
        self.write_or_keep(self.state(), &Batch::new(wire, 0));
    }

    /// Sends a ping.
    pub fn ping(&self) {
        self.push_control(wire::PING);
    }

    /// Sends pongs, of which the last one begins at `last`. If something waits, only that one does, in the place of one
    /// that waited before and ahead of the messages: the client cannot have many of them piled up here.
    pub(super) fn push_pongs(&self, pongs: Bytes, last: usize) {
        let mut state = self.state();
        if state.backlog.is_empty() {
            return self.write_or_keep(state, &Batch::new(pongs, 0));
        }
        let (pong, at) = (Batch::new(pongs.slice(last..), 0), usize::from(state.is_cut));
        let mut bytes = state.bytes + pong.wire().len();
        match state.backlog.get_mut(at).filter(|waiting| wire::is_pong(waiting.wire())) {
            Some(waiting) => {
                bytes -= waiting.wire().len();
                *waiting = pong;
            }
            None => state.backlog.insert(at, pong),
        }
        self.count(&mut state, bytes);
    }

    fn write_or_keep(&self, mut state: MutexGuard<'_, State>, batch: &Batch) {
        let Some(socket) = &state.socket else { return };
        if !state.backlog.is_empty() {
            // What is to be closed needs no more than its close frame.
            if !self.keep(&mut state, batch.clone()) && state.phase.takes_messages() {
                self.drop_backlog(&mut state);
                state.phase = Phase::Ended(CloseCode::SlowConsumer);
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
        // Pongs count as no messages, but take their memory too.
        state.messages.max(state.backlog.len()) <= bounds.max_messages()
            && state.bytes <= bounds.max_bytes()
            && bounds.total.allows(state.bytes)
    }

    /// Whether the client has taken all that it was sent.
    pub fn is_free(&self) -> bool {
        self.state().backlog.is_empty()
    }

    /// Waits until nothing waits any more. Returns false if the outbox has ended or is about to. For one writer at a time;
    /// cancel-safe.
    pub async fn free(&self) -> bool {
        poll_fn(|context| self.poll_free(context)).await
    }

    /// See [`free`](Self::free).
    pub fn poll_free(&self, context: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.state();
        if state.phase != Phase::Open {
            return Poll::Ready(false);
        }
        if state.backlog.is_empty() {
            return Poll::Ready(true);
        }
        state.writer = Some(context.waker().clone());
        Poll::Pending
    }

    /// Has the connection closed with this code. The first code given stands, unless the outbox overflows.
    pub fn close(&self, code: CloseCode) {
        let mut state = self.state();
        if state.phase == Phase::Open {
            state.phase = Phase::Closing(code);
        }
        wake(state);
    }

    /// Takes no more messages, and has the close frame follow on those that wait, or take their place.
    pub(super) fn finish(&self, goodbye: &Bytes, drop_backlog: bool) {
        let mut state = self.state();
        if state.phase == Phase::Lost {
            return;
        }
        state.phase = Phase::Ended(state.phase.code().unwrap_or(CloseCode::Normal));
        if drop_backlog {
            self.drop_backlog(&mut state);
        }
        self.write_or_keep(state, &Batch::new(goodbye.clone(), 0));
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
                if let Some(code) = state.phase.code() {
                    return Poll::Ready(Some(code));
                }
                if !state.session.as_ref().is_some_and(|session| session.will_wake(context.waker())) {
                    state.session = Some(context.waker().clone());
                }
                let is_idle = self.poll_write(&mut state, context).is_ready();
                if state.phase == Phase::Lost {
                    return Poll::Ready(None);
                }
                let Some(stuck_since) = state.stuck_since.filter(|_| !is_idle) else { return Poll::Pending };
                drop(state);
                let (stuck, look) = (stuck_since.elapsed(), write_timeout / LOOKS);
                if stuck < write_timeout {
                    let looks = u32::try_from(stuck.as_nanos() / look.as_nanos().max(1)).unwrap_or(LOOKS);
                    let next = stuck_since + look * (looks + 1);
                    let deadline = deadline.get_or_insert_with(|| Box::pin(sleep_until(next)));
                    ready!(deadline.as_mut().poll(context));
                    deadline.as_mut().reset(next);
                }
                if !self.insist() && stuck_since.elapsed() >= write_timeout {
                    self.close(CloseCode::SlowConsumer);
                }
            }
        })
        .await
    }

    /// How far it is on the way to its end.
    pub fn phase(&self) -> Phase {
        self.state().phase
    }

    /// Whether the client was too slow for it, so that messages were dropped or are about to be.
    pub fn has_overflowed(&self) -> bool {
        self.phase().code() == Some(CloseCode::SlowConsumer)
    }

    /// Whether the client has taken something of what waited since this was asked last.
    pub(super) fn has_moved(&self) -> bool {
        std::mem::take(&mut self.state().has_moved)
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

    /// Writes whatever the system takes. It says that there is room only when a good part of its buffer is free, which a
    /// client on a slow line may take long for. Returns whether there was any.
    fn insist(&self) -> bool {
        let (mut state, mut has_moved) = (self.state(), false);
        while let (Some(socket), Some(first)) = (&state.socket, state.backlog.front()) {
            match send(socket.as_ref(), first.wire(), SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(length) => self.written(&mut state, length),
                Err(_) => break,
            }
            has_moved = true;
        }
        has_moved
    }

    fn written(&self, state: &mut State, mut length: usize) {
        self.count(state, state.bytes - length);
        (state.stuck_since, state.has_moved) = (Some(Instant::now()), true);
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

    /// Drops the messages that wait, but for the rest of what the client has had a part of.
    fn drop_backlog(&self, state: &mut State) {
        let rest = if state.is_cut { state.backlog.pop_front() } else { None };
        state.messages = rest.as_ref().map_or(0, Batch::messages);
        self.count(state, rest.as_ref().map_or(0, |rest| rest.wire().len()));
        state.emptied();
        state.is_cut = rest.is_some();
        state.backlog.extend(rest);
    }

    /// The connection is of no use any more.
    fn lose(&self, state: &mut State) {
        (state.socket, state.phase, state.messages) = (None, Phase::Lost, 0);
        self.count(state, 0);
        state.emptied();
    }

    /// Keeps the books of what waits.
    fn count(&self, state: &mut State, bytes: usize) {
        self.bounds.total.change(state.bytes, bytes);
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
    let (session, is_closing) = (state.session.take(), state.phase != Phase::Open);
    let writer = if is_closing { state.writer.take() } else { None };
    drop(state);
    for waker in [session, writer].into_iter().flatten() {
        waker.wake();
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use bytes::BytesMut;
    use futures_util::FutureExt;
    use tokio::{
        io::AsyncReadExt,
        net::{TcpListener, TcpSocket, TcpStream},
    };

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(5);

    /// Bounds that are never reached.
    pub(crate) fn wide() -> Arc<Bounds> {
        bounds(usize::MAX, usize::MAX, usize::MAX)
    }

    fn bounds(max_messages: usize, max_bytes: usize, max_total: usize) -> Arc<Bounds> {
        Arc::new(Bounds::new(max_messages, max_bytes, max_total, crate::telemetry::Counter::default()))
    }

    /// An outbox and its client, with as little in between as the system allows.
    pub(crate) async fn connect(bounds: &Arc<Bounds>) -> (Outbox, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(1).unwrap();
        let client = socket.connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        (Outbox::new(stream.into_split().1, Dialect::Json, bounds.clone()), client)
    }

    /// What the client gets, without the heads of the frames, until nothing more comes.
    pub(crate) async fn received(client: &mut TcpStream) -> Vec<String> {
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
        assert!(bounds.sent.get() < filled as u64 && bounds.total.held().0 > 0);
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
        assert_eq!(bounds.total.held(), (0, 0));
    }

    #[tokio::test]
    async fn an_overflow_closes_and_drops_but_cuts_no_message() {
        for bounds in [bounds(3, usize::MAX, usize::MAX), bounds(usize::MAX, 30_000, usize::MAX)] {
            let (outbox, mut client) = connect(&bounds).await;
            let filled = fill(&outbox);
            (0..3).for_each(|number| outbox.push(&large(number)));
            assert_eq!(outbox.attend(TIMEOUT).await, Some(CloseCode::SlowConsumer));
            outbox.push(&frame("too late"));
            outbox.finish(&wire::text(&frame("goodbye")), true);
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
    async fn of_pongs_that_nobody_takes_only_the_latest_waits() {
        let bounds = bounds(100, usize::MAX, usize::MAX);
        let (outbox, mut client) = connect(&bounds).await;
        let filled = fill(&outbox);
        outbox.push(&large(filled));
        let waiting = outbox.state().bytes;
        for number in 0..1000 {
            let mut pongs = BytesMut::new();
            wire::put_pong(&mut pongs, b"early");
            let last = pongs.len();
            wire::put_pong(&mut pongs, format!("{number:04}").as_bytes());
            outbox.push_pongs(pongs.freeze(), last);
        }
        assert_eq!(outbox.state().bytes, waiting + 6);
        assert_eq!(outbox.attend(TIMEOUT).now_or_never(), None);
        let session = async {
            outbox.drained().await;
            outbox.shut();
        };
        let mut wire = Vec::new();
        let ((), read) = tokio::join!(session, client.read_to_end(&mut wire));
        read.unwrap();
        // It goes out as soon as the message has that was being written.
        let expected = [b"\x8a\x040999", &wire::text(&large(filled))[..]].concat();
        assert!(wire.ends_with(&expected));
        assert_eq!(bounds.total.held(), (0, 0));
    }

    #[tokio::test]
    async fn what_the_client_takes_of_what_waits_is_a_sign_of_life() {
        let (outbox, mut client) = connect(&wide()).await;
        assert!(!outbox.has_moved());
        fill(&outbox);
        assert!(!outbox.has_moved(), "what the system takes at once says nothing");
        let mut bytes = [0; 4096];
        while !outbox.has_moved() {
            assert_eq!(outbox.attend(TIMEOUT).now_or_never(), None);
            client.read_exact(&mut bytes).await.unwrap();
        }
        assert!(!outbox.has_moved());
    }

    /// The system says that there is room when a third of its buffer is free. A client that has taken less has taken
    /// something.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_little_is_not_taken_for_one_that_takes_nothing() {
        let (outbox, mut client) = connect(&wide()).await;
        fill(&outbox);
        (0..100).for_each(|number| outbox.push(&large(number)));
        let start = Instant::now();
        let mut bytes = [0; 4096];
        while !outbox.has_moved() {
            assert!(start.elapsed() < TIMEOUT, "it is looked at more than once in that time");
            let _ = tokio::time::timeout(TIMEOUT / 20, outbox.attend(TIMEOUT)).await;
            client.read_exact(&mut bytes).await.unwrap();
        }
        loop {
            tokio::select! {
                biased;
                ended = outbox.attend(TIMEOUT) => panic!("{ended:?}"),
                // The clock stands still but for this and for the deadline.
                () = tokio::time::sleep(TIMEOUT / 20) => {}
            }
            if start.elapsed() > 5 * TIMEOUT {
                break;
            }
            client.read_exact(&mut bytes).await.unwrap();
        }
    }

    #[tokio::test]
    async fn its_phase_says_how_far_it_has_come() {
        let (outbox, client) = connect(&wide()).await;
        assert_eq!(outbox.phase(), Phase::Open);
        outbox.close(CloseCode::ServiceRestart);
        outbox.close(CloseCode::Idle);
        assert_eq!(outbox.phase(), Phase::Closing(CloseCode::ServiceRestart), "the first code stands");
        outbox.push(&frame("still taken"));
        outbox.finish(&wire::close(1012, "service_restart"), false);
        outbox.push(&frame("too late"));
        assert_eq!(outbox.phase(), Phase::Ended(CloseCode::ServiceRestart));
        outbox.shut();
        assert_eq!(outbox.phase(), Phase::Lost);
        let mut client = client;
        assert_eq!(received(&mut client).await, ["still taken", "service_restart"]);
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
        assert_eq!(bounds.total.held(), (0, 0));
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
