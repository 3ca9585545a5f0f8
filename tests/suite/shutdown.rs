//! The end of a server: orderly, bounded, and known to its clients.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Client, Redis, Server, eventually, left_out};

#[tokio::test]
async fn each_signal_closes_every_client_with_1012_and_ends_with_0() {
    for signal in ["TERM", "INT", "HUP"] {
        let mut server = Server::in_memory(&[]).await;
        let mut clients = [server.member("lobby", "ann").await, server.client().await];
        server.signal(signal);
        for client in &mut clients {
            assert_eq!(client.closed().await, 1012);
        }
        assert_eq!(server.ended().await.code(), Some(0));
    }
}

/// As `nohup` has it.
#[tokio::test]
async fn a_hangup_that_is_ignored_from_the_start_stays_ignored() {
    let mut server = Server::after("trap '' HUP", &[]);
    server.signal("HUP");
    server.client().await.hears_nothing().await;
    assert!(!server.log().contains("shutting down"), "{}", server.log());
    server.signal("TERM");
    assert_eq!(server.ended().await.code(), Some(0));
}

/// A name lookup cannot be cancelled, so nothing may wait for it.
#[tokio::test]
async fn name_servers_that_do_not_answer_do_not_hold_it_up() {
    // It is bound and never read.
    let Ok(silent) = std::net::UdpSocket::bind("127.0.0.77:53") else {
        left_out("port 53 for this user", "libcap2-bin");
        return;
    };
    let address = silent.local_addr().unwrap().ip();
    let settings = [
        ("ROOMCAST_REDIS_URL", "redis://redis.example.com:6379/0"),
        ("ROOMCAST_SHUTDOWN_TIMEOUT", "3s"),
        ("ROOMCAST_DRAIN_TIME", "1s"),
    ];
    let resolver = format!("nameserver {address}\noptions timeout:30 attempts:5\n");
    let Some(mut server) = Server::with_file("/etc/resolv.conf", &resolver, &settings) else { return };
    eventually("the name is being looked up", async || {
        let (status, body) = server.get("/readyz").await;
        (status == 503 && body.contains("redis")).then_some(())
    })
    .await;
    server.signal("TERM");
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test]
async fn what_was_taken_is_delivered_before_the_close() {
    let Some(redis) = Redis::start().await else { return };
    let (mut one, two) = (Server::on(&redis, "one").await, Server::on(&redis, "two").await);
    let mut ann = one.member("lobby", "ann").await;
    let mut bob = two.member("lobby", "bob").await;
    for number in 0..200 {
        ann.send(&json!({"type": "message", "room": "lobby", "text": number.to_string(), "id": number.to_string()}))
            .await;
    }
    ann.expect("message").await;
    one.signal("TERM");
    let events = ann.events_until_closed().await;
    let acks = events.iter().filter(|event| event["type"] == "ack").count();
    let messages = 1 + events.iter().filter(|event| event["type"] == "message").count();
    assert_eq!(acks, messages, "each message that was delivered is acknowledged");
    assert_eq!(one.ended().await.code(), Some(0));
    // The other server has every acknowledged message, and no other.
    let texts = bob.texts(acks).await;
    assert_eq!(texts, (0..acks).map(|number| number.to_string()).collect::<Vec<_>>());
    bob.hears_nothing().await;
    assert_eq!(redis.channels().await, ["ws:broadcast", "ws:room:lobby"]);
}

#[tokio::test]
async fn while_it_ends_it_is_unready_and_refuses_new_clients() {
    let mut server = Server::in_memory(&[]).await;
    // A client that does not answer the close frame keeps the server for a moment.
    let slow = server.raw_client().await;
    server.metric_is("ws_connected_clients", 1.0).await;
    server.signal("TERM");
    eventually("the server is unready", async || {
        let (status, body) = crate::support::get(server.address, "/readyz").await?;
        let body: Value = serde_json::from_str(&body).unwrap();
        (status == 503 && body["reasons"] == json!(["shutting_down"])).then_some(())
    })
    .await;
    let response = eventually("a new client is refused", async || {
        match Client::dial(&format!("ws://{}/ws", server.address)).await {
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => Some(response),
            _ => None,
        }
    })
    .await;
    assert_eq!(response.status(), 503);
    assert!(response.headers().contains_key("retry-after"));
    assert_eq!(server.ended().await.code(), Some(0));
    drop(slow);
}

