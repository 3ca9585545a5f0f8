//! One order for all members of a room, and what happens when something is missing from it.
use futures_util::future::join_all;
use redis::{AsyncCommands, aio::MultiplexedConnection};
use serde_json::{Value, json};

use crate::support::{Client, Redis, Server, eventually};

const META: &str = "ws:meta:{ws:room:lobby}";
const LOG: &str = "ws:log:{ws:room:lobby}";

/// A `pong` says that what was said before has been dealt with, so the message comes first, acknowledged or not.
#[tokio::test]
async fn what_a_client_hears_of_its_own_keeps_the_order_in_which_it_spoke() {
    let server = Server::in_memory(&[]).await;
    let mut others = Vec::new();
    for _ in 0..100 {
        others.push(server.member("lobby", "other").await);
    }
    let mut ann = server.member("lobby", "ann").await;
    for number in 0..50 {
        ann.say("lobby", "x").await;
        ann.send(&json!({"type": "message", "room": "lobby", "text": "y", "id": number.to_string()})).await;
        ann.say("lobby", "z").await;
        ann.send(&json!({"type": "ping"})).await;
        for expected in ["message", "message", "ack", "message", "pong"] {
            ann.expect(expected).await;
        }
    }
    ann.say("lobby", "last").await;
    ann.send(&json!({"type": "leave", "room": "lobby"})).await;
    ann.expect("message").await;
    ann.expect("left").await;
    ann.hears_nothing().await;
}

#[tokio::test]
async fn all_members_see_one_order_while_all_of_them_send() {
    const EACH: usize = 100;
    let Some(redis) = Redis::start().await else { return };
    let servers = [Server::on(&redis, "one").await, Server::on(&redis, "two").await];
    let mut members = Vec::new();
    for index in 0..6 {
        members.push(servers[index % 2].member("lobby", &format!("member-{index}")).await);
    }
    let total = EACH * members.len();
    let members = members.into_iter().enumerate().map(async |(index, mut member)| {
        for number in 0..EACH {
            member.say("lobby", &format!("{index}/{number}")).await;
        }
        let mut messages = Vec::new();
        for _ in 0..total {
            messages.push(member.expect("message").await);
        }
        member.hears_nothing().await;
        messages
    });
    let seen: Vec<Vec<Value>> = join_all(members).await;
    for messages in &seen {
        let seqs: Vec<u64> = messages.iter().map(|message| message["seq"].as_u64().unwrap()).collect();
        assert_eq!(seqs, (1..=total as u64).collect::<Vec<_>>());
        assert_eq!(messages, &seen[0]);
    }
    // What one client sent is in the order in which it sent it.
    let first: Vec<&str> = seen[0].iter().filter_map(|message| message["text"].as_str()?.strip_prefix("0/")).collect();
    assert_eq!(first, (0..EACH).map(|number| number.to_string()).collect::<Vec<_>>());
    let times: Vec<u64> = seen[0].iter().map(|message| message["ts"].as_u64().unwrap()).collect();
    assert!(times.is_sorted());
}

/// Another time than that of any message that a server publishes.
const TS: u64 = 1_700_000_000_000;

/// Gives a message its place and keeps it, but does not push it: as if the push had been lost on its way.
pub async fn keep_without_push(redis: &mut MultiplexedConnection, text: &str) {
    let epoch: String = redis.hget(META, "epoch").await.unwrap();
    let seq: u64 = redis.hincr(META, "seq", 1).await.unwrap();
    let envelope = envelope(&epoch, seq, text);
    let _: () = redis.hset(META, "ts", TS).await.unwrap();
    let _: () = redis.xadd(LOG, format!("{seq}-0"), &[("e", &*envelope), ("b", "0")]).await.unwrap();
}

/// Loses the last writes and assigns their numbers again, and perhaps more, like a promoted replica with a server that
/// does not know.
pub async fn wind_back_and_go_on(redis: &mut MultiplexedConnection, lost: u64, new: u64) {
    let (epoch, top): (String, u64) = redis.hmget(META, &["epoch", "seq"]).await.unwrap();
    let kept = top - lost;
    // At once, so that no server sees a half-done state.
    let mut all = redis::pipe();
    all.atomic();
    for seq in kept + 1..=top {
        all.xdel(LOG, &[format!("{seq}-0")]).ignore();
    }
    // A stream takes no number below its last one, but this is what a stream that never had more looks like.
    all.cmd("XSETID").arg(LOG).arg(format!("{kept}-0")).ignore();
    all.hset_multiple(META, &[("seq", kept + new), ("ts", TS)]).ignore();
    for seq in kept + 1..=kept + new {
        let envelope = envelope(&epoch, seq, "again");
        all.xadd(LOG, format!("{seq}-0"), &[("e", &*envelope), ("b", "0")]).ignore();
    }
    let _: () = all.query_async(redis).await.unwrap();
}

