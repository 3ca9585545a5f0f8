//! A client that comes back, to any server, gets what it missed and then goes on live.

use futures_util::future::join;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Client, Redis, Server, eventually};

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
        assert_eq!(joined["originServer"], server.name);
        // It goes on after what it has, up to what was the end when it came.
        assert_eq!((&joined["resumed"], seq(&joined), &joined["until"]), (&json!(true), seq(&last), &json!(live)));
        let texts = bob.texts(700).await;
        assert_eq!(texts, (0..700).map(|number| format!("missed {number}")).collect::<Vec<_>>());
        bob.texts(usize::try_from(live).unwrap() - 701).await;
        ann.say("lobby", "live").await;
        live += 1;
        assert_eq!((ann.texts(1).await, bob.texts(1).await), (vec!["live".into()], vec!["live".into()]));
        bob.hears_nothing().await;
    }
    // A client that missed nothing is told so, and gets nothing.
    let mut bob = two.client().await;
    let joined = rejoin(&mut bob, "lobby", &json!({"after": {"epoch": last["epoch"], "seq": live}})).await;
    assert_eq!((&joined["resumed"], seq(&joined), &joined["until"]), (&json!(true), live, &Value::Null));
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
    assert_eq!((&joined["resumed"], seq(&joined), &joined["until"]), (&json!(false), seq(&last), &json!(501)));
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
    let server = Server::in_memory(&[]).await;
    let mut ann = server.member("lobby", "ann").await;
    ann.say("lobby", "hello").await;
    let last = ann.expect("message").await;
    let positions = [json!({"epoch": "00000000000000aa", "seq": 1}), json!({"epoch": last["epoch"], "seq": 999})];
    for (top, position) in (1..).zip(positions) {
        let mut back = server.client().await;
        let joined = rejoin(&mut back, "lobby", &json!({"after": position})).await;
        // A client that is cut off before the reset comes back with the same position, and is told again.
        assert_eq!((&joined["resumed"], seq(&joined)), (&json!(false), seq(&position)));
        assert_eq!((&joined["epoch"], &joined["until"]), (&position["epoch"], &Value::Null));
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
    let server = Server::in_memory(&[("ROOMCAST_MAX_LAST", "5")]).await;
    let mut ann = server.member("lobby", "ann").await;
    let ask = async |last: u64| {
        let mut client = server.client().await;
        let joined = rejoin(&mut client, "lobby", &json!({"last": last})).await;
        assert!(joined.get("resumed").is_none(), "{joined}");
        (client, joined)
    };
    ask(3).await.0.hears_nothing().await;
    for number in 1..=8 {
        ann.say("lobby", &number.to_string()).await;
    }
    ann.texts(8).await;
    for (last, expected) in [(0, &[][..]), (3, &["6", "7", "8"]), (100, &["4", "5", "6", "7", "8"])] {
        let (mut client, joined) = ask(last).await;
        assert_eq!(seq(&joined), 8 - expected.len() as u64, "the position before the first that follows");
        assert_eq!(joined["until"], if expected.is_empty() { Value::Null } else { json!(8) });
        assert_eq!(client.texts(expected.len()).await, expected);
        client.hears_nothing().await;
    }
}

