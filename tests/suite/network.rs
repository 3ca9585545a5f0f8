//! The network between one server and Redis fails, and nobody is told.

use serde_json::json;

use crate::support::{Client, Network, Proxy, Redis, Server, eventually};

const QUICK: &[(&str, &str)] = &[
    ("ROOMCAST_REDIS_COMMAND_TIMEOUT", "300ms"),
    ("ROOMCAST_REDIS_CONNECT_TIMEOUT", "300ms"),
    ("ROOMCAST_SUBSCRIBER_PROBE_INTERVAL", "200ms"),
    ("ROOMCAST_COMPARE_INTERVAL", "200ms"),
];

/// A server behind a network of its own and one with a sound one, and a member of the lobby on each.
struct Scene {
    proxy: Proxy,
    one: Server,
    ann: Client,
    two: Server,
    bob: Client,
    redis: Redis,
}

impl Scene {
    async fn set() -> Option<Self> {
        let redis = Redis::start().await?;
        let proxy = Proxy::to(&redis).await;
        let url = proxy.url();
        let own = [("ROOMCAST_REDIS_URL", url.as_str()), ("ROOMCAST_ORIGIN_SERVER", "one")];
        let one = Server::start(&[&own, QUICK].concat());
        one.is_ready().await;
        let two = Server::with(&redis, "two", QUICK).await;
        let (ann, bob) = (one.member("lobby", "ann").await, two.member("lobby", "bob").await);
        Some(Self { proxy, one, ann, two, bob, redis })
    }