fn envelope(epoch: &str, seq: u64, text: &str) -> String {
    let envelope = json!({
        "epoch": epoch, "seq": seq, "ts": TS, "originServer": "three", "type": "message",
        "room": "lobby", "username": "eve", "text": text,
    });
    envelope.to_string()
}

#[tokio::test]
async fn a_hole_is_noticed_counted_and_filled_from_the_log() {
    let Some(redis) = Redis::start().await else { return };
    let (one, two) = (Server::on(&redis, "one").await, Server::on(&redis, "two").await);
    let mut ann = one.member("lobby", "ann").await;
    let mut bob = two.member("lobby", "bob").await;
    bob.say("lobby", "first").await;
    ann.texts(1).await;
    let mut connection = redis.connect().await;
    keep_without_push(&mut connection, "lost").await;
    keep_without_push(&mut connection, "lost too").await;
    bob.say("lobby", "last").await;
    assert_eq!(ann.texts(3).await, ["lost", "lost too", "last"]);
    assert_eq!(bob.texts(4).await, ["first", "lost", "lost too", "last"]);
    for server in [&one, &two] {
        assert_eq!(server.metric("roomcast_holes_total").await, 1.0);
        assert!(server.metric("roomcast_messages_recovered_total").await >= 2.0);
    }
    ann.hears_nothing().await;
}

