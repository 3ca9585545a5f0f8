//! Redis goes away and comes back.

use serde_json::{Value, json};

use crate::support::{Client, Redis, Server, eventually};

const QUICK: &[(&str, &str)] =
    &[("ROOMCAST_REDIS_COMMAND_TIMEOUT", "300ms"), ("ROOMCAST_REDIS_CONNECT_TIMEOUT", "300ms")];

#[tokio::test]
async fn sockets_stay_sends_are_refused_and_all_goes_on_when_it_is_back() {
    let Some(mut redis) = Redis::start().await else { return };
    let (one, two) = (Server::with(&redis, "one", QUICK).await, Server::with(&redis, "two", QUICK).await);
    let mut ann = one.member("lobby", "ann").await;
    let mut bob = two.member("lobby", "bob").await;
    ann.say("lobby", "before").await;
    assert_eq!((ann.texts(1).await, bob.texts(1).await), (vec!["before".into()], vec!["before".into()]));

    redis.kill();
    let message = json!({"type": "message", "room": "lobby", "text": "meanwhile", "id": "m-1"});
    ann.send(&message).await;
    let error = ann.expect("error").await;
    assert_eq!((&error["code"], &error["id"], &error["room"]), (&json!("unavailable"), &json!("m-1"), &json!("lobby")));
    ann.hears_nothing().await;
    ann.send(&json!({"type": "join", "room": "new", "username": "ann"})).await;
    let error = ann.expect("error").await;
    assert_eq!((&error["code"], &error["room"]), (&json!("unavailable"), &json!("new")));
    is_unready(&one, &["redis_unreachable", "subscriber_disconnected"]).await;
    assert_eq!(one.get("/healthz").await.0, 200);

    redis.restart().await;
    for server in [&one, &two] {
        server.is_ready().await;
    }
    assert_eq!(redis.channels().await, ["ws:broadcast", "ws:room:lobby"]);
    ann.send(&message).await;
    assert_eq!(ann.texts(1).await, ["meanwhile"]);
    ann.expect("ack").await;
    assert_eq!(bob.texts(1).await, ["meanwhile"]);
    bob.say("lobby", "after").await;
    assert_eq!((ann.texts(1).await, bob.texts(1).await), (vec!["after".into()], vec!["after".into()]));
    assert!(one.metric("roomcast_subscriber_connects_total").await >= 2.0);
}

#[tokio::test]
async fn what_was_published_while_the_subscriber_was_away_is_there_when_it_is_back() {
    let Some(redis) = Redis::start().await else { return };
    let (one, two) = (Server::on(&redis, "one").await, Server::on(&redis, "two").await);
    let mut ann = one.member("lobby", "ann").await;
    let mut bob = two.member("lobby", "bob").await;
    for round in 0..10 {
        // Cuts the subscribers' connections and nothing else; the next message may well be pushed to nobody.
        let mut connection = redis.connect().await;
        let cut: u32 =
            redis::cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub").query_async(&mut connection).await.unwrap();
        assert!(cut > 0);
        let text = format!("round {round}");
        bob.say("lobby", &text).await;
        assert_eq!(ann.texts(1).await, [&*text]);
        assert_eq!(bob.texts(1).await, [text]);
        for server in [&one, &two] {
            server.is_ready().await;
        }
    }
}

#[tokio::test]
async fn a_hanging_redis_freezes_nothing() {
    let Some(redis) = Redis::start().await else { return };
    let one = Server::with(&redis, "one", QUICK).await;
    let mut ann = one.member("lobby", "ann").await;
    let mut bob = one.member("lobby", "bob").await;
    redis.signal("STOP");
    ann.send(&json!({"type": "message", "text": "hello?", "id": "m-1"})).await;
    // Others are served while the first one waits.
    bob.hears_nothing().await;
    assert_eq!(ann.expect("error").await["code"], "unavailable");
    is_unready(&one, &["redis_unreachable"]).await;
    redis.signal("CONT");
    one.is_ready().await;
    // The first try may have been kept when Redis woke up. However that went, there is one message and an ack.
    assert_eq!(acked(&mut ann, &json!({"type": "message", "text": "hello?", "id": "m-1"})).await, ["hello?"]);
    assert_eq!(bob.texts(1).await, ["hello?"]);
    bob.hears_nothing().await;
}

#[tokio::test]
async fn a_server_starts_without_redis_and_is_ready_when_it_comes() {
    let Some(mut redis) = Redis::start().await else { return };
    redis.kill();
    let url = redis.url();
    let server = Server::start(&[("ROOMCAST_REDIS_URL", &url)]);
    is_unready(&server, &["redis_unreachable", "subscriber_disconnected"]).await;
    let mut early = server.client().await;
    early.send(&json!({"type": "broadcast", "text": "anyone?", "id": "1"})).await;
    assert_eq!(early.expect("error").await["code"], "unavailable");
    redis.restart().await;
    server.is_ready().await;
    early.send(&json!({"type": "broadcast", "text": "anyone?", "id": "1"})).await;
    assert_eq!(early.expect("broadcast").await["text"], "anyone?");
    early.expect("ack").await;
}

