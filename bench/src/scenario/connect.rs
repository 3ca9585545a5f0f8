use std::time::Duration;

use roomcast_load::{Flow, Plan};

use super::{Scenario, beside::beside, column};
use crate::{Result, cluster::Cluster, results::Figures, stage::Stage, subject::Subject};

/// Everybody comes at once.
pub const SCENARIO: Scenario = Scenario {
    name: "connect",
    about: "One server. 10,000 clients connect and join 100 rooms as fast as they can, while 500 others in 5 rooms get 50 \
            messages a second.",
    columns: &[
        column("failed", "failures", 0),
        column("rate", "joined a second", 0),
        column("seconds", "s until all are in", 2),
        column("others missing", "missing to the others", 0),
        column("others lost", "others lost", 0),
        column("others p99", "others' p99 ms", 2),
        column("others max", "others' max ms", 1),
    ],
    compares_peers: false,
    takes: Subject::is_server,
    measure,
};

fn measure(stage: &Stage, subject: &'static Subject) -> Result<Figures> {
    let cluster = Cluster::start(stage, subject, 1)?;
    let others =
        Plan { clients: stage.pick(500, 50), rooms: 5, flow: Flow::Rate(stage.pick(50.0, 20.0)), ..Plan::default() };
    let crowd = Plan {
        clients: stage.pick(10_000, 300),
        rooms: stage.pick(100, 10),
        flow: Flow::Idle,
        warm_up: Duration::ZERO,
        duration: Duration::from_millis(100),
        ..Plan::default()
    };
    let (others, crowd) = beside(&cluster, others, || cluster.load_to_end(crowd))?;

    let connections = &crowd.report.connections;
    let mut figures = vec![
        ("failed", (connections.failed + connections.lost) as f64),
        ("rate", connections.joined as f64 / connections.all_joined_seconds),
        ("seconds", connections.all_joined_seconds),
        ("others lost", others.report.connections.lost as f64),
    ];
    if let (Some(latency), Some(deliveries)) = (&others.report.latency_ms, &others.report.deliveries) {
        figures.extend([("others p99", latency.p99), ("others max", latency.max)]);
        figures.push(("others missing", deliveries.missing as f64));
    }
    Ok(figures)
}