    async fn one_is_unready(&self, reason: &str) {
        eventually(&format!("unready: {reason}"), async || {
            let (status, body) = self.one.get("/readyz").await;
            (status == 503 && body.contains(reason)).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_cut_network_freezes_nothing_and_loses_nothing() {
    let Some(mut scene) = Scene::set().await else { return };
    scene.proxy.set(Network::Cut);
    let message = json!({"type": "message", "text": "from ann", "id": "1"});
    scene.ann.send(&message).await;
    let error = scene.ann.expect("error").await;
    assert_eq!((&error["code"], &error["id"]), (&json!("unavailable"), &json!("1")));
    scene.ann.hears_nothing().await;
    scene.one_is_unready("redis_unreachable").await;
    assert_eq!(scene.one.get("/healthz").await.0, 200);
    for number in 0..20 {
        scene.bob.say("lobby", &number.to_string()).await;
    }
    let expected: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    assert_eq!(scene.bob.texts(20).await, expected);
    scene.two.is_ready().await;

    scene.proxy.set(Network::Sound);
    scene.one.is_ready().await;
    scene.ann.send(&message).await;
    // The first try was held in the network and may have been placed before or after, but once.
    let mut texts = scene.ann.texts_until_ack(21).await;
    let own = texts.iter().position(|text| text == "from ann").unwrap();
    texts.remove(own);
    assert_eq!(texts, expected);
    assert_eq!(scene.bob.texts(1).await, ["from ann"]);
    scene.ann.hears_nothing().await;
    scene.bob.hears_nothing().await;
}

#[tokio::test]
async fn a_subscriber_that_hears_nothing_is_found_out_and_replaced() {
    let Some(mut scene) = Scene::set().await else { return };
    let connects = scene.one.metric("roomcast_subscriber_connects_total").await;
    scene.proxy.set(Network::Deaf);
    // Commands are answered all the while, so only the subscriber can notice.
    scene.bob.say("lobby", "not pushed").await;
    scene.one_is_unready("subscriber").await;
    assert!(!scene.one.get("/readyz").await.1.contains("redis_unreachable"));
    // It still comes: the regular comparison finds it.
    assert_eq!(scene.ann.texts(1).await, ["not pushed"]);
    scene.proxy.set(Network::Sound);
    scene.one.is_ready().await;
    assert!(scene.one.metric("roomcast_subscriber_connects_total").await > connects);
    assert!(scene.one.metric("roomcast_subscriber_probe_failures_total").await >= 1.0);
    eventually("the silence is over", async || {
        (scene.one.metric("roomcast_subscriber_silence_seconds").await < 0.5).then_some(())
    })
    .await;
    scene.bob.say("lobby", "pushed").await;
    assert_eq!(scene.ann.texts(1).await, ["pushed"]);
    assert_eq!(scene.redis.channels().await, ["ws:broadcast", "ws:room:lobby"]);
    drop(scene.two);
}

/// A client can have had a message from one server before another one has heard of it.
#[tokio::test]
async fn a_client_that_is_ahead_of_its_new_server_is_not_told_of_a_gap() {
    let Some(redis) = Redis::start().await else { return };
    let proxy = Proxy::to(&redis).await;
    let url = proxy.url();
    let slow = [("ROOMCAST_SUBSCRIBER_PROBE_INTERVAL", "10m"), ("ROOMCAST_COMPARE_INTERVAL", "10m")];
    let one = Server::start(&[&[("ROOMCAST_REDIS_URL", url.as_str())], &slow[..]].concat());
    one.is_ready().await;
    let two = Server::on(&redis, "two").await;
    let mut ann = one.member("lobby", "ann").await;
    let mut bob = two.member("lobby", "bob").await;
    proxy.set(Network::Deaf);
    bob.say("lobby", "1").await;
    bob.say("lobby", "2").await;
    bob.expect("message").await;
    let last = bob.expect("message").await;
    drop(bob);

    let mut bob = one.client().await;
    let after = json!({"epoch": last["epoch"], "seq": last["seq"]});
    bob.send(&json!({"type": "join", "room": "lobby", "username": "bob", "after": after})).await;
    let joined = bob.expect("joined").await;
    assert_eq!((&joined["resumed"], &joined["seq"]), (&json!(true), &json!(2)));
    assert_eq!(ann.texts(2).await, ["1", "2"]);
    ann.say("lobby", "3").await;
    assert_eq!((ann.texts(1).await, bob.texts(1).await), (vec!["3".into()], vec!["3".into()]));
    bob.hears_nothing().await;
}

/// The echo of a message shows that there is one, if the answer to its publish was lost.
#[tokio::test]
async fn a_message_whose_answer_was_lost_is_delivered_here_too() {
    let Some(redis) = Redis::start().await else { return };
    let proxy = Proxy::to(&redis).await;
    let url = proxy.url();
    // Nothing but the echo can tell: there is no comparison, and no other message.
    let settings = [
        ("ROOMCAST_REDIS_URL", url.as_str()),
        ("ROOMCAST_REDIS_COMMAND_TIMEOUT", "300ms"),
        ("ROOMCAST_SUBSCRIBER_PROBE_INTERVAL", "10m"),
        ("ROOMCAST_COMPARE_INTERVAL", "10m"),
    ];
    let one = Server::start(&settings);
    one.is_ready().await;
    let two = Server::on(&redis, "two").await;
    let mut ann = one.member("lobby", "ann").await;
    let mut bob = two.member("lobby", "bob").await;
    // The first publish of all loads the script, and what is lost then is not an answer but the message.
    ann.say("lobby", "before").await;
    assert_eq!((ann.texts(1).await, bob.texts(1).await), (vec!["before".into()], vec!["before".into()]));
    proxy.set(Network::Mute);
    let message = json!({"type": "message", "text": "x", "id": "1"});
    ann.send(&message).await;
    assert_eq!(bob.texts(1).await, ["x"]);
    assert_eq!(ann.expect("error").await["code"], "unavailable");
    proxy.set(Network::Sound);
    assert_eq!(ann.texts(1).await, ["x"]);
    one.is_ready().await;
    ann.send(&message).await;
    ann.expect("ack").await;
    for member in [&mut ann, &mut bob] {
        member.hears_nothing().await;
    }
}
