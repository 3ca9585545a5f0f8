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
use crate::record::{Room, What};

const WRITE: Duration = Duration::from_secs(10);

/// Longest time to wait for `joined` or an error. Servers answer much sooner.
const JOIN: Duration = Duration::from_secs(15);

/// One connection of a client.
pub(super) struct Session<'a> {
    client: &'a mut Client,
    socket: WebSocketStream<TcpStream>,
    joined: BTreeSet<Room>,
    /// When to join the other rooms, for the first time or again.
    joins: BTreeMap<Room, Instant>,
    /// The server asked to be left at this time.
    leave_at: Option<Instant>,
}

impl<'a> Session<'a> {
    pub(super) fn new(client: &'a mut Client, socket: WebSocketStream<TcpStream>) -> Self {
        let joins = client.plan.rooms.iter().map(|room| (*room, Instant::now())).collect();
        Self { client, socket, joined: BTreeSet::new(), joins, leave_at: None }
    }

    pub(super) async fn run(mut self) -> End {
        let stop = self.client.stop.clone();
        loop {
            let due = self.due();
            let result = tokio::select! {
                () = stop.cancelled() => Err(End::Stop),
                Some(order) = self.client.orders.recv() => self.obey(order).await,
                frame = self.socket.next() => self.hear(frame),
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
        let again = self.client.outstanding.next(|room| self.joined.contains(&room)).map(|(due, ..)| due);
        let join = self.joins.values().min().copied();
        let new = self.may_send().then_some(self.client.next_message);
        [again, join, new, self.leave_at].into_iter().flatten().min()
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
        if let Some(room) = self.joins.iter().find(|(_, due)| **due <= now).map(|(room, _)| *room) {
            self.joins.insert(room, now + JOIN);
            let after = self.client.positions.get(&room).copied();
            self.client.record(What::Joining { room, after });
            return self.send(frame::join(room, &format!("client-{}", self.client.number), after)).await;
        }
        if self.may_send() && self.client.next_message <= now {
            self.client.plan_next_message(0.5, 1.5);
            let chosen = self.client.rng.random_range(0..self.joined.len());
            if let Some(room) = self.joined.iter().nth(chosen) {
                self.client.outstanding.add(self.client.number, *room);
            }
        }
        match self.client.outstanding.next(|room| self.joined.contains(&room)) {
            Some((due, id, room)) if due <= Instant::now() => {
                self.client.outstanding.sent(id);
                self.client.record(What::Sent { room, id });
                self.send(frame::message(room, id, self.client.plan.text)).await
            }
            _ => Ok(()),
        }
    }

    async fn send(&mut self, text: String) -> Result<(), End> {
        match timeout(WRITE, self.socket.send(Message::text(text))).await {
            Ok(Ok(())) => Ok(()),
            // What the server has said before it went is still there to be read, up to its close frame.
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
        match frame {
            Some(Ok(Message::Text(text))) => {
                match frame::read(&text) {
                    Heard::Event(what) => self.take(what),
                    Heard::Leave(after) => self.leave_at = Some(Instant::now() + Duration::from_millis(after)),
                    Heard::Other => {}
                }
                Ok(())
            }
            Some(Ok(Message::Close(frame))) => Err(End::Gone(frame.map(|frame| frame.code.into()))),
            Some(Ok(_)) => Ok(()),
            Some(Err(_)) | None => Err(End::Gone(None)),
        }
    }

    fn take(&mut self, what: What) {
        let client = &mut self.client;
        match what {
            What::Joined { room, position, resumed } => {
                self.joined.insert(room);
                self.joins.remove(&room);
                // A client that is resumed, or not, hears what it missed, or from where it goes on.
                if resumed.is_none() {
                    client.positions.insert(room, position);
                }
                client.outstanding.all_again(room);
            }
            What::Reset { room, position } | What::Delivered { room, position, .. } => {
                client.positions.insert(room, position);
            }
            What::Acked { id, .. } => client.outstanding.acked(id),
            What::Refused { id: Some(id), .. } => {
                let pause = Duration::from_millis(client.rng.random_range(50..300));
                client.outstanding.again_in(id, pause);
            }
            What::Refused { room: Some(room), id: None, .. } if !self.joined.contains(&room) => {
                let pause = Duration::from_millis(client.rng.random_range(50..300));
                self.joins.insert(room, Instant::now() + pause);
            }
            _ => {}
        }
        client.record(what);
    }

    async fn obey(&mut self, order: Order) -> Result<(), End> {
        match order {
            Order::Cut => Err(End::Left(Duration::from_millis(self.client.rng.random_range(0..50)))),
            Order::StayAway(pause) => Err(End::Left(pause)),
            Order::Stall(pause) => {
                sleep(pause).await;
                Ok(())
            }
        }
    }
}
