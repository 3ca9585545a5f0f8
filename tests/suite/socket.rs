//! One client's socket: bytes that come slowly, frames that are too long, control frames while a command is under way,
//! and an end that nobody awaits.

use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::support::{Redis, Server, eventually, frame, head, held, read_close, read_frame};

const TEXT: u8 = 0x81;
const PART: u8 = 0x01;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

const JSON_PING: &[u8] = br#"{"type":"ping"}"#;

/// The code and the reason with which the server closes. What comes before is dropped.
async fn closed(stream: &mut TcpStream) -> (u16, String) {
    loop {
        let (first, payload) = read_frame(stream).await.expect("a close frame before the end");
        if first == CLOSE {
            let (code, reason) = read_close(&payload);
            return (code, reason.to_owned());
        }
    }
}

fn join(room: &str) -> Vec<u8> {
    frame(TEXT, json!({"type": "join", "room": room, "username": "ann"}).to_string().as_bytes())
}

#[tokio::test]
async fn a_long_frame_that_comes_slowly_is_a_sign_of_life() {
    let server = Server::in_memory(&[("ROOMCAST_PING_INTERVAL", "100ms")]).await;
    let mut client = server.raw_client().await;
    let mut bytes = frame(TEXT, JSON_PING).into_iter();
    // Within a frame no pong can be sent. Three pings without any sign of life would be the end.
    for _ in 0..10 {
        assert_eq!(read_frame(&mut client).await, Some((PING, vec![])));
        client.write_all(&[bytes.next().unwrap()]).await.unwrap();
    }
    client.write_all(bytes.as_slice()).await.unwrap();
    let answer = loop {
        let (first, payload) = read_frame(&mut client).await.unwrap();
        if first == TEXT {
            break payload;
        }
    };
    assert_eq!(answer, br#"{"type":"pong"}"#);
}

#[tokio::test]
async fn a_message_has_a_time_from_its_first_byte_to_its_last() {
    let settings = [("ROOMCAST_MESSAGE_TIMEOUT", "300ms"), ("ROOMCAST_PING_INTERVAL", "1h")];
    let server = Server::in_memory(&settings).await;
    let mut idle = server.client().await;
    for bytes in [&frame(TEXT, JSON_PING)[..1], &frame(TEXT, JSON_PING)[..9], &frame(PART, b"{")] {
        let mut slow = server.raw_client().await;
        slow.write_all(bytes).await.unwrap();
        assert_eq!(closed(&mut slow).await, (4002, "slow_sender".to_owned()));
    }
    server.metric_is(r#"ws_disconnects_total{reason="slow_sender"}"#, 3.0).await;
    idle.hears_nothing().await;
}

#[tokio::test]
async fn the_time_of_a_message_is_its_own_when_there_is_always_one_on_the_way() {
    let settings = [("ROOMCAST_MESSAGE_TIMEOUT", "2s"), ("ROOMCAST_PING_INTERVAL", "100ms")];
    let server = Server::in_memory(&settings).await;
    let mut client = server.raw_client().await;
    let message = frame(TEXT, JSON_PING);
    let (start, end) = message.split_at(message.len() / 2);
    client.write_all(start).await.unwrap();
    // All of them together take longer than one may.
    for _ in 0..25 {
        while read_frame(&mut client).await.expect("an open connection").0 != PING {}
        client.write_all(&[end, start].concat()).await.unwrap();
    }
    client.write_all(&[end, &frame(CLOSE, &[])[..]].concat()).await.unwrap();
    while read_frame(&mut client).await.expect("a close frame") != (CLOSE, vec![]) {}
}

#[tokio::test]
async fn a_frame_that_is_too_long_is_named_and_its_sender_is_not_reset() {
    let server = Server::in_memory(&[]).await;
    let mut client = server.raw_client().await;
    let text = json!({"type": "message", "text": "x".repeat(300_000), "zid": 1})
        .to_string()
        .replace("zid\":1", "id\":\"m-1\"");
    client.write_all(&frame(TEXT, text.as_bytes())).await.unwrap();
    client.write_all(&vec![0; 1 << 20]).await.unwrap();
    assert_eq!(closed(&mut client).await, (1009, "frame_too_big id=m-1".to_owned()));
    assert_eq!(read_frame(&mut client).await, None);
    // A message that is too long and whose rest does not come is not awaited.
    let mut client = server.raw_client().await;
    client.write_all(&head(TEXT, 1 << 30, true)).await.unwrap();
    assert_eq!(closed(&mut client).await, (1009, "frame_too_big".to_owned()));
    server.metric_is(r#"ws_disconnects_total{reason="frame_too_big"}"#, 2.0).await;
}

#[tokio::test]
async fn pings_are_answered_while_commands_are_under_way() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::on(&redis, "one").await;
    let mut client = server.raw_client().await;
    redis.signal("STOP");
    for room in 0..10 {
        client.write_all(&join(&room.to_string())).await.unwrap();
    }
    client.write_all(&frame(PING, b"there?")).await.unwrap();
    // Nothing of what was asked before can be answered yet.
    assert_eq!(read_frame(&mut client).await, Some((PONG, b"there?".to_vec())));
    redis.signal("CONT");
    for room in 0..10 {
        let (_, answer) = read_frame(&mut client).await.unwrap();
        let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["room"], json!(room.to_string()), "in the order in which they came");
    }
}

#[tokio::test]
async fn what_came_before_a_bad_frame_is_answered_though_it_was_under_way() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::on(&redis, "one").await;
    for (bad, code) in [(frame(0x82, b"{}"), 1003), (frame(0x83, b"{}"), 1002)] {
        let mut client = server.raw_client().await;
        redis.signal("STOP");
        client.write_all(&[join("a"), join("b"), frame(PING, b""), bad].concat()).await.unwrap();
        assert_eq!(read_frame(&mut client).await, Some((PONG, vec![])));
        redis.signal("CONT");
        for room in ["a", "b"] {
            let (_, answer) = read_frame(&mut client).await.unwrap();
            let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
            assert_eq!((&answer["type"], &answer["room"]), (&json!("joined"), &json!(room)));
        }
        assert_eq!(closed(&mut client).await.0, code);
    }
}

