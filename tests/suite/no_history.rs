//! A server that keeps no history: plain publishes, delivered at once and at most once, with no place in an order.

use serde_json::json;

use crate::support::{Redis, Server};

const OFF: &[(&str, &str)] = &[("ROOMCAST_HISTORY_LENGTH", "0")];

#[tokio::test]
async fn messages_have_no_place_and_nothing_is_kept() {
    let Some(redis) = Redis::start().await else { return };
    let (one, two) = (Server::with(&redis, "one", OFF).await, Server::with(&redis, "two", OFF).await);
    let (mut ann, mut bob) = (one.client().await, two.client().await);
    for (client, name) in [(&mut ann, "one"), (&mut bob, "two")] {
        let joined = client.join("lobby", "someone").await;
        assert_eq!(joined, json!({"type": "joined", "room": "lobby", "members": 1, "originServer": name}));
    }
    ann.send(&json!({"type": "message", "text": "hello", "id": "1"})).await;
    ann.send(&json!({"type": "broadcast", "text": "all", "id": "2"})).await;
    for client in [&mut ann, &mut bob] {
        let message = client.expect("message").await;
        assert!(message.get("seq").is_none() && message.get("epoch").is_none() && message["ts"].is_u64(), "{message}");
    }
    assert_eq!(ann.expect("ack").await, json!({"type": "ack", "id": "1", "room": "lobby"}));
    assert_eq!(ann.expect("broadcast").await["text"], "all");
    assert_eq!(ann.expect("ack").await, json!({"type": "ack", "id": "2"}));
    assert_eq!(bob.expect("broadcast").await["text"], "all");
    for client in [&mut ann, &mut bob] {
        client.hears_nothing().await;
    }
    let mut connection = redis.connect().await;
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
    let of_servers = |key: &String| key.starts_with("ws:mark:") || ["ws:secret", "ws:servers"].contains(&key.as_str());
    assert!(keys.iter().all(of_servers), "{keys:?}");

    // A client that asks for what it missed is told that there is nothing.
    let mut back = one.client().await;
    let after = json!({"epoch": "000000000000000a", "seq": 3});
    back.send(&json!({"type": "join", "room": "lobby", "username": "back", "after": after})).await;
    assert_eq!(back.expect("joined").await["resumed"], false);
    back.hears_nothing().await;
}

#[tokio::test]
async fn one_server_alone_can_do_without_history_too() {
    let server = Server::in_memory(OFF).await;
    let mut ann = server.member("lobby", "ann").await;
    let mut bob = server.member("lobby", "bob").await;
    ann.say("lobby", "hello").await;
    assert_eq!((ann.texts(1).await, bob.texts(1).await), (vec!["hello".into()], vec!["hello".into()]));
}
