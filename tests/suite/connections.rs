//! How many connections a server takes, what it tells the others, and that it always answers probes.

use std::time::Duration;

use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};

use crate::support::{Client, DEADLINE, Redis, Server, eventually, get, left_out, run_with};

/// The status of the answer to an upgrade over a connection of its own, which is kept.
async fn upgrade(server: &Server) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(timeout(DEADLINE, stream.read_u8()).await.expect("an answer in time").expect("an answer"));
    }
    (stream, String::from_utf8(head).unwrap())
}

#[tokio::test]
async fn with_few_files_clients_are_refused_and_what_the_server_needs_is_there() {
    let Some(redis) = Redis::start().await else { return };
    let url = redis.url();
    let server = Server::limited("-n 64", &[("ROOMCAST_REDIS_URL", &url), ("ROOMCAST_REDIS_COMMAND_TIMEOUT", "10s")]);
    server.is_ready().await;
    assert!(!server.log().contains("WARN"), "nobody asked for more: {}", server.log());
    let limit = server.metric("ws_connections_limit").await as usize;
    assert!((1..64).contains(&limit), "{limit}");

    let mut ann = server.member("lobby", "ann").await;
    let mut held = Vec::new();
    for taken in 1..100 {
        let (stream, head) = upgrade(&server).await;
        let (status, has_hint) = (head.split(' ').nth(1).unwrap(), head.contains("retry-after: "));
        assert_eq!((status, has_hint), if taken < limit { ("101", false) } else { ("503", true) }, "{taken}: {head}");
        held.push(stream);
    }
    // More silent connections than there are places.
    for _ in 0..6 {
        held.push(TcpStream::connect(server.address).await.unwrap());
    }
    assert_eq!(server.get("/healthz").await.0, 200);
    assert_eq!(server.metric("ws_connected_clients").await as usize, limit);
    assert!(server.metric("http_connections_displaced_total").await >= 90.0);

    // The file of a lost connection to Redis stays reserved for the next one.
    for number in 0..5 {
        let mut connection = redis.connect().await;
        for kind in ["normal", "pubsub"] {
            redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg(kind).exec_async(&mut connection).await.unwrap();
        }
        held.push(TcpStream::connect(server.address).await.unwrap());
        let message = json!({"type": "message", "room": "lobby", "text": "hello", "id": number.to_string()});
        eventually("the message is acknowledged", async || {
            ann.send(&message).await;
            loop {
                match ann.next().await["type"].as_str() {
                    Some("ack") => return Some(()),
                    Some("error") => return None,
                    _ => {}
                }
            }
        })
        .await;
        server.is_ready().await;
    }
    assert!(!server.log().contains("could not be accepted"), "{}", server.log());
}

/// The most connections before their upgrade, each with the longest head: they cost no more, even if more is sent.
#[tokio::test]
async fn unfinished_heads_take_no_more_memory_than_there_are_places() {
    const PLACES: f64 = 1024.0;
    roomcast_load::raise_file_limit();
    let server = Server::in_memory(&[]).await;
    let before = server.metric("process_resident_memory_bytes").await;
    let [head, too_long] =
        [15, 400].map(|kib| format!("GET /ws HTTP/1.1\r\nHost: x\r\nCookie: {}", "x".repeat(kib << 10)));
    let mut held = Vec::new();
    for number in 0..1300 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let head = if number % 4 == 0 { &too_long } else { &head };
        // A displaced or refused client may find the connection closed.
        let _ = stream.write_all(head.as_bytes()).await;
        held.push(stream);
    }
    let grown = server.metric("process_resident_memory_bytes").await - before;
    assert!(grown < PLACES * f64::from(32 << 10), "{grown}");
    server.client().await.hears_nothing().await;
}

/// A server that is not scheduled for a moment loses no connection: the system keeps them.
#[tokio::test]
async fn a_thousand_and_more_can_connect_at_once() {
    const AT_ONCE: usize = 2000;
    let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok().and_then(|text| text.trim().parse().ok());
    if most.is_none_or(|most: usize| most < AT_ONCE) {
        left_out("net.core.somaxconn of 2000", "procps");
        return;
    }
    roomcast_load::raise_file_limit();
    let server = Server::in_memory(&[]).await;
    server.signal("STOP");
    let mut held = Vec::new();
    for number in 0..AT_ONCE {
        let connecting = timeout(Duration::from_secs(5), TcpStream::connect(server.address));
        held.push(connecting.await.unwrap_or_else(|_| panic!("connection {number} has to wait")).unwrap());
    }
    server.signal("CONT");
    server.client().await.hears_nothing().await;
}

#[tokio::test]
async fn probes_can_have_an_address_of_their_own() {
    let server = Server::in_memory(&[("ROOMCAST_PROBE_LISTEN", "127.0.0.1:0")]).await;
    assert_ne!(server.address, server.probes);
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(get(server.probes, path).await.unwrap().0, 200, "{path}");
        assert_eq!(get(server.address, path).await.unwrap().0, 404, "{path}");
    }
    server.client().await.hears_nothing().await;
    let refused = Client::dial(&format!("ws://{}/ws", server.probes)).await;
    assert!(refused.is_err(), "clients have their own");

    let [listen, probes] = [server.address, server.probes].map(|address| address.to_string());
    let settings = [("ROOMCAST_LISTEN", listen.as_str()), ("ROOMCAST_PROBE_LISTEN", &probes)];
    assert_eq!(run_with(&settings, &["health"]).await.code, Some(0));
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let settings = [("ROOMCAST_LISTEN", listen.as_str()), ("ROOMCAST_PROBE_LISTEN", &nobody)];
    assert_eq!(run_with(&settings, &["health"]).await.code, Some(1), "it asks where probes are answered");
}

/// A silent connection on either address takes no probe's place.
#[tokio::test]
async fn probes_are_answered_whoever_fills_both_addresses() {
    let mut server =
        Server::limited("-n 64", &[("ROOMCAST_PROBE_LISTEN", "127.0.0.1:0"), ("ROOMCAST_MAX_CONNECTIONS", "4")]);
    let mut held = Vec::new();
    for _ in 0..12 {
        held.push(TcpStream::connect(server.address).await.unwrap());
    }
    // They say nothing and come back whenever they are closed.
    let mut silent = JoinSet::new();
    for _ in 0..150 {
        let address = server.probes;
        silent.spawn(async move {
            while let Ok(mut stream) = TcpStream::connect(address).await {
                let _ = stream.read_to_end(&mut Vec::new()).await;
            }
        });
    }
    // It may be displaced itself, where the machine is so slow that its request comes late.
    let is_alive = async || get(server.probes, "/healthz").await.filter(|(status, _)| *status == 200);
    eventually("the server is said to be alive", is_alive).await;
    silent.shutdown().await;
    server.signal("TERM");
    assert_eq!(server.ended().await.code(), Some(0));
}
