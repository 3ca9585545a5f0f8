use std::{
    collections::VecDeque,
    future::{pending, poll_fn},
    mem::MaybeUninit,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes, BytesMut};
use tokio::{
    io::{self, ReadBuf},
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
    time::{Instant, sleep_until, timeout_at},
};

use super::{Decoder, End, Outbox, Received, Receiving, Sending, Total, wire};
use crate::protocol::CloseCode;

/// Most bytes to read from a socket with one call.
const CALL: usize = 8 * 1024;

/// Most bytes of messages to hold back while a command of the client is under way. Beyond, nothing is read.
const HELD: usize = CALL;

/// How long the end of a connection waits for what the client requested before.
const GRACE: Duration = Duration::from_secs(1);

/// How often to check a client with an incomplete message: whether it holds more than its share, and whether the rest
/// of an oversized message is worth waiting for.
const LOOK: Duration = Duration::from_secs(1);

/// The limits on what all clients of a server send.
#[derive(Clone, Debug)]
pub struct Intake {
    /// Longest message in bytes.
    pub max_message: usize,
    /// Longest time from its first byte to its last.
    pub message_timeout: Duration,
    /// What all clients hold here together: messages that are incomplete or wait for their turn.
    pub total: Arc<Total>,
}

/// The receiving side of one client's socket.
///
/// It decodes what it has read in steps that never wait ([`next`](Self::next)), so its owner decides how much happens
/// at a time. It answers pings itself. While a command of the client is under way, it holds back messages but still
/// sees control frames: the client gets its pongs, and its close is noticed.
///
/// A silent client owns no buffer here. Messages that are incomplete or wait count in the [`Intake::total`] of all
/// clients.
#[derive(Debug)]
pub struct Inbound<R: Receiving = OwnedReadHalf, S: Sending = OwnedWriteHalf> {
    pub(super) socket: R,
    pub(super) outbox: Arc<Outbox<S>>,
    pub(super) decoder: Decoder,
    /// Read, but not decoded yet.
    pub(super) unread: Bytes,
    held: VecDeque<String>,
    held_bytes: usize,
    /// Length of the last message that was handed out, which may still be under way.
    taken: usize,
    /// Pongs that go out together, and where the last of them begins.
    pongs: BytesMut,
    last_pong: usize,
    /// Why reading has ended. What came before is handled first, until this time.
    end: Option<(End, Instant)>,
    /// When the arriving message must be complete.
    due: Option<Instant>,
    has_heard: bool,
    /// After a violation, what comes has no meaning.
    pub(super) has_failed: bool,
    intake: Intake,
    account: usize,
}

impl<R: Receiving, S: Sending> Inbound<R, S> {
    /// Reads this client; `unread` is what it has sent after its request.
    pub fn new(socket: R, unread: Bytes, outbox: Arc<Outbox<S>>, intake: &Intake) -> Self {
        Self {
            socket,
            outbox,
            decoder: Decoder::new(intake.max_message),
            unread,
            held: VecDeque::new(),
            held_bytes: 0,
            taken: 0,
            pongs: BytesMut::new(),
            last_pong: 0,
            end: None,
            due: None,
            has_heard: true,
            has_failed: false,
            intake: intake.clone(),
            account: 0,
        }
    }

    /// The next message of what has been read; `None` if there is none. Decodes at most one frame. While the client
    /// `is_busy` with a command, messages are held back.
    ///
    /// # Errors
    /// How the connection ends, once everything before the end has been returned.
    pub fn next(&mut self, is_busy: bool) -> Result<Option<Received>, End> {
        if !is_busy {
            self.taken = 0;
            if let Some(text) = self.held.pop_front() {
                self.held_bytes -= cost(&text);
                return Ok(Some(self.hand_out(text)));
            }
            if let Some((end, _)) = self.end.take() {
                return Err(end);
            }
        }
        if self.end.is_some() || !self.may_read(is_busy) {
            return Ok(None);
        }
        let received = match self.decode() {
            Ok(received) => received,
            Err(end) => {
                self.end(end);
                return self.next(is_busy);
            }
        };
        Ok(received.map(|received| match received {
            Received::Text(text) if is_busy => {
                self.held_bytes += cost(&text);
                self.held.push_back(text);
                Received::Part
            }
            Received::Text(text) => self.hand_out(text),
            Received::Binary => {
                self.end(CloseCode::Binary.into());
                Received::Binary
            }
            received => received,
        }))
    }

    fn hand_out(&mut self, text: String) -> Received {
        if self.held.is_empty() {
            self.held = VecDeque::new();
        }
        self.taken = text.len();
        Received::Text(text)
    }