#[tokio::test]
async fn a_hole_that_the_log_cannot_fill_is_told() {
    let Some(redis) = Redis::start().await else { return };
    let (one, two) = (Server::on(&redis, "one").await, Server::on(&redis, "two").await);
    let mut ann = one.member("lobby", "ann").await;
    let mut bob = two.member("lobby", "bob").await;
    let mut connection = redis.connect().await;
    keep_without_push(&mut connection, "lost").await;
    let _: u64 = connection.xtrim(LOG, redis::streams::StreamMaxlen::Equals(0)).await.unwrap();
    bob.say("lobby", "after").await;
    for member in [&mut ann, &mut bob] {
        let reset = member.expect("reset").await;
        assert_eq!((&reset["seq"], &reset["reason"], &reset["room"]), (&json!(1), &json!("trimmed"), &json!("lobby")));
        let message = member.expect("message").await;
        assert_eq!((&message["seq"], &message["text"]), (&json!(2), &json!("after")));
    }
    assert_eq!(one.metric(r#"roomcast_resets_total{reason="trimmed"}"#).await, 1.0);
}

#[tokio::test]
async fn a_log_that_was_lost_or_wound_back_is_a_new_epoch_and_told() {
    let Some(redis) = Redis::start().await else { return };
    let (one, two) = (Server::on(&redis, "one").await, Server::on(&redis, "two").await);
    let mut members = [one.member("lobby", "ann").await, two.member("lobby", "bob").await];
    let mut connection = redis.connect().await;
    say_to_all(&mut members, "before").await;
    say_to_all(&mut members, "before too").await;

    // All is lost.
    let _: () = redis::cmd("FLUSHALL").query_async(&mut connection).await.unwrap();
    expect_new_epoch(&mut members, "after the loss").await;
    // Only the last write is lost.
    let _: i64 = connection.hincr(META, "seq", -1).await.unwrap();
    expect_new_epoch(&mut members, "after the rewind").await;
    say_to_all(&mut members, "as ever").await;
    assert_eq!(one.metric(r#"roomcast_resets_total{reason="new_epoch"}"#).await, 2.0);
}

async fn say_to_all(members: &mut [Client; 2], text: &str) {
    members[0].say("lobby", text).await;
    for member in members {
        assert_eq!(member.texts(1).await, [text]);
    }
}

async fn expect_new_epoch(members: &mut [Client; 2], text: &str) {
    members[0].say("lobby", text).await;
    let mut epochs = Vec::new();
    for member in members {
        let reset = member.expect("reset").await;
        assert_eq!((&reset["seq"], &reset["reason"]), (&json!(0), &json!("new_epoch")));
        let message = member.expect("message").await;
        assert_eq!((&message["seq"], &message["text"]), (&json!(1), &json!(text)));
        assert_eq!(message["epoch"], reset["epoch"]);
        epochs.push(reset["epoch"].clone());
    }
    assert_eq!(epochs[0], epochs[1]);
}

#[tokio::test]
async fn the_log_is_trimmed_by_length() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::with(&redis, "one", &[("ROOMCAST_HISTORY_LENGTH", "100")]).await;
    let mut ann = server.member("lobby", "ann").await;
    for number in 0..400 {
        ann.say("lobby", &number.to_string()).await;
    }
    ann.texts(400).await;
    let length: usize = redis.connect().await.xlen(LOG).await.unwrap();
    // Redis trims whole nodes of at most a hundred entries, at every 64th message, and never below the length.
    assert!((100..300).contains(&length), "{length}");
}

#[tokio::test]
async fn the_log_is_trimmed_by_age() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::with(&redis, "one", &[("ROOMCAST_HISTORY_AGE", "1s")]).await;
    let mut ann = server.member("lobby", "ann").await;
    ann.say("lobby", "old").await;
    ann.texts(1).await;
    let mut connection = redis.connect().await;
    // While the room is busy, old entries go and new ones stay.
    eventually("the first entry has gone", async || {
        ann.say("lobby", "new").await;
        ann.texts(1).await;
        let first: redis::streams::StreamRangeReply = connection.xrange_count(LOG, "-", "+", 1).await.unwrap();
        (first.ids.first()?.id != "1-0").then_some(())
    })
    .await;
    assert!(connection.xlen::<_, u64>(LOG).await.unwrap() > 0);
    // When the room is silent, the whole log goes.
    eventually("the log has gone", async || (!connection.exists::<_, bool>(LOG).await.unwrap()).then_some(())).await;
    assert!(connection.exists::<_, bool>(META).await.unwrap(), "the epoch and the top outlive the log");
}

#[tokio::test]
async fn the_log_of_a_busy_room_lives_as_long_as_its_last_message_and_little_longer() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::with(&redis, "one", &[("ROOMCAST_HISTORY_AGE", "10s")]).await;
    let mut ann = server.member("lobby", "ann").await;
    let mut connection = redis.connect().await;
    let (mut prolonged, mut before) = (0, u64::MAX);
    while prolonged < 2 {
        ann.say("lobby", "tick").await;
        ann.texts(1).await;
        let life: u64 = connection.pttl(LOG).await.unwrap();
        // A message prolongs it once in each sixteenth of its age; how long this test takes is not counted closely.
        assert!((9_000..=10_625).contains(&life), "{life}");
        prolonged += u32::from(life > before);
        before = life;
    }
}

/// Ids are written down before their messages are kept.
#[tokio::test]
async fn a_message_that_could_not_be_kept_is_kept_when_it_is_sent_again() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::on(&redis, "one").await;
    let mut ann = server.member("lobby", "ann").await;
    let mut connection = redis.connect().await;
    let _: () = connection.set(LOG, "no log").await.unwrap();
    let message = json!({"type": "message", "room": "lobby", "text": "once", "id": "m-1"});
    ann.send(&message).await;
    assert_eq!(ann.expect("error").await["code"], json!("unavailable"));
    let _: () = connection.del(LOG).await.unwrap();
    ann.send(&message).await;
    assert_eq!(ann.texts(1).await, ["once"]);
    assert_eq!(ann.expect("ack").await["seq"], json!(1));
}

#[tokio::test]
async fn an_id_sent_again_over_another_server_makes_no_second_message() {
    let Some(redis) = Redis::start().await else { return };
    let (one, two) = (Server::on(&redis, "one").await, Server::on(&redis, "two").await);
    let mut ann = one.member("lobby", "ann").await;
    let mut again = two.member("lobby", "ann").await;
    let message = json!({"type": "message", "room": "lobby", "text": "once", "id": "m-1"});
    ann.send(&message).await;
    ann.texts(1).await;
    let first = ann.expect("ack").await;
    again.texts(1).await;
    again.send(&message).await;
    assert_eq!(again.expect("ack").await, first);
    again.hears_nothing().await;
    ann.hears_nothing().await;
    assert_eq!(two.metric("roomcast_publishes_repeated_total").await, 1.0);
}
