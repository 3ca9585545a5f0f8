//! The cluster that the harness breaks: servers, Redis, and the network between them, all on loopback.

mod directory;
mod nginx;
mod process;
mod proxy;
mod redis;
mod server;

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    time::Duration,
};

use self::server::Server;
pub use self::{
    directory::Directory,
    nginx::Nginx,
    process::Process,
    proxy::{Proxy, Weather},
    redis::Redis,
};
use crate::{Result, seed::Seed, wait::until};

const SYNC: Duration = Duration::from_secs(20);

/// What a cluster consists of when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topology {
    /// One server without Redis.
    Embedded,
    /// Three servers on one Redis, with nothing between them.
    Direct,
    /// Three servers on one Redis, each over a proxy of its own.
    Redis,
    /// The same as `Redis`, and a replica, whose link to the primary has a proxy too.
    Replicated,
}

/// Where a cluster listens on 127.0.0.1; 0 is any free port, and another one each time a server starts.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Ports {
    pub redis: u16,
    pub servers: [u16; 3],
}

/// One server's place: it may be empty, or taken by one process after another.
#[derive(Debug)]
struct Place {
    name: String,
    port: u16,
    proxy: Option<Proxy>,
    server: Option<Server>,
}

/// All processes of one scenario. They end when this is dropped.
#[derive(Debug)]
pub struct Cluster {
    program: PathBuf,
    directory: PathBuf,
    seed: Seed,
    settings: Vec<(String, String)>,
    topology: Topology,
    ports: Ports,
    places: Vec<Place>,
    redis: Option<Redis>,
    replica: Option<(Redis, Proxy)>,
    /// Where clients find servers.
    pub addresses: Directory,
}

impl Cluster {
    /// Starts everything and waits until it is ready. Logs and data go into `directory`.
    pub async fn start(
        topology: Topology,
        program: &Path,
        directory: &Path,
        settings: &[(String, String)],
        ports: Ports,
        seed: Seed,
    ) -> Result<Self> {
        let settings = settings.iter().map(|(name, value)| (format!("ROOMCAST_{name}"), value.clone())).collect();
        let (program, directory, addresses) = (program.to_owned(), directory.to_owned(), Directory::default());
        let (places, redis, replica) = (Vec::new(), None, None);
        let mut cluster =
            Self { program, directory, seed, settings, topology, ports, places, redis, replica, addresses };
        if topology != Topology::Embedded {
            cluster.redis = Some(Redis::start("redis", &cluster.directory, ports.redis).await?);
        }
        if topology == Topology::Replicated {
            cluster.replicate().await?;
        }
        for _ in 0..if topology == Topology::Embedded { 1 } else { 3 } {
            cluster.add_server().await?;
        }
        Ok(cluster)
    }

    async fn replicate(&mut self) -> Result<()> {
        let link = Proxy::start(self.redis()?.address(), self.seed.of("replication")).await?;
        let replica = Redis::start("replica", &self.directory, 0).await?;
        replica.ask::<String>(&["REPLICAOF", "127.0.0.1", &link.address().port().to_string()]).await?;
        until("the replica has the primary's data", SYNC, async || {
            let state = replica.ask::<String>(&["INFO", "replication"]).await;
            state.is_ok_and(|state| state.contains("master_link_status:up"))
        })
        .await?;
        self.replica = Some((replica, link));
        Ok(())
    }

    /// One more server, at a new place. Returns the place's number.
    pub async fn add_server(&mut self) -> Result<usize> {
        let number = self.places.len();
        let proxy = match &self.redis {
            Some(redis) if self.topology != Topology::Direct => {
                Some(Proxy::start(redis.address(), self.seed.of(&format!("network {number}"))).await?)
            }
            _ => None,
        };
        let port = self.ports.servers.get(number).copied().unwrap_or_default();
        self.places.push(Place { name: format!("server-{}", number + 1), port, proxy, server: None });
        self.start_server(number).await?;
        Ok(number)
    }

