use std::{
    fmt,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use rustix::net::{SendFlags, send, sockopt::set_tcp_user_timeout};
use tokio::{
    io::{AsyncRead, ReadBuf},
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
};

/// The sending half of a client's connection, for an [`Outbox`](super::Outbox): no call waits. Dropping it tells the
/// client that nothing follows.
pub trait Sending: fmt::Debug + Send + Sync + 'static {
    /// Writes what the system accepts at once.
    ///
    /// # Errors
    /// `WouldBlock` if it accepts nothing; anything else means that the connection is broken.
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;

    /// The same for several pieces, one after another.
    ///
    /// # Errors
    /// See [`try_write`](Self::try_write).
    fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Waits until the system may accept more.
    ///
    /// # Errors
    /// If the connection is broken.
    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Writes what the system accepts, even while it reports no room: it reports room only when a good part of its
    /// buffer is free.
    ///
    /// # Errors
    /// See [`try_write`](Self::try_write).
    fn insist(&self, bytes: &[u8]) -> io::Result<usize>;
}

/// The receiving half of a client's connection, for an [`Inbound`](super::Inbound).
pub trait Receiving: fmt::Debug + Send + 'static {
    /// Reads what has arrived; leaves `buffer` as it is at the end of what the client sends.
    ///
    /// # Errors
    /// If the connection is broken.
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>>;

    /// Makes the drop reset the connection, so that the system frees its buffers at once.
    fn reset_at_end(&self);

    /// Makes the system give up after this time if the client acknowledges nothing.
    fn give_up_after(&self, patience: Duration);
}

impl Sending for OwnedWriteHalf {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        Self::try_write(self, bytes)
    }

    fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        Self::try_write_vectored(self, pieces)
    }

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.as_ref().poll_write_ready(context)
    }

    fn insist(&self, bytes: &[u8]) -> io::Result<usize> {
        Ok(send(self.as_ref(), bytes, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?)
    }
}

impl Receiving for OwnedReadHalf {
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(self), context, buffer)
    }

    fn reset_at_end(&self) {
        let _ = self.as_ref().set_zero_linger();
    }

    fn give_up_after(&self, patience: Duration) {
        let patience = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
        let _ = set_tcp_user_timeout(self.as_ref(), patience);
    }
}
