//! What a moderator does holds on all servers from its answer on; what is revoked is revoked everywhere.

use serde_json::{Value, json};

use crate::support::{Client, Network, Proxy, Redis, SECRET, Server, Token, eventually, in_seconds, run_with};

const KEYED: [(&str, &str); 2] = [("ROOMCAST_JWT_SECRET", SECRET), ("ROOMCAST_JWT_AUDIENCE", "chat")];

async fn servers(redis: &Redis) -> [Server; 2] {
    [Server::with(redis, "one", &KEYED).await, Server::with(redis, "two", &KEYED).await]
}

async fn enter(server: &Server, token: &Token) -> Client {
    let authorization = format!("Bearer {}", token.signed());
    let url = format!("ws://{}/ws", server.address);
    let mut client = Client::dial_with(&url, &[("authorization", &authorization)]).await.expect("a WebSocket");
    client.expect("authenticated").await;
    client
}

async fn member(server: &Server, room: &str, user: &str) -> Client {
    let mut client = enter(server, &Token::of(user, json!({"rooms": {"*": ["*"]}, "broadcast": true}))).await;
    client.send(&json!({"type": "join", "room": room})).await;
    client.expect("joined").await;
    client
}

async fn moderator(server: &Server) -> Client {
    enter(server, &Token::of("mod", json!({"rooms": {"*": ["*"]}, "moderate": ["*"]}))).await
}

async fn takes(moderator: &mut Client, measure: &Value) {
    let mut command = measure.clone();
    command["type"] = json!("moderate");
    moderator.send(&command).await;
    let mut expected = measure.clone();
    expected["type"] = json!("moderated");
    assert_eq!(moderator.expect("moderated").await, expected);
}

/// The code of the refusal of a message, or `None` if it is kept.
async fn speaks(client: &mut Client, room: &str, id: &str) -> Option<String> {
    client.send(&json!({"type": "message", "room": room, "text": id, "id": id})).await;
    loop {
        let event = client.next().await;
        if event["id"] == id && event["type"] != "message" {
            assert_eq!(event["room"], room);
            return event["code"].as_str().map(str::to_owned);
        }
    }
}

