use std::{
    io,
    time::{Duration, Instant},
};

use super::{
    Client, Dialect, Heard,
    connection::{Connection, Filled, upgrade_answer, upgrade_request},
    connects::Connects,
    frame::{self, Incoming},
    plan::Target,
    poller::{Poller, Ready},
};

/// Most connects under way at a time: fewer than the backlog of any server's listener.
const AT_ONCE: usize = 128;

/// Gets each thing that a client hears: which client, what, and when.
pub(super) type Listener<'e> = dyn FnMut(usize, Heard<'_>, Duration) + 'e;

/// All clients of a run: their sockets and their states.
pub(super) struct Swarm<'a> {
    dialect: &'a dyn Dialect,
    targets: &'a [Target],
    poller: Poller,
    ready: Vec<Ready>,
    seats: Vec<Seat>,
    /// The buffer that every socket is read into.
    buffer: Vec<u8>,
    frames: Vec<u8>,
    start: Instant,
    pub(super) connects: Connects,
    /// The next one to connect.
    next: usize,
    under_way: usize,
    closing: bool,
}

/// One client.
#[derive(Debug)]
struct Seat {
    target: usize,
    room: String,
    state: State,
}

#[derive(Debug)]
enum State {
    Absent,
    Connecting(Connection),
    Upgrading(Connection, String),
    Joining(Connection),
    Joined(Connection),
    Ended,
}

impl State {
    fn connection(&mut self) -> Option<&mut Connection> {
        match self {
            Self::Connecting(connection)
            | Self::Upgrading(connection, _)
            | Self::Joining(connection)
            | Self::Joined(connection) => Some(connection),
            Self::Absent | Self::Ended => None,
        }
    }
}

impl<'a> Swarm<'a> {
    /// Clients, each of which will connect to a target and join a room.
    pub(super) fn new(
        dialect: &'a dyn Dialect,
        targets: &'a [Target],
        clients: impl Iterator<Item = (usize, String)>,
    ) -> io::Result<Self> {
        Ok(Self {
            dialect,
            targets,
            poller: Poller::new()?,
            ready: Vec::new(),
            seats: clients.map(|(target, room)| Seat { target, room, state: State::Absent }).collect(),
            buffer: Vec::new(),
            frames: Vec::new(),
            start: Instant::now(),
            connects: Connects::default(),
            next: 0,
            under_way: 0,
            closing: false,
        })
    }

    /// The time since the start.
    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Whether a client is a member and can speak.
    pub(super) fn is_joined(&self, index: usize) -> bool {
        matches!(self.seats[index].state, State::Joined(_))
    }

    /// Whether all have joined or failed.
    pub(super) fn is_settled(&self) -> bool {
        self.connects.joined + self.connects.failed == self.seats.len()
    }

    /// Begins as many connects as are allowed at a time.
    pub(super) fn connect(&mut self) {
        while self.next < self.seats.len() && self.under_way < AT_ONCE {
            let index = self.next;
            self.next += 1;
            self.under_way += 1;
            let begun = Connection::to(self.targets[self.seats[index].target].address).and_then(|mut connection| {
                self.poller.watch(connection.stream(), index)?;
                Ok(connection)
            });
            match begun {
                Ok(connection) => self.seats[index].state = State::Connecting(connection),
                Err(why) => self.end(index, format!("cannot connect: {why}")),
            }
        }
    }

    /// Gives up all that have not joined.
    pub(super) fn give_up(&mut self, why: &str) {
        for index in 0..self.seats.len() {
            if !matches!(self.seats[index].state, State::Joined(_) | State::Ended) {
                self.end(index, why.to_owned());
            }
        }
        self.next = self.seats.len();
    }

    /// Sends a text.
    pub(super) fn send(&mut self, index: usize, text: &str) {
        self.frames.clear();
        frame::put_text(text.as_bytes(), &mut self.frames);
        self.send_frames(index);
    }

    /// Closes all connections.
    pub(super) fn close(&mut self) {
        self.closing = true;
        self.frames.clear();
        frame::put_close(&mut self.frames);
        for index in 0..self.seats.len() {
            self.send_frames(index);
            self.seats[index].state = State::Ended;
        }
    }

    /// Waits for sockets until this time since the start, and serves those with events.
    pub(super) fn turn(&mut self, until: Duration, listener: &mut Listener<'_>) -> io::Result<()> {
        let mut ready = std::mem::take(&mut self.ready);
        self.poller.wait(self.start + until, &mut ready)?;
        for Ready { index, ended } in ready.drain(..) {
            self.serve(index, ended, listener);
        }
        self.ready = ready;
        Ok(())
    }

