use roomcast_load::{Churn, Flow, Plan};

use super::{Scenario, column};
use crate::{
    Result,
    cluster::Cluster,
    results::Figures,
    stage::Stage,
    subject::{Kind, Subject},
};

/// Requested joins and leaves a second: a little more than the servers can do.
const RATE: f64 = 21_000.0;

/// Joins and leaves while others talk.
pub const SCENARIO: Scenario = Scenario {
    name: "churn",
    about: "One server. 500 clients in 5 rooms get 50 messages a second: by themselves; while 100 others join and leave their \
            rooms, 21,000 times a second; and while these make and leave rooms that nobody is in, as often.",
    columns: &[
        column("rate", "joins and leaves/s", 0),
        column("fresh rate", "in new rooms/s", 0),
        column("p99 without", "others' p99 ms without", 2),
        column("p99 with", "with", 2),
        column("p99 fresh", "with new rooms", 2),
        column("ratio", "ratio of p99", 2),
        column("cpu", "CPU µs per join or leave", 1),
        column("missing", "missing to the others", 0),
    ],
    compares_peers: false,
    takes: |subject| subject.is_server() && subject.kind != Kind::Floor,
    measure,
};

fn measure(stage: &Stage, subject: &'static Subject) -> Result<Figures> {
    let cluster = Cluster::start(stage, subject, 1)?;
    let plan = |fresh: Option<bool>| Plan {
        clients: stage.pick(500, 50),
        rooms: 5,
        flow: Flow::Rate(stage.pick(50.0, 20.0)),
        warm_up: stage.warm_up(),
        duration: stage.half(),
        churn: fresh.map(|fresh| Churn {
            rate: stage.pick(RATE, RATE / 50.0),
            connections: stage.pick(100, 10),
            fresh,
        }),
        ..Plan::default()
    };
    let without = cluster.load_to_end(plan(None))?;
    let with = cluster.load_to_end(plan(Some(false)))?;
    let fresh = cluster.load_to_end(plan(Some(true)))?;

    let mut figures = Vec::new();
    if let (Some(churn), Some(in_fresh)) = (&with.report.churn, &fresh.report.churn) {
        figures.extend([("rate", churn.per_second), ("fresh rate", in_fresh.per_second)]);
        let cpu = |load: &crate::cluster::Load| {
            load.report.processes.first().map_or(f64::NAN, |server| server.cpu_seconds / load.report.measured_seconds)
        };
        figures.push(("cpu", (cpu(&with) - cpu(&without)) * 1e6 / churn.per_second));
    }
    if let (Some(without), Some(with), Some(fresh)) =
        (&without.report.latency_ms, &with.report.latency_ms, &fresh.report.latency_ms)
    {
        figures.extend([("p99 without", without.p99), ("p99 with", with.p99), ("p99 fresh", fresh.p99)]);
        figures.push(("ratio", with.p99 / without.p99));
    }
    figures.extend(with.report.deliveries.as_ref().map(|deliveries| ("missing", deliveries.missing as f64)));
    Ok(figures)
}
