//! The probes. What `/readyz` says while Redis is away is in `outage.rs`, while shutting down in `shutdown.rs`.

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Client, Server};

#[tokio::test]
async fn a_server_with_the_embedded_broker_is_alive_and_ready() {
    let server = Server::in_memory(&[]).await;
    let (status, body) = server.get("/readyz").await;
    assert_eq!((status, serde_json::from_str::<Value>(&body).unwrap()), (200, json!({"ready": true, "reasons": []})));
    assert_eq!(server.get("/healthz").await.0, 200);
    assert_eq!(server.get("/nothing-here").await.0, 404);
    assert_eq!(server.get("/").await.0, 200);
    let (status, _) = server.get("/ws").await;
    assert_eq!(status, 400, "a plain request is no upgrade");
}

#[tokio::test]
async fn an_upgrade_is_taken_on_the_bare_address_too() {
    let server = Server::in_memory(&[]).await;
    let mut client = Client::dial(&format!("ws://{}/", server.address)).await.unwrap();
    client.hears_nothing().await;
}

#[tokio::test]
async fn what_asks_wrongly_for_an_upgrade_is_told_what_is_wrong() {
    const RIGHT: &str =
        "Connection: Upgrade, close\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let server = Server::in_memory(&[]).await;
    for (request, answer) in [
        (format!("GET /ws HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Version: 8\r\n{RIGHT}"), "426 "),
        (format!("GET / HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Version: 8\r\n{RIGHT}"), "426 "),
        (format!("GET /ws HTTP/1.1\r\nHost: x\r\n{RIGHT}"), "426 "),
        (format!("GET /ws HTTP/1.1\r\nSec-WebSocket-Version: 13\r\n{RIGHT}"), "400 "),
        (
            format!("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nSec-WebSocket-Version: 13\r\n{RIGHT}\r\n{{}}"),
            "400 ",
        ),
        (format!("POST /ws HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Version: 13\r\n{RIGHT}"), "405 "),
        (format!("HEAD /ws HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Version: 13\r\n{RIGHT}"), "405 "),
        ("GET /ws HTTP/1.1\r\nHost: x\r\nConnection: close\r\nSec-WebSocket-Version: 13\r\n".into(), "400 "),
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(format!("{request}\r\n").as_bytes()).await.unwrap();
        let mut head = String::new();
        stream.read_to_string(&mut head).await.unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {answer}")), "{request}{head}");
        for named in ["sec-websocket-version: 13", "upgrade: websocket", "connection: Upgrade"] {
            assert_eq!(head.contains(named), answer == "426 ", "{named}: {head}");
        }
        assert_eq!(head.contains("allow: GET\r\n"), answer == "405 ", "{head}");
    }
}

#[tokio::test]
async fn the_subprotocol_is_answered_if_it_is_offered_and_a_token_never_is() {
    let server = Server::in_memory(&[]).await;
    for (path, offered, answered) in [
        ("/ws", "Sec-WebSocket-Protocol: roomcast.bearer.e30.e30.c2ln, roomcast.v1\r\n", true),
        ("/", "Sec-WebSocket-Protocol: chat\r\nsec-websocket-protocol: roomcast.v1\r\n", true),
        ("/ws", "Sec-WebSocket-Protocol: roomcast.bearer.e30.e30.c2ln\r\n", false),
        ("/ws", "", false),
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Version: 13\r\nConnection: Upgrade\r\n{offered}\
             Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(&[request.as_bytes(), &[0x88, 0x80, 0, 0, 0, 0]].concat()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 101"), "{offered:?}: {answer}");
        let lines: Vec<&str> = answer.lines().filter(|line| line.starts_with("sec-websocket-protocol")).collect();
        let expected: &[&str] = if answered { &["sec-websocket-protocol: roomcast.v1"] } else { &[] };
        assert_eq!(lines, expected, "{offered:?}");
        assert!(!answer.contains("bearer"), "{answer}");
    }
}

#[tokio::test]
async fn what_comes_with_the_request_for_an_upgrade_is_not_lost() {
    let server = Server::in_memory(&[]).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = "GET /ws HTTP/1.1\r\nHost: x\r\nSec-WebSocket-Version: 13\r\nConnection: keep-alive\r\nConnection: Upgrade\r\n\
                   Upgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    // A close frame right behind the request: if it is read, the server answers it and ends the connection.
    let close = [0x88, 0x80, 0, 0, 0, 0];
    stream.write_all(&[request.as_bytes(), &close].concat()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 101") && answer.ends_with(&[0x88, 0]), "{answer:?}");
}

#[tokio::test]
async fn beyond_the_limit_upgrades_are_refused_and_the_others_are_served() {
    let server = Server::in_memory(&[("ROOMCAST_MAX_CONNECTIONS", "2")]).await;
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
    let server = Server::in_memory(&[("ROOMCAST_PING_INTERVAL", "100ms")]).await;
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