#[tokio::test]
async fn a_measure_holds_on_all_servers_from_its_answer_on() {
    let Some(redis) = Redis::start().await else { return };
    let [one, two] = servers(&redis).await;
    let mut bob = member(&two, "lobby", "bob").await;
    let mut ann = member(&two, "lobby", "ann").await;
    let mut moderator = moderator(&one).await;
    // Each of these could be late by chance.
    for round in 0..5 {
        let id = |name: &str| format!("{name}-{round}");
        takes(&mut moderator, &json!({"room": "lobby", "action": "mute", "username": "bob", "seconds": 600})).await;
        assert_eq!(speaks(&mut bob, "lobby", &id("muted")).await.as_deref(), Some("muted"));
        assert_eq!(speaks(&mut ann, "lobby", &id("free")).await, None);
        takes(&mut moderator, &json!({"room": "lobby", "action": "unmute", "username": "bob"})).await;
        assert_eq!(speaks(&mut bob, "lobby", &id("muted")).await, None);
    }
    takes(&mut moderator, &json!({"room": "lobby", "action": "slow_mode", "seconds": 60})).await;
    assert_eq!(speaks(&mut bob, "lobby", "slow-1").await, None);
    assert_eq!(speaks(&mut bob, "lobby", "slow-2").await.as_deref(), Some("slow_mode"));
    assert_eq!(speaks(&mut ann, "lobby", "slow-1").await, None);
    takes(&mut moderator, &json!({"room": "lobby", "action": "slow_mode", "seconds": 0})).await;
    assert_eq!(speaks(&mut bob, "lobby", "slow-2").await, None);
    let log = one.log();
    assert!(log.contains(r#"moderated action="mute" room="lobby" user="bob""#) && log.contains(r#"by="mod""#), "{log}");
}

#[tokio::test]
async fn who_is_banned_leaves_and_does_not_come_back() {
    let Some(redis) = Redis::start().await else { return };
    let [one, two] = servers(&redis).await;
    let mut moderator = moderator(&one).await;
    let (mut bob, mut ann) = (member(&two, "lobby", "bob").await, member(&two, "lobby", "ann").await);
    bob.send(&json!({"type": "join", "room": "other"})).await;
    bob.expect("joined").await;
    takes(&mut moderator, &json!({"room": "lobby", "action": "ban", "username": "bob", "seconds": 600})).await;
    assert_eq!(bob.expect("left").await, json!({"type": "left", "room": "lobby", "reason": "banned"}));
    for server in [&one, &two] {
        let mut again = enter(server, &Token::of("bob", json!({"rooms": {"*": ["*"]}}))).await;
        again.send(&json!({"type": "join", "room": "lobby"})).await;
        let error = again.expect("error").await;
        assert_eq!((&error["code"], &error["room"]), (&json!("banned"), &json!("lobby")));
        assert!(error["retry_after_ms"].as_u64().is_some_and(|wait| wait <= 600_000), "{error}");
    }
    assert_eq!(speaks(&mut bob, "other", "1").await, None);
    takes(&mut moderator, &json!({"room": "lobby", "action": "unban", "username": "bob"})).await;
    bob.send(&json!({"type": "join", "room": "lobby"})).await;
    bob.expect("joined").await;
    takes(&mut moderator, &json!({"room": "lobby", "action": "kick", "username": "bob"})).await;
    assert_eq!(bob.expect("left").await["reason"], "kicked");
    bob.send(&json!({"type": "join", "room": "lobby"})).await;
    bob.expect("joined").await;
    assert_eq!(speaks(&mut ann, "lobby", "1").await, None);
    assert_eq!(bob.texts(1).await, ["1"]);
    assert_eq!(two.metric("roomcast_memberships").await, 3.0);
}

/// What held before a server started is not news to it.
#[tokio::test]
async fn who_may_be_back_is_not_removed_again_by_a_server_that_starts() {
    let Some(redis) = Redis::start().await else { return };
    let [one, two] = servers(&redis).await;
    let mut moderator = moderator(&one).await;
    let mut bob = member(&two, "lobby", "bob").await;
    takes(&mut moderator, &json!({"room": "lobby", "action": "ban", "username": "bob"})).await;
    bob.expect("left").await;
    takes(&mut moderator, &json!({"room": "lobby", "action": "unban", "username": "bob"})).await;
    drop(two);
    for round in 0..5 {
        let url = redis.url();
        let name = format!("new-{round}");
        let own = [("ROOMCAST_REDIS_URL", url.as_str()), ("ROOMCAST_ORIGIN_SERVER", &name)];
        let new = Server::start(&[&own[..], &KEYED].concat());
        // At once, before it is ready.
        let mut bob = enter(&new, &Token::of("bob", json!({"rooms": {"*": ["*"]}}))).await;
        eventually("the room is joined", async || {
            bob.send(&json!({"type": "join", "room": "lobby"})).await;
            (bob.next().await["type"] == "joined").then_some(())
        })
        .await;
        new.is_ready().await;
        bob.hears_nothing().await;
    }
}

#[tokio::test]
async fn who_is_banned_while_it_is_caught_up_gets_nothing_more() {
    let Some(redis) = Redis::start().await else { return };
    let [one, two] = servers(&redis).await;
    let mut moderator = moderator(&one).await;
    let mut ann = member(&one, "lobby", "ann").await;
    let mut eve = enter(&two, &Token::of("eve", json!({"rooms": {"*": ["*"]}}))).await;
    eve.send(&json!({"type": "join", "room": "lobby"})).await;
    let start = eve.expect("joined").await;
    eve.leave("lobby").await;
    // More than fits into all buffers on the way.
    let text = "x".repeat(16 << 10);
    for _ in 0..250 {
        ann.say("lobby", &text).await;
        ann.texts(1).await;
    }
    let after = json!({"epoch": start["epoch"], "seq": start["seq"]});
    eve.send(&json!({"type": "join", "room": "lobby", "after": after})).await;
    eve.expect("joined").await;
    eve.texts(1).await;
    takes(&mut moderator, &json!({"room": "lobby", "action": "ban", "username": "eve"})).await;
    ann.say("lobby", "after the ban").await;
    ann.texts(1).await;
    let mut heard = 1;
    loop {
        let event = eve.next().await;
        match event["type"].as_str() {
            Some("message") => {
                assert_ne!(event["text"], "after the ban");
                heard += 1;
            }
            _ => {
                assert_eq!(event, json!({"type": "left", "room": "lobby", "reason": "banned"}));
                break;
            }
        }
    }
    assert!(heard < 250, "{heard}: all of it was on its way before the ban, which shows nothing");
}

#[tokio::test]
async fn a_ban_that_cannot_be_looked_up_lets_nobody_in() {
    let Some(redis) = Redis::start().await else { return };
    let [one, _two] = servers(&redis).await;
    let mut moderator = moderator(&one).await;
    // The room is open here, so that a join needs nothing else of Redis.
    let _ann = member(&one, "lobby", "ann").await;
    let mut eve = enter(&one, &Token::of("eve", json!({"rooms": {"*": ["*"]}}))).await;
    takes(&mut moderator, &json!({"room": "lobby", "action": "ban", "username": "eve"})).await;
    let mut connection = redis.connect().await;
    // Longer than a command may take, and shorter than a join.
    let _: () = redis::cmd("CLIENT").arg("PAUSE").arg(2300).arg("ALL").query_async(&mut connection).await.unwrap();
    for _ in 0..2 {
        eve.send(&json!({"type": "join", "room": "lobby"})).await;
        let code = eve.expect("error").await["code"].clone();
        assert!(code == "unavailable" || code == "banned", "{code}");
    }
}

#[tokio::test]
async fn a_measure_of_whatever_length_ends_no_other() {
    let Some(redis) = Redis::start().await else { return };
    let [one, _two] = servers(&redis).await;
    let mut moderator = moderator(&one).await;
    takes(&mut moderator, &json!({"room": "lobby", "action": "ban", "username": "eve"})).await;
    for seconds in [u64::MAX, 10_000_000_000_000_000, 315_360_001] {
        moderator
            .send(
                &json!({"type": "moderate", "room": "lobby", "action": "mute", "username": "bob", "seconds": seconds}),
            )
            .await;
        assert_eq!(moderator.expect("error").await["code"], "bad_field", "{seconds}");
    }
    let longest = json!({"room": "lobby", "action": "mute", "username": "bob", "seconds": 315_360_000});
    takes(&mut moderator, &longest).await;
    takes(&mut moderator, &json!({"room": "lobby", "action": "slow_mode", "seconds": 9})).await;
    takes(&mut moderator, &json!({"room": "lobby", "action": "slow_mode", "seconds": 0})).await;
    takes(&mut moderator, &json!({"room": "lobby", "action": "mute", "username": "ann", "seconds": 1})).await;
    let mut eve = enter(&one, &Token::of("eve", json!({"rooms": {"*": ["*"]}}))).await;
    eve.send(&json!({"type": "join", "room": "lobby"})).await;
    assert_eq!(eve.expect("error").await["code"], "banned");
    let mut bob = member(&one, "lobby", "bob").await;
    assert_eq!(speaks(&mut bob, "lobby", "1").await.as_deref(), Some("muted"));
}

#[tokio::test]
async fn a_moderator_takes_no_more_measures_than_one_person_would() {
    let server = Server::in_memory(&[&KEYED[..], &[("ROOMCAST_LIMITS", "on")]].concat()).await;
    let mut moderator = moderator(&server).await;
    for number in 0..80 {
        let user = format!("user-{number}");
        moderator.send(&json!({"type": "moderate", "room": "a", "action": "kick", "username": user})).await;
    }
    let (mut taken, mut refused) = (0, 0);
    while taken + refused < 80 {
        let event = moderator.next().await;
        match event["type"].as_str() {
            Some("moderated") => taken += 1,
            _ if event["room"] == "a" => {
                assert!(event["code"] == "rate_limited" && event["retry_after_ms"].is_u64(), "{event}");
                refused += 1;
            }
            _ => assert_eq!(event["code"], "rate_limited", "it is also told that it is fast"),
        }
    }
    assert!(taken >= 50 && refused > 0, "{taken} {refused}");
    assert_eq!(server.metric("roomcast_limited_total{limit=\"measures\"}").await, f64::from(refused));
}

#[tokio::test]
async fn who_is_muted_everywhere_says_nothing_anywhere() {
    let Some(redis) = Redis::start().await else { return };
    let [one, two] = servers(&redis).await;
    let mut moderator = moderator(&one).await;
    let mut bob = member(&two, "lobby", "bob").await;
    takes(&mut moderator, &json!({"action": "mute", "username": "bob"})).await;
    eventually("the other server hears it", async || {
        (speaks(&mut bob, "lobby", "1").await.as_deref() == Some("muted")).then_some(())
    })
    .await;
    bob.send(&json!({"type": "broadcast", "text": "x"})).await;
    assert_eq!(bob.expect("error").await["code"], "muted");
    takes(&mut moderator, &json!({"action": "unmute", "username": "bob"})).await;
    eventually("the other server hears it", async || speaks(&mut bob, "lobby", "2").await.is_none().then_some(()))
        .await;
}

#[tokio::test]
async fn only_those_moderate_who_may_and_only_where_they_may() {
    let server = Server::in_memory(&KEYED).await;
    let mut some = enter(&server, &Token::of("some", json!({"rooms": {"*": ["*"]}, "moderate": ["team:*"]}))).await;
    for command in [
        json!({"action": "mute", "room": "lobby", "username": "bob"}),
        json!({"action": "mute", "username": "bob"}),
        json!({"action": "slow_mode", "room": "lobby", "seconds": 1}),
    ] {
        let mut command = command;
        command["type"] = json!("moderate");
        some.send(&command).await;
        let error = some.expect("error").await;
        assert_eq!((&error["code"], &error["right"]), (&json!("forbidden"), &json!("moderate")), "{command}");
    }
    takes(&mut some, &json!({"room": "team:42", "action": "mute", "username": "bob"})).await;
    for command in [
        json!({"action": "hug", "room": "team:42", "username": "bob"}),
        json!({"action": "ban", "username": "bob"}),
        json!({"action": "mute", "room": "team:42"}),
        json!({"action": "slow_mode", "room": "team:42"}),
        json!({"action": "slow_mode", "room": "team:42", "seconds": 100_000}),
        json!({"action": "mute", "room": "team:42", "username": "bob", "seconds": "ten"}),
    ] {
        let mut command = command;
        command["type"] = json!("moderate");
        some.send(&command).await;
        let code = some.expect("error").await["code"].clone();
        assert!(code == "bad_field" || code == "missing_field", "{command}: {code}");
    }
    let open = Server::in_memory(&[]).await;
    let mut eve = open.member("lobby", "eve").await;
    eve.send(&json!({"type": "moderate", "action": "ban", "room": "lobby", "username": "ann"})).await;
    assert_eq!(eve.expect("error").await["code"], "forbidden");
}

#[tokio::test]
async fn what_is_revoked_is_refused_and_ended_on_every_server_also_on_one_that_was_cut_off() {
    let Some(redis) = Redis::start().await else { return };
    let network = Proxy::to(&redis).await;
    let one = Server::with(&redis, "one", &KEYED).await;
    let cut = [("ROOMCAST_REDIS_URL", network.url()), ("ROOMCAST_ORIGIN_SERVER", "two".to_owned())];
    let cut = cut.iter().map(|(name, value)| (*name, value.as_str()));
    let two = Server::start(&cut.chain(KEYED).chain([("ROOMCAST_REDIS_COMMAND_TIMEOUT", "500ms")]).collect::<Vec<_>>());
    two.is_ready().await;
    let token = |user: &str, id: &str| {
        Token::of(user, json!({"rooms": {"*": ["*"]}})).with("jti", id).with("iat", in_seconds(0) - 10)
    };
    let (mut first, mut second) = (enter(&one, &token("ann", "1")).await, enter(&two, &token("ann", "2")).await);
    let (mut third, mut fourth) = (enter(&two, &token("ann", "1")).await, enter(&one, &token("bob", "3")).await);

    network.set(Network::Cut);
    let url = redis.url();
    let settings = [&KEYED[..], &[("ROOMCAST_REDIS_URL", url.as_str())]].concat();
    let revoke = async |arguments: &[&str]| {
        let outcome = run_with(&settings, &[&["revoke"], arguments].concat()).await;
        assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    };
    revoke(&["--id", "1"]).await;
    assert_eq!(first.expect("error").await["code"], "unauthorized");
    assert_eq!(first.closed().await, 4501);
    fourth.hears_nothing().await;
    network.set(Network::Sound);
    assert_eq!(third.closed().await, 4501, "late, but not never");
    second.hears_nothing().await;

    let refused = async |server: &Server, token: &Token| {
        let mut client = server.client().await;
        client.send(&json!({"type": "auth", "token": token.signed()})).await;
        let event = client.next().await;
        event["code"] == "unauthorized" && event["message"] == "the token was revoked"
    };
    assert!(refused(&one, &token("ann", "1")).await && refused(&two, &token("ann", "1")).await);
    revoke(&["--user", "ann"]).await;
    assert_eq!(second.closed().await, 4501);
    assert!(refused(&one, &token("ann", "9")).await && !refused(&one, &token("bob", "9")).await);
    let newer = token("ann", "10").with("iat", in_seconds(2));
    assert!(!refused(&one, &newer).await, "one that is issued later is good");
    revoke(&["--issued-before", "now"]).await;
    assert_eq!(fourth.closed().await, 4501);
    // A server that starts later knows it too.
    let three = Server::with(&redis, "three", &KEYED).await;
    eventually("it knows", async || refused(&three, &token("bob", "3")).await.then_some(())).await;
}
