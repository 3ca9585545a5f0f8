//! Who comes in, and what they may do: tokens, in each place, with each mistake.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Error;

use crate::support::{Client, Redis, SECRET, Server, Token, in_seconds};

const KEYED: [(&str, &str); 2] = [("ROOMCAST_JWT_SECRET", SECRET), ("ROOMCAST_JWT_AUDIENCE", "chat")];

async fn keyed(more: &[(&str, &str)]) -> Server {
    Server::in_memory(&[&KEYED, more].concat()).await
}

fn url(server: &Server) -> String {
    format!("ws://{}/ws", server.address)
}

/// Opens a connection as a browser does that has a token.
async fn enter(server: &Server, token: &str) -> Client {
    let offer = format!("roomcast.v1, roomcast.bearer.{token}");
    Client::dial_with(&url(server), &[("sec-websocket-protocol", &offer)]).await.expect("a WebSocket")
}

async fn authenticated(server: &Server, token: &Token) -> Client {
    let mut client = enter(server, &token.signed()).await;
    client.expect("authenticated").await;
    client
}

/// The answer to a command that is refused: the code, and the right that was missing.
async fn refused(client: &mut Client, command: &Value) -> (String, Value) {
    client.send(command).await;
    let error = client.expect("error").await;
    (error["code"].as_str().expect("a code").to_owned(), error["right"].clone())
}

struct Mistake {
    name: &'static str,
    token: String,
    /// A part of the text that says so.
    text: &'static str,
    close: u16,
}

fn mistakes() -> Vec<Mistake> {
    let token = || Token::of("ann", json!({}));
    let mistake = |name, token: Token, text| Mistake { name, token: token.signed(), text, close: 4501 };
    let forged = token().signed().rsplit_once('.').expect("a signature").0.to_owned() + ".AAAA";
    let none = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbm4ifQ.".to_owned();
    vec![
        Mistake { close: 4010, ..mistake("ended", token().with("exp", in_seconds(0) - 60), "ended 6") },
        mistake("no end", token().with("exp", Value::Null), "no `exp`"),
        mistake("too early", token().with("nbf", in_seconds(60)), "begins only in"),
        mistake("no audience", token().with("aud", Value::Null), "no `aud`"),
        mistake("another audience", token().with("aud", "mail"), "`aud` names none"),
        mistake("no subject", token().with("sub", Value::Null), "no `sub`"),
        mistake("an unseen subject", token().with("sub", "a\u{200b}b"), "`sub` cannot be a username"),
        mistake(
            "a wrong claim",
            token().with("roomcast", json!({"rooms": {"a*": []}})),
            "\"a*\", which must have each *",
        ),
        Mistake { name: "forged", token: forged, text: "not of a key of this server", close: 4501 },
        Mistake { name: "unsigned", token: none, text: "algorithm that is not taken", close: 4501 },
        Mistake { name: "no token at all", token: "hello".into(), text: "not a JSON Web Token", close: 4501 },
    ]
}

#[tokio::test]
async fn a_wrong_token_is_refused_in_each_place_with_what_is_wrong() {
    let server = keyed(&[("ROOMCAST_TOKEN_IN_QUERY", "on"), ("ROOMCAST_LOG", "trace")]).await;
    for Mistake { name, token, text, close } in mistakes() {
        let query = Client::dial(&format!("{}?token={token}", url(&server))).await.expect("a WebSocket");
        let mut late = server.client().await;
        late.send(&json!({"type": "auth", "token": token})).await;
        for mut client in [enter(&server, &token).await, query, late] {
            let error = client.expect("error").await;
            assert_eq!(error["code"], "unauthorized", "{name}");
            assert!(error["message"].as_str().expect("a text").contains(text), "{name}: {error}");
            assert_eq!(client.closed().await, close, "{name}");
        }
        let authorization = format!("Bearer {token}");
        match Client::dial_with(&url(&server), &[("authorization", &authorization)]).await {
            Err(Error::Http(response)) => {
                assert_eq!(response.status(), 401, "{name}");
                assert_eq!(response.headers()["content-type"], "application/problem+json");
                let body: Value = serde_json::from_slice(response.body().as_ref().expect("a body")).expect("JSON");
                assert_eq!((&body["code"], &body["status"]), (&json!("unauthorized"), &json!(401)));
                assert!(body["detail"].as_str().expect("a text").contains(text), "{name}: {body}");
            }
            other => panic!("{name}: {:?}", other.map(|_| ())),
        }
        let signature = token.rsplit('.').next().filter(|part| part.len() > 10);
        let log = server.log();
        assert!(signature.is_none_or(|signature| !log.contains(signature)), "{name} is in the log");
    }
    assert!(!server.log().contains(SECRET));
}

