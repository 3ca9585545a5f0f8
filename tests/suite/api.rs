//! The HTTP API: back ends with keys, clients with tokens, and what comes of it on the sockets of all servers.

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Client, DEADLINE, Redis, SECRET, Server, Token, eventually, refuses_to_start};

const SHOP: &str = "shop-key-0123456789abcdef";
const ADMIN: &str = "admin-key-0123456789abcdef";
const ORDERS: &str = "orders-key-0123456789abcdef";

const KEYED: [(&str, &str); 2] = [("ROOMCAST_JWT_SECRET", SECRET), ("ROOMCAST_JWT_AUDIENCE", "chat")];

fn keys() -> String {
    format!(
        "shop:publish+read:{SHOP},admin:admin+read+publish:{ADMIN},orders:publish(orders:*)+admin(orders:*):{ORDERS}"
    )
}

struct Api {
    server: Server,
    base: String,
    client: reqwest::Client,
}

impl Api {
    async fn start(redis: Option<&Redis>, name: &str, settings: &[(&str, &str)]) -> Self {
        let keys = keys();
        let own = [("ROOMCAST_API_LISTEN", "127.0.0.1:0"), ("ROOMCAST_API_KEYS", keys.as_str())];
        let settings = [&own, settings].concat();
        let server = match redis {
            Some(redis) => Server::with(redis, name, &settings).await,
            None => Server::in_memory(&settings).await,
        };
        Self { base: server.api_base(), server, client: reqwest::Client::new() }
    }

    fn request(&self, key: &str, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base)).bearer_auth(key)
    }

    async fn call(&self, key: &str, method: Method, path: &str, body: Value) -> (u16, Value) {
        let request = self.request(key, method, path).header("content-type", "application/json");
        answer(if body.is_null() { request } else { request.body(body.to_string()) }).await
    }

    async fn post(&self, path: &str, body: Value) -> (u16, Value) {
        self.call(SHOP, Method::POST, path, body).await
    }
}

/// The status of an answer, and its JSON; errors have the type of errors.
async fn answer(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.expect("an answer");
    let (status, kind) = (response.status().as_u16(), response.headers().get("content-type").cloned());
    let body = response.bytes().await.expect("a body");
    if status >= 400 {
        assert_eq!(kind.expect("a type"), "application/problem+json");
    }
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("JSON") };
    if status >= 400 {
        assert_eq!(body["status"], status, "{body}");
    }
    (status, body)
}

async fn with_token(server: &Server, token: &Token) -> Client {
    let authorization = format!("Bearer {}", token.signed());
    let url = format!("ws://{}/ws", server.address);
    let mut client = Client::dial_with(&url, &[("authorization", &authorization)]).await.expect("a WebSocket");
    client.expect("authenticated").await;
    client
}