/// No client is closed before the time it was told, the times differ, and until then everything works.
#[tokio::test]
async fn clients_are_told_when_to_come_back_and_closed_one_after_another() {
    const CLIENTS: u32 = 10;
    let mut server = Server::in_memory(&[("ROOMCAST_DRAIN_TIME", "500ms")]).await;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(server.member("lobby", "someone").await);
    }
    let start = Instant::now();
    server.signal("TERM");
    let mut told = Vec::new();
    for client in &mut clients {
        let event = client.expect("reconnect").await;
        assert_eq!(event["reason"], "shutting_down");
        told.push(event["after_ms"].as_u64().unwrap());
    }
    let mut sorted = told.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (0..u64::from(CLIENTS)).map(|index| index * 50).collect::<Vec<_>>());

    let last = told.iter().position(|after| *after == 450).unwrap();
    clients[last].send(&json!({"type": "message", "text": "still here", "id": "1"})).await;
    clients[last].expect("message").await;
    clients[last].expect("ack").await;
    for (client, after) in clients.iter_mut().zip(told) {
        assert_eq!(client.closed().await, 1012);
        assert!(start.elapsed() >= Duration::from_millis(after), "closed before the {after} ms it was told");
    }
    assert_eq!(server.ended().await.code(), Some(0));
}

/// Load balancers need time to notice, and serve those meanwhile whom they still send.
#[tokio::test]
async fn for_a_while_it_is_unready_and_serves_as_before() {
    const DELAY: Duration = Duration::from_secs(2);
    let mut server = Server::in_memory(&[("ROOMCAST_DRAIN_DELAY", "2s"), ("ROOMCAST_DRAIN_TIME", "0s")]).await;
    let mut early = server.member("lobby", "early").await;
    let start = Instant::now();
    server.signal("TERM");
    let told = early.expect("reconnect").await["after_ms"].as_u64().unwrap();
    assert_eq!(told, 2000, "no client goes before the delay is over");
    let (status, body) = server.get("/readyz").await;
    assert_eq!((status, body.contains("shutting_down")), (503, true));
    let mut late = server.member("lobby", "late").await;
    late.say("lobby", "still here").await;
    assert_eq!((early.texts(1).await, late.texts(1).await), (vec!["still here".into()], vec!["still here".into()]));
    assert!(start.elapsed() < DELAY, "this test was too slow to see anything");
    // A client that came during the delay is told when the delay is over.
    assert_eq!(late.expect("reconnect").await["after_ms"], 0);
    for client in [&mut early, &mut late] {
        assert_eq!(client.closed().await, 1012);
    }
    assert!(start.elapsed() >= DELAY);
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_client_that_never_reads_does_not_hold_it_up() {
    let mut server = Server::in_memory(&[
        ("ROOMCAST_DRAIN_TIME", "0s"),
        ("ROOMCAST_SHUTDOWN_TIMEOUT", "1s"),
        ("ROOMCAST_WRITE_TIMEOUT", "5m"),
        ("ROOMCAST_OUTBOX_MESSAGES", "100000"),
        ("ROOMCAST_OUTBOX_BYTES", "1GiB"),
    ])
    .await;
    let _deaf = server.member("lobby", "deaf").await;
    let mut loud = server.member("lobby", "loud").await;
    fill_the_buffers(&server, &mut loud).await;
    server.signal("TERM");
    assert_eq!(server.ended().await.code(), Some(0));
}

/// Sends until the sockets of the others in the lobby can take no more, so that a write to them is stuck.
async fn fill_the_buffers(server: &Server, loud: &mut Client) {
    let text = "x".repeat(16_000);
    loop {
        for _ in 0..100 {
            loud.say("lobby", &text).await;
        }
        loud.texts(100).await;
        let (received, sent) = (server.metric("ws_messages_received_total"), server.metric("ws_messages_sent_total"));
        if received.await * 2.0 - sent.await > 100.0 {
            return;
        }
    }
}
