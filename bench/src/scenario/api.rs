use std::time::Duration;

use roomcast_load::{Flow, Plan, Process};

use super::{Scenario, column};
use crate::{
    Result,
    calls::Calls,
    cluster::Cluster,
    network::free_port,
    results::Figures,
    stage::Stage,
    subject::{Kind, Subject},
};

const KEY: &str = "bench-key-0123456789abcdef";

/// Messages under way at once, and messages in a batch.
const UNDER_WAY: usize = 8;
const BATCH: usize = 100;

/// What it costs to publish over HTTP.
pub const SCENARIO: Scenario = Scenario {
    name: "api",
    about: "One server. Texts of 128 bytes are published to one room, each kept before its sender sends the next: by one \
            WebSocket, which hears them too, with one message under way and with 8; by calls of the HTTP API, over one \
            connection and over 8; and by batches of 100 over one connection.",
    columns: &[
        column("socket", "WebSocket: messages/s", 0),
        column("socket 8", "with 8 under way", 0),
        column("socket cpu", "server µs per message", 1),
        column("call", "calls: messages/s", 0),
        column("call 8", "over 8 connections", 0),
        column("call cpu", "server µs per message", 1),
        column("batch", "batches: messages/s", 0),
        column("batch cpu", "server µs per message", 1),
    ],
    compares_peers: false,
    takes: |subject| matches!(subject.kind, Kind::Roomcast { slim: false, .. }),
    measure,
};

fn measure(stage: &Stage, subject: &'static Subject) -> Result<Figures> {
    let port = free_port()?;
    let (listen, keys) = (format!("127.0.0.1:{port}"), format!("bench:publish:{KEY}"));
    let variables = [("ROOMCAST_API_LISTEN", listen.as_str()), ("ROOMCAST_API_KEYS", keys.as_str())];
    let cluster = Cluster::start_with(stage, subject, 1, &variables)?;
    let socket = |under_way: usize| {
        cluster.load_to_end(Plan {
            clients: 1,
            rooms: 1,
            flow: Flow::Saturate(under_way),
            warm_up: stage.warm_up(),
            duration: stage.half(),
            ..Plan::default()
        })
    };
    let (one, several) = (socket(1)?, socket(UNDER_WAY)?);

    let message = serde_json::json!({"username": "bench", "text": "x".repeat(128)});
    let mut in_room = message.clone();
    in_room["room"] = "load-0".into();
    let call = Calls {
        address: ([127, 0, 0, 1], port).into(),
        path: "/v1/rooms/load-0/messages",
        body: message.to_string(),
        key: KEY,
    };
    let batch = Calls {
        path: "/v1/batch",
        body: serde_json::json!({ "messages": vec![in_room; BATCH] }).to_string(),
        ..call.clone()
    };
    let server = Process::of(cluster.servers().next().ok_or("there is no server")?);
    let rate = |calls: &Calls, connections: usize| -> Result<(f64, f64)> {
        calls.run(connections, stage.warm_up())?;
        let (before, duration): (Duration, Duration) = (server.cpu()?, stage.half());
        let count = calls.run(connections, duration)? as f64;
        Ok((count / duration.as_secs_f64(), (server.cpu()? - before).as_secs_f64() * 1e6 / count))
    };
    let (call_rate, _) = rate(&call, 1)?;
    let (calls_rate, call_cpu) = rate(&call, UNDER_WAY)?;
    let (batches, batch_cpu) = rate(&batch, 1)?;
    Ok(vec![
        ("socket", one.messages_per_second()),
        ("socket 8", several.messages_per_second()),
        ("socket cpu", several.cpu_per_message()),
        ("call", call_rate),
        ("call 8", calls_rate),
        ("call cpu", call_cpu),
        ("batch", batches * BATCH as f64),
        ("batch cpu", batch_cpu / BATCH as f64),
    ])
}
