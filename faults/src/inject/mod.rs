//! Does to a cluster what a scenario says. Each fault ends with a whole cluster.

mod clients;
mod database;
mod herd;
mod network;
mod replays;
mod servers;

use std::time::Duration;

use rand::rngs::StdRng;

use crate::{
    Result,
    cluster::Cluster,
    herd::Marks,
    scenario::{Fault, Load},
    swarm::Swarm,
    verdict::{Kind, Violation},
};

/// A cluster under load, and what its faults need.
#[derive(Debug)]
pub struct World {
    pub cluster: Cluster,
    pub swarm: Swarm,
    pub load: Load,
    pub rng: StdRng,
    /// Faults that last for a while last shorter.
    pub short: bool,
    /// What the scenario itself found wrong.
    pub violations: Vec<Violation>,
    /// Set by a scenario in which a crowd came back.
    pub herd: Option<Marks>,
}

impl World {
    /// Breaks and mends. Returns the time in the record from which everything should recover.
    pub async fn inject(&mut self, fault: Fault) -> Result<Duration> {
        match fault {
            Fault::None => Ok(self.swarm.recorder.now()),
            Fault::CutClients => self.cut_clients().await,
            Fault::KillServer => self.kill_server().await,
            Fault::RollingRestart => self.rolling_restart().await,
            Fault::KillRedis => self.kill_redis().await,
            Fault::FreezeRedis => self.freeze_redis().await,
            Fault::BlackHole => self.black_hole().await,
            Fault::RoughNetwork => self.rough_network().await,
            Fault::Failover => self.failover().await,
            Fault::FailoverOvertaken => self.failover_overtaken().await,
            Fault::FlushAll => self.flush_all().await,
            Fault::StopReading => self.stop_reading().await,
            Fault::StayAwayTooLong => self.stay_away_too_long().await,
            Fault::MassReconnect => self.mass_reconnect(),
            Fault::FreezeRedisAndKillServer => self.freeze_redis_and_kill_server().await,
            Fault::CutInReplay => self.cut_in_replay().await,
            Fault::StopRedisInReplay => self.stop_redis_in_replay().await,
            Fault::Herd => self.herd().await,
        }
    }

    /// How long a fault lasts, in seconds.
    fn lasts(&self, long: f64, short: f64) -> Duration {
        Duration::from_secs_f64(if self.short { short } else { long })
    }

    fn now(&self) -> Duration {
        self.swarm.recorder.now()
    }

    fn unexpected(&mut self, text: String) {
        self.violations.push(Violation { kind: Kind::Unexpected, client: None, room: None, text });
    }
}
