use std::time::Duration;

use roomcast_load::{Flow, Plan};

use super::{Scenario, column};
use crate::{Result, cluster::Cluster, results::Figures, stage::Stage, subject::Subject};

/// What an idle connection costs.
pub const SCENARIO: Scenario = Scenario {
    name: "memory",
    about: "15,000 connections to one process, each joined to one of 150 rooms and idle; then all of them go.",
    columns: &[
        column("per connection", "KiB per connection", 2),
        column("joined", "connections", 0),
        column("before", "MiB before", 1),
        column("with", "MiB with them", 1),
        column("after", "MiB after they are gone", 1),
        column("ratio", "after / before", 2),
    ],
    compares_peers: false,
    takes: Subject::is_server,
    measure,
};

fn measure(stage: &Stage, subject: &'static Subject) -> Result<Figures> {
    let cluster = Cluster::start(stage, subject, 1)?;
    let load = cluster.load_to_end(Plan {
        clients: stage.clients(stage.pick(15_000, 300)),
        rooms: stage.pick(150, 10),
        flow: Flow::Idle,
        warm_up: Duration::ZERO,
        duration: stage.pick(Duration::from_secs(3), Duration::from_millis(200)),
        ..Plan::default()
    })?;
    let server = load.report.processes.first().ok_or("the server was not measured")?;
    let joined = (load.report.connections.joined - load.report.connections.lost) as f64;
    let (before, with) = (server.rss_kib_before as f64, server.rss_kib as f64);
    let mut figures = vec![("per connection", (with - before) / joined), ("joined", joined)];
    figures.extend([("before", before / 1024.0), ("with", with / 1024.0)]);
    if let Some(after) = server.rss_kib_after {
        figures.extend([("after", after as f64 / 1024.0), ("ratio", after as f64 / before)]);
    }
    Ok(figures)
}
