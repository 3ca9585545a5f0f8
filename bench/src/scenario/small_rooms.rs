use roomcast::load::{Flow, Plan};

use super::{Scenario, column};
use crate::{Result, cluster::Cluster, results::Figures, stage::Stage, subject::Subject};

/// Deliveries a second, in rooms of either size.
const DELIVERIES: f64 = 4000.0;

/// Many small rooms.
pub const SCENARIO: Scenario = Scenario {
    name: "small-rooms",
    about: "4,000 deliveries a second on two servers: in 1,000 rooms of 2, and in 10 rooms of 100. A room of 2 has a message \
            to take and to publish for every two deliveries, one of 100 for every hundred.",
    columns: &[
        column("small", "rooms of 2: CPU µs per delivery", 2),
        column("large", "rooms of 100: CPU µs per delivery", 2),
        column("ratio", "ratio", 2),
        column("message", "rooms of 2: CPU µs per message", 2),
        column("p99", "rooms of 2: p99 ms", 2),
        column("missing", "missing", 0),
    ],
    takes: Subject::is_server,
    measure,
};

fn measure(stage: &Stage, subject: &'static Subject) -> Result<Figures> {
    let cluster = Cluster::start(stage, subject, 2)?;
    let plan = |rooms: usize, members: usize| Plan {
        clients: rooms * members,
        rooms,
        flow: Flow::Rate(stage.pick(DELIVERIES, DELIVERIES / 10.0) / members as f64),
        warm_up: stage.warm_up(),
        duration: stage.measuring,
        ..Plan::default()
    };
    let small = cluster.load_to_end(plan(stage.pick(1000, 50), 2))?;
    let large = cluster.load_to_end(plan(stage.pick(10, 1), 100))?;
    let (in_small, in_large) = (small.cpu_per_delivery(), large.cpu_per_delivery());
    let mut figures = vec![("small", in_small), ("large", in_large), ("ratio", in_small / in_large)];
    figures.push(("message", small.cpu_per_message()));
    figures.extend(small.report.latency_ms.as_ref().map(|latency| ("p99", latency.p99)));
    figures.extend(small.report.deliveries.as_ref().map(|deliveries| ("missing", deliveries.missing as f64)));
    Ok(figures)
}
