use std::time::Duration;

use rand::Rng;
use tokio::time::sleep;

use super::World;
use crate::{
    Result,
    client::{Order, Plan},
    record::Client,
};

impl World {
    pub(super) async fn cut_clients(&mut self) -> Result<Duration> {
        let mut cut = self.now();
        for _ in 0..3 {
            cut = self.now();
            for client in 0..self.clients() {
                if self.rng.random_bool(1.0 / 3.0) {
                    self.swarm.order(client, Order::Cut)?;
                }
            }
            sleep(self.lasts(2.0, 1.0)).await;
        }
        Ok(cut)
    }

    pub(super) fn mass_reconnect(&mut self) -> Result<Duration> {
        let cut = self.now();
        (0..self.clients()).try_for_each(|client| self.swarm.order(client, Order::Cut))?;
        Ok(cut)
    }

    pub(super) async fn stay_away_too_long(&mut self) -> Result<Duration> {
        let away = self.lasts(5.0, 3.0);
        self.send_some_away(away)?;
        sleep(away).await;
        Ok(self.now())
    }

    /// Has a few clients lose their connections, and come back after this time.
    pub(super) fn send_some_away(&mut self, away: Duration) -> Result<()> {
        let clients = (0..self.clients()).filter(|_| self.rng.random_bool(1.0 / 6.0)).collect::<Vec<_>>();
        clients.into_iter().try_for_each(|client| self.swarm.order(client, Order::StayAway(away)))
    }

    /// A server has three signs that a client does not read: too much waits for it, by number or by bytes, or a
    /// write takes too long. Which comes first depends on how much the system's own buffers take.
    pub(super) async fn stop_reading(&mut self) -> Result<Duration> {
        let slow = self.swarm.add(Plan { rooms: vec![0], small_buffer: true, ..Plan::listener() });
        self.swarm.all_in(Duration::from_secs(10)).await?;
        // Shorter than the time after which a connection that does not accept its close frame is reset.
        let stall = Duration::from_secs(4);
        self.swarm.order(slow, Order::Stall(stall))?;
        sleep(stall).await;
        let reads_again = self.now();
        sleep(Duration::from_secs(1)).await;
        if !self.swarm.recorder.closes(slow).contains(&4008) {
            let codes = self.swarm.recorder.closes(slow);
            self.unexpected(format!("client {slow} did not read and was not closed with 4008; codes: {codes:?}"));
        }
        Ok(reads_again)
    }

    fn clients(&self) -> Client {
        Client::try_from(self.swarm.len()).unwrap_or(Client::MAX)
    }
}
