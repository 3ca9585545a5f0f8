use std::time::Duration;

use rand::Rng;
use tokio::time::sleep;

use super::World;
use crate::{
    Result,
    client::{Order, Plan},
    herd::Marks,
    record::Client,
    wait::until,
};

/// Longest time until logs are as long as they have to be.
const FILLED: Duration = Duration::from_secs(60);

impl World {
    /// Fills the logs of all rooms, brings a crowd into them, has some of it miss hundreds of messages, and kills a
    /// server: its clients and those that were away come back at once.
    pub(super) async fn herd(&mut self) -> Result<Duration> {
        let (crowd, filled, missed) = if self.short { (200, 200, 60) } else { (2000, 1000, 300) };
        self.grow_logs_to(filled).await?;
        self.writers_send(100.0)?;
        let rooms = self.load.rooms;
        let plans = (0..crowd).map(|number| Plan { rooms: vec![number % rooms], ..Plan::listener() });
        let crowd: Vec<Client> = plans.map(|plan| self.swarm.add(plan)).collect();
        self.swarm.all_in(FILLED).await?;

        let away: Vec<Client> = crowd.into_iter().filter(|client| client % 8 == 0).collect();
        away.iter().try_for_each(|client| self.swarm.order(*client, Order::GoAway))?;
        self.writers_send(400.0)?;
        let shortest = (0..rooms).filter_map(|room| self.swarm.recorder.newest(room)).map(|top| top.seq).max();
        self.grow_logs_to(shortest.unwrap_or_default() + missed).await?;
        self.writers_send(100.0)?;
        sleep(self.lasts(2.0, 1.0)).await;

        let before = self.now();
        let cpu_before = self.redis_cpu().await?;
        sleep(self.lasts(5.0, 2.0)).await;
        let victim = self.rng.random_range(0..self.cluster.servers());
        let address = self.cluster.addresses.get(victim).ok_or("the victim has no address")?.to_string();
        let orphans = self.swarm.recorder.clients_of(&address);
        let (killed, cpu_killed) = (self.now(), self.redis_cpu().await?);
        self.cluster.kill_server(victim).await?;
        let (early, late) = away.split_at(away.len() / 2);
        early.iter().try_for_each(|client| self.swarm.order(*client, Order::ComeBack(Vec::new())))?;
        self.cluster.start_server(victim).await?;
        late.iter().try_for_each(|client| self.swarm.order(*client, Order::ComeBack(Vec::new())))?;
        let recorder = &self.swarm.recorder;
        until("clients notice that their server is gone", FILLED, async || recorder.clients_of(&address).is_empty())
            .await?;
        self.all_caught_up().await?;

        let redis_cpu = [cpu_killed - cpu_before, self.redis_cpu().await? - cpu_killed];
        let returned = orphans.into_iter().chain(away).collect();
        self.herd = Some(Marks { returned, before, killed, caught_up: self.now(), redis_cpu });
        Ok(killed)
    }

    /// All that write send so many messages a second together.
    fn writers_send(&self, rate: f64) -> Result<()> {
        let pace = Duration::from_secs_f64(f64::from(self.load.clients) / rate);
        (0..self.load.clients).try_for_each(|client| self.swarm.order(client, Order::Pace(pace)))
    }

    async fn grow_logs_to(&self, length: u64) -> Result<()> {
        let top = |room| self.swarm.recorder.newest(room).map_or(0, |position| position.seq);
        let rooms = self.load.rooms;
        until("logs are long enough", FILLED, async || (0..rooms).all(|room| top(room) >= length)).await
    }

    /// Seconds of CPU time that Redis has taken.
    async fn redis_cpu(&mut self) -> Result<f64> {
        let info = self.cluster.redis()?.ask::<String>(&["INFO", "cpu"]).await?;
        let seconds = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.parse::<f64>().ok());
        let (user, system) = (seconds("used_cpu_user:"), seconds("used_cpu_sys:"));
        Ok(user.zip(system).map(|(user, system)| user + system).ok_or("Redis does not say what CPU time it takes")?)
    }
}
