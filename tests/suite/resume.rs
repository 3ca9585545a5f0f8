//! A client that comes back, to any server, gets what it missed and then goes on live.

use futures_util::future::join;
use serde_json::{Value, json};

use crate::support::{Client, Redis, Server};

/// Joins with what the client has; returns `joined`.
async fn rejoin(client: &mut Client, room: &str, extra: &Value) -> Value {
    let mut join = json!({"type": "join", "room": room, "username": "back"});
    join.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    client.send(&join).await;
    client.expect("joined").await
}

fn after(event: &Value) -> Value {
    json!({"after": {"epoch": event["epoch"], "seq": event["seq"]}})
}

fn seq(event: &Value) -> u64 {
    event["seq"].as_u64().unwrap()
}

#[tokio::test]
async fn what_was_missed_comes_in_order_and_once_on_any_server() {
    let Some(redis) = Redis::start().await else { return };
    let (one, two) = (Server::on(&redis, "one").await, Server::on(&redis, "two").await);
    let mut ann = one.member("lobby", "ann").await;
    let mut bob = two.member("lobby", "bob").await;
    ann.say("lobby", "seen").await;
    let last = bob.expect("message").await;
    drop(bob);
    for number in 0..700 {
        ann.say("lobby", &format!("missed {number}")).await;
    }
    ann.texts(701).await;
    let mut live = 701;
    for server in [&one, &two] {
        let mut bob = server.client().await;
        let joined = rejoin(&mut bob, "lobby", &after(&last)).await;
        assert_eq!((&joined["resumed"], seq(&joined)), (&json!(true), live));
        let texts = bob.texts(700).await;
        assert_eq!(texts, (0..700).map(|number| format!("missed {number}")).collect::<Vec<_>>());
        bob.texts(usize::try_from(live).unwrap() - 701).await;
        ann.say("lobby", "live").await;
        live += 1;
        assert_eq!((ann.texts(1).await, bob.texts(1).await), (vec!["live".into()], vec!["live".into()]));
        bob.hears_nothing().await;
    }
    // Whoever missed nothing is told so and gets nothing.
    let mut bob = two.client().await;
    let joined = rejoin(&mut bob, "lobby", &json!({"after": {"epoch": last["epoch"], "seq": live}})).await;
    assert_eq!((&joined["resumed"], seq(&joined)), (&json!(true), live));
    bob.hears_nothing().await;
}

/// The seam, while messages pour in, and while the server has only just subscribed to the room: no hole, no repeat.
#[tokio::test]
async fn there_is_no_hole_and_no_repeat_at_the_seam() {
    let Some(redis) = Redis::start().await else { return };
    let (one, two) = (Server::on(&redis, "one").await, Server::on(&redis, "two").await);
    let mut ann = one.member("lobby", "ann").await;
    let start = json!({"epoch": redis_epoch(&redis).await, "seq": 0});
    let pouring = async {
        for number in 0..4000 {
            ann.say("lobby", &number.to_string()).await;
            if number % 50 == 0 {
                ann.texts(if number == 0 { 1 } else { 50 }).await;
            }
        }
    };
    let coming_and_going = async {
        let mut last = start.clone();
        for round in 0.. {
            // On the second server nobody else is in the room, so it subscribes anew each time.
            let server = if round % 3 == 0 { &one } else { &two };
            let mut client = server.client().await;
            let joined = rejoin(&mut client, "lobby", &after(&last)).await;
            assert_eq!(joined["resumed"], true, "{joined}");
            for _ in 0..97 {
                if seq(&last) == 4000 {
                    return;
                }
                let message = client.expect("message").await;
                assert_eq!(seq(&message), seq(&last) + 1);
                assert_eq!(message["text"], seq(&last).to_string());
                last = message;
            }
        }
    };
    join(pouring, coming_and_going).await;
}

async fn redis_epoch(redis: &Redis) -> Value {
    let mut connection = redis.connect().await;
    let epoch: String = redis::AsyncCommands::hget(&mut connection, "ws:meta:{ws:room:lobby}", "epoch").await.unwrap();
    json!(epoch)
}

