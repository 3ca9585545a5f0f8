//! Redis is there and refuses: a channel, a command, all writes, or one more room.

use redis::{AsyncCommands, aio::MultiplexedConnection};
use serde_json::{Value, json};

use crate::support::{Client, Redis, SECRET, Server, Token, eventually};

async fn command(connection: &mut MultiplexedConnection, command: &str) {
    let mut words = command.split_whitespace();
    let mut call = redis::cmd(words.next().unwrap());
    for word in words {
        call.arg(word);
    }
    call.exec_async(connection).await.unwrap_or_else(|error| panic!("{command}: {error}"));
}

async fn ask_to_join(client: &mut Client, room: &str) -> Value {
    client.send(&json!({"type": "join", "room": room, "username": "someone"})).await;
    client.next().await
}

/// Sends a message that must be acknowledged.
async fn is_acked(client: &mut Client, room: &str, id: &str) {
    client.send(&json!({"type": "message", "room": room, "text": "hello", "id": id})).await;
    assert_eq!(client.texts(1).await, ["hello"]);
    client.expect("ack").await;
}

fn count(log: &str, text: &str) -> usize {
    log.matches(text).count()
}

#[tokio::test]
async fn a_channel_that_is_not_allowed_costs_its_own_join_and_nothing_else() {
    let Some(redis) = Redis::start().await else { return };
    let mut connection = redis.connect().await;
    let allowed = "ACL SETUSER some on >pw ~* +@all resetchannels &ws:broadcast &ws:probe:* &ws:room:open*";
    command(&mut connection, allowed).await;
    let url = redis.url().replace("//", "//some:pw@");
    // So long that a join that waits for its end fails the test.
    let settings = [("ROOMCAST_REDIS_URL", url.as_str()), ("ROOMCAST_REDIS_COMMAND_TIMEOUT", "1m")];
    let server = Server::start(&settings);
    server.is_ready().await;
    let mut ann = server.member("open", "ann").await;
    for room in ["closed", "closed", "closed:2"] {
        let error = ask_to_join(&mut server.client().await, room).await;
        assert_eq!((&error["code"], &error["room"]), (&json!("unavailable"), &json!(room)));
        assert_eq!(server.get("/readyz").await.0, 200);
    }
    is_acked(&mut ann, "open", "1").await;
    // They come in one batch with one that is refused.
    let mut clients = Vec::new();
    for room in ["open:2", "closed:3", "open:3", "open:4"] {
        let mut client = server.client().await;
        client.send(&json!({"type": "join", "room": room, "username": "someone"})).await;
        clients.push((room, client));
    }
    for (room, client) in &mut clients {
        let expected = if room.starts_with("open") { "joined" } else { "error" };
        client.expect(expected).await;
    }
    assert_eq!(server.metric("roomcast_subscriber_connects_total").await, 1.0);
    assert!(server.log().contains("NoPerm") && server.log().contains("ws:room:closed"), "{}", server.log());

    command(&mut connection, "ACL SETUSER some allchannels").await;
    eventually("the channel is asked for again", async || {
        let answer = ask_to_join(&mut server.client().await, "closed").await;
        (answer["type"] == "joined").then_some(())
    })
    .await;
}