/// Servers that share a Redis lose it together, and clients gain nothing if all leave the load balancer.
#[tokio::test]
async fn a_server_that_was_ready_stays_ready_for_a_while_and_says_what_is_wrong() {
    let Some(mut redis) = Redis::start().await else { return };
    let patient = [QUICK, &[("ROOMCAST_READY_GRACE", "1h")]].concat();
    let server = Server::with(&redis, "one", &patient).await;
    redis.kill();
    eventually("the trouble shows", async || {
        let (status, body) = server.get("/readyz").await;
        assert_eq!(status, 200);
        body.contains("redis_unreachable").then_some(())
    })
    .await;
    // One that never had a Redis is of no use to anybody.
    let url = redis.url();
    let new = Server::start(&[("ROOMCAST_REDIS_URL", &*url), ("ROOMCAST_READY_GRACE", "1h")]);
    is_unready(&new, &["redis_unreachable"]).await;
    redis.restart().await;
    new.is_ready().await;
}

/// The password need not stand in the URL.
#[tokio::test]
async fn a_password_of_its_own_opens_redis() {
    let Some(redis) = Redis::start().await else { return };
    let mut connection = redis.connect().await;
    let set = ["SET", "requirepass", "s3cret/@:#"];
    let _: () = redis::cmd("CONFIG").arg(&set).query_async(&mut connection).await.unwrap();
    let url = redis.url();
    let without = Server::start(&[("ROOMCAST_REDIS_URL", &url)]);
    is_unready(&without, &["redis_unreachable", "subscriber_disconnected"]).await;
    eventually("the log says why", async || without.log().contains("NOAUTH").then_some(())).await;
    let with = Server::start(&[("ROOMCAST_REDIS_URL", &url), ("ROOMCAST_REDIS_PASSWORD", "s3cret/@:#")]);
    with.is_ready().await;
}

#[tokio::test]
async fn redis_is_reached_by_tls_and_only_if_its_certificate_is_trusted() {
    let Some((redis, url, authority)) = Redis::with_tls().await else { return };
    let authority = authority.display().to_string();
    let trusting = Server::start(&[("ROOMCAST_REDIS_URL", &url), ("SSL_CERT_FILE", &authority)]);
    trusting.is_ready().await;
    let plain = Server::on(&redis, "plain").await;
    let mut ann = trusting.member("lobby", "ann").await;
    let mut bob = plain.member("lobby", "bob").await;
    ann.say("lobby", "hello").await;
    bob.say("lobby", "hi").await;
    for member in [&mut ann, &mut bob] {
        let mut texts = member.texts(2).await;
        texts.sort();
        assert_eq!(texts, ["hello", "hi"]);
    }
    let suspicious = Server::start(&[("ROOMCAST_REDIS_URL", &url)]);
    is_unready(&suspicious, &["redis_unreachable", "subscriber_disconnected"]).await;
    eventually("the log says why", async || suspicious.log().contains("certificate").then_some(())).await;
}

#[tokio::test]
async fn a_redis_that_asks_for_a_certificate_gets_one() {
    let Some((_redis, url, authority)) = Redis::with_tls_and("yes").await else { return };
    let key = authority.with_file_name("key.pem").display().to_string();
    let authority = authority.display().to_string();
    let trusted = [("ROOMCAST_REDIS_URL", &*url), ("SSL_CERT_FILE", &*authority)];
    let without = Server::start(&trusted);
    is_unready(&without, &["redis_unreachable"]).await;
    let shown = [("ROOMCAST_REDIS_TLS_CERT", &*authority), ("ROOMCAST_REDIS_TLS_KEY", &*key)];
    let with = Server::start(&[trusted, shown].concat());
    with.is_ready().await;
    let mut ann = with.member("lobby", "ann").await;
    ann.say("lobby", "hello").await;
    assert_eq!(ann.texts(1).await, ["hello"]);
}

/// Each kind of trouble has its own word, with the address, in `/readyz` and in the log, and what to look at.
#[tokio::test]
async fn what_is_wrong_with_redis_is_told_apart() {
    let Some(redis) = Redis::start().await else { return };
    let Some((secure, tls_url, _authority)) = Redis::with_tls().await else { return };
    let address = redis.address().to_string();
    let tls_address = tls_url.trim_start_matches("rediss://").trim_end_matches("/0");
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = silent.local_addr().expect("its address");
    let mut connection = redis.connect().await;
    let set = ["SETUSER", "narrow", "on", ">pw", "+@all", "~other:*", "&*"];
    let _: () = redis::cmd("ACL").arg(&set).query_async(&mut connection).await.unwrap();

    told("redis://no-such-host.invalid:6379/0", "dns", "no-such-host.invalid:6379").await;
    told("redis://127.0.0.1:1/0", "refused", "127.0.0.1:1").await;
    told(&format!("redis://{silent}/0"), "timeout", &silent.to_string()).await;
    told(&tls_url, "tls", tls_address).await;
    told(&format!("redis://narrow:wrong@{address}"), "password", &address).await;
    told(&format!("redis://narrow:pw@{address}"), "acl", &address).await;
    drop(secure);

    let replica = ["127.0.0.1", "1"];
    let _: () = redis::cmd("REPLICAOF").arg(&replica).query_async(&mut connection).await.unwrap();
    told(&redis.url(), "replica", &address).await;
}

