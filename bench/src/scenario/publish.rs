use std::thread::sleep;

use roomcast_load::{Flow, Plan, Process};

use super::{Scenario, column};
use crate::{
    Result,
    cluster::Cluster,
    plain::{Pace, Plain},
    redis::Redis,
    results::Figures,
    stage::Stage,
    subject::{Kind, Subject},
};

/// Messages a second of which hardly any meets another.
const RATE: f64 = 600.0;

/// Messages under way for each publisher, and on each connection of a plain PUBLISH.
const UNDER_WAY: usize = 8;
const PIPELINE: usize = 50;

/// What it costs to publish.
pub const SCENARIO: Scenario = Scenario {
    name: "publish",
    about: "Two servers and rooms of 2, one member on each. Alone: 600 messages a second in 10 rooms. At once: 200 clients in \
            100 rooms always have 8 messages under way each. A Redis could take as many messages a second as the last \
            column says if a core were its own and all came at once.",
    columns: &[
        column("redis", "alone: Redis µs per message", 1),
        column("cpu", "servers µs per message", 1),
        column("p50", "p50 ms", 2),
        column("rate", "at once: messages/s", 0),
        column("redis at once", "Redis µs per message", 1),
        column("cpu at once", "servers µs per message", 1),
        column("limit", "limit of one Redis, messages/s", 0),
    ],
    compares_peers: false,
    takes: |subject| subject.kind != Kind::Floor,
    measure,
};

fn measure(stage: &Stage, subject: &'static Subject) -> Result<Figures> {
    match subject.kind {
        Kind::PlainPublish => plain(stage),
        _ => servers(stage, subject),
    }
}

fn servers(stage: &Stage, subject: &'static Subject) -> Result<Figures> {
    let cluster = Cluster::start(stage, subject, 2)?;
    let plan = |rooms: usize, flow: Flow| Plan {
        clients: rooms * 2,
        rooms,
        flow,
        warm_up: stage.warm_up(),
        duration: stage.half(),
        ..Plan::default()
    };
    let alone = cluster.load_to_end(plan(10, Flow::Rate(stage.pick(RATE, RATE / 4.0))))?;
    let at_once = cluster.load_to_end(plan(stage.pick(100, 10), Flow::Saturate(UNDER_WAY)))?;
    let mut figures = vec![("cpu", alone.cpu_per_message()), ("cpu at once", at_once.cpu_per_message())];
    figures.push(("rate", at_once.messages_per_second()));
    figures.extend(alone.redis_per_message().map(|redis| ("redis", redis)));
    if let Some(redis) = at_once.redis_per_message() {
        figures.extend([("redis at once", redis), ("limit", 1e6 / redis)]);
    }
    figures.extend(alone.report.latency_ms.as_ref().map(|latency| ("p50", latency.p50)));
    Ok(figures)
}

fn plain(stage: &Stage) -> Result<Figures> {
    let redis = Redis::start(&stage.children)?;
    let measure = |pace: Pace| -> Result<(f64, f64)> {
        let plain = Plain::start(redis.address(), pace)?;
        sleep(stage.warm_up());
        let (cpu_before, before) = (Process::of(redis.id()).cpu()?, plain.published());
        sleep(stage.half());
        let (used, published) = (Process::of(redis.id()).cpu()? - cpu_before, (plain.published() - before) as f64);
        Ok((used.as_secs_f64() * 1e6 / published, published / stage.half().as_secs_f64()))
    };
    let (alone, _) = measure(Pace::Rate(RATE))?;
    let (at_once, rate) = measure(Pace::Pipelined(PIPELINE))?;
    Ok(vec![("redis", alone), ("redis at once", at_once), ("rate", rate), ("limit", 1e6 / at_once)])
}