/// More than an outbox holds can be missed: it comes as fast as the client takes it.
#[tokio::test]
async fn more_can_be_missed_than_an_outbox_holds() {
    let settings =
        [("ROOMCAST_OUTBOX_MESSAGES", "16"), ("ROOMCAST_OUTBOX_BYTES", "256KiB"), ("ROOMCAST_HISTORY_BYTES", "64MiB")];
    let server = Server::in_memory(&settings).await;
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
        // Live messages come in between, more than are kept for a member that is behind.
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

/// The rule of docs/protocol.md to the letter, for a connection that breaks right after `joined`, or after any of the
/// messages that follow it.
#[tokio::test]
async fn whoever_is_cut_off_at_any_point_of_a_replay_goes_on_from_the_last_position() {
    let server = Server::in_memory(&[]).await;
    let mut ann = server.member("lobby", "ann").await;
    for number in 1..=6 {
        ann.say("lobby", &number.to_string()).await;
    }
    let first = ann.expect("message").await;
    ann.texts(5).await;
    for ask in [after(&first), json!({"last": 5})] {
        for heard in 0..=5 {
            let mut client = server.client().await;
            let mut last = rejoin(&mut client, "lobby", &ask).await;
            for _ in 0..heard {
                last = client.expect("message").await;
            }
            drop(client);
            let mut client = server.client().await;
            assert_eq!(rejoin(&mut client, "lobby", &after(&last)).await["resumed"], true);
            let rest: Vec<String> = (heard + 2..=6).map(|number| number.to_string()).collect();
            assert_eq!(client.texts(rest.len()).await, rest);
            client.hears_nothing().await;
        }
    }
}

/// Everybody comes back at once to a restarted server: it reads the log once for all of them, and not again for later
/// ones.
#[tokio::test]
async fn a_herd_is_brought_up_to_date_by_a_few_readings() {
    let Some(redis) = Redis::start().await else { return };
    let one = Server::on(&redis, "one").await;
    let mut ann = one.member("lobby", "ann").await;
    for _ in 0..10 {
        for _ in 0..100 {
            ann.say("lobby", &"x".repeat(100)).await;
        }
        ann.texts(100).await;
    }
    let start = json!({"epoch": redis_epoch(&redis).await, "seq": 0});
    let two = Server::on(&redis, "two").await;
    let herd = (0..200).map(async |_| {
        let mut client = two.client().await;
        assert_eq!(rejoin(&mut client, "lobby", &after(&start)).await["resumed"], true);
        for number in 1..=1000 {
            assert_eq!(seq(&client.expect("message").await), number);
        }
        client
    });
    let clients = futures_util::future::join_all(herd).await;
    // Four pages have it all, and some clients came while an earlier one was being read.
    let read = two.metric("roomcast_pages_read_total").await;
    assert!(read <= 10.0, "{read} readings");
    drop(clients);
    let mut late = two.client().await;
    rejoin(&mut late, "lobby", &json!({"last": 100})).await;
    late.texts(100).await;
}

/// Where nothing is kept in memory all comes from the log, and each gets all of it.
#[tokio::test]
async fn without_memory_for_recent_messages_the_log_is_read() {
    let Some(redis) = Redis::start().await else { return };
    let one = Server::with(&redis, "one", &[("ROOMCAST_RECENT_BYTES", "0")]).await;
    let mut ann = one.member("lobby", "ann").await;
    for number in 0..600 {
        ann.say("lobby", &number.to_string()).await;
    }
    ann.texts(600).await;
    let start = json!({"epoch": redis_epoch(&redis).await, "seq": 0});
    for _ in 0..2 {
        let mut back = one.client().await;
        rejoin(&mut back, "lobby", &after(&start)).await;
        assert_eq!(back.texts(600).await, (0..600).map(|number| number.to_string()).collect::<Vec<_>>());
        back.hears_nothing().await;
    }
    assert_eq!(one.metric("roomcast_recent_bytes").await, 0.0);
}

/// Redis stops while a client gets what it missed. It has been told `joined`, so no `error` about the join may follow.
#[tokio::test]
async fn a_replay_that_stops_is_taken_up_again_or_ends_the_membership() {
    let Some(redis) = Redis::start().await else { return };
    let memory = ("ROOMCAST_RECENT_BYTES", "0");
    let short = [memory, ("ROOMCAST_REDIS_COMMAND_TIMEOUT", "300ms"), ("ROOMCAST_REDIS_CONNECT_TIMEOUT", "300ms")];
    let patient = Server::with(&redis, "patient", &[memory]).await;
    let hasty = Server::with(&redis, "hasty", &short).await;
    let mut ann = patient.member("lobby", "ann").await;
    // Of the log's last part the sockets hold much less, so the server is in the middle of reading it when Redis stops.
    let (text, count) = ("x".repeat(16_000), 250);
    for _ in 0..count {
        ann.say("lobby", &text).await;
        ann.texts(1).await;
    }
    let start = json!({"epoch": redis_epoch(&redis).await, "seq": 0});

    let mut back = patient.client().await;
    assert_eq!(rejoin(&mut back, "lobby", &after(&start)).await["resumed"], true);
    redis.signal("STOP");
    // So a reading has been given up.
    eventually("the server notices", async || (patient.get("/readyz").await.0 == 503).then_some(())).await;
    redis.signal("CONT");
    for number in 1..=count {
        assert_eq!(seq(&back.expect("message").await), number);
    }
    back.hears_nothing().await;

    hasty.is_ready().await;
    let mut back = hasty.client().await;
    assert_eq!(rejoin(&mut back, "lobby", &after(&start)).await["resumed"], true);
    redis.signal("STOP");
    let mut at = 0;
    let end = loop {
        let event = back.next().await;
        if event["type"] != "message" {
            break event;
        }
        at += 1;
        assert_eq!(seq(&event), at);
    };
    assert_eq!((&end["type"], &end["reason"], &end["room"]), (&json!("left"), &json!("unavailable"), &json!("lobby")));
    redis.signal("CONT");
    hasty.is_ready().await;
    // It comes back with what it has.
    let joined = rejoin(&mut back, "lobby", &json!({"after": {"epoch": start["epoch"], "seq": at}})).await;
    assert_eq!(joined["resumed"], true);
    for number in at + 1..=count {
        assert_eq!(seq(&back.expect("message").await), number);
    }
    back.hears_nothing().await;
}

/// A slow reader gets what it missed as slowly as it reads, and that time does not count against Redis.
#[tokio::test]
async fn a_slow_reader_is_not_put_out_of_its_replay() {
    let Some(redis) = Redis::start().await else { return };
    // A replay is given up after four times the time for a command.
    let hasty = [
        ("ROOMCAST_RECENT_BYTES", "0"),
        ("ROOMCAST_REDIS_COMMAND_TIMEOUT", "250ms"),
        ("ROOMCAST_SEND_BUFFER_BYTES", "16KiB"),
    ];
    let other = Server::with(&redis, "two", &[("ROOMCAST_PING_INTERVAL", "100ms")]).await;
    let mut ann = other.member("lobby", "ann").await;
    for _ in 0..200 {
        ann.say("lobby", &"x".repeat(16_000)).await;
        ann.texts(1).await;
    }
    let server = Server::with(&redis, "one", &hasty).await;
    let start = json!({"epoch": redis_epoch(&redis).await, "seq": 0});
    let mut back = server.client().await;
    rejoin(&mut back, "lobby", &after(&start)).await;
    for number in 1..=200 {
        if number % 60 == 0 {
            // Fifteen pings of the other server, to a client that answers them, are more than that time.
            let mut clock = other.raw_client().await;
            for _ in 0..15 {
                let mut ping = [0; 2];
                clock.read_exact(&mut ping).await.unwrap();
                clock.write_all(&[0x8a, 0x80, 0, 0, 0, 0]).await.unwrap();
            }
        }
        assert_eq!(seq(&back.expect("message").await), number);
    }
    back.hears_nothing().await;
}