#[tokio::test]
async fn a_close_is_answered_while_a_command_is_under_way() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::with(&redis, "one", &[("ROOMCAST_REDIS_COMMAND_TIMEOUT", "30s")]).await;
    let mut client = server.raw_client().await;
    redis.signal("STOP");
    client.write_all(&[join("a"), frame(CLOSE, &4321_u16.to_be_bytes())].concat()).await.unwrap();
    assert_eq!(closed(&mut client).await, (4321, String::new()));
    drop(client);
    redis.signal("CONT");
    server.metric_is("ws_connected_clients", 0.0).await;
}

#[tokio::test]
async fn what_was_sent_before_a_close_is_done_before_it_is_answered() {
    let server = Server::in_memory(&[]).await;
    let mut bob = server.member("lobby", "bob").await;
    let mut ann = server.raw_client().await;
    let say = |number: usize| {
        let text = json!({"type": "message", "text": number.to_string(), "id": number.to_string()}).to_string();
        frame(TEXT, text.as_bytes())
    };
    let messages: Vec<u8> = (0..100).flat_map(say).collect();
    ann.write_all(&[join("lobby"), messages, frame(CLOSE, &[])].concat()).await.unwrap();
    let expected: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    assert_eq!(bob.texts(100).await, expected);
    let mut acks = 0;
    loop {
        let (first, payload) = read_frame(&mut ann).await.unwrap();
        if first == CLOSE {
            break;
        }
        acks += usize::from(payload.starts_with(br#"{"type":"ack""#));
    }
    assert_eq!(acks, 100);
}

/// A client that has been closed and takes nothing leaves nothing behind in the system.
#[tokio::test]
async fn a_client_that_does_not_take_its_goodbye_is_reset() {
    let settings = [("ROOMCAST_WRITE_TIMEOUT", "300ms"), ("ROOMCAST_OUTBOX_MESSAGES", "64")];
    let server = Server::in_memory(&settings).await;
    let mut deaf = server.raw_client().await;
    deaf.write_all(&join("lobby")).await.unwrap();
    let mut ann = server.member("lobby", "ann").await;
    let text = "x".repeat(16_000);
    while server.metric(r#"ws_disconnects_total{reason="slow_consumer"}"#).await == 0.0 {
        for _ in 0..20 {
            ann.say("lobby", &text).await;
            ann.expect("message").await;
        }
    }
    let port = deaf.local_addr().unwrap().port();
    eventually("the system has forgotten the connection", async || {
        held(server.address).iter().all(|connection| connection.peer != port).then_some(())
    })
    .await;
}
