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

/// How long a client may keep sending after the server is done with the connection.
const LINGER: Duration = Duration::from_secs(1);

/// How long a client may keep the server waiting.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For the head of a request, from its first byte; if that came together with the previous request, from the second
    /// read.
    pub(super) head: Duration,
    /// For its next request.
    pub(super) idle: Duration,
    /// While it accepts nothing of an answer.
    pub(super) answer: Duration,
}

impl Patience {
    /// What clients get. If the server closes an idle connection just as a load balancer uses it, that request fails.
    /// So this outlasts the load balancers, of which Google's keep connections longest, for 600 s.
    pub(super) const DEFAULT: Self =
        Self { head: Duration::from_secs(10), idle: Duration::from_secs(620), answer: Duration::from_secs(10) };
}

/// A connection that is plain HTTP so far. It waits for its client as long as [`Patience`] says. Dropping it closes the
/// connection gently.
///
/// If a connection is closed while the client still sends, the system resets it, and the client loses what it has not
/// read yet: the answer that says why. So this side ends at once, and what still comes is read and thrown away until
/// the client ends its side too, or time is up.
#[derive(Debug)]
pub(super) struct Stream {
    /// There until it is dropped.
    tcp: Option<TcpStream>,
    place: Arc<PlainPlace>,
    tasks: TaskTracker,
    reading: Clock,
    writing: Clock,
    patience: Patience,
    /// How many requests had been read when the current head began.
    head: Option<u64>,
    /// How many requests had been read when the wait for the next one began.
    idle: Option<u64>,
}

impl Stream {
    /// `tasks` tracks the end of this connection.
    pub(super) fn new(tcp: TcpStream, place: Arc<PlainPlace>, patience: Patience, tasks: TaskTracker) -> Self {
        let (reading, writing) = (Clock::default(), Clock::default());
        Self { tcp: Some(tcp), place, tasks, reading, writing, patience, head: None, idle: None }
    }

    /// The connection itself; its new owner closes it.
    pub(super) fn into_tcp(mut self) -> Option<TcpStream> {
        self.tcp.take()
    }

    fn tcp(&mut self) -> Pin<&mut TcpStream> {
        Pin::new(self.tcp.as_mut().expect("only dropping takes it"))
    }

    /// Notes that something came from the client.
    fn heard(&mut self) {
        let requests = Some(self.place.requests());
        if self.head != requests {
            self.head = requests;
            self.reading.set(self.patience.head);
        }
    }

    /// Nothing came from the client: fails if its time is up.
    fn poll_silence(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        if self.place.is_given_up() {
            return Poll::Pending;
        }
        let requests = Some(self.place.requests());
        if self.head != requests && self.idle != requests {
            self.idle = requests;
            self.reading.set(self.patience.idle);
        }
        self.reading.poll_over(context)
    }

    /// Bounds the connection once it carries an answer without an end.
    fn bound(&mut self) {
        if let Some(bound) = self.place.take_bound() {
            bound.apply(&self.tcp());
        }
    }

    /// The same for the result of a write.
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
        // Without a runtime, nothing can wait, and nobody needs the place.
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
        self.bound();
        let written = self.tcp().poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.bound();
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

/// A deadline that may be set.
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

    /// Fails once the deadline has passed.
    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let Some(sleep) = &mut self.0 else { return Poll::Pending };
        sleep.as_mut().poll(context).map(|()| ErrorKind::TimedOut.into())
    }
}
