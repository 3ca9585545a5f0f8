use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use rand::Rng;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Error, Message},
};

use super::{
    Client, End, Order,
    frame::{self, Heard},
};
use crate::{
    record::{Room, What},
    replay::Replay,
};

const WRITE: Duration = Duration::from_secs(10);

/// Longest time to wait for `joined` or an error. Servers answer much sooner.
const JOIN: Duration = Duration::from_secs(15);

/// How long a silence may last before the client asks for a `pong`, and how long it then waits before it gives the
/// connection up.
const QUIET: Duration = Duration::from_secs(5);
const DEAD: Duration = Duration::from_secs(10);

/// One connection of a client.
pub(super) struct Session<'a> {
    client: &'a mut Client,
    socket: WebSocketStream<TcpStream>,
    joined: BTreeSet<Room>,
    /// Those among them of which the client is still getting what it missed.
    replays: BTreeMap<Room, Replay>,
    /// When to join the other rooms, for the first time or again.
    joins: BTreeMap<Room, Instant>,
    /// After how many frames from here the network goes; counted from the first `join`.
    cut_after: Option<usize>,
    heard_at: Instant,
    pinged_at: Option<Instant>,
    /// The server asked the client to leave at this time.
    leave_at: Option<Instant>,
}

impl<'a> Session<'a> {
    pub(super) fn new(client: &'a mut Client, socket: WebSocketStream<TcpStream>) -> Self {
        let joins = client.plan.rooms.iter().map(|room| (*room, Instant::now())).collect();
        client.outstanding.hold_all();
        let cut_after = client.cuts.pop_front();
        let (joined, replays, heard_at) = (BTreeSet::new(), BTreeMap::new(), Instant::now());
        Self { client, socket, joined, replays, joins, cut_after, heard_at, pinged_at: None, leave_at: None }
    }

    pub(super) async fn run(mut self) -> End {
        let stop = self.client.stop.clone();
        loop {
            let due = self.due();
            let result = tokio::select! {
                () = stop.cancelled() => Err(End::Stop),
                Some(order) = self.client.orders.recv() => self.obey(order).await,
                frame = self.socket.next() => {
                    let heard = self.hear(frame);
                    if !self.client.plan.rest.is_zero() {
                        sleep(self.client.plan.rest).await;
                    }
                    heard
                }
                _ = self.client.sending.changed() => Ok(()),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.act().await,
            };
            if let Err(end) = result {
                return end;
            }
        }
    }

    /// When there is something to do next.
    fn due(&self) -> Option<Instant> {
        let again = self.client.outstanding.next().map(|(due, ..)| due);
        let join = self.joins.values().min().copied();
        let new = self.may_send().then_some(self.client.next_message);
        let sign = self.pinged_at.map_or(self.heard_at + QUIET, |at| at + DEAD);
        [again, join, new, self.leave_at, Some(sign)].into_iter().flatten().min()
    }

    fn may_send(&self) -> bool {
        let client = &self.client;
        client.plan.pace.is_some()
            && *client.sending.borrow()
            && client.outstanding.has_place()
            && !self.joined.is_empty()
    }

    /// Does one thing that is due.
    async fn act(&mut self) -> Result<(), End> {
        let now = Instant::now();
        if self.leave_at.is_some_and(|at| at <= now) {
            return Err(End::Left(Duration::ZERO));
        }
        if self.pinged_at.is_some_and(|at| at + DEAD <= now) {
            return Err(End::Gone(None));
        }
        if self.pinged_at.is_none() && self.heard_at + QUIET <= now {
            self.pinged_at = Some(now);
            return self.send(frame::PING.to_owned()).await;
        }
        if let Some(room) = self.joins.iter().find(|(_, due)| **due <= now).map(|(room, _)| *room) {
            self.joins.insert(room, now + JOIN);
            let after = self.client.positions.get(&room).copied();
            self.client.record(What::Joining { room, after });
            self.send(frame::join(room, &self.client.username(), after)).await?;
            return self.cut_here();
        }
        if self.may_send() && self.client.next_message <= now {
            self.client.plan_next_message(0.5, 1.5);
            let chosen = self.client.rng.random_range(0..self.joined.len());
            if let Some(room) = self.joined.iter().nth(chosen) {
                let voice = self.client.plan.voice;
                self.client.outstanding.add(self.client.number, *room, |id| voice.text(id));
            }
        }
        match self.client.outstanding.next() {
            Some((due, id, room)) if due <= Instant::now() => {
                self.client.outstanding.sent(id);
                self.client.record(What::Sent { room, id });
                let frame = frame::message(room, id, self.client.outstanding.text(id));
                self.send(frame).await
            }
            _ => Ok(()),
        }
    }

