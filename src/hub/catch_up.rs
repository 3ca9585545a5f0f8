use std::{convert::Infallible, num::NonZero, sync::Arc, thread::available_parallelism, time::Duration};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{Hub, arrival::Refusal, local_room::LocalRoom};
use crate::{
    broker::{ReadError, Unavailable, unix_millis},
    order::ReadFrom,
    protocol::Channel,
};

/// Most logs that are read at a time to bring rooms up to date. Most of these readings are for the top of a log alone.
const READINGS: usize = 32;

/// Most logs that are read at a time for clients that come in: each such reading is a page of messages.
const PAGES: usize = 4;

/// How many rooms are looked up in one go.
const LOOKED_UP: usize = 256;

/// How long no reading is started after one that failed because the broker is away.
const PAUSE: Duration = Duration::from_millis(200);

/// How often memory of messages that nobody needed for longest is given back, if it is short; and that of messages that are
/// too old, each so many times.
const TIDY_INTERVAL: Duration = Duration::from_secs(1);
const EXPIRE_EVERY: u32 = 30;

impl Hub {
    /// Hears what the broker hears, serves the members, and keeps every room up to date with its log, until `stop`.
    ///
    /// # Panics
    /// If one of its tasks does: a server that no longer serves its members must not go on.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let listening = self.broker.clone().listen(self.clone(), stop.clone());
        let catching_up = async {
            tokio::join!(self.catch_up(), self.read_pages(), self.look_up(), self.wake_the_rested(), self.tidy())
        };
        let mut serving = JoinSet::new();
        for _ in 0..available_parallelism().map_or(1, NonZero::get) {
            let (hub, stop) = (self.clone(), stop.clone());
            serving.spawn(async move { stop.run_until_cancelled(hub.fan_out()).await });
        }
        tokio::join!(listening, stop.run_until_cancelled(catching_up), all_ended(serving));
    }

    /// Looks up the tops of the logs of rooms that are due: the last message of a room has no successor that would show
    /// that it was missed.
    async fn look_up(&self) -> Infallible {
        loop {
            self.look_ups.due().await;
            let now = Instant::now();
            let due = std::iter::from_fn(|| self.look_ups.pop_due(now));
            let still = due.filter(|(channel, number, due)| {
                self.peek(channel, |room| room.number() == *number && room.is_look_up(*due)).unwrap_or(false)
            });
            let rooms: Vec<(Channel, u64, Instant)> = still.take(LOOKED_UP).collect();
            let channels: Vec<Channel> = rooms.iter().map(|(channel, ..)| channel.clone()).collect();
            if channels.is_empty() {
                continue;
            }
            // One that could not be looked up is looked up again when its time comes.
            let tops = self.broker.tops(&channels).await.unwrap_or_default().into_iter();
            let failed = std::iter::repeat_with(|| Err(Unavailable("there was no answer".into())));
            for ((channel, number, _), top) in rooms.into_iter().zip(tops.chain(failed)) {
                self.settle_if_same(&channel, number, |room| room.looked_up(top, Instant::now()));
            }
        }
    }

    /// Reads the logs of the rooms that are due: those just subscribed, and those where something is missing.
    async fn catch_up(&self) -> Infallible {
        let mut readings = FuturesUnordered::new();
        let mut paused_until = Instant::now();
        loop {
            let paused = Instant::now() < paused_until;
            while readings.len() < READINGS && !paused {
                let Some((channel, number, _)) = self.agenda.pop_due(Instant::now()) else { break };
                let from = self.settle_if_same(&channel, number, |room| room.begin_reading(&self.metrics));
                if let Some(from) = from.flatten() {
                    readings.push(self.read(channel, number, from));
                }
            }
            tokio::select! {
                Some(succeeded) = readings.next() => if !succeeded && !self.broker.troubles().is_empty() {
                    paused_until = Instant::now() + PAUSE;
                },
                () = sleep_until(paused_until), if paused => {}
                () = self.agenda.due(), if !paused && readings.len() < READINGS => {}
            }
        }
    }

    /// Reads one log into its room. Returns whether the broker answered.
    async fn read(&self, channel: Channel, number: u64, from: Option<ReadFrom>) -> bool {
        let read = self.broker.read(&channel, from).await;
        let succeeded = read.is_ok();
        self.settle_if_same(&channel, number, |room| match read {
            Ok(slice) => room.fill(slice, Instant::now(), &self.metrics),
            Err(error) => {
                tracing::debug!(%error, "a log could not be read");
                room.reading_failed();
                if matches!(error, ReadError::Overloaded) {
                    room.refused(Refusal::Overloaded);
                }
            }
        });
        succeeded
    }

    /// Reads parts of logs for those who wait for them.
    async fn read_pages(&self) -> Infallible {
        let (mut readings, mut pauses) = (FuturesUnordered::new(), FuturesUnordered::new());
        loop {
            tokio::select! {
                (channel, number) = self.pages.next(), if readings.len() < PAGES => {
                    readings.push(self.read_page(channel, number));
                }
                Some(failed) = readings.next() => {
                    pauses.extend(failed.map(async |room| {
                        sleep(PAUSE).await;
                        room
                    }));
                }
                Some((channel, number)) = pauses.next() => {
                    self.settle_if_same(&channel, number, |room| room.retry_page(Instant::now(), &self.metrics));
                }
            }
        }
    }

    /// Returns the room again if the reading was of no use.
    async fn read_page(&self, channel: Channel, number: u64) -> Option<(Channel, u64)> {
        let from = self.settle_if_same(&channel, number, LocalRoom::begin_page).flatten()?;
        self.metrics.pages_read.inc();
        let read = self.broker.read(&channel, Some(from)).await;
        if let Err(error) = &read {
            tracing::debug!(%error, "a part of a log could not be read");
        }
        let is_of_use = self.settle_if_same(&channel, number, |room| {
            room.end_page(from.position, read.ok(), Instant::now(), &self.metrics)
        });
        (is_of_use == Some(false)).then_some((channel, number))
    }

    /// Gives back the memory of messages that are too old, and, when memory is short, of rooms whose messages were not used
    /// for longest, so that those that speak find some.
    async fn tidy(&self) -> Infallible {
        let mut interval = interval(TIDY_INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rounds = 0_u32;
        loop {
            interval.tick().await;
            rounds = rounds.wrapping_add(1);
            self.metrics.recent_bytes.set(self.rules.budget.used());
            let mut excess = self.rules.budget.excess();
            if excess == 0 && !rounds.is_multiple_of(EXPIRE_EVERY) {
                continue;
            }
            let oldest = unix_millis().saturating_sub(self.rules.recent.age);
            let mut kept = Vec::new();
            self.for_each_room(|channel, room| {
                room.expire(oldest);
                let (bytes, used) = room.kept();
                if bytes > 0 && excess > 0 {
                    kept.push((used, bytes, channel.clone()));
                }
            });
            kept.sort_unstable_by_key(|(used, ..)| *used);
            for (_, bytes, channel) in kept {
                if excess == 0 {
                    break;
                }
                self.settle(&channel, LocalRoom::forget);
                excess = excess.saturating_sub(bytes);
            }
        }
    }
}

/// Waits for the end of all tasks, and panics as soon as one of them does.
async fn all_ended<T: 'static>(mut tasks: JoinSet<T>) {
    while let Some(ended) = tasks.join_next().await {
        if let Err(error) = ended {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    /// A server with a task less would be ready, and silent to a part of its members.
    #[tokio::test]
    async fn a_task_that_panics_ends_the_others_too() {
        let mut tasks = JoinSet::new();
        tasks.spawn(pending());
        tasks.spawn(async { panic!("as a task of the fan-out might") });
        let mut whole = JoinSet::new();
        whole.spawn(all_ended::<()>(tasks));
        assert!(whole.join_next().await.expect("a task").expect_err("a panic").is_panic());
    }
}
