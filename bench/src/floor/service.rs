use std::{
    collections::HashMap,
    io::{self, ErrorKind},
    net::SocketAddr,
    time::Duration,
};

use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;
use tungstenite::{
    handshake::derive_accept_key,
    protocol::frame::coding::{Control, Data, OpCode},
};

use super::{
    Cost,
    connection::{Connection, Incoming, State, frame},
};
use crate::Result;

const LISTENER: Token = Token(usize::MAX);
const LINK: Token = Token(usize::MAX - 1);

/// The greeting of one floor to the other.
const GREETING: &[u8] = b"FLOOR\r\n\r\n";

/// The part of the protocol that the floor understands.
#[derive(Deserialize)]
struct Command<'a> {
    r#type: &'a str,
    room: &'a str,
    #[serde(default)]
    text: &'a str,
}

/// The loop of a floor, with its state.
#[derive(Debug)]
pub struct Service {
    poll: Poll,
    listener: TcpListener,
    peer: Option<SocketAddr>,
    /// The connection to the other floor, made with the first message.
    link: Option<Connection>,
    /// Messages of this turn of the loop, with their rooms; they go out once the other floor has them.
    due: Vec<(String, Vec<u8>)>,
    /// The sockets by token; a free place is `None`.
    connections: Vec<Option<Connection>>,
    empty_places: Vec<usize>,
    room_numbers: HashMap<String, usize>,
    /// The places of the members of each room.
    rooms: Vec<Vec<usize>>,
    cost: Cost,
}

impl Service {
    /// Listens for clients, and for the other floor.
    pub fn new(address: SocketAddr, peer: Option<SocketAddr>) -> Result<Self> {
        let poll = Poll::new()?;
        let mut listener = TcpListener::bind(address)?;
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let (connections, empty_places, rooms, due) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (room_numbers, cost, link) = (HashMap::new(), Cost::default(), None);
        Ok(Self { poll, listener, peer, link, due, connections, empty_places, room_numbers, rooms, cost })
    }

