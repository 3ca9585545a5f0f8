//! Records what clients do and see, and knows their progress.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    answers::Answers,
    record::{Client, Event, Position, Room, What},
    replay::Replay,
};

/// The record of a run in the making. Shared by all clients of the run; nothing waits under its lock.
#[derive(Debug)]
pub struct Recorder {
    start: Instant,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    events: Vec<Event>,
    members: BTreeMap<(Client, Room), Standing>,
    /// The servers to which clients are connected.
    servers: BTreeMap<Client, String>,
    /// The highest position of a room's newest epoch.
    newest: HashMap<Room, Position>,
    epochs: HashSet<(Room, u64)>,
    answers: Answers,
}

#[derive(Debug, Default)]
struct Standing {
    is_live: bool,
    at: Option<Position>,
    replay: Option<Replay>,
}

impl Recorder {
    /// An empty record; its clock starts now.
    pub fn new() -> Self {
        Self { start: Instant::now(), state: Mutex::default() }
    }

    /// This client is going to be a member of this room.
    pub fn expect(&self, client: Client, room: Room) {
        self.state().members.entry((client, room)).or_default();
    }

    /// Writes an event down, now.
    pub fn record(&self, client: Client, what: What) {
        let mut state = self.state();
        let at = self.start.elapsed();
        state.follow(client, &what);
        state.events.push(Event { at, client, what });
    }

    /// The time of events that are recorded now.
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// How many members are not where they belong at the moment.
    pub fn missing(&self) -> usize {
        self.state().members.values().filter(|standing| !standing.is_live).count()
    }

    /// Who is connected to the server at this address.
    pub fn clients_of(&self, address: &str) -> Vec<Client> {
        let state = self.state();
        state.servers.iter().filter(|(_, server)| *server == address).map(|(client, _)| *client).collect()
    }

    /// How many members are still getting what they missed.
    pub fn replaying(&self) -> usize {
        self.state().members.values().filter(|standing| standing.replay.is_some()).count()
    }

    /// Whether everybody is back, has everything that is known to exist, and has an answer to all that it sent.
    pub fn has_converged(&self) -> bool {
        self.state().has_converged()
    }

    /// The record up to now, if that is so now: where people talk too, it may not be so a moment later.
    pub fn converged(&self) -> Option<Vec<Event>> {
        let state = self.state();
        state.has_converged().then(|| state.events.clone())
    }

    /// The highest position of a room's newest epoch, as far as anybody knows.
    pub fn newest(&self, room: Room) -> Option<Position> {
        self.state().newest.get(&room).copied()
    }

    /// The codes with which servers have closed this client.
    pub fn closes(&self, client: Client) -> Vec<u16> {
        let state = self.state();
        let codes = state.events.iter().filter(|event| event.client == client).filter_map(|event| match event.what {
            What::Disconnected { code } => code,
            _ => None,
        });
        codes.collect()
    }

    /// How many messages there are so far, and how many members are live.
    pub fn so_far(&self) -> (u64, usize) {
        let state = self.state();
        let live = state.members.values().filter(|standing| standing.is_live).count();
        (state.newest.values().map(|newest| newest.seq).sum(), live)
    }

    /// How many acks this client has got.
    pub fn acks(&self, client: Client) -> usize {
        let is_ack = |event: &&Event| event.client == client && matches!(event.what, What::Acked { .. });
        self.state().events.iter().filter(is_ack).count()
    }

    /// The record up to now.
    pub fn events(&self) -> Vec<Event> {
        self.state().events.clone()
    }

    /// The whole record, in the order of time.
    pub fn into_events(self) -> Vec<Event> {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).events
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn has_converged(&self) -> bool {
        let is_there = |room, standing: &Standing| standing.is_live && standing.at == self.newest.get(room).copied();
        self.answers.unanswered().next().is_none()
            && self.members.iter().all(|((_, room), standing)| is_there(room, standing))
    }

    fn follow(&mut self, client: Client, what: &What) {
        self.answers.see(client, what);
        match *what {
            What::Connected { ref server } => drop(self.servers.insert(client, server.clone())),
            What::Disconnected { .. } => {
                self.servers.remove(&client);
                for (_, standing) in self.members.range_mut((client, 0)..=(client, Room::MAX)) {
                    (standing.is_live, standing.replay) = (false, None);
                }
            }
            What::Left { room, .. } => {
                let standing = self.members.entry((client, room)).or_default();
                (standing.is_live, standing.replay) = (false, None);
            }
            What::Joined { room, position, until, .. } => {
                let standing = self.stand(client, room, position);
                (standing.is_live, standing.replay) = (true, until.map(Replay::up_to));
            }
            What::Reset { room, position } | What::Delivered { room, position, .. } => {
                let standing = self.stand(client, room, position);
                standing.replay = standing.replay.and_then(|replay| replay.after(position));
            }
            What::Acked { room, position, .. } => self.know(room, position),
            _ => {}
        }
    }

    fn stand(&mut self, client: Client, room: Room, position: Position) -> &mut Standing {
        self.know(room, position);
        let standing = self.members.entry((client, room)).or_default();
        standing.at = Some(position);
        standing
    }

    fn know(&mut self, room: Room, position: Position) {
        let is_new = self.epochs.insert((room, position.epoch));
        let newest = self.newest.entry(room).or_insert(position);
        if is_new || (newest.epoch == position.epoch && newest.seq < position.seq) {
            *newest = position;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::MessageId;

    #[test]
    fn all_have_converged_when_all_stand_at_the_newest_position_and_nothing_is_unanswered() {
        let (recorder, room, id) = (Recorder::new(), 0, MessageId { client: 1, number: 1 });
        let at = |epoch, seq| Position { epoch, seq };
        let joined = |position| What::Joined { room, position, until: None, resumed: None };
        recorder.expect(1, room);
        recorder.expect(2, room);
        recorder.record(1, joined(at(1, 5)));
        assert_eq!((recorder.missing(), recorder.has_converged()), (1, false));
        recorder.record(2, joined(at(1, 5)));
        assert!(recorder.has_converged());

        recorder.record(1, What::Sent { room, id });
        assert!(!recorder.has_converged(), "it has no ack");
        recorder.record(1, What::Acked { room, id, position: at(1, 6) });
        recorder.record(1, What::Delivered { room, id, position: at(1, 6) });
        assert!(!recorder.has_converged(), "client 2 lacks it");
        recorder.record(2, What::Delivered { room, id, position: at(1, 6) });
        assert!(recorder.has_converged());

        recorder.record(2, What::Reset { room, position: at(2, 0) });
        assert!(!recorder.has_converged(), "client 1 is in the old epoch");
        recorder.record(1, What::Reset { room, position: at(2, 0) });
        recorder.record(1, What::Disconnected { code: Some(4008) });
        assert_eq!((recorder.missing(), recorder.closes(1)), (1, vec![4008]));
        recorder.record(1, What::Joined { room, position: at(2, 0), until: None, resumed: Some(true) });
        assert!(recorder.has_converged());
    }
}