#[tokio::test]
async fn a_log_that_no_longer_reaches_back_is_told_and_what_is_left_comes() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::with(&redis, "one", &[("ROOMCAST_HISTORY_LENGTH", "100")]).await;
    let mut ann = server.member("lobby", "ann").await;
    ann.say("lobby", "seen").await;
    let last = ann.expect("message").await;
    for number in 0..500 {
        ann.say("lobby", &number.to_string()).await;
    }
    ann.texts(500).await;
    let mut back = server.client().await;
    let joined = rejoin(&mut back, "lobby", &after(&last)).await;
    assert_eq!((&joined["resumed"], seq(&joined)), (&json!(false), 501));
    let reset = back.expect("reset").await;
    assert_eq!(
        (&reset["reason"], &reset["epoch"], &reset["room"]),
        (&json!("trimmed"), &last["epoch"], &json!("lobby"))
    );
    let mut at = seq(&reset);
    assert!(at > 1 && at <= 401, "{reset}");
    while at < 501 {
        let message = back.expect("message").await;
        assert_eq!(seq(&message), at + 1);
        at += 1;
    }
    back.hears_nothing().await;
}

#[tokio::test]
async fn a_position_of_another_life_or_from_the_future_is_a_reset() {
    let server = Server::embedded(&[]).await;
    let mut ann = server.member("lobby", "ann").await;
    ann.say("lobby", "hello").await;
    let last = ann.expect("message").await;
    let positions = [json!({"epoch": "00000000000000aa", "seq": 1}), json!({"epoch": last["epoch"], "seq": 999})];
    for (top, position) in (1..).zip(positions) {
        let mut back = server.client().await;
        let joined = rejoin(&mut back, "lobby", &json!({"after": position})).await;
        assert_eq!((&joined["resumed"], seq(&joined)), (&json!(false), top));
        let reset = back.expect("reset").await;
        assert_eq!((&reset["epoch"], seq(&reset), &reset["reason"]), (&last["epoch"], top, &json!("unknown_position")));
        ann.say("lobby", "live").await;
        let live = back.expect("message").await;
        assert_eq!((&live["epoch"], &live["text"]), (&last["epoch"], &json!("live")));
        ann.texts(1).await;
    }
}

#[tokio::test]
async fn the_last_messages_can_be_asked_for() {
    let server = Server::embedded(&[("ROOMCAST_MAX_LAST", "5")]).await;
    let mut ann = server.member("lobby", "ann").await;
    let ask = async |last: u64| {
        let mut client = server.client().await;
        let joined = rejoin(&mut client, "lobby", &json!({"last": last})).await;
        assert!(joined.get("resumed").is_none(), "{joined}");
        client
    };
    ask(3).await.hears_nothing().await;
    for number in 1..=8 {
        ann.say("lobby", &number.to_string()).await;
    }
    ann.texts(8).await;
    for (last, expected) in [(0, &[][..]), (3, &["6", "7", "8"]), (100, &["4", "5", "6", "7", "8"])] {
        let mut client = ask(last).await;
        assert_eq!(client.texts(expected.len()).await, expected);
        client.hears_nothing().await;
    }
}

/// More than an outbox holds can be missed: it comes as fast as the client takes it.
#[tokio::test]
async fn more_can_be_missed_than_an_outbox_holds() {
    let settings =
        [("ROOMCAST_OUTBOX_MESSAGES", "16"), ("ROOMCAST_OUTBOX_BYTES", "256KiB"), ("ROOMCAST_HISTORY_BYTES", "64MiB")];
    let server = Server::embedded(&settings).await;
    let mut ann = server.member("lobby", "ann").await;
    let text = "x".repeat(16_000);
    ann.say("lobby", "seen").await;
    let last = ann.expect("message").await;
    for _ in 0..600 {
        ann.say("lobby", &text).await;
        ann.texts(1).await;
    }
    let mut back = server.client().await;
    let joined = rejoin(&mut back, "lobby", &after(&last)).await;
    assert_eq!(joined["resumed"], true);
    for number in 0..600 {
        assert_eq!(seq(&back.expect("message").await), number + 2);
        // Live messages come in between, and more of them than are kept for one who catches up.
        if number % 3 == 0 {
            ann.say("lobby", "live").await;
            ann.texts(1).await;
        }
    }
    for number in 600..800 {
        let message = back.expect("message").await;
        assert_eq!((seq(&message), &message["text"]), (number + 2, &json!("live")));
    }
    back.hears_nothing().await;
}