#[tokio::test]
async fn what_is_posted_on_one_server_is_heard_on_all_in_one_order_and_once() {
    let Some(redis) = Redis::start().await else { return };
    let (one, two) = (Api::start(Some(&redis), "one", &[]).await, Api::start(Some(&redis), "two", &[]).await);
    let mut members = [one.server.member("lobby", "ann").await, two.server.member("lobby", "bob").await];
    let body = json!({"username": "shop", "text": "paid", "data": {"order": 17}, "event": "order.paid", "id": "p-1"});
    let (status, kept) = one.post("/v1/rooms/lobby/messages", body.clone()).await;
    assert_eq!((status, &kept["seq"], &kept["duplicate"]), (201, &json!(1), &json!(false)), "{kept}");
    for member in &mut members {
        let heard = member.expect("message").await;
        for name in ["room", "epoch", "seq", "ts", "id"] {
            assert_eq!(heard[name], kept[name], "{name}");
        }
        assert_eq!((&heard["data"], &heard["username"]), (&body["data"], &body["username"]));
    }
    // Again, to the other server.
    let (status, again) = two.post("/v1/rooms/lobby/messages", body.clone()).await;
    assert_eq!((status, &again["duplicate"]), (200, &json!(true)));
    for name in ["epoch", "seq", "ts"] {
        assert_eq!(again[name], kept[name], "{name}");
    }
    let other = json!({"username": "shop", "text": "other", "id": "p-1"});
    let (status, conflict) = two.post("/v1/rooms/lobby/messages", other).await;
    assert_eq!((status, &conflict["code"], &conflict["id"]), (409, &json!("id_conflict"), &json!("p-1")));
    // A back end speaks in its own name too, and the key of the header is an id.
    for duplicate in [false, true] {
        let request = one.request(SHOP, Method::POST, "/v1/rooms/lobby/messages").header("idempotency-key", "h-1");
        let (_, kept) = answer(request.body(r#"{"text":"from nobody"}"#)).await;
        assert_eq!((&kept["id"], &kept["duplicate"]), (&json!("h-1"), &json!(duplicate)));
    }
    let (status, _) = one.post("/v1/broadcasts", json!({"text": "to all"})).await;
    assert_eq!(status, 201);
    for member in &mut members {
        let heard = member.expect("message").await;
        assert_eq!((&heard["text"], heard.get("username")), (&json!("from nobody"), None));
        assert_eq!(member.expect("broadcast").await["text"], "to all");
        member.hears_nothing().await;
    }
}

#[tokio::test]
async fn a_batch_keeps_its_order_and_a_bad_item_spoils_none() {
    let api = Api::start(None, "", &[]).await;
    let mut member = api.server.member("a", "ann").await;
    let mut messages: Vec<Value> = (0..97).map(|number| json!({"room": "a", "text": number.to_string()})).collect();
    messages.extend([json!({"room": "a b", "text": "x"}), json!(7), json!({"text": "nowhere"})]);
    let request = || api.request(SHOP, Method::POST, "/v1/batch").header("idempotency-key", "batch");
    for round in 0..2 {
        let (status, body) = answer(request().body(json!({"messages": messages}).to_string())).await;
        let results = body["results"].as_array().expect("results");
        assert_eq!((status, results.len()), (200, 100));
        for (number, result) in results[..97].iter().enumerate() {
            assert_eq!((&result["seq"], &result["duplicate"]), (&json!(number + 1), &json!(round == 1)), "{result}");
        }
        let codes: Vec<&Value> = results[97..].iter().map(|result| &result["code"]).collect();
        assert_eq!(codes, ["bad_room", "bad_json", "missing_field"]);
    }
    assert_eq!(member.texts(97).await, (0..97).map(|number| number.to_string()).collect::<Vec<_>>());
    member.hears_nothing().await;
    let (_, body) = api.post("/v1/messages", json!({"rooms": ["a", "b", "a b"], "text": "same", "id": "s"})).await;
    let results = &body["results"];
    assert_eq!(
        (&results[0]["seq"], &results[1]["seq"], &results[2]["code"]),
        (&json!(98), &json!(1), &json!("bad_room"))
    );
    for (path, body) in [
        ("/v1/batch", json!({"messages": vec![json!({}); 101]})),
        ("/v1/batch", json!({"messages": []})),
        ("/v1/messages", json!({"rooms": [], "text": "x"})),
    ] {
        let (status, problem) = api.post(path, body).await;
        assert_eq!((status, &problem["code"]), (400, &json!("bad_field")));
    }
    let (status, problem) = api.post("/v1/batch", json!({"messages": ["x".repeat(1 << 20)]})).await;
    assert_eq!((status, &problem["code"]), (413, &json!("too_large")));
}

#[tokio::test]
async fn history_is_read_in_both_directions() {
    let Some(redis) = Redis::start().await else { return };
    let api = Api::start(Some(&redis), "one", &[]).await;
    for number in 1..=120 {
        api.post("/v1/rooms/lobby/messages", json!({"text": number.to_string()})).await;
    }
    let read = async |query: &str| {
        let (status, body) =
            api.call(SHOP, Method::GET, &format!("/v1/rooms/lobby/messages{query}"), Value::Null).await;
        assert_eq!(status, 200, "{body}");
        let seqs: Vec<u64> =
            body["messages"].as_array().unwrap().iter().map(|message| message["seq"].as_u64().unwrap()).collect();
        (seqs, body)
    };
    let (seqs, newest) = read("").await;
    assert_eq!((seqs, &newest["has_more"]), ((71..=120).collect(), &json!(true)));
    let epoch = newest["epoch"].as_str().unwrap().to_owned();
    let (seqs, older) = read(&format!("?before={epoch}:71&limit=1000")).await;
    assert_eq!((seqs, &older["has_more"]), ((1..=70).collect(), &json!(false)));
    let (seqs, next) = read(&format!("?after={epoch}:10&limit=20")).await;
    assert_eq!((seqs, &next["has_more"], &next["gap"]), ((11..=30).collect(), &json!(true), &json!(false)));
    let (seqs, last) = read(&format!("?after={epoch}:118")).await;
    assert_eq!((seqs, &last["has_more"], &last["gap"]), (vec![119, 120], &json!(false), &json!(false)));
    let (seqs, other) = read("?after=0000000000000001:118&limit=2").await;
    assert_eq!((seqs, &other["gap"]), (vec![1, 2], &json!(true)));
    let (status, empty) =
        api.call(SHOP, Method::GET, "/v1/rooms/empty/messages?after=0000000000000001:1", Value::Null).await;
    assert_eq!((status, &empty["messages"], empty.get("epoch")), (200, &json!([]), None));
    for query in
        ["?after=x", "?before=1:2", "?limit=0", "?limit=x", "?after=0000000000000001:1&before=0000000000000001:1"]
    {
        let (status, problem) =
            api.call(SHOP, Method::GET, &format!("/v1/rooms/lobby/messages{query}"), Value::Null).await;
        assert_eq!((status, &problem["code"]), (400, &json!("bad_field")), "{query}");
    }
}

#[tokio::test]
async fn a_key_and_a_token_may_do_what_they_say_and_nothing_else() {
    let api = Api::start(None, "", &KEYED).await;
    let ann = Token::of("ann", json!({"rooms": {"lobby": ["send", "history"]}})).signed();
    let moderator = Token::of("mod", json!({"moderate": ["lobby"]})).signed();
    let text = json!({"text": "x"});
    for (key, method, path, body, status, right) in [
        ("wrong-key-0123456789abcdef", Method::POST, "/v1/rooms/a/messages", &text, 401, Value::Null),
        (SHOP, Method::POST, "/v1/rooms/a/messages", &text, 201, Value::Null),
        (SHOP, Method::PUT, "/v1/rooms/a/bans/bob", &Value::Null, 403, json!("moderate")),
        (SHOP, Method::POST, "/v1/users/bob/disconnect", &Value::Null, 403, json!("moderate")),
        (ORDERS, Method::POST, "/v1/rooms/orders:1/messages", &text, 201, Value::Null),
        (ORDERS, Method::POST, "/v1/rooms/lobby/messages", &text, 403, json!("send")),
        (ORDERS, Method::POST, "/v1/broadcasts", &text, 403, json!("broadcast")),
        (ORDERS, Method::GET, "/v1/rooms/orders:1/messages", &Value::Null, 403, json!("history")),
        (ORDERS, Method::PUT, "/v1/rooms/orders:1/bans/bob", &Value::Null, 204, Value::Null),
        (ORDERS, Method::PUT, "/v1/mutes/bob", &Value::Null, 403, json!("moderate")),
        (ORDERS, Method::POST, "/v1/users/bob/disconnect", &Value::Null, 403, json!("moderate")),
        (ADMIN, Method::PUT, "/v1/mutes/bob", &json!({"seconds": 60}), 204, Value::Null),
        (&ann, Method::POST, "/v1/rooms/lobby/messages", &text, 201, Value::Null),
        (&ann, Method::POST, "/v1/rooms/other/messages", &text, 403, json!("send")),
        (&ann, Method::POST, "/v1/rooms/lobby/messages", &json!({"username": "bob", "text": "x"}), 403, Value::Null),
        (&ann, Method::GET, "/v1/rooms/lobby/messages", &Value::Null, 200, Value::Null),
        (&ann, Method::POST, "/v1/broadcasts", &text, 403, json!("broadcast")),
        (&ann, Method::POST, "/v1/revocations", &json!({"user": "bob"}), 403, json!("moderate")),
        (&moderator, Method::PUT, "/v1/rooms/lobby/mutes/ann", &json!({"seconds": 60}), 204, Value::Null),
        (&moderator, Method::PUT, "/v1/rooms/other/mutes/ann", &Value::Null, 403, json!("moderate")),
        (&ann, Method::POST, "/v1/rooms/lobby/messages", &text, 403, Value::Null),
    ] {
        let (got, body) = api.call(key, method.clone(), path, body.clone()).await;
        assert_eq!((got, &body["right"]), (status, &right), "{method} {path}: {body}");
    }
    let response = api.client.get(format!("{}/v1/rooms/a/messages", api.base)).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.headers().contains_key("www-authenticate")), (401, true));
    let log = api.server.log();
    assert!(log.contains(r#"action="mute" user="bob" time=Some(60s) by="admin""#), "{log}");
    assert!(![SHOP, ADMIN, ORDERS, &ann].iter().any(|secret| log.contains(*secret)));
}

#[tokio::test]
async fn a_back_end_moderates_and_ends_connections_on_all_servers() {
    let Some(redis) = Redis::start().await else { return };
    let (one, two) = (Api::start(Some(&redis), "one", &KEYED).await, Api::start(Some(&redis), "two", &KEYED).await);
    let token = |user: &str| Token::of(user, json!({"rooms": {"*": ["*"]}}));
    let enter = async |server: &Server, user: &str| {
        let mut client = with_token(server, &token(user)).await;
        client.send(&json!({"type": "join", "room": "lobby"})).await;
        client.expect("joined").await;
        client
    };
    let (mut bob, mut ann) = (enter(&two.server, "bob").await, enter(&two.server, "ann").await);
    let admin = async |method: Method, path: &str, body: Value| {
        let (status, problem) = one.call(ADMIN, method, path, body).await;
        assert_eq!(status, 204, "{path}: {problem}");
    };
    admin(Method::PUT, "/v1/rooms/lobby/mutes/bob", json!({"seconds": 60})).await;
    bob.send(&json!({"type": "message", "text": "x"})).await;
    assert_eq!(bob.expect("error").await["code"], "muted");
    let (status, problem) = two.post("/v1/rooms/lobby/messages", json!({"username": "bob", "text": "x"})).await;
    assert_eq!((status, &problem["code"]), (403, &json!("muted")), "also when a back end speaks for it");
    admin(Method::DELETE, "/v1/rooms/lobby/mutes/bob", Value::Null).await;
    admin(Method::PUT, "/v1/rooms/lobby/slow-mode", json!({"seconds": 60})).await;
    for code in [None, Some("slow_mode")] {
        bob.send(&json!({"type": "message", "text": "x"})).await;
        assert_eq!(bob.next().await["code"].as_str(), code);
    }
    admin(Method::PUT, "/v1/rooms/lobby/slow-mode", json!({"seconds": 0})).await;
    admin(Method::POST, "/v1/rooms/lobby/kick", json!({"username": "bob"})).await;
    assert_eq!(bob.expect("left").await["reason"], "kicked");
    admin(Method::PUT, "/v1/rooms/lobby/bans/bob", json!({})).await;
    bob.send(&json!({"type": "join", "room": "lobby"})).await;
    assert_eq!(bob.expect("error").await["code"], "banned");
    admin(Method::DELETE, "/v1/rooms/lobby/bans/bob", Value::Null).await;

    admin(Method::POST, "/v1/users/bob/disconnect", Value::Null).await;
    assert_eq!(bob.closed().await, 4510);
    let mut bob = enter(&two.server, "bob").await;
    admin(Method::POST, "/v1/revocations", json!({"user": "bob"})).await;
    assert_eq!(bob.expect("error").await["code"], "unauthorized");
    assert_eq!(bob.closed().await, 4501);
    assert_eq!(ann.texts(1).await, ["x"]);
    ann.hears_nothing().await;
    for body in
        [json!({}), json!({"user": "a", "jti": "b"}), json!({"issued_before": 99_999_999_999_u64}), json!({"jti": ""})]
    {
        let (status, problem) = one.call(ADMIN, Method::POST, "/v1/revocations", body.clone()).await;
        assert_eq!((status, &problem["code"]), (400, &json!("bad_field")), "{body}");
    }
}

#[tokio::test]
async fn while_redis_is_away_calls_say_when_to_try_again() {
    let Some(mut redis) = Redis::start().await else { return };
    let api = Api::start(Some(&redis), "one", &[]).await;
    redis.kill();
    for (key, method, path, body) in [
        (SHOP, Method::POST, "/v1/rooms/a/messages", json!({"text": "x"})),
        (SHOP, Method::GET, "/v1/rooms/a/messages", Value::Null),
        (ADMIN, Method::PUT, "/v1/rooms/a/bans/bob", Value::Null),
        (ADMIN, Method::POST, "/v1/users/bob/disconnect", Value::Null),
    ] {
        let request = api.request(key, method, path);
        let request = if body.is_null() { request } else { request.body(body.to_string()) };
        let response = request.send().await.unwrap();
        assert_eq!(
            (response.status().as_u16(), response.headers()["retry-after"].to_str().unwrap()),
            (503, "1"),
            "{path}"
        );
    }
    assert!(api.server.metric("roomcast_api_answers_total{status=\"5xx\"}").await >= 4.0);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let server = Server::in_memory(&[]).await;
    let mut stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let head = "POST /v1/rooms/a/messages HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    tokio::time::timeout(DEADLINE, stream.read_exact(&mut answer)).await.expect("an answer in time").unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 408");
}

#[tokio::test]
async fn one_key_replaces_another_without_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    std::fs::write(&path, format!("# the shop\nold:publish:{SHOP}\n")).unwrap();
    let settings = [("ROOMCAST_API_LISTEN", "127.0.0.1:0"), ("ROOMCAST_API_KEYS_FILE", path.to_str().unwrap())];
    let server = Server::in_memory(&settings).await;
    let api = Api { base: server.api_base(), server, client: reqwest::Client::new() };
    let says = async |key: &str| api.call(key, Method::POST, "/v1/rooms/a/messages", json!({"text": "x"})).await.0;
    assert_eq!((says(SHOP).await, says(ADMIN).await), (201, 401));
    std::fs::write(&path, format!("old:publish:{SHOP}\nnew:publish:{ADMIN}\n")).unwrap();
    eventually("the new key is read", async || (says(ADMIN).await == 201).then_some(())).await;
    assert_eq!(says(SHOP).await, 201);
    std::fs::write(&path, "broken").unwrap();
    eventually("it is noticed", async || api.server.log().contains("ROOMCAST_API_KEYS_FILE").then_some(())).await;
    assert_eq!(says(ADMIN).await, 201);
}

