use std::time::Duration;

use tokio::time::sleep;

use super::World;
use crate::{
    Result,
    client::{Order, Plan},
    record::{Client, Room},
    wait::until,
};

/// The room whose log is replayed. It is the only one of these scenarios.
const ROOM: Room = 0;

/// Longest time until clients have missed enough messages, and until all are caught up.
const PATIENCE: Duration = Duration::from_secs(60);

impl World {
    /// Clients lose the network after each number of frames from `join` on, then right after `joined`, then once more
    /// where they did the first time; while messages flow, and while none do.
    pub(super) async fn cut_in_replay(&mut self) -> Result<Duration> {
        let deepest = if self.short { 60 } else { 400 };
        let plan = Plan { rooms: vec![ROOM], ..Plan::listener() };
        let clients = self.add_clients(deepest + 1, &plan).await?;
        for is_loaded in [true, false] {
            self.have_missed(&clients, deepest as u64 + 20).await?;
            self.swarm.send(is_loaded);
            for (frames, client) in clients.iter().enumerate() {
                self.swarm.order(*client, Order::ComeBack(vec![frames, 1, frames]))?;
            }
            self.all_caught_up().await;
            self.swarm.send(true);
        }
        Ok(self.now())
    }

    /// Redis stops while slow clients get what they missed from a server that must read it from Redis: first so briefly
    /// that the server can go on, then for longer.
    pub(super) async fn stop_redis_in_replay(&mut self) -> Result<Duration> {
        let server = self.cluster.servers() - 1;
        let slow = Plan {
            rooms: vec![ROOM],
            server: Some(server),
            small_buffer: true,
            rest: Duration::from_millis(2),
            ..Plan::listener()
        };
        let clients = self.add_clients(12, &slow).await?;
        let mut thawed = self.now();
        for pause in [self.lasts(2.0, 1.0), self.lasts(8.0, 6.0)] {
            self.have_missed(&clients, 400).await?;
            self.cluster.kill_server(server).await?;
            self.cluster.start_server(server).await?;
            for client in &clients {
                self.swarm.order(*client, Order::ComeBack(Vec::new()))?;
            }
            // They read so slowly that most of what they missed is still to come then.
            self.swarm.all_in(PATIENCE).await?;
            self.cluster.redis()?.freeze().await?;
            sleep(pause).await;
            thawed = self.now();
            self.cluster.redis()?.thaw().await?;
            self.all_caught_up().await;
        }
        Ok(thawed)
    }

    /// Adds this many clients of this kind, and waits until they are in their rooms.
    pub(super) async fn add_clients(&mut self, number: usize, plan: &Plan) -> Result<Vec<Client>> {
        let clients = (0..number).map(|_| self.swarm.add(plan.clone())).collect();
        self.swarm.all_in(PATIENCE).await?;
        Ok(clients)
    }

    /// Keeps clients away until they have missed this many messages of the room.
    async fn have_missed(&self, clients: &[Client], messages: u64) -> Result<()> {
        clients.iter().try_for_each(|client| self.swarm.order(*client, Order::GoAway))?;
        let recorder = &self.swarm.recorder;
        let gone = async || recorder.missing() >= clients.len();
        until("clients are away", PATIENCE, gone).await?;
        let seq = || recorder.newest(ROOM).map_or(0, |position| position.seq);
        let top = seq() + messages;
        until("messages have been missed", PATIENCE, async || seq() >= top).await
    }

    /// Waits until everybody is in its rooms and has what it missed.
    pub(super) async fn all_caught_up(&mut self) {
        let recorder = &self.swarm.recorder;
        let all = async || recorder.missing() == 0 && recorder.replaying() == 0;
        if let Err(error) = until("all have what they missed", PATIENCE, all).await {
            let (missing, replaying) = (recorder.missing(), recorder.replaying());
            self.unexpected(format!("{error}; {missing} are not back, {replaying} are being caught up"));
        }
    }
}
