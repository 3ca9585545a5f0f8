//! The first whole path: who says what reaches whom, on one server and across two.

use serde_json::json;

use crate::support::{Redis, Server};

#[tokio::test]
async fn one_server_alone_carries_a_chat() {
    let server = Server::in_memory(&[]).await;
    let mut ann = server.member("lobby", "ann").await;
    let mut bob = server.member("lobby", "bob").await;
    ann.say("lobby", "hello").await;
    for client in [&mut ann, &mut bob] {
        let message = client.expect("message").await;
        assert_eq!(message["text"], "hello");
        assert_eq!(message["username"], "ann");
        assert_eq!(message["room"], "lobby");
        assert_eq!(message["seq"], 1);
        assert_eq!(message["originServer"], server.name);
        assert!(message["ts"].as_u64().unwrap() > 1_700_000_000_000);
    }
    bob.leave("lobby").await;
    ann.say("lobby", "alone").await;
    assert_eq!(ann.texts(1).await, ["alone"]);
    bob.hears_nothing().await;
}

#[tokio::test]
async fn two_servers_and_one_redis_carry_a_chat() {
    let Some(redis) = Redis::start().await else { return };
    let (one, two) = (Server::on(&redis, "one").await, Server::on(&redis, "two").await);
    let mut ann = one.member("lobby", "ann").await;
    let mut bob = two.member("lobby", "bob").await;
    ann.say("lobby", "hello").await;
    assert_eq!(bob.texts(1).await, ["hello"]);
    bob.send(&json!({"type": "message", "text": "hi", "id": "m1"})).await;
    assert_eq!(ann.texts(2).await, ["hello", "hi"]);
    let own = bob.expect("message").await;
    let ack = bob.expect("ack").await;
    assert_eq!((&own["id"], &own["seq"], &own["epoch"]), (&ack["id"], &ack["seq"], &ack["epoch"]));
}

/// The check that came with the job: two clients, two ports, one broadcast, each gets it once.
#[tokio::test]
async fn a_broadcast_from_one_port_reaches_a_client_on_the_other_once() {
    let Some(redis) = Redis::start().await else { return };
    let (one, two) = (Server::on(&redis, "one").await, Server::on(&redis, "two").await);
    let (mut ann, mut bob) = (one.client().await, two.client().await);
    ann.send(&json!({"type": "broadcast", "text": "to all"})).await;
    for client in [&mut ann, &mut bob] {
        let event = client.expect("broadcast").await;
        assert_eq!((&event["text"], &event["originServer"]), (&json!("to all"), &json!("one")));
        assert!(event.get("room").is_none());
        client.hears_nothing().await;
    }
    // A second one comes right after the first for both, so nothing was on its way in between.
    bob.send(&json!({"type": "broadcast", "text": "again"})).await;
    for client in [&mut ann, &mut bob] {
        assert_eq!(client.expect("broadcast").await["text"], "again");
    }
}

/// However its owner's keyboard made it, so that sending again after a restart makes no second message.
#[tokio::test]
async fn a_name_is_the_same_in_all_its_forms() {
    let server = Server::in_memory(&[]).await;
    let mut bob = server.member("lobby", "bob").await;
    for (name, messages) in [("Zoe\u{308}  B.", 1), (" Zo\u{eb}\u{a0}B. ", 0)] {
        let mut zoe = server.member("lobby", name).await;
        zoe.send(&json!({"type": "message", "room": "lobby", "text": "hi", "id": "m-1"})).await;
        zoe.texts_until_ack(messages).await;
    }
    assert_eq!(bob.expect("message").await["username"], "Zo\u{eb} B.");
    bob.hears_nothing().await;
}
