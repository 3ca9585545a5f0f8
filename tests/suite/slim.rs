//! Slim frames, for clients that offer the subprotocol, beside plain ones in the same rooms.

use serde_json::{Value, json};

use crate::support::{Client, Redis, Server};

async fn slim(server: &Server) -> Client {
    let url = format!("ws://{}/ws", server.address);
    Client::dial_with(&url, &[("sec-websocket-protocol", "roomcast.v1")]).await.expect("a WebSocket")
}

async fn slim_member(server: &Server, room: &str, username: &str) -> Client {
    let mut client = slim(server).await;
    client.join(room, username).await;
    client
}

/// What a plain client hears, as a slim one does.
fn without(mut event: Value, names: &[&str]) -> Value {
    names.iter().for_each(|name| drop(event.as_object_mut().expect("an object").remove(*name)));
    event
}

#[tokio::test]
async fn each_client_gets_its_own_kind_of_frame_and_its_own_ids() {
    let Some(redis) = Redis::start().await else { return };
    let (one, two) = (Server::on(&redis, "one").await, Server::on(&redis, "two").await);
    let mut plain = one.member("lobby", "plain").await;
    let mut slim = slim_member(&one, "lobby", "slim").await;
    let mut far = slim_member(&two, "lobby", "far").await;
    for number in 0..20 {
        let (sender, id) = (if number % 2 == 0 { &mut slim } else { &mut plain }, format!("m-{number}"));
        sender.send(&json!({"type": "message", "text": "hi", "data": {"id": 1, "epoch": 2}, "id": id})).await;
        let own = sender.expect("message").await;
        let ack = sender.expect("ack").await;
        assert_eq!((&own["id"], &ack["id"]), (&json!(id), &json!(id)));
        let (whole, thin) = if number % 2 == 0 {
            let whole = plain.expect("message").await;
            assert_eq!(own, without(whole.clone(), &["epoch", "originServer"]), "its own has its id");
            (whole, None)
        } else {
            (own, Some(slim.expect("message").await))
        };
        let expected = without(whole.clone(), &["epoch", "originServer", "id"]);
        for heard in thin.into_iter().chain([far.expect("message").await]) {
            assert_eq!(heard, expected);
        }
        assert_eq!((&whole["originServer"], &whole["data"]), (&json!("one"), &json!({"id": 1, "epoch": 2})));
    }
    slim.send(&json!({"type": "broadcast", "text": "all", "id": "b"})).await;
    let own = slim.expect("broadcast").await;
    assert!(own["epoch"].is_string() && own["id"] == "b", "no room has told it the epoch: {own}");
    slim.expect("ack").await;
    plain.expect("broadcast").await;
    assert_eq!(far.expect("broadcast").await, without(own, &["id"]));
    plain.send(&json!({"type": "signal", "event": "typing"})).await;
    for client in [&mut slim, &mut far] {
        let signal = client.expect("signal").await;
        assert_eq!(
            without(signal, &["ts"]),
            json!({"type": "signal", "room": "lobby", "username": "plain", "event": "typing"})
        );
    }
}

#[tokio::test]
async fn the_server_of_each_message_is_there_for_who_asks() {
    let server = Server::in_memory(&[("ROOMCAST_ORIGIN_SERVER", "one")]).await;
    let url = format!("ws://{}/ws", server.address);
    let offer = ("sec-websocket-protocol", "roomcast.v1, roomcast.origin");
    let mut ann = Client::dial_with(&url, &[offer]).await.expect("a WebSocket");
    ann.join("lobby", "ann").await;
    ann.say("lobby", "hi").await;
    let heard = ann.expect("message").await;
    assert_eq!((&heard["originServer"], heard.get("epoch")), (&json!("one"), None));
}

/// Who comes back finds its own messages by their ids, as their acks may have been lost.
#[tokio::test]
async fn what_was_said_before_has_its_ids() {
    let server = Server::in_memory(&[]).await;
    let mut ann = slim_member(&server, "lobby", "ann").await;
    let position = {
        ann.send(&json!({"type": "message", "text": "one", "id": "1"})).await;
        ann.expect("message").await;
        ann.expect("ack").await
    };
    ann.send(&json!({"type": "message", "text": "two", "id": "2"})).await;
    ann.expect("message").await;
    let mut back = slim(&server).await;
    let after = json!({"epoch": position["epoch"], "seq": position["seq"]});
    back.send(&json!({"type": "join", "room": "lobby", "username": "ann", "after": after})).await;
    assert_eq!(back.expect("joined").await["epoch"], position["epoch"]);
    let missed = back.expect("message").await;
    assert_eq!((&missed["id"], &missed["seq"], missed.get("epoch")), (&json!("2"), &json!(2), None));
    back.send(&json!({"type": "history"})).await;
    let history = back.expect("history").await;
    assert_eq!((&history["epoch"], &history["messages"][1]), (&position["epoch"], &missed));
}

#[tokio::test]
async fn without_history_an_id_is_all_that_tells_a_client_what_is_its_own() {
    let server = Server::in_memory(&[("ROOMCAST_HISTORY_LENGTH", "0")]).await;
    let (mut ann, mut bob) = (slim_member(&server, "lobby", "ann").await, slim_member(&server, "lobby", "bob").await);
    ann.send(&json!({"type": "message", "text": "one", "id": "1"})).await;
    for client in [&mut ann, &mut bob] {
        let heard = client.expect("message").await;
        assert_eq!((&heard["id"], heard.get("originServer")), (&json!("1"), None));
    }
}
