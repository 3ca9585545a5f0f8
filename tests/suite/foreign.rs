//! A server that knows only channels and `originServer` shares the Redis. The test plays it, with a bare
//! connection.

use futures_util::StreamExt;
use serde_json::{Value, json};

use crate::support::{DEADLINE, Redis, Server};

#[tokio::test]
async fn its_messages_arrive_as_they_come() {
    let Some(redis) = Redis::start().await else { return };
    let (one, two) = (Server::on(&redis, "one").await, Server::on(&redis, "two").await);
    let mut members = [one.member("lobby", "ann").await, two.member("lobby", "bob").await];
    let envelopes = [
        r#"{"type":"message","room":"lobby","username":"eve","text":"plain","originServer":"node-1"}"#,
        r#" { "text": "spaced", "originServer": "node-1",  "type":"message" } "#,
        r#"{"originServer":"node-1","type":"message","text":"with \u00e9scapes","extra":{"deep":[1,[2]]},"seq":"x"}"#,
        r#"{"originServer":"node-1","type":"typing","text":"a type of its own"}"#,
    ];
    for envelope in envelopes {
        assert_eq!(redis.publish("ws:room:lobby", envelope).await, 2);
    }
    redis.publish("ws:broadcast", r#"{"originServer":"node-1","type":"broadcast","text":"all"}"#).await;
    for member in &mut members {
        for envelope in envelopes {
            assert_eq!(member.next().await, serde_json::from_str::<Value>(envelope).unwrap());
        }
        assert_eq!(member.expect("broadcast").await["text"], "all");
        member.hears_nothing().await;
    }
}

#[tokio::test]
async fn what_is_no_envelope_is_counted_and_dropped() {
    let Some(redis) = Redis::start().await else { return };
    let one = Server::on(&redis, "one").await;
    let mut ann = one.member("lobby", "ann").await;
    let junk: [&[u8]; 6] = [
        b"",
        b"hello",
        b"[]",
        br#"{"type":"message"}"#,
        b"{\"originServer\":\"n\",\"text\":\"\xff\"}",
        b"{\"originServer\":3}",
    ];
    for payload in junk {
        redis.publish("ws:room:lobby", payload).await;
    }
    redis.publish("ws:room:lobby", r#"{"originServer":"n","type":"message","text":"good"}"#).await;
    assert_eq!(ann.texts(1).await, ["good"]);
    assert_eq!(one.metric(r#"roomcast_envelopes_received_total{kind="unreadable"}"#).await, 6.0);
    assert_eq!(one.metric(r#"roomcast_envelopes_received_total{kind="foreign"}"#).await, 1.0);
}

#[tokio::test]
async fn ours_reach_it_in_plain_json() {
    let Some(redis) = Redis::start().await else { return };
    let one = Server::on(&redis, "one").await;
    let client = redis::Client::open(redis.url()).unwrap();
    let mut foreign = client.get_async_pubsub().await.unwrap();
    foreign.subscribe(&["ws:room:lobby", "ws:broadcast"]).await.unwrap();

    let mut ann = one.member("lobby", "ann").await;
    ann.say("lobby", "hello").await;
    ann.send(&json!({"type": "broadcast", "text": "all"})).await;
    let mut heard = foreign.on_message();
    for (channel, kind, text, room) in
        [("ws:room:lobby", "message", "hello", json!("lobby")), ("ws:broadcast", "broadcast", "all", Value::Null)]
    {
        let message = tokio::time::timeout(DEADLINE, heard.next()).await.unwrap().unwrap();
        assert_eq!(message.get_channel_name(), channel);
        let envelope: Value = serde_json::from_slice(message.get_payload_bytes()).unwrap();
        let expected = json!([{"originServer": "one", "type": kind, "username": "ann", "text": text, "room": room}]);
        let fields = ["originServer", "type", "username", "text", "room"];
        let picked: serde_json::Map<_, _> = fields.iter().map(|f| ((*f).to_owned(), envelope[*f].clone())).collect();
        assert_eq!(json!([picked]), expected);
        // What the server's own member gets, and a checksum by which servers know that Redis gave it its place.
        let mut expected = ann.next().await;
        expected["mac"] = envelope["mac"].clone();
        assert_eq!(envelope, expected);
        assert_eq!(envelope["mac"].as_str().map(str::len), Some(16));
    }
}
