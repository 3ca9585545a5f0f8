use std::{
    collections::VecDeque,
    io::{self, Cursor, ErrorKind, Read, Write},
};

use mio::net::TcpStream;
use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

/// One socket of the floor. Nothing is kept for one that is idle but the socket itself.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    /// What was read and is not a whole frame yet.
    partial: Vec<u8>,
    /// How much of that has been dealt with.
    done: usize,
    /// What the socket did not take; empty but for readers that are slower than the load.
    unwritten: VecDeque<u8>,
    pub(super) state: State,
    pub(super) room: Option<usize>,
}

/// What is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has not said yet.
    Unknown,
    Client,
    /// The other floor, whose texts are `room\0frame`.
    Peer,
}

/// A frame from a client.
#[derive(Debug)]
pub(super) enum Incoming {
    Text(Vec<u8>),
    Ping(Vec<u8>),
    Close,
}

impl Connection {
    pub(super) fn new(stream: TcpStream) -> Self {
        Self { stream, partial: Vec::new(), done: 0, unwritten: VecDeque::new(), state: State::Unknown, room: None }
    }

    pub(super) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Reads all there is. The end of the stream is an error.
    pub(super) fn fill(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.partial.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes by one call, and keeps what the socket does not take.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let taken = match self.unwritten.is_empty() {
            true => self.stream.write(bytes).or_else(nothing_if_it_would_block)?,
            false => 0,
        };
        self.queue(&bytes[taken..]);
        Ok(())
    }

    /// Keeps it for the next [`Connection::flush`].
    pub(super) fn queue(&mut self, bytes: &[u8]) {
        self.unwritten.extend(bytes);
    }

    /// Writes what was kept, now that the socket takes more.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while !self.unwritten.is_empty() {
            match self.stream.write(self.unwritten.as_slices().0).or_else(nothing_if_it_would_block)? {
                0 => return Ok(()),
                length => drop(self.unwritten.drain(..length)),
            }
        }
        self.unwritten = VecDeque::new();
        Ok(())
    }

    /// The head of the request, once it is there.
    pub(super) fn take_head(&mut self) -> Option<Vec<u8>> {
        let end = memchr::memmem::find(&self.partial, b"\r\n\r\n")? + 4;
        let rest = self.partial.split_off(end);
        Some(std::mem::replace(&mut self.partial, rest))
    }

    /// The next whole frame, if there is one. What the floor has no use for counts as a close.
    pub(super) fn take_frame(&mut self) -> Option<Incoming> {
        let mut cursor = Cursor::new(&self.partial[self.done..]);
        let (header, length) = match FrameHeader::parse(&mut cursor) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return self.nothing_yet(),
            Err(_) => return Some(Incoming::Close),
        };
        let start = self.done + usize::try_from(cursor.position()).ok()?;
        let end = start + usize::try_from(length).ok()?;
        if self.partial.len() < end {
            return self.nothing_yet();
        }
        let mut payload = self.partial[start..end].to_vec();
        self.done = end;
        if let Some(mask) = header.mask {
            payload.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        }
        match header.opcode {
            OpCode::Data(Data::Text) if header.is_final => Some(Incoming::Text(payload)),
            OpCode::Control(Control::Ping) => Some(Incoming::Ping(payload)),
            OpCode::Control(Control::Pong) => self.take_frame(),
            _ => Some(Incoming::Close),
        }
    }

    fn nothing_yet(&mut self) -> Option<Incoming> {
        if self.done == self.partial.len() {
            self.partial = Vec::new();
        } else {
            self.partial.drain(..self.done);
        }
        self.done = 0;
        None
    }
}

/// A frame from the server, which is not masked.
pub(super) fn frame(opcode: OpCode, payload: &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(payload.len() + 10);
    let header = FrameHeader { opcode, ..FrameHeader::default() };
    header.format(payload.len() as u64, &mut bytes).map_err(io::Error::other)?;
    bytes.extend_from_slice(payload);
    Ok(bytes)
}

fn nothing_if_it_would_block(error: io::Error) -> io::Result<usize> {
    match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::Interrupted => Ok(0),
        _ => Err(error),
    }
}
