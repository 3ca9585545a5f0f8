use std::time::Duration;

use rand::Rng;
use tokio::time::sleep;

use super::World;
use crate::{
    Result,
    client::{Order, Plan},
    herd::Marks,
    record::{Client, Room},
    wait::until,
};

/// Longest time until logs are long enough, or until all clients are where they belong.
const PATIENCE: Duration = Duration::from_secs(120);

/// Messages a second of each writer: as usual, and where clients miss hundreds.
const USUAL: f64 = 1.25;
const BRISK: f64 = 12.5;

impl World {
    /// Fills the logs of all rooms, brings a crowd into them, has some of it miss hundreds of messages, and kills a
    /// server: its clients and those that were away come back at once.
    pub(super) async fn herd(&mut self) -> Result<Duration> {
        let (crowd, length, missed) = if self.short { (200, 200, 60) } else { (2000, 1000, 300) };
        self.logs_reach(|_| length).await?;
        self.writers_send(|_| USUAL)?;
        let rooms = self.load.rooms;
        let plans = (0..crowd).map(|number| Plan { rooms: vec![number % rooms], ..Plan::listener() });
        let crowd: Vec<Client> = plans.map(|plan| self.swarm.add(plan)).collect();
        self.swarm.all_in(PATIENCE).await?;

        // Every second one of every fourth room.
        let is_missed = |room: Room| room.is_multiple_of(4);
        let away =
            (0..).zip(crowd).filter(|(number, _)| is_missed(number % rooms) && (number / rooms).is_multiple_of(2));
        let away: Vec<Client> = away.map(|(_, client)| client).collect();
        away.iter().try_for_each(|client| self.swarm.order(*client, Order::GoAway))?;
        self.writers_send(|room| if is_missed(room) { BRISK } else { USUAL })?;
        let tops: Vec<u64> = (0..rooms).map(|room| self.length(room)).collect();
        self.logs_reach(|room| tops[room as usize] + if is_missed(room) { missed } else { 0 }).await?;
        self.writers_send(|_| USUAL)?;
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
        let noticed = async || recorder.clients_of(&address).is_empty();
        until("clients notice that their server is gone", PATIENCE, noticed).await?;
        self.all_caught_up().await;

        let redis_cpu = [cpu_killed - cpu_before, self.redis_cpu().await? - cpu_killed];
        let returned = orphans.into_iter().chain(away).collect();
        self.herd = Some(Marks { returned, before, killed, caught_up: self.now(), redis_cpu });
        Ok(killed)
    }

    /// How many messages a second each writer sends, by its room.
    fn writers_send(&self, rate: impl Fn(Room) -> f64) -> Result<()> {
        let pace = |writer: Client| Duration::from_secs_f64(1.0 / rate(writer % self.load.rooms));
        (0..self.load.clients).try_for_each(|writer| self.swarm.order(writer, Order::Pace(pace(writer))))
    }

    async fn logs_reach(&self, length: impl Fn(Room) -> u64) -> Result<()> {
        let rooms = 0..self.load.rooms;
        let all = async || rooms.clone().all(|room| self.length(room) >= length(room));
        until("logs are long enough", PATIENCE, all).await
    }

    fn length(&self, room: Room) -> u64 {
        self.swarm.recorder.newest(room).map_or(0, |position| position.seq)
    }

    /// Seconds of CPU time that Redis has taken.
    async fn redis_cpu(&mut self) -> Result<f64> {
        let info = self.cluster.redis()?.ask::<String>(&["INFO", "cpu"]).await?;
        let seconds = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.parse::<f64>().ok());
        let (user, system) = (seconds("used_cpu_user:"), seconds("used_cpu_sys:"));
        Ok(user.zip(system).map(|(user, system)| user + system).ok_or("Redis does not say what CPU time it takes")?)
    }
}
