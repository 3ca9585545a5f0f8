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
/// position. Pushing never waits, so a slow client delays no other.
#[derive(Debug)]
pub struct Outbox<S: Sending = OwnedWriteHalf> {
    state: Mutex<State<S>>,
    /// How it writes.
    dialect: Dialect,
    bounds: Arc<Bounds>,
}

#[derive(Debug)]
struct State<S> {
    /// `None` once the connection is lost.
    socket: Option<S>,
    /// How far it is on the way to its end, as long as there is a socket.
    phase: Phase,
    backlog: Backlog,
    /// Since when the client takes nothing of the backlog.
    stuck_since: Option<Instant>,
    /// The client has taken something of the backlog since this was asked last.
    has_moved: bool,
    /// The session, which waits for a backlog or an end.
    session: Option<Waker>,
    /// Whoever waits for the backlog to be gone.
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

    /// Sends all that is in a batch, in one call if the client takes it. It is dropped if the outbox has ended, or ends it
    /// by overflowing.
    pub fn deliver(&self, batch: &Batch) {
        let wire = batch.encoded(self.dialect, |items| wire::encode(self.dialect, items));
        let state = self.state();
        if state.phase().takes_messages() {
            self.write_or_keep(state, Piece::new(wire.clone(), batch.items().len()));
        }
    }

    /// Sends a ping. Not counted, and sent after the end too.
    pub fn ping(&self) {
        self.write_or_keep(self.state(), Piece::new(wire::PING, 0));
    }

    /// Sends pongs, of which the last one begins at `last`. If something waits, only that one does, in the place of one
    /// that waited before and ahead of the messages: the client cannot have many of them piled up here.
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
            // What is about to be closed needs no more than its close frame.
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
        // It is on its way already; only what comes behind it can be too much.
        self.keep(&mut state, piece, written > 0);
        wake(state);
    }

    /// Adds to the backlog. Returns false if that is too much, for this client or for all together; in the latter
    /// case for those that have more than their share, so that a client that keeps up does not pay for others that
    /// do not.
    fn keep(&self, state: &mut State<S>, piece: Piece, is_cut: bool) -> bool {
        self.change(state, |backlog| backlog.push(piece, is_cut));
        let (bounds, backlog) = (&self.bounds, &state.backlog);
        backlog.weight() <= bounds.max_messages()
            && backlog.bytes() <= bounds.max_bytes()
            && bounds.total.allows(backlog.bytes())
    }

    /// Whether the client has taken all that it was sent.
    pub fn is_free(&self) -> bool {
        self.state().backlog.is_empty()
    }

    /// Ready with true once nothing waits any more, and with false once the outbox has ended or is about to. For one writer
    /// at a time.
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

    /// Has the connection closed with this code. The first code given stands, unless the outbox overflows.
    pub fn close(&self, code: CloseCode) {
        let mut state = self.state();
        state.phase = state.phase.close(code);
        wake(state);
    }

    /// Takes no more messages, and has the close frame follow on those that wait, or take their place.
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

    /// Writes what waits whenever the client takes it, until the connection has to be closed: returns the code, or
    /// `None` if it is broken. A client that takes nothing for `write_timeout` is one to be closed. For the session
    /// alone; cancel-safe.
    pub async fn attend(&self, write_timeout: Duration) -> Option<CloseCode> {
        // Seldom needed, so it is made when it is.
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

    /// How far it is on the way to its end.
    pub fn phase(&self) -> Phase {
        self.state().phase()
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

    /// Writes whatever the system takes. It says that there is room only when a good part of its buffer is free, which a
    /// client on a slow line may take long for. Returns whether there was any.
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

    /// The connection is of no use any more.
    fn lose(&self, state: &mut State<S>) {
        state.socket = None;
        self.change(state, |backlog| *backlog = Backlog::default());
    }

    /// Changes what waits, and keeps the books of it.
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

/// Tells the session that there is something for it to do, and a writer that waits in vain.
fn wake<S>(mut state: MutexGuard<'_, State<S>>) {
    let (session, is_closing) = (state.session.take(), state.phase() != Phase::Open);
    let writer = if is_closing { state.writer.take() } else { None };
    drop(state);
    session.into_iter().chain(writer).for_each(Waker::wake);
}

#[cfg(test)]
mod tests;