async fn told(url: &str, cause: &str, address: &str) {
    let server = Server::start(&[("ROOMCAST_REDIS_URL", url), ("ROOMCAST_REDIS_CONNECT_TIMEOUT", "500ms")]);
    eventually(&format!("{url} is told to be {cause}"), async || {
        let (status, body) = server.get("/readyz").await;
        let body: Value = serde_json::from_str(&body).unwrap();
        (status == 503 && body["redis"]["cause"] == cause && body["redis"]["address"] == address).then_some(())
    })
    .await;
    eventually(&format!("the log says {cause}"), async || {
        let log = server.log();
        let is_said = log.contains(&format!("address=\"{address}\"")) && log.contains("cannot use Redis; retrying: ");
        is_said.then_some(())
    })
    .await;
    let log = server.log();
    assert!(!log.contains(":wrong@") && !log.contains(":pw@"), "a password is in {log}");
}

async fn is_unready(server: &Server, reasons: &[&str]) {
    eventually(&format!("unready because of {reasons:?}"), async || {
        let (status, body) = server.get("/readyz").await;
        let body: Value = serde_json::from_str(&body).unwrap();
        let said = body["reasons"].as_array().unwrap();
        (status == 503 && reasons.iter().all(|reason| said.contains(&json!(reason)))).then_some(())
    })
    .await;
}

/// Sends until there is an ack, which comes after the message itself; returns the texts of the messages before it.
async fn acked(client: &mut Client, message: &Value) -> Vec<String> {
    let mut texts = Vec::new();
    client.send(message).await;
    loop {
        let event = client.next().await;
        match event["type"].as_str().unwrap() {
            "message" => texts.push(event["text"].as_str().unwrap().to_owned()),
            "ack" if texts.is_empty() => return client.texts(1).await,
            "ack" => return texts,
            "error" => client.send(message).await,
            other => panic!("{other}"),
        }
    }
}

/// A Redis that answers but takes no writes, as a replica does, is tried again with a pause in between.
#[tokio::test]
async fn a_redis_that_takes_no_writes_is_not_stormed() {
    let Some(redis) = Redis::start().await else { return };
    let mut connection = redis.connect().await;
    let unreachable = ["127.0.0.1", "1"];
    let _: () = redis::cmd("REPLICAOF").arg(&unreachable).query_async(&mut connection).await.unwrap();
    let server = Server::start(&[("ROOMCAST_REDIS_URL", &redis.url())]);
    is_unready(&server, &["redis_unreachable"]).await;
    let start = std::time::Instant::now();
    eventually("it was tried a few times", async || {
        let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut connection).await.unwrap();
        let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_set:calls="))?;
        let refused: u32 = calls.rsplit_once("rejected_calls=")?.1.split(',').next()?.parse().ok()?;
        (refused >= 8).then_some(())
    })
    .await;
    let stats: String = redis::cmd("INFO").arg("stats").query_async(&mut connection).await.unwrap();
    let received = stats.lines().find_map(|line| line.strip_prefix("total_connections_received:")).unwrap();
    let received: u64 = received.parse().unwrap();
    // Half of the first wait, doubled up to a second, gives fewer than ten in the first second.
    assert!(received < 20 + 2 * start.elapsed().as_secs(), "{received} connections");

    let _: () = redis::cmd("REPLICAOF").arg("NO").arg("ONE").query_async(&mut connection).await.unwrap();
    server.is_ready().await;
}

/// If it were not refused, it would wait for minutes for a room that cannot be opened.
#[tokio::test]
async fn a_join_is_refused_at_once_while_redis_is_known_to_be_away() {
    let Some(mut redis) = Redis::start().await else { return };
    let patient = [("ROOMCAST_REDIS_COMMAND_TIMEOUT", "1m"), ("ROOMCAST_REDIS_CONNECT_TIMEOUT", "300ms")];
    let server = Server::with(&redis, "one", &patient).await;
    let mut ann = server.member("lobby", "ann").await;
    redis.kill();
    is_unready(&server, &["redis_unreachable", "subscriber_disconnected"]).await;
    for room in ["one", "two", "three"] {
        ann.send(&json!({"type": "join", "room": room, "username": "ann"})).await;
        let error = ann.expect("error").await;
        assert_eq!((&error["code"], &error["room"]), (&json!("unavailable"), &json!(room)));
    }
    // The room is open, but only the log could say whether there is such a position.
    let mut bob = server.client().await;
    let after = json!({"epoch": "00000000000000aa", "seq": 7});
    bob.send(&json!({"type": "join", "room": "lobby", "username": "bob", "after": after})).await;
    assert_eq!(bob.expect("error").await["code"], "unavailable");
    ann.hears_nothing().await;
}
