//! Which channels a server listens on, and on which connection; looked up in Redis itself.

use std::collections::{BTreeMap, BTreeSet};

use rand::{
    Rng, SeedableRng,
    rngs::StdRng,
    seq::{IndexedRandom, IteratorRandom},
};

use crate::support::{Client, Redis, Server, eventually};

async fn channels_are(redis: &Redis, expected: &[&str]) {
    eventually(&format!("the channels are {expected:?}"), async || (redis.channels().await == expected).then_some(()))
        .await;
}

#[tokio::test]
async fn one_connection_only_subscribes_and_the_others_never_do() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::on(&redis, "one").await;
    let mut ann = server.member("lobby", "ann").await;
    ann.say("lobby", "hello").await;
    ann.texts(1).await;

    let mut connection = redis.connect().await;
    let clients: String = redis::cmd("CLIENT").arg("LIST").query_async(&mut connection).await.unwrap();
    let others: Vec<&str> = clients.lines().filter(|line| !line.contains("cmd=client")).collect();
    let (subscribers, commanders): (Vec<&str>, Vec<&str>) = others.iter().partition(|line| !line.contains(" sub=0 "));
    assert_eq!(subscribers.len(), 1, "{clients}");
    // The broadcast channel, the room, the channel for what holds on all servers, and the server's own for probes.
    assert!(subscribers[0].contains(" sub=4 ") && subscribers[0].contains(" cmd=subscribe"), "{clients}");
    assert!(!commanders.is_empty(), "{clients}");
    assert!(commanders.iter().all(|line| !line.contains("cmd=subscribe")), "{clients}");
}

#[tokio::test]
async fn a_channel_is_subscribed_only_while_there_are_members() {
    let Some(redis) = Redis::start().await else { return };
    let (one, two) = (Server::on(&redis, "one").await, Server::on(&redis, "two").await);
    channels_are(&redis, &["ws:broadcast"]).await;

    let mut ann = one.member("lobby", "ann").await;
    let mut bob = one.member("lobby", "bob").await;
    let cem = two.member("lobby:2", "cem").await;
    assert_eq!(redis.channels().await, ["ws:broadcast", "ws:room:lobby", "ws:room:lobby:2"]);

    ann.leave("lobby").await;
    one.metric_is("roomcast_memberships", 1.0).await;
    assert_eq!(redis.channels().await, ["ws:broadcast", "ws:room:lobby", "ws:room:lobby:2"]);
    bob.leave("lobby").await;
    channels_are(&redis, &["ws:broadcast", "ws:room:lobby:2"]).await;
    // A client that is simply gone counts as one that left.
    drop(cem);
    channels_are(&redis, &["ws:broadcast"]).await;
    two.metric_is("ws_connected_clients", 0.0).await;
}

#[tokio::test]
async fn a_room_that_empties_and_refills_quickly_still_hears() {
    let Some(redis) = Redis::start().await else { return };
    let (one, two) = (Server::on(&redis, "one").await, Server::on(&redis, "two").await);
    let mut ann = one.member("lobby", "ann").await;
    let mut bob = two.member("lobby", "bob").await;
    for round in 0..100 {
        // Not waiting for `left` leaves the server no time in between.
        ann.send(&serde_json::json!({"type": "leave", "room": "lobby"})).await;
        ann.send(&serde_json::json!({"type": "join", "room": "lobby", "username": "ann"})).await;
        ann.expect("left").await;
        ann.expect("joined").await;
        let text = format!("round {round}");
        bob.say("lobby", &text).await;
        assert_eq!(ann.texts(1).await, [&*text]);
        assert_eq!(bob.texts(1).await, [text]);
    }
    channels_are(&redis, &["ws:broadcast", "ws:room:lobby"]).await;
}

#[tokio::test]
async fn after_a_thousand_random_joins_and_leaves_rooms_with_members_are_channels() {
    let Some(redis) = Redis::start().await else { return };
    let servers = [Server::on(&redis, "one").await, Server::on(&redis, "two").await];
    let mut random = StdRng::seed_from_u64(3);
    let mut clients: Vec<(usize, Client, BTreeSet<u32>)> = Vec::new();
    for index in 0..8 {
        clients.push((index % 2, servers[index % 2].client().await, BTreeSet::new()));
    }
    for _ in 0..1000 {
        let (_, client, rooms) = clients.get_mut(random.random_range(0..8)).unwrap();
        // So many that in the end most have members on one server or on none.
        let room: u32 = random.random_range(0..150);
        if rooms.len() > 10 || rooms.contains(&room) {
            let left = *rooms.iter().choose(&mut random).unwrap();
            rooms.remove(&left);
            client.leave(&left.to_string()).await;
        } else {
            client.join(&room.to_string(), "someone").await;
            rooms.insert(room);
        }
    }
    // Some leave by closing.
    for _ in 0..2 {
        let gone = *[0_usize, 1, 2].choose(&mut random).unwrap();
        clients.remove(gone);
    }

    let mut listeners: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
    for (server, _, rooms) in &clients {
        for room in rooms {
            listeners.entry(format!("ws:room:{room}")).or_default().insert(*server);
        }
    }
    assert!(listeners.len() < 140 && listeners.values().any(|servers| servers.len() == 1), "{}", listeners.len());
    listeners.insert("ws:broadcast".into(), BTreeSet::from([0, 1]));
    let names: Vec<&str> = listeners.keys().map(String::as_str).collect();
    channels_are(&redis, &names).await;

    let mut connection = redis.connect().await;
    for (name, servers) in &listeners {
        let (_, count): (String, usize) =
            redis::cmd("PUBSUB").arg("NUMSUB").arg(name).query_async(&mut connection).await.unwrap();
        assert_eq!(count, servers.len(), "{name}");
    }
    for (index, server) in servers.iter().enumerate() {
        let count = listeners.values().filter(|servers| servers.contains(&index)).count();
        server.metric_is("roomcast_subscriptions", count as f64).await;
        server.metric_is("roomcast_rooms", count as f64 - 1.0).await;
    }
}

#[tokio::test]
async fn what_comes_back_with_the_servers_own_name_is_dropped() {
    let Some(redis) = Redis::start().await else { return };
    let (one, two) = (Server::on(&redis, "one").await, Server::on(&redis, "two").await);
    let mut ann = one.member("lobby", "ann").await;
    let mut bob = two.member("lobby", "bob").await;
    for (origin, text) in [("one", "echo"), ("three", "news")] {
        let envelope = serde_json::json!({"originServer": origin, "type": "message", "room": "lobby", "text": text});
        assert_eq!(redis.publish("ws:room:lobby", envelope.to_string()).await, 2);
    }
    // Both came on one channel, one after the other: whoever has the second can no longer get the first.
    assert_eq!(ann.texts(1).await, ["news"]);
    assert_eq!(bob.texts(2).await, ["echo", "news"]);
    one.metric_is(r#"roomcast_envelopes_received_total{kind="own_echo"}"#, 1.0).await;
}
