use roomcast_load::{Flow, Plan};

use super::{Scenario, column};
use crate::{Result, cluster::Cluster, results::Figures, stage::Stage, subject::Subject};

/// Messages under way: as many for each of the publishers.
const PUBLISHERS: usize = 10;
const UNDER_WAY: usize = 50;

/// As much as it takes.
pub const SCENARIO: Scenario = Scenario {
    name: "saturation",
    about: "One room of 500 members on two servers, and ten of them always have fifty messages under way, so the servers \
            are given as much as they take.",
    columns: &[
        column("rate", "deliveries/s", 0),
        column("cpu", "CPU µs per delivery", 2),
        column("p50", "p50 ms", 2),
        column("p99", "p99 ms", 2),
        column("generator", "load generator, % of a core", 0),
        column("missing", "missing", 0),
    ],
    compares_peers: true,
    takes: Subject::is_server,
    measure,
};

fn measure(stage: &Stage, subject: &'static Subject) -> Result<Figures> {
    let cluster = Cluster::start(stage, subject, 2)?;
    let load = cluster.load_to_end(Plan {
        clients: stage.pick(500, 50),
        rooms: 1,
        publishers: Some(PUBLISHERS),
        flow: Flow::Saturate(UNDER_WAY),
        warm_up: stage.warm_up(),
        duration: stage.measuring,
        ..Plan::default()
    })?;
    let mut figures = vec![("cpu", load.cpu_per_delivery()), ("generator", load.report.generator_cpu_percent)];
    if let Some(latency) = &load.report.latency_ms {
        figures.extend([("p50", latency.p50), ("p99", latency.p99)]);
    }
    if let Some(deliveries) = &load.report.deliveries {
        figures.extend([("rate", deliveries.per_second), ("missing", deliveries.missing as f64)]);
    }
    Ok(figures)
}
