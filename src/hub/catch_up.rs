use std::{convert::Infallible, num::NonZero, sync::Arc, thread::available_parallelism, time::Duration};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{Hub, local_room::LocalRoom};
use crate::{
    broker::{Listener, ReadError},
    protocol::Channel,
    room::ReadFrom,
};

/// Most logs that are read at a time.
const READINGS: usize = 32;

/// How many rooms are compared with their logs in one go.
const COMPARED: usize = 256;

/// How long no reading is started after one that failed because the broker is away.
const PAUSE: Duration = Duration::from_millis(200);

impl Hub {
    /// Hears what the broker hears, serves the members, and keeps every room up to date with its log, until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let listening = self.broker.clone().listen(self.clone(), stop.clone());
        let catching_up = async { tokio::join!(self.catch_up(), self.compare_regularly(), self.wake_the_rested()) };
        let mut serving = JoinSet::new();
        for _ in 0..available_parallelism().map_or(1, NonZero::get) {
            let (hub, stop) = (self.clone(), stop.clone());
            serving.spawn(async move { stop.run_until_cancelled(hub.fan_out()).await });
        }
        tokio::join!(listening, stop.run_until_cancelled(catching_up));
        serving.join_all().await;
    }

    /// Compares every room with its log, time and again: the last message of a room has no successor that would show
    /// that it was missed.
    async fn compare_regularly(&self) {
        if !self.keeps_history {
            return;
        }
        let start = Instant::now() + self.compare_interval.mul_f64(rand::random());
        let mut interval = interval_at(start, self.compare_interval);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            interval.tick().await;
            for channels in self.wanted().chunks(COMPARED) {
                let Ok(tops) = self.broker.tops(channels).await else { continue };
                for (channel, top) in channels.iter().zip(tops) {
                    // One that could not be looked up is looked up again the next time.
                    let Ok(top) = top else { continue };
                    self.settle(channel, |room| room.compare(top));
                }
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
                let Some((channel, number)) = self.agenda.pop_due(Instant::now()) else { break };
                let begin = |room: &mut LocalRoom| {
                    (room.number() == number).then(|| room.begin_reading(&self.metrics)).flatten()
                };
                let from = self.with(&channel, begin);
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
        self.settle(&channel, |room| match read {
            // The room may have been left meanwhile, and another one of its name be there.
            _ if room.number() != number => {}
            Ok(slice) => room.fill(slice, &channel, &self.metrics),
            Err(error) => {
                tracing::debug!(%error, "a log could not be read");
                room.reading_failed();
                if matches!(error, ReadError::Overloaded) {
                    room.turn_away(|| ReadError::Overloaded);
                }
            }
        });
        succeeded
    }
}
