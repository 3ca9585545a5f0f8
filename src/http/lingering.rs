use std::{
    future::poll_fn,
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    runtime::Handle,
    time::timeout,
};
use tokio_util::task::TaskTracker;

/// How long a client may go on sending after this side is done with the connection.
const LINGER: Duration = Duration::from_secs(1);

/// A connection that is closed gently when it is dropped.
///
/// A system resets a connection that is closed while the client still sends, and the reset takes from the client
/// what it has not read yet: the close code that would have told it why. So the end is said at once, and what
/// comes until the client ends its side too, or the time is over, is read and thrown away.
#[derive(Debug)]
pub(super) struct Lingering {
    /// There until it is dropped.
    stream: Option<TcpStream>,
    tasks: TaskTracker,
}

impl Lingering {
    /// The last of this connection is tracked by `tasks`.
    pub(super) fn new(stream: TcpStream, tasks: TaskTracker) -> Self {
        Self { stream: Some(stream), tasks }
    }

    /// The connection itself, which is then closed by whoever has it.
    pub(super) fn into_stream(mut self) -> Option<TcpStream> {
        self.stream.take()
    }

    fn stream(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(self.stream.as_mut().expect("only dropping takes it"))
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        // A runtime that is gone has nobody to wait.
        if let (Some(stream), Ok(runtime)) = (self.stream.take(), Handle::try_current()) {
            self.tasks.spawn_on(timeout(LINGER, drain(stream)), &runtime);
        }
    }
}

async fn drain(mut stream: TcpStream) -> io::Result<()> {
    poll_fn(|context| Pin::new(&mut stream).poll_shutdown(context)).await?;
    let mut discarded = [0; 4096];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut discarded) {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
}

impl AsyncRead for Lingering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.stream().poll_read(context, buffer)
    }
}

impl AsyncWrite for Lingering {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.stream().poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.stream().poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(context)
    }
}
