use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::{sync::Notify, task::yield_now, time::Instant};

use super::{Hub, local_room::LocalRoom};
use crate::protocol::Channel;

/// How many members of a room are written to under its lock before another room has its turn, and how many of all rooms
/// before other tasks have theirs. A write takes some microseconds.
const TURN: usize = 32;

/// A room that has no more left than can be done in so many turns has them in a row: one of a hundred does not wait
/// behind one of thousands for each of its own.
const TURNS: usize = 4;

/// The rooms that have something in line for their members, each at most once. Numbers tell a room from a later one of
/// the same name.
#[derive(Debug, Default)]
pub(super) struct Queue {
    rooms: Mutex<VecDeque<(Channel, u64)>>,
    added: Notify,
}

impl Queue {
    fn push(&self, channel: Channel, number: u64) {
        self.rooms().push_back((channel, number));
        self.added.notify_one();
    }

    async fn next(&self) -> (Channel, u64) {
        loop {
            if let Some(room) = self.rooms().pop_front() {
                return room;
            }
            self.added.notified().await;
        }
    }

    fn rooms(&self) -> MutexGuard<'_, VecDeque<(Channel, u64)>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hub {
    /// Has a room served when its time has come.
    pub(super) fn queue(&self, channel: Channel, number: u64, due: Instant, now: Instant) {
        if due <= now {
            self.queue.push(channel, number);
        } else {
            self.resting.add(due, channel, number);
        }
    }

    /// Has rooms served that have rested.
    pub(super) async fn wake_the_rested(&self) -> Infallible {
        loop {
            self.resting.due().await;
            while let Some((channel, number)) = self.resting.pop_due(Instant::now()) {
                self.queue.push(channel, number);
            }
        }
    }

    /// Writes to members what is in line for them, room by room and turn by turn. Several may do this side by side: each
    /// room is in the hands of one at a time.
    pub(super) async fn fan_out(&self) -> Infallible {
        let mut written = 0;
        loop {
            let (channel, number) = self.queue.next().await;
            loop {
                let now = Instant::now();
                let turn = |room: &mut LocalRoom| {
                    (room.number() == number).then(|| (room.serve(TURN, now), room.left(), room.queue(now)))
                };
                let (served, left, due) = self.with(&channel, turn).flatten().unwrap_or_default();
                written += served;
                if left == 0 || left > TURN * TURNS {
                    due.into_iter().for_each(|due| self.queue(channel.clone(), number, due, now));
                    break;
                }
            }
            if written >= TURN {
                written = 0;
                yield_now().await;
            }
        }
    }

    /// Writes to the members of a room, there and then, until no more is in line than is allowed. This is what slows
    /// whoever delivers to a room faster than its members can be written to.
    pub(super) fn relieve(&self, channel: &Channel) {
        let turn = |room: &mut LocalRoom| {
            room.serve(TURN, Instant::now());
            room.is_crowded(&self.outbox_bounds)
        };
        while self.with(channel, turn).unwrap_or(false) {}
    }
}