    /// The next frame of what has been read.
    fn decode(&mut self) -> Result<Option<Received>, End> {
        let mut input = &self.unread[..];
        let received = self.decoder.next(&mut input);
        let used = self.unread.len() - input.len();
        self.unread.advance(used);
        if self.unread.is_empty() {
            self.unread = Bytes::new();
        }
        if !self.decoder.is_within() {
            self.due = None;
        }
        match &received {
            Ok(Some(Received::Ping(payload))) => {
                self.last_pong = self.pongs.len();
                wire::put_pong(&mut self.pongs, payload);
            }
            Ok(Some(Received::Close(payload))) => return Err(End::Closed(Bytes::copy_from_slice(payload))),
            _ => {}
        }
        self.has_failed = received.is_err();
        received.map_err(End::Refused)
    }

    /// Reads more, if there is room for it. Returns how many bytes came.
    /// Cancel-safe.
    ///
    /// # Errors
    /// How the connection ends.
    pub async fn read(&mut self, is_busy: bool) -> Result<usize, End> {
        self.answer_pings();
        self.keep_account()?;
        if let Some((_, until)) = &self.end {
            sleep_until(*until).await;
            return self.end.take().map_or(Ok(0), |(end, _)| Err(end));
        }
        if !self.may_read(is_busy) {
            return pending().await;
        }
        if !self.unread.is_empty() {
            return Ok(0);
        }
        let Some(due) = self.due else { return self.filled().await };
        let look = due.min(Instant::now() + LOOK);
        match timeout_at(look, self.filled()).await {
            Ok(result) => result,
            Err(_) if look == due || self.decoder.is_oversized() => Err(End::Refused(self.decoder.give_up())),
            Err(_) => Ok(0),
        }
    }

    /// Whether the client has sent a byte, or accepted one of what waits for it, since the last call.
    pub fn is_alive(&mut self) -> bool {
        std::mem::take(&mut self.has_heard) | self.outbox.has_moved()
    }

    /// Whether the server reads from this client now.
    pub fn may_read(&self, is_busy: bool) -> bool {
        // The rest of a message is read, because its deadline runs.
        !is_busy || self.decoder.is_within() || self.held_bytes < HELD && !self.intake.total.is_over()
    }

    /// Answers all pings since the last call. If the client does not accept the pongs, only the latest is kept (RFC
    /// 6455, 5.5.3).
    pub fn answer_pings(&mut self) {
        if !self.pongs.is_empty() {
            let pongs = std::mem::take(&mut self.pongs).freeze();
            self.outbox.push_pongs(pongs, std::mem::take(&mut self.last_pong));
        }
    }

    fn end(&mut self, end: End) {
        self.end = Some((end, Instant::now() + GRACE));
    }

    /// Updates this client's part in the total, and the deadline of its message.
    fn keep_account(&mut self) -> Result<(), End> {
        let kept = self.decoder.kept() + self.unread.len() + self.held_bytes + self.taken;
        if kept != self.account {
            self.intake.total.change(self.account, kept);
            self.account = kept;
        }
        if !self.decoder.is_within() {
            return Ok(());
        }
        self.due.get_or_insert_with(|| Instant::now() + self.intake.message_timeout);
        if self.intake.total.allows(kept) {
            return Ok(());
        }
        self.keep_nothing();
        Err(CloseCode::Overloaded.into())
    }

    /// Throws away what is held here, and what will come.
    pub(super) fn keep_nothing(&mut self) {
        self.decoder.discard();
        self.held = VecDeque::new();
        self.intake.total.change(self.account, 0);
        self.account = 0;
    }

    async fn filled(&mut self) -> Result<usize, End> {
        match poll_fn(|context| self.poll_read(context)).await {
            Ok(0) | Err(_) => {
                self.end(End::Lost);
                Ok(0)
            }
            Ok(length) => {
                self.has_heard = true;
                Ok(length)
            }
        }
    }

    pub(super) fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut bytes = [MaybeUninit::uninit(); CALL];
        let mut buffer = ReadBuf::uninit(&mut bytes);
        ready!(self.socket.poll_read(context, &mut buffer))?;
        self.unread = Bytes::copy_from_slice(buffer.filled());
        Poll::Ready(Ok(buffer.filled().len()))
    }
}

/// Memory of a message that is held back.
fn cost(text: &str) -> usize {
    text.len() + size_of::<String>()
}

impl<R: Receiving, S: Sending> Drop for Inbound<R, S> {
    fn drop(&mut self) {
        self.intake.total.change(self.account, 0);
    }
}