#[tokio::test]
async fn a_true_token_opens_the_door_in_each_place() {
    let server = keyed(&[("ROOMCAST_TOKEN_IN_QUERY", "on")]).await;
    let token = Token::of("ann", json!({"rooms": {"lobby": ["join", "send"]}})).signed();
    let query = Client::dial(&format!("{}?x&token={token}", url(&server))).await.expect("a WebSocket");
    let authorization = format!("Bearer {token}");
    let header = Client::dial_with(&url(&server), &[("authorization", &authorization)]).await.expect("a WebSocket");
    let mut late = server.client().await;
    assert_eq!(
        refused(&mut late, &json!({"type": "join", "room": "lobby", "username": "ann"})).await.0,
        "unauthorized"
    );
    late.send(&json!({"type": "auth", "token": token})).await;
    for mut client in [query, header, late, enter(&server, &token).await] {
        let welcome = client.expect("authenticated").await;
        assert_eq!((&welcome["username"], &welcome["rooms"]), (&json!("ann"), &json!([])));
        let left = welcome["expires_ms"].as_u64().expect("an end");
        assert!((3_500_000..3_620_000).contains(&left), "{left}");
        client.send(&json!({"type": "join", "room": "lobby"})).await;
        client.expect("joined").await;
        client.say("lobby", "hello").await;
        assert_eq!(client.expect("message").await["username"], "ann");
        client.leave("lobby").await;
    }
}

#[tokio::test]
async fn a_token_in_the_query_is_not_looked_at_unless_a_setting_says_so() {
    let server = keyed(&[]).await;
    let token = Token::of("ann", json!({})).signed();
    let mut client = Client::dial(&format!("{}?token={token}", url(&server))).await.expect("a WebSocket");
    assert_eq!(refused(&mut client, &json!({"type": "broadcast", "text": "x"})).await.0, "unauthorized");
}

/// Each right, what needs it, and what the other clients hear of it.
#[tokio::test]
async fn what_no_grant_allows_is_refused_and_named() {
    let server = keyed(&[]).await;
    let mut cleo = authenticated(&server, &Token::of("cleo", json!({"rooms": {"*": ["*"]}}))).await;
    for room in ["quiet", "open"] {
        cleo.send(&json!({"type": "join", "room": room})).await;
        cleo.expect("joined").await;
    }
    let rights = json!({"rooms": {"quiet": ["join"], "op*n": []}});
    assert_eq!(enter(&server, &Token::of("ann", rights).signed()).await.closed().await, 4501);
    let rights = json!({"rooms": {"quiet": ["join"], "open": ["join"], "op:*": ["*"], "*": ["send"]}});
    let mut ann = authenticated(&server, &Token::of("ann", rights)).await;
    for (command, right) in [
        (json!({"type": "join", "room": "other"}), "join"),
        (json!({"type": "join", "room": "@bob"}), "join"),
        (json!({"type": "join", "room": "quiet", "last": 5}), "history"),
        (json!({"type": "join", "room": "quiet", "after": {"epoch": "0000000000000001", "seq": 1}}), "history"),
        (json!({"type": "broadcast", "text": "all"}), "broadcast"),
    ] {
        assert_eq!(refused(&mut ann, &command).await, ("forbidden".into(), json!(right)), "{command}");
    }
    let stolen = json!({"type": "join", "room": "open", "username": "bob"});
    assert_eq!(refused(&mut ann, &stolen).await, ("forbidden".into(), Value::Null));
    for (room, username) in [("open", json!("ann")), ("quiet", Value::Null)] {
        ann.send(&json!({"type": "join", "room": room, "username": username})).await;
        ann.expect("joined").await;
    }
    // The rights of both patterns are added up.
    ann.say("open", "both").await;
    assert_eq!(cleo.texts(1).await, ["both"]);
    cleo.hears_nothing().await;
    assert_eq!(server.metric("ws_errors_total{code=\"forbidden\"}").await, 6.0);
}

