//! A connection in memory, for tests: its buffers are as small as a test wants, and nothing in between has a clock.

use std::{
    collections::VecDeque,
    io::{self, ErrorKind, IoSlice},
    sync::{Arc, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::io::ReadBuf;

use super::transport::{Receiving, Sending};

/// One direction.
#[derive(Debug)]
struct Pipe {
    bytes: VecDeque<u8>,
    capacity: usize,
    /// How much must be free before the system reports room, as Linux does for TCP.
    lowat: usize,
    is_shut: bool,
    is_broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The server's end: both halves.
pub(crate) type Halves = (MemorySending, MemoryReceiving);

#[derive(Debug)]
pub(crate) struct MemorySending(Arc<Mutex<Pipe>>);

#[derive(Debug)]
pub(crate) struct MemoryReceiving {
    pipe: Arc<Mutex<Pipe>>,
    sending: Arc<Mutex<Pipe>>,
}

/// The client's end.
#[derive(Debug)]
pub(crate) struct Peer {
    to_client: Arc<Mutex<Pipe>>,
    to_server: Arc<Mutex<Pipe>>,
}

/// A connection with at most `capacity` bytes on their way to the client.
pub(crate) fn connection(capacity: usize) -> (Halves, Peer) {
    let pipe = |capacity, lowat| {
        Arc::new(Mutex::new(Pipe {
            bytes: VecDeque::new(),
            capacity,
            lowat,
            is_shut: false,
            is_broken: false,
            reader: None,
            writer: None,
        }))
    };
    let (to_client, to_server) = (pipe(capacity, capacity.div_ceil(3)), pipe(usize::MAX, 1));
    let receiving = MemoryReceiving { pipe: to_server.clone(), sending: to_client.clone() };
    ((MemorySending(to_client.clone()), receiving), Peer { to_client, to_server })
}

fn lock(pipe: &Mutex<Pipe>) -> MutexGuard<'_, Pipe> {
    pipe.lock().unwrap()
}

impl Pipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_broken {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let count = bytes.len().min(self.capacity.saturating_sub(self.bytes.len()));
        if count == 0 && !bytes.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.bytes.extend(&bytes[..count]);
        self.reader.take().into_iter().for_each(Waker::wake);
        Ok(count)
    }

    fn has_room(&self) -> bool {
        self.capacity.saturating_sub(self.bytes.len()) >= self.lowat
    }

    fn take(&mut self, most: usize) -> Vec<u8> {
        let count = most.min(self.bytes.len());
        let taken = self.bytes.drain(..count).collect();
        if self.has_room() {
            self.writer.take().into_iter().for_each(Waker::wake);
        }
        taken
    }

    fn end(&mut self, is_broken: bool) {
        self.is_shut = true;
        self.is_broken |= is_broken;
        self.reader.take().into_iter().for_each(Waker::wake);
        self.writer.take().into_iter().for_each(Waker::wake);
    }
}

impl Sending for MemorySending {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).write(bytes)
    }

    fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut pipe = lock(&self.0);
        if !pipe.is_broken && !pipe.has_room() {
            // Writes even if the system has not reported room.
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut written = 0;
        for piece in pieces {
            match pipe.write(piece) {
                Ok(count) => written += count,
                Err(_) if written > 0 => break,
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = lock(&self.0);
        if pipe.is_broken || pipe.has_room() {
            return Poll::Ready(Ok(()));
        }
        pipe.writer = Some(context.waker().clone());
        Poll::Pending
    }

    fn insist(&self, bytes: &[u8]) -> io::Result<usize> {
        lock(&self.0).write(bytes)
    }
}

impl Drop for MemorySending {
    fn drop(&mut self) {
        lock(&self.0).end(false);
    }
}

impl Receiving for MemoryReceiving {
    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut pipe = lock(&self.pipe);
        if pipe.is_broken {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        }
        if pipe.bytes.is_empty() && !pipe.is_shut {
            pipe.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        buffer.put_slice(&pipe.take(buffer.remaining()));
        Poll::Ready(Ok(()))
    }

    fn reset_at_end(&self) {
        lock(&self.sending).end(true);
    }

    fn give_up_after(&self, _: Duration) {}
}

impl Peer {
    /// Sends bytes to the server.
    pub(crate) fn send(&self, bytes: &[u8]) {
        lock(&self.to_server).write(bytes).unwrap();
    }

    /// Sends nothing more.
    pub(crate) fn shut(&self) {
        lock(&self.to_server).end(false);
    }

    /// Takes at most `most` of the bytes that have arrived.
    pub(crate) fn take(&self, most: usize) -> Vec<u8> {
        lock(&self.to_client).take(most)
    }

    /// Whether nothing follows what has arrived, and if so, whether the connection was reset.
    pub(crate) fn end(&self) -> Option<bool> {
        let pipe = lock(&self.to_client);
        pipe.is_shut.then_some(pipe.is_broken)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        lock(&self.to_client).end(true);
        lock(&self.to_server).end(true);
    }
}
