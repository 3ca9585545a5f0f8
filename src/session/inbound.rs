use std::{
    future::poll_fn,
    io::{self, Read, Write},
    mem::MaybeUninit,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::tcp::OwnedReadHalf,
};
use tungstenite::{
    Error, Message,
    protocol::{CloseFrame, Role, WebSocketConfig, WebSocketContext},
};

use crate::{hub::Outbox, protocol::CloseCode};

/// How much is read from a socket with one call.
const CALL: usize = 8 * 1024;

/// The receiving side of one client's WebSocket.
///
/// tungstenite does the protocol: it takes frames apart, puts messages together, and answers pings and close frames by
/// way of the outbox. It is given what has been read already, a message at a time, so that a connection owns no
/// more than what its largest frame took.
#[derive(Debug)]
pub(super) struct Inbound {
    socket: OwnedReadHalf,
    outbox: Arc<Outbox>,
    context: WebSocketContext,
    /// Has been read, and not taken apart yet.
    unread: Bytes,
    /// The client sends nothing more.
    has_ended: bool,
    /// What comes cannot be understood any more, and tungstenite is not to be asked again.
    has_failed: bool,
}

impl Inbound {
    /// `unread` is what the client has sent after its request.
    pub(super) fn new(socket: OwnedReadHalf, unread: Bytes, outbox: Arc<Outbox>, max_frame: usize) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(0)
            .write_buffer_size(0)
            .max_message_size(Some(max_frame))
            .max_frame_size(Some(max_frame));
        let context = WebSocketContext::new(Role::Server, Some(config));
        Self { socket, outbox, context, unread, has_ended: false, has_failed: false }
    }

    /// The next message; after an error there is none. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Message, Error> {
        if self.has_failed {
            return Err(Error::AlreadyClosed);
        }
        let message = poll_fn(|context| self.poll_next(context)).await;
        self.has_failed = message.is_err();
        message
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Message, Error>> {
        loop {
            let mut wire = Wire { unread: &mut self.unread, has_ended: self.has_ended, outbox: &self.outbox };
            match self.context.read(&mut wire) {
                Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    ready!(self.poll_read(context))?;
                }
                message => {
                    // The pong is due now, and not when the next message comes.
                    if matches!(message, Ok(Message::Ping(_))) {
                        let _ = self.context.flush(&mut wire);
                    }
                    return Poll::Ready(message);
                }
            }
        }
    }

    fn poll_read(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [MaybeUninit::uninit(); CALL];
        let mut buffer = ReadBuf::uninit(&mut bytes);
        ready!(Pin::new(&mut self.socket).poll_read(context, &mut buffer))?;
        self.has_ended = buffer.filled().is_empty();
        self.unread = Bytes::copy_from_slice(buffer.filled());
        Poll::Ready(Ok(()))
    }

    /// Sends the client a close frame with this code.
    pub(super) fn say_goodbye(&mut self, code: CloseCode) {
        let frame = CloseFrame { code: code.code().into(), reason: code.reason().into() };
        let mut wire = Wire { unread: &mut self.unread, has_ended: self.has_ended, outbox: &self.outbox };
        // It fails only if the client has been sent one before.
        let _ = self.context.close(&mut wire, Some(frame));
    }

    /// Reads and throws away until the client ends its side too.
    pub(super) async fn drained(&mut self) {
        while !self.has_ended {
            self.unread.clear();
            if poll_fn(|context| self.poll_read(context)).await.is_err() {
                return;
            }
        }
    }
}

/// What tungstenite takes for the socket.
struct Wire<'a> {
    unread: &'a mut Bytes,
    has_ended: bool,
    outbox: &'a Outbox,
}

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.unread.is_empty() && !self.has_ended {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let length = buffer.len().min(self.unread.len());
        self.unread.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outbox.push_control(Bytes::copy_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
