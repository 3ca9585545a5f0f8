//! What can be said besides texts: data, signals that nobody keeps, and what was said before.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Client, Redis, Server, eventually};

async fn raw(client: &mut Client) -> String {
    match client.next_frame().await {
        Message::Text(text) => text.to_string(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn data_arrives_byte_for_byte_on_every_server_and_from_the_log() {
    let Some(redis) = Redis::start().await else { return };
    let (one, two) = (Server::on(&redis, "one").await, Server::on(&redis, "two").await);
    let (mut ann, mut bob) = (one.member("lobby", "ann").await, two.member("lobby", "bob").await);
    let data = "{ \"b\" : 1.50,\"a\":[\"\\u00e9\\u0000\", 12345678901234567890123 ],\"b\":{}}";
    let frame =
        format!(r#"{{"type":"message","room":"lobby","event":"order.paid","data":{data},"text":"paid","id":"1"}}"#);
    ann.send_raw(Message::text(frame.as_str())).await;
    let expected = format!(r#","event":"order.paid","text":"paid","data":{data},"id":"1"}}"#);
    for client in [&mut ann, &mut bob] {
        let heard = raw(client).await;
        assert!(heard.ends_with(&expected), "{heard}");
    }
    ann.expect("ack").await;
    ann.send_raw(Message::text(frame)).await;
    ann.expect("ack").await;
    ann.send(&json!({"type": "message", "room": "lobby", "text": "paid", "data": 1, "id": "1"})).await;
    assert_eq!(ann.expect("error").await["code"], "id_conflict");
    let mut late = two.client().await;
    late.send(&json!({"type": "join", "room": "lobby", "username": "late", "last": 1})).await;
    late.expect("joined").await;
    assert!(raw(&mut late).await.ends_with(&expected));
    ann.send(&json!({"type": "broadcast", "data": [1, null]})).await;
    for client in [&mut ann, &mut bob, &mut late] {
        assert_eq!(client.expect("broadcast").await["data"], json!([1, null]));
    }
    bob.hears_nothing().await;
}

#[tokio::test]
async fn what_nobody_could_read_is_refused_and_names_its_message() {
    let server = Server::in_memory(&[]).await;
    let mut ann = server.member("lobby", "ann").await;
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    let long = format!("\"{}\"", "x".repeat(16 << 10));
    for (fields, code) in [
        (r#""data":["\ud83d"]"#, "bad_field"),
        (r#""data":1e999"#, "bad_field"),
        (&format!(r#""data":{deep}"#), "bad_field"),
        (&format!(r#""data":{long}"#), "text_too_long"),
        (&format!(r#""text":"{}","data":[1]"#, "x".repeat((16 << 10) - 2)), "text_too_long"),
        (r#""data":null"#, "missing_field"),
        (r#""event":"x""#, "missing_field"),
        (r#""text":"x","event":"""#, "bad_field"),
        (r#""text":"x","event":7"#, "bad_field"),
        (r#""text":"x","event":"a\nb""#, "bad_field"),
    ] {
        ann.send_raw(Message::text(format!(r#"{{"type":"message","id":"7",{fields}}}"#))).await;
        let error = ann.expect("error").await;
        assert_eq!((&error["code"], &error["id"]), (&json!(code), &json!("7")), "{fields}");
    }
    let most = format!(r#"{{"type":"message","text":"","data":"{}"}}"#, "x".repeat((16 << 10) - 2));
    ann.send_raw(Message::text(most)).await;
    ann.expect("message").await;
}

#[tokio::test]
async fn a_signal_reaches_the_other_members_everywhere_once_and_is_not_kept() {
    let Some(redis) = Redis::start().await else { return };
    let (one, two) = (Server::on(&redis, "one").await, Server::on(&redis, "two").await);
    let (mut ann, mut near) = (one.member("lobby", "ann").await, one.member("lobby", "near").await);
    let (mut far, mut outside) = (two.member("lobby", "far").await, two.member("other", "outside").await);
    // Whoever signals keeps all else, and in its place.
    for number in 0..20 {
        ann.say("lobby", &number.to_string()).await;
        ann.send(&json!({"type": "signal", "event": "cursor", "data": {"x": number}})).await;
    }
    for client in [&mut near, &mut far] {
        let (mut texts, mut signals) = (Vec::new(), Vec::new());
        while texts.len() + signals.len() < 40 {
            let event = client.next().await;
            match event["type"].as_str() {
                Some("message") => texts.push(event["text"].as_str().unwrap().to_owned()),
                _ => {
                    let expected = json!({
                        "type": "signal", "room": "lobby", "username": "ann", "event": "cursor", "originServer": "one",
                        "data": event["data"], "ts": event["ts"],
                    });
                    assert_eq!(event, expected);
                    signals.push(event["data"]["x"].as_u64().unwrap());
                }
            }
        }
        assert_eq!(texts, (0..20).map(|number| number.to_string()).collect::<Vec<_>>());
        assert_eq!(signals, (0..20).collect::<Vec<_>>());
        client.hears_nothing().await;
    }
    assert_eq!(ann.texts(20).await.len(), 20);
    for client in [&mut ann, &mut outside] {
        client.hears_nothing().await;
    }
    let mut late = two.client().await;
    late.send(&json!({"type": "join", "room": "lobby", "username": "late", "last": 100})).await;
    assert_eq!(late.expect("joined").await["until"], 20);
    assert_eq!(late.texts(20).await.len(), 20);
    late.hears_nothing().await;
    outside.send(&json!({"type": "signal", "room": "lobby", "event": "typing"})).await;
    assert_eq!(outside.expect("error").await["code"], "not_member");
    outside.send(&json!({"type": "signal", "room": "other"})).await;
    assert_eq!(outside.expect("error").await["code"], "missing_field");
}

#[tokio::test]
async fn a_signal_that_gets_lost_is_no_error() {
    let Some(mut redis) = Redis::start().await else { return };
    let server = Server::on(&redis, "one").await;
    let (mut ann, mut bob) = (server.member("lobby", "ann").await, server.member("lobby", "bob").await);
    redis.kill();
    ann.send(&json!({"type": "signal", "event": "typing"})).await;
    for client in [&mut ann, &mut bob] {
        client.hears_nothing().await;
    }
}

#[tokio::test]
async fn signals_beyond_their_limit_are_dropped_and_messages_are_not_slowed() {
    let settings = [("ROOMCAST_LIMITS", "on"), ("ROOMCAST_SIGNALS_PER_CONNECTION", "1/s burst 3")];
    let server = Server::in_memory(&settings).await;
    let (mut ann, mut bob) = (server.member("lobby", "ann").await, server.member("lobby", "bob").await);
    for number in 0..50 {
        ann.send(&json!({"type": "signal", "event": "cursor", "data": number})).await;
    }
    ann.say("lobby", "hi").await;
    let error = ann.expect("error").await;
    assert_eq!((&error["code"], &error["room"]), (&json!("rate_limited"), &json!("lobby")), "{error}");
    ann.texts(1).await;
    let mut heard = Vec::new();
    loop {
        let event = bob.next().await;
        if event["type"] == "message" {
            break;
        }
        heard.push(event["data"].as_u64().expect("a number"));
    }
    assert!(heard.starts_with(&[0, 1, 2]) && heard.is_sorted(), "{heard:?}");
    let dropped = server.metric("roomcast_limited_total{limit=\"signals_per_connection\"}").await;
    assert!(dropped > 0.0 && dropped as usize + heard.len() == 50, "{dropped} and {heard:?}");
}

fn seqs(history: &Value) -> Vec<u64> {
    let messages = history["messages"].as_array().expect("messages");
    messages.iter().map(|message| message["seq"].as_u64().expect("a seq")).collect()
}

#[tokio::test]
async fn a_client_pages_back_through_a_room_and_goes_on_live() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::on(&redis, "one").await;
    let mut ann = server.member("lobby", "ann").await;
    for number in 1..=120 {
        ann.say("lobby", &number.to_string()).await;
    }
    ann.texts(120).await;
    ann.send(&json!({"type": "history"})).await;
    let newest = ann.expect("history").await;
    assert_eq!((seqs(&newest), &newest["has_more"]), ((71..=120).collect(), &json!(true)));
    assert_eq!(newest["messages"][0]["text"], "71");
    // Somebody outside may read too, if it has the right.
    let mut outside = server.client().await;
    let mut ask = async |before: u64, limit: u64| {
        let before = json!({"epoch": newest["epoch"], "seq": before});
        outside.send(&json!({"type": "history", "room": "lobby", "before": before, "limit": limit})).await;
        outside.expect("history").await
    };
    let older = ask(71, 1000).await;
    assert_eq!((seqs(&older), &older["has_more"]), ((1..=70).collect(), &json!(false)));
    let few = ask(71, 2).await;
    assert_eq!((seqs(&few), &few["has_more"]), (vec![69, 70], &json!(true)));
    assert_eq!(seqs(&ask(1, 5).await), [] as [u64; 0]);
    outside.send(&json!({"type": "history", "room": "empty"})).await;
    assert_eq!(outside.next().await, json!({"type": "history", "room": "empty", "messages": [], "has_more": false}));
    outside.send(&json!({"type": "history"})).await;
    assert_eq!(outside.expect("error").await["code"], "room_needed");
    // Redis is away: the client is told, and may ask again.
    let mut redis = redis;
    redis.kill();
    eventually("it is noticed", async || {
        outside.send(&json!({"type": "history", "room": "lobby"})).await;
        let answer = outside.next().await;
        (answer["code"] == "unavailable" && answer["room"] == "lobby").then_some(())
    })
    .await;
}