    fn serve(&mut self, index: usize, ended: bool, listener: &mut Listener<'_>) {
        if let State::Connecting(connection) = &self.seats[index].state {
            match connection.connected() {
                Ok(true) => self.upgrade(index),
                Ok(false) => {}
                Err(why) => self.end(index, format!("cannot connect: {why}")),
            }
            return;
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        if let Err(why) = self.read(index, ended, &mut buffer, listener) {
            self.end(index, why);
        }
        self.buffer = buffer;
    }

    fn upgrade(&mut self, index: usize) {
        let (request, key) =
            match upgrade_request(&self.targets[self.seats[index].target].url, self.dialect.subprotocol()) {
                Ok(made) => made,
                Err(why) => return self.end(index, why),
            };
        let state = &mut self.seats[index].state;
        if let State::Connecting(connection) = std::mem::replace(state, State::Ended) {
            *state = State::Upgrading(connection, key);
        }
        self.frames = request;
        self.send_frames(index);
    }

    /// Reads what has arrived, and sends what waits.
    fn read(
        &mut self,
        index: usize,
        ended: bool,
        buffer: &mut Vec<u8>,
        listener: &mut Listener<'_>,
    ) -> Result<(), String> {
        let lost = |why: io::Error| format!("the connection was lost: {why}");
        loop {
            let Some(connection) = self.seats[index].state.connection() else { return Ok(()) };
            connection.flush().map_err(lost)?;
            match connection.read(buffer).map_err(lost)? {
                Filled::End => return Err("the connection was lost".to_owned()),
                Filled::Nothing => return Ok(()),
                Filled::Bytes(count, more) => {
                    let used = self.take(index, &buffer[..count], listener)?;
                    if let Some(connection) = self.seats[index].state.connection() {
                        connection.keep(&buffer[used..count]);
                    }
                    // A socket that filled less than the buffer is empty; the poller will say when it has more.
                    if !more && !ended {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Handles the complete frames in these bytes. Returns how many bytes they were.
    fn take(&mut self, index: usize, bytes: &[u8], listener: &mut Listener<'_>) -> Result<usize, String> {
        let at = self.now();
        let mut used = 0;
        if let State::Upgrading(_, key) = &self.seats[index].state {
            let Some(length) = upgrade_answer(bytes, key)? else { return Ok(0) };
            used = length;
            self.upgraded(index, at);
        }
        while let Some((incoming, length)) = frame::cut(&bytes[used..])? {
            used += length;
            match incoming {
                Incoming::Text(text) => self.hear(index, text, at, listener),
                Incoming::Ping(payload) => {
                    self.frames.clear();
                    frame::put_pong(payload, &mut self.frames);
                    self.send_frames(index);
                }
                Incoming::Pong => {}
                Incoming::Close(why) => return Err(why),
            }
        }
        Ok(used)
    }

    fn upgraded(&mut self, index: usize, at: Duration) {
        self.connects.upgraded += 1;
        self.connects.last_upgrade = at;
        self.under_way -= 1;
        let seat = &mut self.seats[index];
        if let State::Upgrading(connection, _) = std::mem::replace(&mut seat.state, State::Ended) {
            seat.state = State::Joining(connection);
        }
        let mut texts = Vec::new();
        self.dialect.open(Client { number: index, room: &seat.room }, &mut texts);
        texts.iter().for_each(|text| self.send(index, text));
    }

    fn hear(&mut self, index: usize, text: &[u8], at: Duration, listener: &mut Listener<'_>) {
        let (mut answers, mut joined, mut refused) = (Vec::new(), false, None);
        let seat = &self.seats[index];
        self.dialect.hear(Client { number: index, room: &seat.room }, text, &mut |what| match what {
            Heard::Answer(text) => answers.push(text),
            Heard::Refused(why) => refused = Some(why),
            what => {
                joined |= what == Heard::Joined;
                listener(index, what, at);
            }
        });
        answers.iter().for_each(|answer| self.send(index, answer));
        if joined {
            self.joined(index, at);
        }
        if let Some(why) = refused {
            let why = format!("the server refuses: {why}");
            if self.is_joined(index) {
                self.connects.refused += 1;
                self.connects.note(why);
            } else {
                self.end(index, why);
            }
        }
    }

    /// A client has joined a room, perhaps its first.
    fn joined(&mut self, index: usize, at: Duration) {
        let state = &mut self.seats[index].state;
        *state = match std::mem::replace(state, State::Ended) {
            State::Joining(connection) => {
                self.connects.joined += 1;
                self.connects.last_join = at;
                State::Joined(connection)
            }
            other => other,
        };
    }

    fn send_frames(&mut self, index: usize) {
        let Some(connection) = self.seats[index].state.connection() else { return };
        if let Err(why) = connection.send(&self.frames) {
            self.end(index, format!("the connection was lost: {why}"));
        }
    }

    /// A connection has ended, or could not be made.
    fn end(&mut self, index: usize, why: String) {
        let state = std::mem::replace(&mut self.seats[index].state, State::Ended);
        if self.closing {
            return;
        }
        match state {
            State::Ended => return,
            State::Joined(_) => self.connects.lost += 1,
            State::Joining(_) => self.connects.failed += 1,
            State::Absent | State::Connecting(_) | State::Upgrading(..) => {
                // A connect that had not begun was not under way; in that case, no other one begins now.
                self.under_way = self.under_way.saturating_sub(1);
                self.connects.failed += 1;
            }
        }
        self.connects.note(why);
    }
}
