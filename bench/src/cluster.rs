use std::{net::SocketAddr, sync::atomic::AtomicBool, time::Duration};

use roomcast_load::{self as load, Plan, Progress, Report};

use crate::{
    Result,
    children::Process,
    floor::Cost,
    network::{free_port, get, is_open},
    redis::Redis,
    stage::Stage,
    subject::Subject,
};

const START: Duration = Duration::from_secs(20);

/// The servers of a subject, with their Redis. Dropping this ends them.
#[derive(Debug)]
pub struct Cluster {
    subject: &'static Subject,
    ports: Vec<u16>,
    servers: Vec<Process>,
    redis: Option<Redis>,
}

impl Cluster {
    /// Starts this many servers and waits until they are ready.
    pub fn start(stage: &Stage, subject: &'static Subject, servers: usize) -> Result<Self> {
        Self::start_with(stage, subject, servers, &[])
    }

    /// The same, with these variables in place of the subject's own.
    pub fn start_with(
        stage: &Stage,
        subject: &'static Subject,
        servers: usize,
        variables: &[(&str, &str)],
    ) -> Result<Self> {
        let redis = if subject.needs_redis() { Some(Redis::start(&stage.children)?) } else { None };
        let ports = (0..servers).map(|_| free_port()).collect::<Result<Vec<u16>>>()?;
        let mut cluster = Self { subject, ports, servers: Vec::new(), redis };
        for place in 0..servers {
            let mut ports = cluster.ports.clone();
            ports.rotate_left(place);
            let mut command = subject.command(&ports, cluster.redis.as_ref(), &stage.peers)?;
            command.envs(variables.iter().copied());
            cluster.servers.push(stage.children.start(&subject.name.replace([' ', ','], "-"), command)?);
        }
        for (server, address) in cluster.servers.iter().zip(cluster.addresses()) {
            server.until("it is ready", START, || match subject.readiness() {
                Some(path) => get(address, path).is_ok(),
                None => is_open(address),
            })?;
        }
        Ok(cluster)
    }

    /// Where they are.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.ports.iter().map(|port| ([127, 0, 0, 1], *port).into())
    }

    /// The ids of the servers.
    pub fn servers(&self) -> impl Iterator<Item = u32> {
        self.servers.iter().map(Process::id)
    }

    /// Runs a plan against these servers, and measures them and Redis. `stop` ends it early.
    pub fn load(&self, mut plan: Plan, stop: &AtomicBool, progress: &mut dyn FnMut(&Progress)) -> Result<Load> {
        plan.urls = self.addresses().map(|address| format!("ws://{address}")).collect();
        plan.pids = self.servers().chain(self.redis.as_ref().map(Redis::id)).collect();
        let report = load::run(&plan, self.subject.dialect(), stop, progress)?;
        self.servers.iter().try_for_each(Process::is_running)?;
        Ok(Load { report, servers: self.servers.len() })
    }

    /// The same, to its end.
    pub fn load_to_end(&self, plan: Plan) -> Result<Load> {
        self.load(plan, &AtomicBool::new(false), &mut |_| {})
    }

    /// The cost of all floors' writes so far.
    pub fn floor_cost(&self) -> Result<Cost> {
        let mut sum = Cost::default();
        for address in self.addresses() {
            let text = get(address, "/cost")?;
            let cost = Cost::parse(&text).ok_or_else(|| format!("a floor answers {text:?}"))?;
            sum = Cost { writes: sum.writes + cost.writes, time: sum.time + cost.time };
        }
        Ok(sum)
    }
}

/// The result of a load.
#[derive(Debug)]
pub struct Load {
    /// Everything that was measured.
    pub report: Report,
    servers: usize,
}

impl Load {
    /// CPU time of the servers, in microseconds.
    fn servers_cpu(&self) -> f64 {
        self.report.processes.iter().take(self.servers).map(|process| process.cpu_seconds * 1e6).sum()
    }

    /// CPU time of the servers for each delivery, in microseconds.
    pub fn cpu_per_delivery(&self) -> f64 {
        self.servers_cpu() / self.report.deliveries.as_ref().map_or(f64::NAN, |deliveries| deliveries.measured as f64)
    }

    /// CPU time of the servers for each message, in microseconds.
    pub fn cpu_per_message(&self) -> f64 {
        self.servers_cpu() / self.published()
    }

    /// CPU time of Redis for each message, in microseconds.
    pub fn redis_per_message(&self) -> Option<f64> {
        self.report.processes.get(self.servers).map(|redis| redis.cpu_seconds * 1e6 / self.published())
    }

    /// Messages published a second.
    pub fn messages_per_second(&self) -> f64 {
        self.published() / self.report.measured_seconds
    }

    fn published(&self) -> f64 {
        self.report.messages.as_ref().map_or(f64::NAN, |messages| messages.published as f64)
    }
}
