use std::{
    convert::Infallible,
    future::poll_fn,
    io::ErrorKind,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    net::tcp::OwnedWriteHalf,
    time::{Instant, Sleep, sleep_until},
};

use super::{Bounds, Phase, backlog::Backlog, piece::Piece, transport::Sending, wire};
use crate::protocol::{Batch, CloseCode, Dialect};

/// How often, within its write timeout, to check a client that seems to accept nothing.
const LOOKS: u32 = 4;

/// The sending side of one client's socket, and what waits for it.
///
/// A push writes to the socket at once, if the system accepts it: a message to a room costs one call for each member
/// and wakes no task. What the system does not accept waits here, and the client's session writes it when there is room
/// again. What was pushed first is written first.
///
/// What waits is bounded in messages and in bytes, for this client and for all together. A client whose outbox
/// overflows is closed with [`CloseCode::SlowConsumer`], and what waited is dropped: it comes back and resumes from its
/// last position. A push never waits, so a slow client delays no other.
#[derive(Debug)]
pub struct Outbox<S: Sending = OwnedWriteHalf> {
    state: Mutex<State<S>>,
    /// How values become bytes.
    dialect: Dialect,
    bounds: Arc<Bounds>,
}

#[derive(Debug)]
struct State<S> {
    /// `None` once the connection is lost.
    socket: Option<S>,
    /// The stage on the way to the end, while there is a socket.
    phase: Phase,
    backlog: Backlog,
    /// Since when the client has accepted nothing of the backlog.
    stuck_since: Option<Instant>,
    /// Whether the client has accepted something of the backlog since the last question.
    has_moved: bool,
    /// Wakes the session, which waits for a backlog or an end.
    session: Option<Waker>,
    /// Wakes the writer that waits for the backlog to empty.
    writer: Option<Waker>,
}

impl<S: Sending> Outbox<S> {
    /// An empty outbox for a client that speaks this dialect, with these bounds.
    pub fn new(socket: S, dialect: Dialect, bounds: Arc<Bounds>) -> Self {
        let state = State {
            socket: Some(socket),
            phase: Phase::Open,
            backlog: Backlog::default(),
            stuck_since: None,
            has_moved: false,
            session: None,
            writer: None,
        };
        Self { state: Mutex::new(state), dialect, bounds }
    }

    /// Sends a whole batch, in one call if the system accepts it. If the outbox has ended, or overflows with this, the
    /// batch is dropped.
    pub fn deliver(&self, batch: &Batch) {
        let wire = batch.encoded(self.dialect, |items| wire::encode(self.dialect, items));
        self.push(wire.clone(), batch.items().len());
    }

    /// The same with bytes that are so many messages.
    pub(super) fn push(&self, wire: Bytes, messages: usize) {
        let state = self.state();
        if state.phase().takes_messages() {
            self.write_or_keep(state, Piece::new(wire, messages));
        }
    }

    /// Sends a ping, unless something waits already: whether the client takes that says as much, and pings must not pile
    /// up. It does not count, and goes out even after the end.
    pub fn ping(&self) {
        let state = self.state();
        if state.backlog.is_empty() {
            self.write_or_keep(state, Piece::new(wire::PING, 0));
        }
    }

    /// Sends pongs, the last of which begins at `last`. If something waits already, only the last pong joins it, ahead
    /// of the messages and in place of an earlier pong. So a client cannot pile up pongs here.
    pub(super) fn push_pongs(&self, pongs: Bytes, last: usize) {
        let mut state = self.state();
        if state.backlog.is_empty() {
            return self.write_or_keep(state, Piece::new(pongs, 0));
        }
        self.change(&mut state, |backlog| backlog.push_pong(pongs.slice(last..)));
    }

    fn write_or_keep(&self, mut state: MutexGuard<'_, State<S>>, mut piece: Piece) {
        let Some(socket) = &state.socket else { return };
        if !state.backlog.is_empty() {
            // A connection that is about to close needs only its close frame.
            if !self.keep(&mut state, piece, false) && state.phase.takes_messages() {
                self.change(&mut state, Backlog::shed);
                state.phase = state.phase.overflow();
                wake(state);
            }
            return;
        }
        let written = match socket.try_write(piece.wire()) {
            Ok(length) if length == piece.wire().len() => return self.bounds.sent.inc_by(piece.messages() as u64),
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(_) => {
                self.lose(&mut state);
                return wake(state);
            }
        };
        piece.advance(written);
        state.stuck_since = Some(Instant::now());
        // It is partly sent already; only what follows can be too much.
        self.keep(&mut state, piece, written > 0);
        wake(state);
    }

    /// Adds to the backlog. Returns false if that is too much for this client, or for all together and this client has
    /// more than its share: a client that keeps up must not pay for others that do not.
    fn keep(&self, state: &mut State<S>, piece: Piece, is_cut: bool) -> bool {
        self.change(state, |backlog| backlog.push(piece, is_cut));
        let (bounds, backlog) = (&self.bounds, &state.backlog);
        backlog.weight() <= bounds.max_messages()
            && backlog.bytes() <= bounds.max_bytes()
            && bounds.total.allows(backlog.bytes())
    }