#[test]
fn wrong_settings_end_the_start_with_the_remedy() {
    for (settings, text) in [
        (&[("ROOMCAST_API_LISTEN", "127.0.0.1:1")][..], "nobody could call the API; set ROOMCAST_API_KEYS"),
        (&[("ROOMCAST_API_KEYS", "a:read:0123456789abcdef01234567")], "set ROOMCAST_API_LISTEN"),
        (
            &[("ROOMCAST_API_LISTEN", "127.0.0.1:0"), ("ROOMCAST_API_KEYS", "a:read:secretkey")],
            "ROOMCAST_API_KEYS has an entry, number 1, that cannot be used: the key of a must have 24 characters",
        ),
        (
            &[("ROOMCAST_API_LISTEN", "127.0.0.1:0"), ("ROOMCAST_API_KEYS_FILE", "/nowhere")],
            "ROOMCAST_API_KEYS_FILE names a file that cannot be read",
        ),
    ] {
        let (code, error) = refuses_to_start(settings);
        assert_eq!(code, Some(64), "{error}");
        assert!(error.contains(text) && !error.contains("secretkey"), "{error}");
    }
}

/// The document is made of the same list as the routes; here is what people look for in it.
#[tokio::test]
async fn every_call_is_in_the_openapi_document() {
    let api = Api::start(None, "", &[]).await;
    let document: Value = serde_json::from_str(
        &api.client.get(format!("{}/v1/openapi.json", api.base)).send().await.unwrap().text().await.unwrap(),
    )
    .unwrap();
    assert_eq!(document["openapi"], "3.1.0");
    let page = std::fs::read_to_string("docs/api.md").unwrap();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for method in methods.as_object().unwrap().keys() {
            let call = format!("`{} {path}`", method.to_uppercase());
            assert!(page.contains(&call), "docs/api.md does not say {call}");
        }
    }
    let (status, problem) = api.call(SHOP, Method::GET, "/v1/nothing", Value::Null).await;
    assert_eq!((status, &problem["code"]), (404, &json!("not_found")));
    let (status, problem) = api.call(SHOP, Method::DELETE, "/v1/batch", Value::Null).await;
    assert_eq!((status, &problem["code"]), (405, &json!("method_not_allowed")));
    let request = api.request(SHOP, Method::POST, "/v1/broadcasts").header("content-type", "text/plain");
    assert_eq!(answer(request.body("x")).await.0, 415);
}
