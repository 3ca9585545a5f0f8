use std::time::Duration;

use rand::Rng;
use tokio::time::sleep;

use super::World;
use crate::{Result, cluster::Weather};

impl World {
    pub(super) async fn black_hole(&mut self) -> Result<Duration> {
        let victim = self.rng.random_range(0..self.cluster.servers());
        self.cluster.network(victim)?.weather(Weather::BlackHole);
        sleep(self.lasts(8.0, 3.0)).await;
        self.cluster.network(victim)?.weather(Weather::Fair);
        Ok(self.now())
    }

    pub(super) async fn rough_network(&mut self) -> Result<Duration> {
        self.weather(Weather::Rough)?;
        sleep(self.lasts(10.0, 4.0)).await;
        self.weather(Weather::Fair)?;
        Ok(self.now())
    }

    fn weather(&self, weather: Weather) -> Result<()> {
        (0..self.cluster.servers()).try_for_each(|number| {
            self.cluster.network(number)?.weather(weather);
            Ok(())
        })
    }
}
