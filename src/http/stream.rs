use std::{
    future::poll_fn,
    io::{self, ErrorKind, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    runtime::Handle,
    time::{Instant, Sleep, sleep_until, timeout},
};
use tokio_util::task::TaskTracker;

use super::plain::PlainPlace;

/// How long a client may go on sending after this side is done with the connection.
const LINGER: Duration = Duration::from_secs(1);

/// How long a client may let the server wait.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For the head of a request, from its first byte; from its second read, if the first came together with the request
    /// before.
    pub(super) head: Duration,
    /// For its next request.
    pub(super) idle: Duration,
    /// While it takes nothing of an answer.
    pub(super) answer: Duration,
}

impl Patience {
    /// What clients get. Whoever closes an idle connection in the moment in which the other side uses it makes that
    /// request fail, and it is load balancers that keep connections: this outlasts Google's, which keep theirs for 600 s.
    pub(super) const DEFAULT: Self =
        Self { head: Duration::from_secs(10), idle: Duration::from_secs(620), answer: Duration::from_secs(10) };
}

/// A connection that is plain HTTP so far. It waits for its client as long as [`Patience`] says, and it is closed gently
/// when it is dropped.
///
/// A system resets a connection that is closed while the client still sends, and the reset takes from the client
/// what it has not read yet: the answer that would have told it why. So the end is said at once, and what
/// comes until the client ends its side too, or the time is over, is read and thrown away.
#[derive(Debug)]
pub(super) struct Stream {
    /// There until it is dropped.
    tcp: Option<TcpStream>,
    place: Arc<PlainPlace>,
    tasks: TaskTracker,
    reading: Clock,
    writing: Clock,
    patience: Patience,
    /// How many requests had been read when the first byte of the present head came.
    head: Option<u64>,
    /// How many requests had been read when the waiting for the next began.
    idle: Option<u64>,
}

impl Stream {
    /// The last of this connection is tracked by `tasks`.
    pub(super) fn new(tcp: TcpStream, place: Arc<PlainPlace>, patience: Patience, tasks: TaskTracker) -> Self {
        let (reading, writing) = (Clock::default(), Clock::default());
        Self { tcp: Some(tcp), place, tasks, reading, writing, patience, head: None, idle: None }
    }

    /// The connection itself, which is then closed by whoever has it.
    pub(super) fn into_tcp(mut self) -> Option<TcpStream> {
        self.tcp.take()
    }

    fn tcp(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(self.tcp.as_mut().expect("only dropping takes it"))
    }

    /// Something has come from the client.
    fn heard(&mut self) {
        let requests = Some(self.place.requests());
        if self.head != requests {
            self.head = requests;
            self.reading.set(self.patience.head);
        }
    }

    /// Nothing has come from the client: fails when it is time for that.
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let requests = Some(self.place.requests());
        if self.head != requests && self.idle != requests {
            self.idle = requests;
            self.reading.set(self.patience.idle);
        }
        self.reading.poll_over(context)
    }

    /// The same for what has become of a write.
    fn watch<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.writing.stop();
            return written;
        }
        if !self.writing.is_running() {
            self.writing.set(self.patience.answer);
        }
        self.writing.poll_over(context).map(Err)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // A runtime that is gone has nobody to wait, and whoever needs the place cannot.
        if let (Some(tcp), Ok(runtime)) = (self.tcp.take(), Handle::try_current())
            && !self.place.gone().is_cancelled()
        {
            let place = self.place.clone();
            let lingering = async move { place.gone().run_until_cancelled(timeout(LINGER, drain(tcp))).await };
            self.tasks.spawn_on(lingering, &runtime);
        }
    }
}

async fn drain(mut tcp: TcpStream) -> io::Result<()> {
    poll_fn(|context| Pin::new(&mut tcp).poll_shutdown(context)).await?;
    let mut discarded = [0; 4096];
    loop {
        tcp.readable().await?;
        match tcp.try_read(&mut discarded) {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
            Ok(_) | Err(_) => {}
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = self.tcp().poll_read(context, buffer);
        if read.is_pending() {
            return Poll::Ready(Err(ready!(self.poll_silence(context))));
        }
        if buffer.filled().len() > before {
            self.heard();
        }
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.tcp().poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.tcp().poll_write_vectored(context, slices);
        self.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp().poll_shutdown(context)
    }
}

/// A time that runs or not.
#[derive(Debug, Default)]
struct Clock(Option<Pin<Box<Sleep>>>);

impl Clock {
    fn is_running(&self) -> bool {
        self.0.is_some()
    }

    fn set(&mut self, time: Duration) {
        let end = Instant::now() + time;
        match &mut self.0 {
            Some(sleep) => sleep.as_mut().reset(end),
            None => self.0 = Some(Box::pin(sleep_until(end))),
        }
    }

    fn stop(&mut self) {
        self.0 = None;
    }

    /// Ready with an error when the time is over.
    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let Some(sleep) = &mut self.0 else { return Poll::Pending };
        sleep.as_mut().poll(context).map(|()| ErrorKind::TimedOut.into())
    }
}