#[tokio::test]
async fn a_personal_room_is_for_its_user_alone() {
    let server = keyed(&[]).await;
    let all = json!({"rooms": {"*": ["*"], "@*": ["*"]}});
    let mut ann = authenticated(&server, &Token::of("auth0|77", all.clone())).await;
    ann.send(&json!({"type": "join", "room": "@auth0~7c77", "last": 5})).await;
    ann.expect("joined").await;
    let mut bob = authenticated(&server, &Token::of("bob", all)).await;
    let theft = json!({"type": "join", "room": "@auth0~7c77"});
    assert_eq!(refused(&mut bob, &theft).await, ("forbidden".into(), json!("join")));
    let open = Server::in_memory(&[]).await;
    let mut eve = open.client().await;
    let theft = json!({"type": "join", "room": "@ann", "username": "ann"});
    assert_eq!(refused(&mut eve, &theft).await, ("forbidden".into(), json!("join")));
}

#[tokio::test]
async fn the_server_joins_rooms_for_a_client_and_the_client_can_ask_for_what_it_missed() {
    let server = keyed(&[]).await;
    let rights = json!({"rooms": {"news": ["history"]}, "auto_join": ["news", "team:42"]});
    let mut bob = authenticated(&server, &Token::of("bob", json!({"rooms": {"*": ["*"]}}))).await;
    bob.send(&json!({"type": "join", "room": "news"})).await;
    bob.expect("joined").await;
    bob.say("news", "before").await;
    bob.texts(1).await;
    let mut ann = enter(&server, &Token::of("ann", rights).signed()).await;
    assert_eq!(ann.expect("authenticated").await["rooms"], json!(["news", "team:42"]));
    let (news, team) = (ann.expect("joined").await, ann.expect("joined").await);
    assert_eq!((&news["room"], &team["room"]), (&json!("news"), &json!("team:42")));
    bob.say("news", "after").await;
    assert_eq!(ann.texts(1).await, ["after"]);
    ann.send(&json!({"type": "join", "room": "news", "last": 2})).await;
    ann.expect("joined").await;
    assert_eq!(ann.texts(2).await, ["before", "after"]);
    bob.say("news", "live").await;
    assert_eq!(ann.texts(1).await, ["live"], "once, although it was joined twice");
    ann.hears_nothing().await;
}

