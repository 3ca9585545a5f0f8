//! The probes. What `/readyz` says while Redis is away is in `outage.rs`, while shutting down in `shutdown.rs`.

use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

use crate::support::{Client, Server};

#[tokio::test]
async fn a_server_with_the_embedded_broker_is_alive_and_ready() {
    let server = Server::embedded(&[]).await;
    let (status, body) = server.get("/readyz").await;
    assert_eq!((status, serde_json::from_str::<Value>(&body).unwrap()), (200, json!({"ready": true, "reasons": []})));
    assert_eq!(server.get("/healthz").await.0, 200);
    assert_eq!(server.get("/nothing-here").await.0, 404);
    let (status, body) = server.get("/").await;
    assert!(status == 200 && body.contains("/ws"), "{body}");
    let (status, _) = server.get("/ws").await;
    assert_eq!(status, 400, "a plain request is no upgrade");
}

#[tokio::test]
async fn an_upgrade_is_taken_on_the_bare_address_too() {
    let server = Server::embedded(&[]).await;
    let mut client = Client::dial(&format!("ws://{}/", server.address)).await.unwrap();
    client.hears_nothing().await;
}

#[tokio::test]
async fn beyond_the_limit_upgrades_are_refused_and_the_others_are_served() {
    let server = Server::embedded(&[("ROOMCAST_MAX_CONNECTIONS", "2")]).await;
    let (mut first, second) = (server.client().await, server.client().await);
    server.metric_is("ws_connected_clients", 2.0).await;
    let refused = Client::dial(&format!("ws://{}/ws", server.address)).await;
    let Err(tokio_tungstenite::tungstenite::Error::Http(response)) = refused else { panic!("not refused") };
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    first.hears_nothing().await;
    drop(second);
    server.metric_is("ws_connected_clients", 1.0).await;
    server.client().await.hears_nothing().await;
    assert_eq!(server.metric("ws_connections_refused_total").await, 1.0);
}

#[tokio::test]
async fn a_client_that_is_silent_even_to_pings_is_closed() {
    let server = Server::embedded(&[("ROOMCAST_PING_INTERVAL", "100ms")]).await;
    let mut alive = server.member("lobby", "alive").await;
    let mut silent = server.raw_client().await;
    server.metric_is("ws_connected_clients", 2.0).await;
    // The one that answers pings, because it reads, stays.
    alive.reads_until(async || server.metric(r#"ws_disconnects_total{reason="idle"}"#).await == 1.0).await;
    alive.hears_nothing().await;
    let mut bytes = Vec::new();
    silent.read_to_end(&mut bytes).await.unwrap();
    let close = bytes.windows(4).find(|frame| frame[0] == 0x88).expect("a close frame");
    assert_eq!(u16::from_be_bytes([close[2], close[3]]), 4001);
}
