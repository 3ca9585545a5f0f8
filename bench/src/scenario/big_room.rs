use roomcast_load::{Flow, Plan};

use super::{Scenario, beside::beside, column};
use crate::{Result, cluster::Cluster, results::Figures, stage::Stage, subject::Subject};

/// One room that is far larger than the others.
pub const SCENARIO: Scenario = Scenario {
    name: "big-room",
    about: "One server. 1,000 clients in 10 rooms get 100 messages a second, without and with a room of 10,000 members beside \
            them that gets one message a second.",
    columns: &[
        column("p50 without", "p50 ms without", 2),
        column("p50 with", "p50 ms with", 2),
        column("p99 without", "p99 ms without", 2),
        column("p99 with", "p99 ms with", 2),
        column("ratio", "ratio of p99", 2),
        column("big p50", "p50 ms in the big room", 1),
        column("big max", "to its last member, ms", 1),
        column("big missing", "missing in it", 0),
    ],
    compares_peers: false,
    takes: Subject::is_server,
    measure,
};

fn measure(stage: &Stage, subject: &'static Subject) -> Result<Figures> {
    let cluster = Cluster::start(stage, subject, 1)?;
    let others = || Plan {
        clients: stage.pick(1000, 100),
        rooms: stage.pick(10, 5),
        flow: Flow::Rate(100.0),
        warm_up: stage.warm_up(),
        duration: stage.half(),
        ..Plan::default()
    };
    let big = Plan {
        clients: stage.pick(10_000, 200),
        rooms: 1,
        publishers: Some(1),
        flow: Flow::Rate(stage.pick(1.0, 5.0)),
        ..Plan::default()
    };
    let without = cluster.load_to_end(others())?;
    let (big, with) = beside(&cluster, big, || cluster.load_to_end(others()))?;

    let mut figures = Vec::new();
    if let (Some(without), Some(with)) = (&without.report.latency_ms, &with.report.latency_ms) {
        figures.extend([("p50 without", without.p50), ("p50 with", with.p50)]);
        figures.extend([("p99 without", without.p99), ("p99 with", with.p99), ("ratio", with.p99 / without.p99)]);
    }
    if let (Some(latency), Some(deliveries)) = (&big.report.latency_ms, &big.report.deliveries) {
        figures.extend([("big p50", latency.p50), ("big max", latency.max)]);
        figures.push(("big missing", deliveries.missing as f64));
    }
    Ok(figures)
}