#[tokio::test]
async fn a_slow_client_is_closed_and_resumes_without_a_loss() {
    let Some(redis) = Redis::start().await else { return };
    let settings = [
        ("ROOMCAST_OUTBOX_MESSAGES", "64"),
        ("ROOMCAST_WRITE_TIMEOUT", "1s"),
        ("ROOMCAST_HISTORY_BYTES", "256MiB"),
        ("ROOMCAST_HISTORY_LENGTH", "100000"),
    ];
    let server = Server::with(&redis, "one", &settings).await;
    let mut slow = server.member("lobby", "slow").await;
    let mut ann = server.member("lobby", "ann").await;
    let text = "x".repeat(16_000);
    let mut sent = 0;
    while server.metric(r#"ws_disconnects_total{reason="slow_consumer"}"#).await == 0.0 {
        assert!(sent < 10_000, "the slow client is never closed");
        for _ in 0..20 {
            ann.say("lobby", &text).await;
            sent += 1;
            assert_eq!(seq(&ann.expect("message").await), sent);
        }
    }
    // What had been written before is still there to be read.
    let mut last = json!({"epoch": redis_epoch(&redis).await, "seq": 0});
    while let Some(message) = slow.next_or_end().await {
        assert_eq!(seq(&message), seq(&last) + 1);
        last = message;
    }
    assert!(seq(&last) < sent);
    let mut back = server.client().await;
    assert_eq!(rejoin(&mut back, "lobby", &after(&last)).await["resumed"], true);
    for number in seq(&last) + 1..=sent {
        assert_eq!(seq(&back.expect("message").await), number);
    }
    back.hears_nothing().await;
}

#[tokio::test]
async fn the_last_message_of_a_room_is_found_if_its_push_was_lost() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::with(&redis, "one", &[("ROOMCAST_COMPARE_INTERVAL", "100ms")]).await;
    let mut ann = server.member("lobby", "ann").await;
    ann.say("lobby", "pushed").await;
    ann.texts(1).await;
    crate::order::keep_without_push(&mut redis.connect().await, "not pushed").await;
    assert_eq!(ann.texts(1).await, ["not pushed"]);
    assert_eq!(server.metric("roomcast_holes_total").await, 1.0);
    ann.hears_nothing().await;
}

/// The numbers have passed the old top before any server looked, so only what stands under them shows the rewind.
#[tokio::test]
async fn a_rewind_that_was_overtaken_is_told() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::with(&redis, "one", &[("ROOMCAST_COMPARE_INTERVAL", "100ms")]).await;
    for overtaken_by in [0, 1, 3] {
        let mut ann = server.member("lobby", "ann").await;
        for number in 0..3 {
            ann.say("lobby", &number.to_string()).await;
        }
        let last = ann.texts(3).await;
        assert_eq!(last, ["0", "1", "2"]);
        // The last two writes are lost and their numbers given out again, by one who knows of nothing.
        crate::order::wind_back_and_go_on(&mut redis.connect().await, 2, 2 + overtaken_by).await;
        let reset = ann.expect("reset").await;
        assert_eq!((&reset["reason"], seq(&reset)), (&json!("new_epoch"), 0));
        ann.say("lobby", "after").await;
        let message = ann.expect("message").await;
        assert_eq!((&message["text"], &message["epoch"]), (&json!("after"), &reset["epoch"]));
        ann.leave("lobby").await;
        server.metric_is("roomcast_rooms", 0.0).await;
    }
}