    /// Starts a server at an empty place and lets clients find it.
    pub async fn start_server(&mut self, number: usize) -> Result<()> {
        let place = &mut self.places[number];
        let mut settings = self.settings.clone();
        let proxy = place.proxy.as_ref().map(Proxy::address);
        if let Some(redis) = proxy.or(self.redis.as_ref().map(Redis::address)) {
            settings.push(("ROOMCAST_REDIS_URL".into(), format!("redis://{redis}/0")));
        }
        let log = self.directory.join(format!("{}.log", place.name));
        let server = Server::start(&self.program, &place.name, place.port, &settings, &log).await?;
        self.addresses.add(number, server.address());
        place.server = Some(server);
        Ok(())
    }

    /// Ends a server with SIGKILL. Clients may still try to reach it, as they would.
    pub async fn kill_server(&mut self, number: usize) -> Result<()> {
        self.take(number)?.kill().await
    }

    /// Ends a server with SIGTERM. From now on, clients are no longer sent to it, as with a load balancer.
    pub async fn terminate_server(&mut self, number: usize) -> Result<()> {
        self.addresses.remove(number);
        self.take(number)?.terminate().await
    }

    fn take(&mut self, number: usize) -> Result<Process> {
        let server = self.places[number].server.take().ok_or("there is no server at this place")?;
        Ok(server.into_process())
    }

    /// The name of the server at a place, as its messages have it.
    pub fn name(&self, number: usize) -> &str {
        &self.places[number].name
    }

    /// How many clients each server has; `None` if there is no server, or no answer.
    pub async fn clients(&self) -> Vec<usize> {
        let mut counts = Vec::new();
        for place in &self.places {
            let count = match &place.server {
                Some(server) => server.clients().await,
                None => None,
            };
            counts.push(count.unwrap_or_default());
        }
        counts
    }

    /// How many places there are.
    pub fn servers(&self) -> usize {
        self.places.len()
    }

    /// The Redis that servers use, or used before a failover.
    pub fn redis(&mut self) -> Result<&mut Redis> {
        self.redis.as_mut().ok_or_else(|| "this cluster has no Redis".into())
    }

    /// The network between one server and Redis.
    pub fn network(&self, number: usize) -> Result<&Proxy> {
        self.places[number].proxy.as_ref().ok_or_else(|| "this cluster has no network".into())
    }

    /// The replica gets nothing of what is written from now on.
    pub fn cut_replication(&self) -> Result<()> {
        let (_, link) = self.replica.as_ref().ok_or("this cluster has no replica")?;
        link.weather(Weather::BlackHole);
        Ok(())
    }

    /// Kills the primary and promotes the replica. Servers are not sent to it yet.
    pub async fn promote(&mut self) -> Result<()> {
        let (replica, link) = self.replica.take().ok_or("this cluster has no replica")?;
        self.redis()?.kill().await?;
        link.stop().await;
        replica.ask::<String>(&["REPLICAOF", "NO", "ONE"]).await?;
        self.redis = Some(replica);
        Ok(())
    }

    /// Points these servers to the current Redis, and cuts their open connections.
    pub fn lead_to_redis(&mut self, numbers: impl IntoIterator<Item = usize>) -> Result<()> {
        let target = self.redis()?.address();
        for number in numbers {
            self.network(number)?.lead_to(target);
        }
        Ok(())
    }

    /// Ends everything, and waits for it.
    pub async fn stop(mut self) -> Result<()> {
        for number in 0..self.places.len() {
            if self.places[number].server.is_some() {
                self.kill_server(number).await?;
            }
        }
        for place in self.places {
            if let Some(proxy) = place.proxy {
                proxy.stop().await;
            }
        }
        if let Some((mut replica, link)) = self.replica {
            link.stop().await;
            replica.kill().await?;
        }
        if let Some(mut redis) = self.redis {
            redis.kill().await?;
        }
        Ok(())
    }
}

/// A port that was just free.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
