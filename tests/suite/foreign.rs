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

/// Whoever may publish on Redis can copy a message of ours and change it. What it claims about its place is never believed.
#[tokio::test]
async fn a_place_that_redis_does_not_vouch_for_is_not_believed() {
    let Some(redis) = Redis::start().await else { return };
    let (one, two) = (Server::on(&redis, "one").await, Server::on(&redis, "two").await);
    let mut members = [one.member("lobby", "ann").await, two.member("lobby", "bob").await];
    members[0].say("lobby", "genuine").await;
    let genuine = members[0].expect("message").await;
    members[1].expect("message").await;
    let change = |field: &str, value: Value| {
        let mut copy = genuine.clone();
        copy["originServer"] = json!("bot");
        copy[field] = value;
        copy
    };
    let forged = [
        // The next number, one far away, the one that is there, and another epoch.
        change("seq", json!(2)),
        change("seq", json!(1_000_000)),
        change("text", json!("echo")),
        change("epoch", json!("00000000000000aa")),
        change("ts", Value::Null),
    ];
    for copy in &forged {
        let mut with_mac = copy.clone();
        with_mac["mac"] = json!("0123456789abcdef");
        for payload in [copy, &with_mac] {
            redis.publish("ws:room:lobby", payload.to_string()).await;
            for member in &mut members {
                // It is a message of somebody who knows nothing of places, and so it has none.
                let heard = member.expect("message").await;
                assert_eq!(
                    (&heard["seq"], &heard["epoch"], &heard["text"]),
                    (&Value::Null, &Value::Null, &copy["text"])
                );
            }
        }
    }
    for (number, text) in (2..).zip(["after", "that"]) {
        members[1].say("lobby", text).await;
        for member in &mut members {
            let message = member.expect("message").await;
            assert_eq!(
                (&message["text"], &message["seq"], &message["epoch"]),
                (&json!(text), &json!(number), &genuine["epoch"])
            );
        }
    }
    for server in [&one, &two] {
        assert_eq!(server.metric(r#"roomcast_resets_total{reason="new_epoch"}"#).await, 0.0);
    }
    // The log is as it was.
    let mut back = one.client().await;
    back.send(&json!({"type": "join", "room": "lobby", "username": "back", "last": 10})).await;
    back.expect("joined").await;
    assert_eq!(back.texts(3).await, ["genuine", "after", "that"]);
}

/// A server of a version that does not vouch shares the Redis during an update: its messages are in the log, and come.
#[tokio::test]
async fn what_the_log_bears_out_is_delivered_in_its_place() {
    let Some(redis) = Redis::start().await else { return };
    let one = Server::on(&redis, "one").await;
    let mut ann = one.member("lobby", "ann").await;
    ann.say("lobby", "first").await;
    ann.texts(1).await;
    let mut connection = redis.connect().await;
    crate::order::keep_without_push(&mut connection, "from an older version").await;
    let kept: Vec<(String, Vec<Vec<u8>>)> = redis::cmd("XREVRANGE")
        .arg("ws:log:{ws:room:lobby}")
        .arg("+")
        .arg("-")
        .arg("COUNT")
        .arg(1)
        .query_async(&mut connection)
        .await
        .unwrap();
    redis.publish("ws:room:lobby", &kept[0].1[1]).await;
    let message = ann.expect("message").await;
    assert_eq!((&message["text"], &message["seq"]), (&json!("from an older version"), &json!(2)));
    // The same push once more is no second message.
    redis.publish("ws:room:lobby", &kept[0].1[1]).await;
    ann.say("lobby", "last").await;
    assert_eq!(ann.texts(1).await, ["last"]);
    ann.hears_nothing().await;
}

#[tokio::test]
async fn nobody_speaks_for_a_server_to_its_clients_or_for_another_room() {
    let Some(redis) = Redis::start().await else { return };
    let one = Server::on(&redis, "one").await;
    let mut ann = one.member("lobby", "ann").await;
    let refused = [
        json!({"originServer": "bot", "type": "error", "code": "unavailable"}),
        json!({"originServer": "bot", "type": "reconnect", "after_ms": 0}),
        json!({"originServer": "bot", "type": "message", "room": "other", "text": "x"}),
        json!({"originServer": "bot", "type": "message", "room": "lobby", "text": "x".repeat(20 << 20)}),
    ];
    for payload in &refused {
        redis.publish("ws:room:lobby", payload.to_string()).await;
    }
    redis.publish("ws:broadcast", r#"{"originServer":"bot","type":"message","room":"lobby","text":"x"}"#).await;
    redis.publish("ws:room:lobby", r#"{"originServer":"bot","type":"message","text":"good"}"#).await;
    assert_eq!(ann.texts(1).await, ["good"]);
    assert_eq!(one.metric(r#"roomcast_envelopes_received_total{kind="unreadable"}"#).await, 5.0);
}