    /// Serves for ever.
    pub fn run(mut self) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    LINK => {}
                    Token(place) => {
                        if self.serve(place, event.is_readable(), event.is_writable(), &mut buffer).is_err() {
                            self.remove(place);
                        }
                    }
                }
            }
            self.deliver()?;
        }
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            stream.set_nodelay(true)?;
            let place = self.empty_places.pop().unwrap_or_else(|| {
                self.connections.push(None);
                self.connections.len() - 1
            });
            self.register(Token(place), &mut stream)?;
            self.connections[place] = Some(Connection::new(stream));
        }
    }

    /// mio is edge-triggered, so that asking for both costs nothing while a socket takes all.
    fn register(&self, token: Token, stream: &mut TcpStream) -> io::Result<()> {
        self.poll.registry().register(stream, token, Interest::READABLE | Interest::WRITABLE)
    }

    /// An error means that the connection is at its end.
    fn serve(&mut self, place: usize, readable: bool, writable: bool, buffer: &mut [u8]) -> io::Result<()> {
        let Some(connection) = self.connections.get_mut(place).and_then(Option::as_mut) else { return Ok(()) };
        if writable {
            connection.flush()?;
        }
        if !readable {
            return Ok(());
        }
        connection.fill(buffer)?;
        if connection.state == State::Unknown {
            let Some(head) = connection.take_head() else { return Ok(()) };
            if head == GREETING {
                connection.state = State::Peer;
            } else {
                connection.state = State::Client;
                connection.send(&answer_to(&head, self.cost)?)?;
            }
        }
        let is_peer = connection.state == State::Peer;
        while let Some(incoming) = self.connections[place].as_mut().and_then(Connection::take_frame) {
            match incoming {
                Incoming::Text(text) if is_peer => self.hear_from_peer(&text),
                Incoming::Text(text) => self.carry_out(place, &text)?,
                Incoming::Ping(payload) => self.send(place, &frame(OpCode::Control(Control::Pong), &payload)?)?,
                Incoming::Close => return Err(ErrorKind::ConnectionAborted.into()),
            }
        }
        Ok(())
    }

    fn carry_out(&mut self, place: usize, text: &[u8]) -> io::Result<()> {
        let command: Command<'_> = serde_json::from_slice(text)?;
        let Command { r#type, room, text } = command;
        match r#type {
            "join" => {
                let number = self.number_of(room);
                self.leave(place);
                self.rooms[number].push(place);
                if let Some(connection) = &mut self.connections[place] {
                    connection.room = Some(number);
                }
                self.say(place, &format!(r#"{{"type":"joined","room":"{room}"}}"#))
            }
            "leave" => {
                self.leave(place);
                self.say(place, &format!(r#"{{"type":"left","room":"{room}"}}"#))
            }
            "message" => {
                // As long as what roomcast sends, so that the clients read as much.
                let event = format!(
                    r#"{{"epoch":"0000000000000000","seq":1,"ts":1767225600123,"originServer":"the-floor-itself","type":"message","room":"{room}","username":"load-1","text":"{text}"}}"#
                );
                let frame = frame(OpCode::Data(Data::Text), event.as_bytes())?;
                self.due.push((room.to_owned(), frame));
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Tells the other floor by one write for all, since many small ones would fill its buffer, and then the members.
    fn deliver(&mut self) -> Result<()> {
        let due = std::mem::take(&mut self.due);
        if let (Some(peer), None, false) = (self.peer, &self.link, due.is_empty()) {
            self.link = Some(self.connect(peer)?);
        }
        if let Some(link) = &mut self.link {
            for (room, told) in &due {
                link.queue(&frame(OpCode::Data(Data::Text), &[room.as_bytes(), b"\0", told].concat())?);
            }
            link.flush()?;
        }
        due.iter().for_each(|(room, frame)| self.fan_out(room, frame));
        Ok(())
    }

    fn connect(&self, peer: SocketAddr) -> Result<Connection> {
        let stream = std::net::TcpStream::connect(peer)?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        stream.set_nodelay(true)?;
        self.register(LINK, &mut stream)?;
        let mut link = Connection::new(stream);
        link.queue(GREETING);
        Ok(link)
    }

    fn hear_from_peer(&mut self, text: &[u8]) {
        let Some(end) = memchr::memchr(0, text) else { return };
        if let Ok(room) = std::str::from_utf8(&text[..end]) {
            self.fan_out(room, &text[end + 1..]);
        }
    }

    /// The fan-out itself.
    fn fan_out(&mut self, room: &str, frame: &[u8]) {
        let Some(members) = self.room_numbers.get(room).map(|number| &self.rooms[*number]) else { return };
        let start = thread_time();
        for place in members {
            if let Some(connection) = &mut self.connections[*place] {
                // One that is at its end is noticed when it is read.
                let _ = connection.send(frame);
            }
        }
        self.cost.time += thread_time().saturating_sub(start);
        self.cost.writes += members.len() as u64;
    }

    fn number_of(&mut self, room: &str) -> usize {
        if let Some(number) = self.room_numbers.get(room) {
            return *number;
        }
        self.rooms.push(Vec::new());
        self.room_numbers.insert(room.to_owned(), self.rooms.len() - 1);
        self.rooms.len() - 1
    }

    fn leave(&mut self, place: usize) {
        let room = self.connections[place].as_mut().and_then(|connection| connection.room.take());
        if let Some(room) = room {
            self.rooms[room].retain(|member| *member != place);
        }
    }

    fn remove(&mut self, place: usize) {
        self.leave(place);
        if let Some(mut connection) = self.connections[place].take() {
            // Closing it takes it out of the poll as well.
            let _ = self.poll.registry().deregister(connection.stream());
            self.empty_places.push(place);
        }
    }

    fn say(&mut self, place: usize, text: &str) -> io::Result<()> {
        self.send(place, &frame(OpCode::Data(Data::Text), text.as_bytes())?)
    }

    fn send(&mut self, place: usize, bytes: &[u8]) -> io::Result<()> {
        self.connections[place].as_mut().map_or(Ok(()), |connection| connection.send(bytes))
    }
}

/// The answer to the head of a request: an upgrade, or the cost so far, or that all is well.
fn answer_to(head: &[u8], cost: Cost) -> io::Result<Vec<u8>> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut request = httparse::Request::new(&mut headers);
    request.parse(head).map_err(io::Error::other)?;
    let key = request.headers.iter().find(|header| header.name.eq_ignore_ascii_case("sec-websocket-key"));
    let answer = match key {
        Some(key) => format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {}\r\n\r\n",
            derive_accept_key(key.value)
        ),
        None => {
            let body = cost.to_string();
            format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
        }
    };
    Ok(answer.into_bytes())
}

/// CPU time of this thread.
fn thread_time() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}
