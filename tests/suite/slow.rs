//! A client that reads too slowly is closed, and nobody else notices.

use serde_json::json;

use crate::support::{Client, Server};

#[tokio::test]
async fn a_client_that_never_reads_is_closed_and_the_others_get_everything() {
    let server = Server::in_memory(&[("ROOMCAST_OUTBOX_MESSAGES", "64"), ("ROOMCAST_WRITE_TIMEOUT", "1s")]).await;
    let deaf = server.member("lobby", "deaf").await;
    let mut members = [server.member("lobby", "ann").await, server.member("lobby", "bob").await];
    let text = "x".repeat(16_000);
    let mut sent = 0;
    while server.metric(r#"ws_disconnects_total{reason="slow_consumer"}"#).await == 0.0 {
        assert!(sent < 10_000, "the client that never reads is never closed");
        for _ in 0..20 {
            members[0].say("lobby", &text).await;
            sent += 1;
            for member in &mut members {
                assert_eq!(member.expect("message").await["seq"], json!(sent));
            }
        }
    }
    server.metric_is("roomcast_memberships", 2.0).await;
    server.metric_is("ws_connected_clients", 2.0).await;
    drop(deaf);
}

#[tokio::test]
async fn a_slow_client_is_told_why_it_is_closed() {
    let server = Server::in_memory(&[("ROOMCAST_OUTBOX_MESSAGES", "64"), ("ROOMCAST_WRITE_TIMEOUT", "1m")]).await;
    let mut slow = server.member("lobby", "slow").await;
    let mut ann = server.member("lobby", "ann").await;
    // More than the sockets' buffers and the outbox hold together.
    let text = "x".repeat(16_000);
    for _ in 0..2000 {
        ann.say("lobby", &text).await;
        ann.expect("message").await;
    }
    assert_eq!(slow.closed().await, 4008);
    server.metric_is(r#"ws_disconnects_total{reason="slow_consumer"}"#, 1.0).await;
}

/// With a hundred others in the room, each of them gets every message while one does not read.
#[tokio::test]
async fn one_that_never_reads_takes_nothing_from_a_hundred_others() {
    let server = Server::in_memory(&[("ROOMCAST_OUTBOX_MESSAGES", "64"), ("ROOMCAST_WRITE_TIMEOUT", "1s")]).await;
    let _deaf = server.member("lobby", "deaf").await;
    let mut members = Vec::new();
    for _ in 0..100 {
        members.push(server.member("lobby", "someone").await);
    }
    let mut sent = 0;
    let text = "x".repeat(16_000);
    while server.metric(r#"ws_disconnects_total{reason="slow_consumer"}"#).await == 0.0 {
        assert!(sent < 10_000, "the client that never reads is never closed");
        for _ in 0..10 {
            members[0].say("lobby", &text).await;
            sent += 1;
            futures_util::future::join_all(members.iter_mut().map(async |member: &mut Client| {
                assert_eq!(member.expect("message").await["seq"], json!(sent));
            }))
            .await;
        }
    }
    server.metric_is("ws_connected_clients", 100.0).await;
}
