use std::time::Duration;

use rand::Rng;
use tokio::time::sleep;

use super::World;
use crate::Result;

impl World {
    pub(super) async fn kill_server(&mut self) -> Result<Duration> {
        let victim = self.rng.random_range(0..self.cluster.servers());
        // Clients come back to those that are left, so this is the moment from which they need time.
        let killed = self.now();
        self.cluster.kill_server(victim).await?;
        sleep(self.lasts(4.0, 2.0)).await;
        self.cluster.start_server(victim).await?;
        Ok(killed)
    }

    pub(super) async fn rolling_restart(&mut self) -> Result<Duration> {
        for number in 0..self.cluster.servers() {
            self.cluster.terminate_server(number).await?;
            self.cluster.start_server(number).await?;
            sleep(self.lasts(2.0, 0.5)).await;
        }
        Ok(self.now())
    }

    pub(super) async fn freeze_redis_and_kill_server(&mut self) -> Result<Duration> {
        let victim = self.rng.random_range(0..self.cluster.servers());
        self.cluster.redis()?.freeze().await?;
        sleep(self.lasts(2.0, 1.0)).await;
        self.cluster.kill_server(victim).await?;
        sleep(self.lasts(3.0, 1.0)).await;
        let thawed = self.now();
        self.cluster.redis()?.thaw().await?;
        self.cluster.start_server(victim).await?;
        Ok(thawed)
    }
}
