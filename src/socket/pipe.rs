use std::{
    convert::Infallible,
    io::{self, ErrorKind, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use bytes::{Bytes, BytesMut};
use futures_util::Stream;

use super::Sending;

/// Most bytes in a pipe.
const CAPACITY: usize = 16 << 10;

/// One end of a pipe in memory: where an outbox writes what somebody else carries to the client, for example the body of
/// a response.
#[derive(Debug)]
pub struct PipeSending(Arc<Pipe>);

/// The other end: what was written, in pieces, until the sending end is dropped. Dropping it breaks the pipe.
#[derive(Debug)]
pub struct PipeReceiving(Arc<Pipe>);

#[derive(Debug, Default)]
struct Pipe(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    bytes: BytesMut,
    is_ended: bool,
    is_broken: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// A pipe that holds at most 16 KiB.
pub fn pipe() -> (PipeSending, PipeReceiving) {
    let pipe = Arc::<Pipe>::default();
    (PipeSending(pipe.clone()), PipeReceiving(pipe))
}

impl Pipe {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sending for PipeSending {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write_vectored(&[IoSlice::new(bytes)])
    }

    fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut state = self.0.state();
        if state.is_broken {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let before = state.bytes.len();
        for piece in pieces {
            let room = CAPACITY - state.bytes.len();
            state.bytes.extend_from_slice(&piece[..room.min(piece.len())]);
        }
        let written = state.bytes.len() - before;
        if written == 0 && pieces.iter().any(|piece| !piece.is_empty()) {
            return Err(ErrorKind::WouldBlock.into());
        }
        state.reader.take().into_iter().for_each(Waker::wake);
        Ok(written)
    }

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.0.state();
        if state.is_broken {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        if state.bytes.len() < CAPACITY {
            return Poll::Ready(Ok(()));
        }
        state.writer = Some(context.waker().clone());
        Poll::Pending
    }

    fn insist(&self, bytes: &[u8]) -> io::Result<usize> {
        self.try_write(bytes)
    }
}

impl Drop for PipeSending {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.is_ended = true;
        state.reader.take().into_iter().for_each(Waker::wake);
    }
}

impl Stream for PipeReceiving {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.0.state();
        if state.bytes.is_empty() {
            if state.is_ended {
                return Poll::Ready(None);
            }
            state.reader = Some(context.waker().clone());
            return Poll::Pending;
        }
        // Taken whole, so that a silent client owns no buffer.
        let bytes = std::mem::take(&mut state.bytes).freeze();
        state.writer.take().into_iter().for_each(Waker::wake);
        Poll::Ready(Some(Ok(bytes)))
    }
}

impl Drop for PipeReceiving {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.is_broken = true;
        state.bytes = BytesMut::new();
        state.writer.take().into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn what_is_written_comes_out_and_no_more_than_there_is_room_for_goes_in() {
        let (sending, mut receiving) = pipe();
        assert_eq!(sending.try_write(&[1; CAPACITY - 1]).unwrap(), CAPACITY - 1);
        assert_eq!(sending.try_write_vectored(&[IoSlice::new(&[2; 3]), IoSlice::new(&[3])]).unwrap(), 1);
        assert_eq!(sending.try_write(&[4]).unwrap_err().kind(), ErrorKind::WouldBlock);
        let (room, taken) = tokio::join!(poll_fn(|context| sending.poll_ready(context)), receiving.next());
        room.unwrap();
        let taken = taken.unwrap().unwrap();
        assert_eq!((taken.len(), taken[CAPACITY - 1]), (CAPACITY, 2));
        sending.try_write(b"last").unwrap();
        drop(sending);
        assert_eq!(receiving.next().await.unwrap().unwrap(), "last");
        assert!(receiving.next().await.is_none());
    }

    #[tokio::test]
    async fn a_reader_that_goes_breaks_the_pipe_and_wakes_the_writer() {
        let (sending, receiving) = pipe();
        sending.try_write(&[0; CAPACITY]).unwrap();
        let (room, ()) = tokio::join!(poll_fn(|context| sending.poll_ready(context)), async { drop(receiving) });
        assert_eq!(room.unwrap_err().kind(), ErrorKind::BrokenPipe);
        assert_eq!(sending.try_write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}
