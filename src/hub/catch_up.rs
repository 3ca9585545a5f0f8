use std::{sync::Arc, time::Duration};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Hub;
use crate::{protocol::Channel, room::Position};

/// Most logs that are read at a time.
const READINGS: usize = 32;

/// How long no reading is started after one that failed.
const PAUSE: Duration = Duration::from_millis(200);

impl Hub {
    /// Hears what the broker hears, and keeps every room up to date with its log, until `stop`.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let listening = self.broker.clone().listen(self.clone(), stop.clone());
        tokio::join!(listening, stop.run_until_cancelled(self.catch_up()));
    }

    /// Reads the logs of the rooms that are due: those just subscribed, and those with a hole.
    async fn catch_up(&self) {
        let mut readings = FuturesUnordered::new();
        let mut paused_until = Instant::now();
        loop {
            let paused = Instant::now() < paused_until;
            while readings.len() < READINGS && !paused {
                let Some((channel, number)) = self.agenda.pop_due(Instant::now()) else { break };
                let after =
                    self.with(
                        &channel,
                        |room| {
                            if room.number() == number { room.begin_reading(&self.metrics) } else { None }
                        },
                    );
                if let Some(after) = after.flatten() {
                    readings.push(self.read(channel, number, after));
                }
            }
            tokio::select! {
                Some(succeeded) = readings.next() => if !succeeded {
                    paused_until = Instant::now() + PAUSE;
                },
                () = sleep_until(paused_until), if paused => {}
                () = self.agenda.due(), if !paused && readings.len() < READINGS => {}
            }
        }
    }

    /// Reads one log into its room. Returns whether the broker answered.
    async fn read(&self, channel: Channel, number: u64, after: Option<Position>) -> bool {
        match self.broker.read(&channel, after).await {
            Ok(slice) => {
                self.filled(&channel, number, slice);
                true
            }
            Err(error) => {
                tracing::debug!(%error, "a log could not be read");
                self.settle(&channel, |room| {
                    if room.number() == number {
                        room.reading_failed();
                    }
                });
                false
            }
        }
    }
}
