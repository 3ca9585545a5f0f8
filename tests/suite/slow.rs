//! A client that reads too slowly is closed, and nobody else notices.

use serde_json::json;

use crate::support::Server;

#[tokio::test]
async fn a_client_that_never_reads_is_closed_and_the_others_get_everything() {
    let server = Server::embedded(&[("ROOMCAST_OUTBOX_MESSAGES", "64"), ("ROOMCAST_WRITE_TIMEOUT", "1s")]).await;
    let deaf = server.member("lobby", "deaf").await;
    let mut members = [server.member("lobby", "ann").await, server.member("lobby", "bob").await];
    let text = "x".repeat(16_000);
    let mut sent = 0;
    while server.metric(r#"ws_disconnects_total{reason="slow_consumer"}"#).await == 0.0 {
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