    async fn send(&mut self, text: String) -> Result<(), End> {
        match timeout(WRITE, self.socket.send(Message::text(text))).await {
            Ok(Ok(())) => Ok(()),
            // What the server said before it ended can still be read, up to its close frame.
            Ok(Err(_)) => Err(self.rest().await),
            Err(_) => Err(End::Gone(None)),
        }
    }

    async fn rest(&mut self) -> End {
        while let Ok(frame) = timeout(WRITE, self.socket.next()).await {
            if let Err(end) = self.hear(frame) {
                return end;
            }
        }
        End::Gone(None)
    }

    fn hear(&mut self, frame: Option<Result<Message, Error>>) -> Result<(), End> {
        (self.heard_at, self.pinged_at) = (Instant::now(), None);
        match frame {
            Some(Ok(Message::Text(text))) => {
                self.cut_after = self.cut_after.map(|frames| frames.saturating_sub(1));
                match frame::read(&text) {
                    Heard::Event(what) => self.take(what),
                    Heard::Leave(after) => self.leave_at = Some(Instant::now() + Duration::from_millis(after)),
                    Heard::Other => {}
                }
                self.cut_here()
            }
            Some(Ok(Message::Close(frame))) => Err(End::Gone(frame.map(|frame| frame.code.into()))),
            Some(Ok(_)) => Ok(()),
            Some(Err(_)) | None => Err(End::Gone(None)),
        }
    }

    /// Loses the network, if it is time.
    fn cut_here(&self) -> Result<(), End> {
        if self.cut_after == Some(0) { Err(End::Left(Duration::ZERO)) } else { Ok(()) }
    }

    fn take(&mut self, what: What) {
        let client = &mut self.client;
        // The last frame of a room with a position, of any type, says where to go on.
        if let What::Joined { room, position, .. }
        | What::Reset { room, position }
        | What::Delivered { room, position, .. } = what
        {
            client.positions.insert(room, position);
        }
        match what {
            What::Joined { room, until, .. } => {
                self.joined.insert(room);
                self.joins.remove(&room);
                match until {
                    Some(until) => drop(self.replays.insert(room, Replay::up_to(until))),
                    None => client.outstanding.all_again(room),
                }
            }
            What::Reset { room, position } | What::Delivered { room, position, .. } => {
                if let What::Delivered { id, .. } = what
                    && id.client == client.number
                {
                    client.outstanding.kept(id);
                }
                if let Some(replay) = self.replays.remove(&room) {
                    match replay.after(position) {
                        Some(rest) => drop(self.replays.insert(room, rest)),
                        None => client.outstanding.all_again(room),
                    }
                }
            }
            What::Left { room, .. } => {
                self.joined.remove(&room);
                self.replays.remove(&room);
                client.outstanding.hold(room);
                self.joins.insert(room, Instant::now() + client.retry());
            }
            What::Acked { id, .. } => client.outstanding.kept(id),
            What::Refused { id: Some(id), room, .. } if room.is_none_or(|room| self.joined.contains(&room)) => {
                let pause = client.retry();
                client.outstanding.again_in(id, pause);
            }
            What::Refused { room: Some(room), id: None, .. } if !self.joined.contains(&room) => {
                self.joins.insert(room, Instant::now() + client.retry());
            }
            _ => {}
        }
        client.record(what);
    }

    async fn obey(&mut self, order: Order) -> Result<(), End> {
        match order {
            Order::GoAway => Err(End::Away),
            // It is here already.
            Order::ComeBack(_) => Ok(()),
            Order::Say(text) => {
                for room in self.client.plan.rooms.clone() {
                    self.client.outstanding.add(self.client.number, room, |_| text.clone());
                }
                Ok(())
            }
            Order::Pace(pace) => {
                self.client.set_pace(pace);
                Ok(())
            }
            Order::Cut => Err(End::Left(Duration::from_millis(self.client.rng.random_range(0..50)))),
            Order::StayAway(pause) => Err(End::Left(pause)),
            Order::Stall(pause) => {
                sleep(pause).await;
                self.heard_at = Instant::now();
                Ok(())
            }
        }
    }
}
