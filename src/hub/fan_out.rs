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

/// Rooms for which something is to be done now, each at most once. Numbers tell a room from a later one of the same name.
#[derive(Debug, Default)]
pub(super) struct Queue {
    rooms: Mutex<VecDeque<(Channel, u64)>>,
    added: Notify,
}

impl Queue {
    pub(super) fn push(&self, channel: Channel, number: u64) {
        self.rooms().push_back((channel, number));
        self.added.notify_one();
    }

    /// The room that has waited longest; waits for one. Cancel-safe.
    pub(super) async fn next(&self) -> (Channel, u64) {
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
            while let Some((channel, number, _)) = self.resting.pop_due(Instant::now()) {
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
            let turn = |room: &mut LocalRoom| {
                let served = room.serve(TURN, Instant::now(), &self.metrics);
                let goes_on = (1..=TURN * TURNS).contains(&room.left());
                if !goes_on {
                    room.turn_is_over();
                }
                (served, goes_on)
            };
            loop {
                let (served, goes_on) = self.settle_if_same(&channel, number, turn).unwrap_or_default();
                written += served;
                if !goes_on {
                    break;
                }
            }
            if written >= TURN {
                written = 0;
                yield_now().await;
            }
        }
    }
}