#[tokio::test]
async fn nearly_full_and_full_rooms_that_exist_go_on_and_new_ones_are_refused() {
    let Some(redis) = Redis::start().await else { return };
    let (one, two) = (Server::on(&redis, "one").await, Server::on(&redis, "two").await);
    let (mut ann, mut bob) = (one.member("lobby", "ann").await, two.member("lobby", "bob").await);
    let mut silent = one.member("silent", "cem").await;
    is_acked(&mut ann, "lobby", "0").await;
    assert_eq!(bob.texts(1).await, ["hello"]);
    let mut connection = redis.connect().await;
    let used = memory(&mut connection).await;
    for (id, limit) in [("nearly", used + used / 8), ("full", 1)] {
        command(&mut connection, &format!("CONFIG SET maxmemory {limit}")).await;
        for server in [&one, &two] {
            let expected = if id == "full" { 1.0 } else { 0.8 };
            eventually("its memory is known", async || {
                (server.metric("roomcast_redis_memory_ratio").await >= expected).then_some(())
            })
            .await;
            let (status, body) = server.get("/readyz").await;
            assert!(status == 200 && body.contains("\"cause\":\"full\""), "{status} {body}");
            let error = ask_to_join(&mut server.client().await, "new").await;
            assert_eq!((&error["code"], &error["room"]), (&json!("overloaded"), &json!("new")));
        }
        for number in 0..20 {
            is_acked(&mut ann, "lobby", &format!("{id} {number}")).await;
            assert_eq!(bob.texts(1).await, ["hello"]);
        }
        // As after an hour of silence: the room is there, and its log has gone.
        command(&mut connection, "DEL ws:log:{ws:room:lobby}").await;
        is_acked(&mut ann, "lobby", &format!("{id} later")).await;
        assert_eq!(bob.texts(1).await, ["hello"]);
        // A returning client gets what there is.
        two.member("lobby", "back").await;
        // It has members, and has had no message yet.
        silent.send(&json!({"type": "message", "text": "first", "id": id})).await;
        let error = silent.expect("error").await;
        assert_eq!((&error["code"], &error["id"]), (&json!("overloaded"), &json!(id)));
        // Everybody is on the broadcast channel.
        if id == "nearly" {
            ann.send(&json!({"type": "broadcast", "text": "all"})).await;
            for client in [&mut ann, &mut bob, &mut silent] {
                client.expect("broadcast").await;
            }
        }
        assert!(one.metric("roomcast_rooms_refused_total").await >= 2.0);
    }
    command(&mut connection, "CONFIG SET maxmemory 0").await;
    eventually("new rooms are taken again", async || {
        let answer = ask_to_join(&mut one.client().await, "new").await;
        (answer["type"] == "joined").then_some(())
    })
    .await;
    assert_eq!(count(&one.log(), "Redis is nearly full"), 1);
}

async fn memory(connection: &mut MultiplexedConnection) -> u64 {
    let info: String = redis::cmd("INFO").arg("memory").query_async(connection).await.unwrap();
    info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap().parse().unwrap()
}

#[tokio::test]
async fn logs_are_shortened_while_redis_is_nearly_full() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::with(&redis, "one", &[("ROOMCAST_HISTORY_LENGTH", "400")]).await;
    let mut ann = server.member("lobby", "ann").await;
    for number in 0..400 {
        ann.say("lobby", &number.to_string()).await;
    }
    ann.texts(400).await;
    let mut connection = redis.connect().await;
    let log = "ws:log:{ws:room:lobby}";
    assert!(connection.xlen::<_, u64>(log).await.unwrap() >= 400);
    let limit = memory(&mut connection).await * 10 / 9;
    command(&mut connection, &format!("CONFIG SET maxmemory {limit}")).await;
    eventually("its memory is known", async || {
        (server.metric("roomcast_redis_memory_ratio").await >= 0.8).then_some(())
    })
    .await;
    is_acked(&mut ann, "lobby", "1").await;
    // A quarter at the watermark, and less beyond.
    let length = connection.xlen::<_, u64>(log).await.unwrap();
    assert!((1..=101).contains(&length), "{length}");
}

#[tokio::test]
async fn an_outage_that_was_there_from_the_start_is_one_line_and_its_end_another() {
    let Some(redis) = Redis::start().await else { return };
    let mut connection = redis.connect().await;
    for (from, to, words) in [
        ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0", "NOREPLICAS"),
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE", "read only replica"),
    ] {
        command(&mut connection, from).await;
        command(&mut connection, "CONFIG RESETSTAT").await;
        let server = Server::start(&[("ROOMCAST_REDIS_URL", &redis.url())]);
        eventually("it was tried a few times", async || {
            let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut connection).await.unwrap();
            let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_set:calls="))?;
            let refused: u32 = calls.rsplit_once("rejected_calls=")?.1.split(',').next()?.parse().ok()?;
            (refused >= 8).then_some(())
        })
        .await;
        assert_eq!(count(&server.log(), "cannot use Redis; retrying"), 1, "{}", server.log());
        assert!(server.log().contains(words), "{}", server.log());
        assert_eq!(count(&server.log(), "Redis refused"), 0, "{}", server.log());
        command(&mut connection, to).await;
        server.is_ready().await;
        eventually("its end is said", async || (count(&server.log(), "Redis works again") == 1).then_some(())).await;
        assert_eq!(count(&server.log(), "WARN roomcast::broker"), 1, "{}", server.log());
    }
}