#[tokio::test]
async fn another_token_on_the_open_socket_goes_on_and_ends_just_what_it_does_not_allow() {
    let server = keyed(&[("ROOMCAST_JWT_LEEWAY", "0s")]).await;
    let rooms = json!({"rooms": {"a": ["join", "send"], "b": ["join"]}});
    let short = Token::of("ann", rooms).with("exp", in_seconds(10));
    let mut ann = authenticated(&server, &short).await;
    for room in ["a", "b"] {
        ann.send(&json!({"type": "join", "room": room})).await;
        ann.expect("joined").await;
    }
    assert!(ann.expect("expiring").await["in_ms"].as_u64().expect("a time") <= 5000);
    let next = Token::of("ann", json!({"rooms": {"a": ["join"]}})).with("exp", in_seconds(8));
    ann.send(&json!({"type": "auth", "token": next.signed()})).await;
    assert_eq!(ann.expect("left").await, json!({"type": "left", "room": "b", "reason": "forbidden"}));
    ann.expect("authenticated").await;
    let message = json!({"type": "message", "room": "a", "text": "x", "id": "1"});
    assert_eq!(refused(&mut ann, &message).await, ("forbidden".into(), json!("send")));
    assert_eq!(server.metric("roomcast_memberships").await, 1.0);
    ann.expect("expiring").await;
    assert_eq!(ann.closed().await, 4010);
    server.metric_is("ws_disconnects_total{reason=\"token_expired\"}", 1.0).await;
    server.metric_is("roomcast_memberships", 0.0).await;
}

#[tokio::test]
async fn who_has_shown_no_token_hears_no_broadcast() {
    let Some(redis) = Redis::start().await else { return };
    let settings = [("ROOMCAST_JWT_SECRET", SECRET), ("ROOMCAST_JWT_AUDIENCE", "chat")];
    let servers = [Server::with(&redis, "one", &settings).await, Server::with(&redis, "two", &settings).await];
    let token = Token::of("ann", json!({"broadcast": true}));
    let mut ann = authenticated(&servers[0], &token).await;
    let mut silent = [servers[0].client().await, servers[1].client().await];
    ann.send(&json!({"type": "broadcast", "text": "for those who may hear"})).await;
    ann.expect("broadcast").await;
    // The other server has it, too.
    let mut far = authenticated(&servers[1], &token).await;
    for client in &mut silent {
        client.hears_nothing().await;
        client.send(&json!({"type": "auth", "token": token.signed()})).await;
        client.expect("authenticated").await;
    }
    far.send(&json!({"type": "broadcast", "text": "for all"})).await;
    for client in silent.iter_mut().chain([&mut ann]) {
        assert_eq!(client.expect("broadcast").await["text"], "for all");
    }
}

#[tokio::test]
async fn a_token_of_another_user_ends_the_connection() {
    let server = keyed(&[]).await;
    let mut ann = authenticated(&server, &Token::of("ann", json!({}))).await;
    ann.send(&json!({"type": "auth", "token": Token::of("bob", json!({})).signed()})).await;
    assert_eq!(ann.expect("error").await["code"], "unauthorized");
    assert_eq!(ann.closed().await, 4501);
}

#[tokio::test]
async fn without_a_token_a_client_has_what_a_setting_says() {
    let anonymous = r#"{"rooms":{"lobby":["join"]}}"#;
    let server = keyed(&[("ROOMCAST_ANONYMOUS", anonymous)]).await;
    let mut guest = server.member("lobby", "guest").await;
    let message = json!({"type": "message", "text": "x"});
    assert_eq!(refused(&mut guest, &message).await, ("forbidden".into(), json!("send")));
    // Who signs in keeps the rooms in which it had the name of its token.
    let token = Token::of("guest", json!({"rooms": {"lobby": ["join", "send"]}})).signed();
    guest.send(&json!({"type": "auth", "token": token})).await;
    guest.expect("authenticated").await;
    guest.send(&message).await;
    assert_eq!(guest.expect("message").await["username"], "guest");
}

#[tokio::test]
async fn a_server_without_keys_looks_at_no_token() {
    let server = Server::in_memory(&[]).await;
    let mut ann = enter(&server, "not.a.token").await;
    ann.join("lobby", "ann").await;
    let auth = json!({"type": "auth", "token": "not.a.token"});
    assert_eq!(refused(&mut ann, &auth).await.0, "unauthorized");
    ann.say("lobby", "still here").await;
    assert_eq!(ann.texts(1).await, ["still here"]);
}
