use roomcast_load::{Flow, Plan, Process};

use super::{Column, Scenario, column};
use crate::{
    Result,
    cluster::Cluster,
    plain::{Pace, Plain},
    redis::Redis,
    results::Figures,
    stage::Stage,
    subject::{Kind, Subject},
};

const COLUMNS: &[Column] = &[
    column("cpu", "CPU µs per delivery", 2),
    column("write", "of it in the writes", 2),
    column("redis", "Redis µs per message", 1),
    column("rate", "deliveries/s", 0),
    column("p50", "p50 ms", 2),
    column("p99", "p99 ms", 2),
    column("disorder", "members in another order", 0),
    column("missing", "missing", 0),
    column("late", "sent over 5 ms late, %", 1),
];

/// 60,000 deliveries a second.
pub const AT_60K: Scenario = Scenario {
    name: "fanout-60k",
    about: "1,000 clients in 10 rooms of 100 on two servers, texts of 128 bytes, 600 messages a second, so 60,000 \
            deliveries. The floor shows as Redis what a plain PUBLISH at the same rate costs beside it.",
    columns: COLUMNS,
    compares_peers: true,
    takes: Subject::is_server,
    measure: |stage, subject| measure(stage, subject, 600.0, 128),
};

/// The same with short texts, which shows what a receiver does with acknowledgements.
pub const SHORT: Scenario = Scenario {
    name: "fanout-short",
    about: "The same with texts of 64 bytes. Two frames are then no more than the 536 bytes after which a Linux receiver \
            acknowledges at once, which on loopback the sender pays for.",
    columns: COLUMNS,
    compares_peers: false,
    takes: Subject::is_server,
    measure: |stage, subject| measure(stage, subject, 600.0, 64),
};

/// 100,000 deliveries a second.
pub const AT_100K: Scenario = Scenario {
    name: "fanout-100k",
    about: "The same with 1,000 messages a second, so 100,000 deliveries.",
    columns: COLUMNS,
    compares_peers: true,
    takes: Subject::is_server,
    measure: |stage, subject| measure(stage, subject, 1000.0, 128),
};

fn measure(stage: &Stage, subject: &'static Subject, rate: f64, text: usize) -> Result<Figures> {
    let cluster = Cluster::start(stage, subject, 2)?;
    let rate = stage.pick(rate, rate / 10.0);
    let plan = Plan {
        clients: stage.pick(1000, 100),
        rooms: stage.pick(10, 5),
        text_bytes: text,
        flow: Flow::Rate(rate),
        warm_up: stage.warm_up(),
        duration: stage.measuring,
        ..Plan::default()
    };
    match subject.kind {
        Kind::Floor => floor(stage, &cluster, plan, rate),
        _ => figures(&cluster, plan),
    }
}

fn figures(cluster: &Cluster, plan: Plan) -> Result<Figures> {
    let load = cluster.load_to_end(plan)?;
    let mut figures = vec![("cpu", load.cpu_per_delivery())];
    figures.extend(load.redis_per_message().map(|redis| ("redis", redis)));
    if let Some(latency) = &load.report.latency_ms {
        figures.extend([("p50", latency.p50), ("p99", latency.p99)]);
    }
    if let Some(messages) = &load.report.messages {
        figures.push(("late", messages.late as f64 * 100.0 / messages.published as f64));
    }
    if let Some(deliveries) = &load.report.deliveries {
        figures.push(("rate", deliveries.per_second));
        figures.push(("disorder", deliveries.members_in_another_order as f64));
        figures.push(("missing", deliveries.missing as f64));
    }
    Ok(figures)
}

/// A Redis does beside the floor what it does beside the servers, so both find the machine alike; and so a plain PUBLISH is
/// measured under the same load.
fn floor(stage: &Stage, cluster: &Cluster, plan: Plan, rate: f64) -> Result<Figures> {
    let redis = Redis::start(&stage.children)?;
    let plain = Plain::start(redis.address(), Pace::Rate(rate))?;
    let (cpu_before, published, cost) = (Process::of(redis.id()).cpu()?, plain.published(), cluster.floor_cost()?);
    let mut figures = figures(cluster, plan)?;
    let (cpu_after, published_after, cost_after) =
        (Process::of(redis.id()).cpu()?, plain.published(), cluster.floor_cost()?);

    let writes = (cost_after.writes - cost.writes) as f64;
    figures.push(("write", (cost_after.time - cost.time).as_secs_f64() * 1e6 / writes));
    let publishes = (published_after - published) as f64;
    figures.push(("redis", (cpu_after - cpu_before).as_secs_f64() * 1e6 / publishes));
    Ok(figures)
}