#[tokio::test]
async fn what_is_refused_while_redis_is_fine_is_logged_with_its_words() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::on(&redis, "one").await;
    let mut ann = server.member("lobby", "ann").await;
    let mut connection = redis.connect().await;
    let _: () = connection.set("ws:log:{ws:room:lobby}", "no log").await.unwrap();
    for _ in 0..50 {
        ann.say("lobby", "hello").await;
        assert_eq!(ann.expect("error").await["code"], json!("unavailable"));
    }
    let lines = count(&server.log(), "WRONGTYPE");
    assert!((1..=10).contains(&lines), "{}", server.log());
    assert_eq!(server.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn a_redis_cluster_is_said_to_be_one() {
    let Some(redis) = Redis::with(&["--cluster-enabled", "yes", "--cluster-port", "0"]).await else { return };
    let server = Server::start(&[("ROOMCAST_REDIS_URL", &redis.url())]);
    eventually("the log says why", async || server.log().contains("Redis Cluster").then_some(())).await;
    assert_eq!(server.get("/readyz").await.0, 503);
}

#[tokio::test]
async fn the_documented_rights_are_enough() {
    let Some(redis) = Redis::start().await else { return };
    let page = std::fs::read_to_string("docs/operations.md").unwrap();
    let (_, rest) = page.split_once("ACL SETUSER chat").expect("the line for a user of its own");
    let (rights, _) = rest.split_once("```").expect("the end of the line");
    let mut connection = redis.connect().await;
    command(&mut connection, &format!("ACL SETUSER chat {}", rights.replace("PASSWORD", "pw"))).await;
    command(&mut connection, "CONFIG SET maxmemory 1gb").await;
    // A server must select a database other than 0.
    let url = redis.url().replace("//", "//chat:pw@").replace("/0", "/3");
    let settings = [
        ("ROOMCAST_REDIS_URL", url.as_str()),
        ("ROOMCAST_COMPARE_INTERVAL", "100ms"),
        ("ROOMCAST_JWT_SECRET", SECRET),
        ("ROOMCAST_JWT_AUDIENCE", "chat"),
        ("ROOMCAST_ANONYMOUS", r#"{"rooms":{"*":["*"]},"broadcast":true}"#),
    ];
    let server = Server::start(&settings);
    server.is_ready().await;
    let mut ann = server.member("lobby", "ann").await;
    is_acked(&mut ann, "lobby", "1").await;
    ann.send(&json!({"type": "broadcast", "text": "all"})).await;
    ann.expect("broadcast").await;
    let mut back = server.client().await;
    back.send(&json!({"type": "join", "room": "lobby", "username": "back", "last": 1})).await;
    back.expect("joined").await;
    assert_eq!(back.texts(1).await, ["hello"]);
    back.send(&json!({"type": "signal", "room": "lobby", "event": "typing"})).await;
    ann.expect("signal").await;
    back.send(&json!({"type": "history", "room": "lobby"})).await;
    back.expect("history").await;
    let moderator = Token::of("mod", json!({"moderate": ["*"]}));
    let mut moderator = Client::dial_with(
        &format!("ws://{}/ws", server.address),
        &[("authorization", &format!("Bearer {}", moderator.signed()))],
    )
    .await
    .expect("a WebSocket");
    moderator.expect("authenticated").await;
    for measure in [
        json!({"type": "moderate", "action": "mute", "room": "lobby", "username": "eve", "seconds": 600}),
        json!({"type": "moderate", "action": "slow_mode", "room": "lobby", "seconds": 1}),
        json!({"type": "moderate", "action": "slow_mode", "room": "lobby", "seconds": 0}),
        json!({"type": "moderate", "action": "kick", "room": "lobby", "username": "eve"}),
        json!({"type": "moderate", "action": "unmute", "room": "lobby", "username": "eve"}),
    ] {
        moderator.send(&measure).await;
        moderator.expect("moderated").await;
    }
    back.leave("lobby").await;
    server.metric_is("roomcast_rooms", 1.0).await;
    let stats: String = redis::cmd("ACL")
        .arg("LOG")
        .query_async::<redis::Value>(&mut connection)
        .await
        .map(|log| format!("{log:?}"))
        .unwrap();
    assert_eq!(stats, "array([])", "something was asked for that is not allowed");
    assert!(!server.log().contains("Redis "), "{}", server.log());
}

#[tokio::test]
async fn two_servers_of_one_name_say_so_and_one_that_was_restarted_does_not() {
    let Some(redis) = Redis::start().await else { return };
    let first = Server::on(&redis, "same").await;
    drop(first);
    let one = Server::on(&redis, "same").await;
    // Each check is a second after the last one.
    let mut connection = redis.connect().await;
    let mark =
        async |connection: &mut MultiplexedConnection| connection.get::<_, String>("ws:mark:same").await.unwrap();
    for _ in 0..5 {
        let before = mark(&mut connection).await;
        eventually("the next check", async || (mark(&mut connection).await != before).then_some(())).await;
    }
    assert_eq!(one.metric("roomcast_name_shared").await, 0.0);
    assert!(!one.log().contains("ERROR"), "{}", one.log());
    let two = Server::on(&redis, "same").await;
    for server in [&one, &two] {
        server.metric_is("roomcast_name_shared", 1.0).await;
        assert_eq!(count(&server.log(), "ROOMCAST_ORIGIN_SERVER"), 1, "{}", server.log());
        assert_eq!(server.get("/readyz").await.0, 200);
    }
}

#[tokio::test]
async fn a_redis_that_was_emptied_is_noticed_without_a_word_being_said() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::with(&redis, "one", &[("ROOMCAST_COMPARE_INTERVAL", "10m")]).await;
    let mut ann = server.member("lobby", "ann").await;
    is_acked(&mut ann, "lobby", "1").await;
    command(&mut redis.connect().await, "FLUSHALL").await;
    let reset = ann.expect("reset").await;
    assert_eq!((&reset["reason"], &reset["seq"]), (&json!("new_epoch"), &json!(0)));
    assert_eq!(server.metric("roomcast_subscriber_connects_total").await, 1.0);
    assert!(server.log().contains("lost its last writes"), "{}", server.log());
}

#[tokio::test]
async fn the_memory_broker_has_place_for_so_many_rooms() {
    let server = Server::in_memory(&[("ROOMCAST_MEMORY_BROKER_BYTES", "1MiB")]).await;
    let mut ann = server.member("lobby", "ann").await;
    let mut eve = server.client().await;
    let refused = loop {
        let room = format!("room-{}", rand::random::<u64>());
        let answer = ask_to_join(&mut eve, &room).await;
        if answer["type"] != "joined" {
            break answer;
        }
        eve.leave(&room).await;
    };
    assert_eq!(refused["code"], json!("overloaded"));
    is_acked(&mut ann, "lobby", "1").await;
}

/// Other programs' keys under a server's own names cost a line in the log, and no more.
#[tokio::test]
async fn keys_of_another_type_under_a_servers_own_names_do_not_take_it_out() {
    let Some(redis) = Redis::start().await else { return };
    let mut connection = redis.connect().await;
    for key in ["ws:secret", "ws:mark:one"] {
        command(&mut connection, &format!("RPUSH {key} x")).await;
    }
    let (one, two) = (Server::on(&redis, "one").await, Server::on(&redis, "two").await);
    let (mut ann, mut bob) = (one.member("lobby", "ann").await, two.member("lobby", "bob").await);
    is_acked(&mut ann, "lobby", "1").await;
    assert_eq!(bob.texts(1).await, ["hello"]);
    assert_eq!(count(&one.log(), "somebody else wrote a key of this server"), 1);
}

/// Members of a room without messages for long are not told about a gap: its numbering must not end.
#[tokio::test]
async fn the_life_of_an_epoch_is_not_shortened_by_a_visit() {
    let Some(redis) = Redis::start().await else { return };
    let settings = [("ROOMCAST_COMPARE_INTERVAL", "100ms")];
    let (one, two) = (Server::with(&redis, "one", &settings).await, Server::on(&redis, "two").await);
    let _ann = one.member("silent", "ann").await;
    let mut connection = redis.connect().await;
    let mut life = async || -> i64 {
        redis::cmd("PTTL").arg("ws:meta:{ws:room:silent}").query_async(&mut connection).await.unwrap()
    };
    // It has members, which a look-up finds out.
    eventually("it lives for longer than an empty room", async || (life().await > 700_000).then_some(())).await;
    two.member("silent", "bob").await;
    assert!(life().await > 700_000);
}