    /// Whether the system has accepted everything for this client.
    pub fn is_free(&self) -> bool {
        self.state().backlog.is_empty()
    }

    /// Waits until the backlog is empty (true) or the outbox has ended or is about to (false). For one writer at a
    /// time.
    pub fn poll_free(&self, context: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.state();
        if state.phase() != Phase::Open {
            return Poll::Ready(false);
        }
        if state.backlog.is_empty() {
            return Poll::Ready(true);
        }
        state.writer = Some(context.waker().clone());
        Poll::Pending
    }

    /// Asks the session to close the connection with this code. The first code stands, unless the outbox overflows.
    pub fn close(&self, code: CloseCode) {
        let mut state = self.state();
        state.phase = state.phase.close(code);
        wake(state);
    }

    /// Takes no more messages. The close frame follows those that wait, or replaces them.
    pub(super) fn finish(&self, goodbye: &Bytes, drop_backlog: bool) {
        let mut state = self.state();
        state.phase = state.phase.finish();
        if drop_backlog {
            self.change(&mut state, Backlog::shed);
        }
        self.write_or_keep(state, Piece::new(goodbye.clone(), 0));
    }

    /// Shuts down the sending side, which sends FIN on TCP; the client may still send.
    pub fn shut(&self) {
        self.lose(&mut self.state());
    }

    /// Writes what waits whenever there is room, until the connection must be closed: returns the code, or `None` if it
    /// is broken. A client that accepts nothing for `write_timeout` must be closed. For the session alone; cancel-safe.
    pub async fn attend(&self, write_timeout: Duration) -> Option<CloseCode> {
        // It is rarely needed, so it is made on demand.
        let mut deadline: Option<Pin<Box<Sleep>>> = None;
        poll_fn(|context| {
            loop {
                let mut state = self.state();
                if let Some(code) = state.phase().code() {
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

    /// The stage on the way to the end.
    pub fn phase(&self) -> Phase {
        self.state().phase()
    }

    /// Whether the client was too slow, so that messages were dropped or are about to be.
    pub fn has_overflowed(&self) -> bool {
        self.phase().code() == Some(CloseCode::SlowConsumer)
    }

    /// Whether the client has accepted something of what waited since the last call.
    pub(super) fn has_moved(&self) -> bool {
        std::mem::take(&mut self.state().has_moved)
    }

    /// Writes what waits whenever there is room. Never ends. For the session alone; cancel-safe.
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

    /// Writes until nothing waits, there is no more room, or the connection turns out to be broken.
    fn poll_write(&self, state: &mut State<S>, context: &mut Context<'_>) -> Poll<()> {
        while !state.backlog.is_empty() {
            let Some(socket) = &state.socket else { break };
            match socket.try_write_vectored(&state.backlog.next()) {
                Ok(length) => self.written(state, length),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if ready!(socket.poll_ready(context)).is_err() {
                        self.lose(state);
                    }
                }
                Err(_) => self.lose(state),
            }
        }
        Poll::Ready(())
    }

    /// Writes what the system accepts even though it reports no room: it reports room only when a good part of its
    /// buffer is free, which may take long on a slow line. Returns whether it accepted anything.
    fn insist(&self) -> bool {
        let (mut state, mut has_moved) = (self.state(), false);
        while let (Some(socket), Some(first)) = (&state.socket, state.backlog.first()) {
            match socket.insist(first) {
                Ok(length) => self.written(&mut state, length),
                Err(_) => break,
            }
            has_moved = true;
        }
        has_moved
    }

    fn written(&self, state: &mut State<S>, length: usize) {
        (state.stuck_since, state.has_moved) = (Some(Instant::now()), true);
        let messages = self.change(state, |backlog| backlog.written(length));
        self.bounds.sent.inc_by(messages as u64);
    }

    /// The connection is broken.
    fn lose(&self, state: &mut State<S>) {
        state.socket = None;
        self.change(state, |backlog| *backlog = Backlog::default());
    }

    /// Changes the backlog, and the total with it.
    fn change<T>(&self, state: &mut State<S>, change: impl FnOnce(&mut Backlog) -> T) -> T {
        let before = state.backlog.bytes();
        let value = change(&mut state.backlog);
        self.bounds.total.change(before, state.backlog.bytes());
        if state.backlog.is_empty() {
            state.stuck_since = None;
            state.writer.take().into_iter().for_each(Waker::wake);
        }
        value
    }

    fn state(&self) -> MutexGuard<'_, State<S>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S> State<S> {
    fn phase(&self) -> Phase {
        if self.socket.is_some() { self.phase } else { Phase::Lost }
    }
}

impl<S: Sending> Drop for Outbox<S> {
    fn drop(&mut self) {
        self.shut();
    }
}

/// Wakes the session, which has something to do, and a writer that waits in vain.
fn wake<S>(mut state: MutexGuard<'_, State<S>>) {
    let (session, is_closing) = (state.session.take(), state.phase() != Phase::Open);
    let writer = if is_closing { state.writer.take() } else { None };
    drop(state);
    session.into_iter().chain(writer).for_each(Waker::wake);
}

#[cfg(test)]
mod tests;
