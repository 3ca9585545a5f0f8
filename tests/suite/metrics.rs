//! The metrics mean exactly what they say.

use std::{
    io::Write,
    process::{Command, Stdio},
};

use serde_json::json;

use crate::support::{Redis, Server, left_out};

#[tokio::test]
async fn frames_received_and_messages_sent_are_counted_one_by_one() {
    let server = Server::in_memory(&[]).await;
    assert_eq!(server.metric("ws_messages_received_total").await, 0.0);
    let mut clients = [server.client().await, server.client().await, server.client().await];
    server.metric_is("ws_connected_clients", 3.0).await;
    let (mut sent, mut received) = (0.0, 0.0);
    for client in &mut clients {
        client.join("lobby", "someone").await;
        (sent, received) = (sent + 1.0, received + 1.0);
    }
    for number in 0..10 {
        clients[0].send(&json!({"type": "message", "text": "x", "id": number.to_string()})).await;
        (sent, received) = (sent + 1.0, received + 4.0);
    }
    clients[1].send(&json!({"type": "broadcast", "text": "x"})).await;
    clients[2].send(&json!({"type": "nonsense"})).await;
    (sent, received) = (sent + 2.0, received + 4.0);

    for (client, events) in clients.iter_mut().zip([21, 11, 12]) {
        for _ in 0..events {
            client.next().await;
        }
        client.hears_nothing().await;
        (sent, received) = (sent + 1.0, received + 1.0);
    }
    server.metric_is("ws_messages_received_total", sent).await;
    server.metric_is("ws_messages_sent_total", received).await;
    server.metric_is(r#"ws_errors_total{code="unknown_type"}"#, 1.0).await;
    drop(clients);
    server.metric_is("ws_connected_clients", 0.0).await;
    assert_eq!(server.metric("ws_connections_total").await, 3.0);
}

#[tokio::test]
async fn what_a_server_is_can_be_read_from_its_metrics() {
    let server = Server::in_memory(&[("ROOMCAST_MAX_CONNECTIONS", "7")]).await;
    assert_eq!(server.metric("ws_connections_limit").await, 7.0);
    let info = format!(r#"roomcast_info{{broker="memory",version="{}"}}"#, env!("CARGO_PKG_VERSION"));
    assert_eq!(server.metric(&info).await, 1.0);
    let Some(redis) = Redis::start().await else { return };
    let server = Server::on(&redis, "one").await;
    assert_eq!(server.metric(&info.replace("memory", "redis")).await, 1.0);
}

#[tokio::test]
async fn promtool_finds_nothing_to_complain_about() {
    let server = Server::in_memory(&[]).await;
    let mut member = server.member("room-of-zebras", "quagga").await;
    member.say("room-of-zebras", "x").await;
    member.texts(1).await;
    let (_, text) = server.get("/metrics").await;
    for name in ["zebra", "quagga"] {
        assert!(!text.contains(name), "no label may name a room or a user");
    }
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else { return left_out("promtool", "prometheus") };
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let complaints = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && complaints.is_empty(), "{}", String::from_utf8_lossy(&complaints));
}
