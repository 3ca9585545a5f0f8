use std::{net::SocketAddr, path::Path, time::Duration};

use super::{
    arguments::{Arguments, Tempo},
    cast::{ANNOUNCER, PEOPLE, SENTENCES},
};
use crate::{
    Result,
    client::{Order, Pauses, Plan, Voice, frame::DEMO},
    cluster::{Cluster, Directory, Nginx, Ports, Topology},
    record::Client,
    seed::Seed,
    swarm::Swarm,
    wait::until,
};

const JOINED: Duration = Duration::from_secs(60);

/// For how long an announcement may be on its way before the demo goes on without it.
const ANNOUNCED: Duration = Duration::from_secs(3);

/// Redis, three servers, nginx in front of them, and those who talk through it.
#[derive(Debug)]
pub struct Stage {
    /// What is broken.
    pub cluster: Cluster,
    /// Those who talk.
    pub swarm: Swarm,
    nginx: Nginx,
    announcer: Client,
    announcements: usize,
}

impl Stage {
    /// Starts everything, and has everybody join.
    pub async fn start(arguments: &Arguments, program: &Path, directory: &Path, tempo: Tempo) -> Result<Self> {
        let ports = &arguments.ports;
        let places = Ports { redis: ports.redis(), servers: ports.servers() };
        let seed = Seed(std::process::id().into());
        let cluster = Cluster::start(Topology::Direct, program, directory, &arguments.settings, places, seed).await?;
        let servers = ports.servers().map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let nginx = Nginx::start(ports.nginx(), &servers, directory).await?;
        // All come in through nginx, as the page does, and it is for nginx to find them a server that lives.
        let door = Directory::default();
        door.add(0, ([127, 0, 0, 1], ports.nginx()).into());
        let mut swarm = Swarm::new(door, seed);
        for name in PEOPLE {
            swarm.add(Plan { pace: Some(tempo.pace), voice: Voice::Sentences(SENTENCES), ..plan(name) });
        }
        let announcer = swarm.add(plan(ANNOUNCER));
        swarm.all_in(JOINED).await?;
        swarm.send(true);
        Ok(Self { cluster, swarm, nginx, announcer, announcements: 0 })
    }

    /// Says something in the room, and waits until it is kept there.
    pub async fn announce(&mut self, text: &str) -> Result<()> {
        self.swarm.order(self.announcer, Order::Say(text.to_owned()))?;
        self.announcements += 1;
        let recorder = &self.swarm.recorder;
        let is_kept = async || recorder.acks(self.announcer) >= self.announcements;
        // When nothing works it comes later; that is what the demo is about.
        let _ = until("the announcement", ANNOUNCED, is_kept).await;
        Ok(())
    }

    /// Ends everything, and waits for it.
    pub async fn stop(self) -> Result<()> {
        self.swarm.stop().await?;
        self.nginx.stop().await?;
        self.cluster.stop().await
    }
}

fn plan(name: &'static str) -> Plan {
    Plan { name: Some(name), rooms: vec![DEMO], pauses: Pauses::DOCUMENTED, ..Plan::listener() }
}
