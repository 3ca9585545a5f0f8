use roomcast_load::{Flow, Plan};

use super::{Scenario, column};
use crate::{Result, cluster::Cluster, results::Figures, stage::Stage, subject::Subject};

/// Deliveries a second, in rooms of either size.
const DELIVERIES: f64 = 4000.0;

/// Many small rooms.
pub const SCENARIO: Scenario = Scenario {
    name: "small-rooms",
    about: "1,000 rooms of 2 on two servers, one member on each, so servers accept and publish a message for every two \
            deliveries: with one message of each member always under way; then with 4,000 deliveries a second; and for \
            comparison 4,000 a second in 10 rooms of 100.",
    columns: &[
        column("rate", "under way: deliveries/s", 0),
        column("at once", "CPU µs per delivery", 2),
        column("small", "4,000/s: CPU µs per delivery", 2),
        column("message", "CPU µs per message", 1),
        column("p99", "p99 ms", 2),
        column("large", "rooms of 100: CPU µs per delivery", 2),
        column("ratio", "rooms of 2 / of 100", 2),
        column("missing", "missing", 0),
    ],
    compares_peers: false,
    takes: Subject::is_server,
    measure,
};

fn measure(stage: &Stage, subject: &'static Subject) -> Result<Figures> {
    let cluster = Cluster::start(stage, subject, 2)?;
    let plan = |rooms: usize, members: usize, flow: Flow| Plan {
        clients: rooms * members,
        rooms,
        flow,
        warm_up: stage.warm_up(),
        duration: stage.half(),
        ..Plan::default()
    };
    let rate = |members: f64| Flow::Rate(stage.pick(DELIVERIES, DELIVERIES / 4.0) / members);
    let (small_rooms, large_rooms) = (stage.pick(1000, 50), stage.pick(10, 2));
    let at_once = cluster.load_to_end(plan(small_rooms, 2, Flow::Saturate(1)))?;
    let small = cluster.load_to_end(plan(small_rooms, 2, rate(2.0)))?;
    let large = cluster.load_to_end(plan(large_rooms, 100, rate(100.0)))?;

    let (in_small, in_large) = (small.cpu_per_delivery(), large.cpu_per_delivery());
    let mut figures = vec![("small", in_small), ("large", in_large), ("ratio", in_small / in_large)];
    figures.extend([("at once", at_once.cpu_per_delivery()), ("message", small.cpu_per_message())]);
    figures.extend(at_once.report.deliveries.as_ref().map(|deliveries| ("rate", deliveries.per_second)));
    figures.extend(small.report.latency_ms.as_ref().map(|latency| ("p99", latency.p99)));
    figures.extend(small.report.deliveries.as_ref().map(|deliveries| ("missing", deliveries.missing as f64)));
    Ok(figures)
}
