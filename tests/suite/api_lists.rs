//! What the HTTP API lists over all servers: rooms, members, users and servers.

use std::collections::BTreeSet;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Client, Redis, SECRET, Server, Token, eventually};

const READER: &str = "reader-key-0123456789abcdef";
const ADMIN: &str = "admin-key-0123456789abcdef";
const TEAM: &str = "team-key-0123456789abcdef";

struct Api {
    server: Server,
    base: String,
}

impl Api {
    async fn start(redis: Option<&Redis>, name: &str, more: &[(&str, &str)]) -> Self {
        let keys = format!("reader:read:{READER},admin:admin+read:{ADMIN},team:read(team:*):{TEAM}");
        let own = [("ROOMCAST_API_LISTEN", "127.0.0.1:0"), ("ROOMCAST_API_KEYS", keys.as_str())];
        let settings = [&own, more].concat();
        let server = match redis {
            Some(redis) => Server::with(redis, name, &settings).await,
            None => Server::in_memory(&settings).await,
        };
        Self { base: server.api_base(), server }
    }

    async fn call(&self, key: &str, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let request = reqwest::Client::new().request(method, format!("{}{path}", self.base)).bearer_auth(key);
        let request = request.header("content-type", "application/json");
        let request = if body.is_null() { request } else { request.body(body.to_string()) };
        let response = request.send().await.expect("an answer");
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&response.bytes().await.expect("a body")).unwrap_or_default())
    }

    /// What a call lists, which must succeed.
    async fn list(&self, key: &str, path: &str) -> Value {
        let (status, body) = self.call(key, Method::GET, path, &Value::Null).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    async fn refuses(&self, key: &str, path: &str) -> u16 {
        self.call(key, Method::GET, path, &Value::Null).await.0
    }
}

fn names<'a>(list: &'a Value, name: &str) -> Vec<&'a str> {
    list.as_array().expect("a list").iter().map(|item| item[name].as_str().expect("a name")).collect()
}

#[tokio::test]
async fn members_rooms_and_servers_are_those_of_all_servers() {
    let Some(redis) = Redis::start().await else { return };
    let (one, two) = (Api::start(Some(&redis), "one", &[]).await, Api::start(Some(&redis), "two", &[]).await);
    let mut clients = Vec::new();
    for (server, room, name) in [
        (&one.server, "lobby", "ann"),
        (&two.server, "lobby", "ann"),
        (&two.server, "lobby", "bob"),
        (&two.server, "team:1", "bob"),
    ] {
        clients.push(server.member(room, name).await);
    }
    clients[0].say("lobby", "x").await;
    for api in [&one, &two] {
        let members = api.list(READER, "/v1/rooms/lobby/members").await;
        let users = json!([{"username": "ann", "connections": 2}, {"username": "bob", "connections": 1}]);
        assert_eq!((&members["count"], &members["users"], &members["missing"]), (&json!(3), &users, &json!([])));
        let first = api.list(READER, "/v1/rooms/lobby/members?limit=1").await;
        assert_eq!((names(&first["users"], "username"), &first["has_more"]), (vec!["ann"], &json!(true)));
        let room = api.list(READER, "/v1/rooms/lobby").await;
        assert_eq!((&room["members"], &room["seq"]), (&json!(3), &json!(1)));
        let nobody = api.list(READER, "/v1/rooms/nobody").await;
        assert_eq!((&nobody["members"], nobody.get("seq")), (&json!(0), None));
        let rooms = api.list(READER, "/v1/rooms").await;
        let expected = json!([{"room": "lobby", "members": 3}, {"room": "team:1", "members": 1}]);
        assert_eq!((&rooms["rooms"], rooms.get("cursor")), (&expected, None));
        assert_eq!(names(&api.list(TEAM, "/v1/rooms").await["rooms"], "room"), ["team:1"]);
        let servers = api.list(ADMIN, "/v1/servers").await;
        assert_eq!(names(&servers["servers"], "name"), ["one", "two"]);
        assert_eq!((&servers["servers"][1]["clients"], &servers["servers"][1]["rooms"]), (&json!(3), &json!(2)));
        let bob = api.list(ADMIN, "/v1/users/bob").await;
        let mut rooms: Vec<_> = bob["connections"].as_array().unwrap().iter().map(|it| it["rooms"].clone()).collect();
        rooms.sort_by_key(ToString::to_string);
        assert_eq!(rooms, [json!(["lobby"]), json!(["team:1"])]);
    }
    for (key, path, status) in [
        (TEAM, "/v1/rooms/lobby", 403),
        (TEAM, "/v1/rooms/lobby/members", 403),
        (READER, "/v1/users/bob", 403),
        (READER, "/v1/servers", 403),
        (READER, "/v1/rooms?limit=0", 400),
        (READER, "/v1/rooms?limit=1001", 400),
        (READER, "/v1/rooms/lobby/members?limit=x", 400),
    ] {
        assert_eq!(one.refuses(key, path).await, status, "{path}");
    }
}

#[tokio::test]
async fn rooms_come_in_pages_each_once() {
    let Some(redis) = Redis::start().await else { return };
    let (one, two) = (Api::start(Some(&redis), "one", &[]).await, Api::start(Some(&redis), "two", &[]).await);
    let mut expected = BTreeSet::new();
    let mut clients = [one.server.client().await, two.server.client().await];
    for number in 0..60 {
        for (index, client) in clients.iter_mut().enumerate() {
            // Every third is on both servers.
            let room = if number % 3 == 0 { format!("r:{number:03}") } else { format!("r:{number:03}:{index}") };
            client.join(&room, "ann").await;
            expected.insert(room);
        }
    }
    clients[0].join("other", "ann").await;
    let (mut found, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = one.list(READER, &format!("/v1/rooms?prefix=r:&limit=7&cursor={cursor}")).await;
        for room in page["rooms"].as_array().unwrap() {
            let name = room["room"].as_str().unwrap().to_owned();
            assert_eq!(room["members"], if name.len() == 5 { 2 } else { 1 }, "{name}");
            found.push(name);
        }
        match page["cursor"].as_str() {
            Some(next) => next.clone_into(&mut cursor),
            None => break,
        }
    }
    assert_eq!(found, expected.into_iter().collect::<Vec<_>>());
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_named_and_one_that_is_gone_is_forgotten() {
    let Some(redis) = Redis::start().await else { return };
    let mut servers = Vec::new();
    for name in ["one", "two", "three"] {
        servers.push(Api::start(Some(&redis), name, &[]).await);
    }
    let mut members = Vec::new();
    for api in &servers {
        members.push(api.server.member("lobby", "ann").await);
    }
    servers[1].server.signal("STOP");
    let list = servers[0].list(READER, "/v1/rooms/lobby/members").await;
    servers[1].server.signal("CONT");
    assert_eq!((&list["missing"], &list["count"]), (&json!(["two"]), &json!(2)));
    eventually("it is back", async || {
        let list = servers[0].list(READER, "/v1/rooms/lobby/members").await;
        (list["missing"] == json!([]) && list["count"] == 3).then_some(())
    })
    .await;
    // One that is told to stop says so; of one that is killed it shows after a while.
    let mut three = servers.pop().unwrap();
    three.server.signal("TERM");
    three.server.ended().await;
    let list = servers[0].list(ADMIN, "/v1/servers").await;
    assert_eq!((names(&list["servers"], "name"), &list["missing"]), (vec!["one", "two"], &json!([])));
    servers[1].server.signal("KILL");
    eventually("it is forgotten", async || {
        let list = servers[0].list(ADMIN, "/v1/servers").await;
        assert_eq!(names(&list["servers"], "name"), ["one"]);
        (list["missing"] == json!([])).then_some(())
    })
    .await;
}

#[tokio::test]
async fn one_connection_of_several_is_ended_wherever_it_is() {
    let Some(redis) = Redis::start().await else { return };
    let keyed = [("ROOMCAST_JWT_SECRET", SECRET), ("ROOMCAST_JWT_AUDIENCE", "chat")];
    let (one, two) = (Api::start(Some(&redis), "one", &keyed).await, Api::start(Some(&redis), "two", &keyed).await);
    let token = Token::of("ann", json!({"rooms": {"*": ["*"]}})).signed();
    let enter = async |server: &Server, room: Option<&str>| {
        let url = format!("ws://{}/ws", server.address);
        let authorization = format!("Bearer {token}");
        let mut client = Client::dial_with(&url, &[("authorization", &authorization)]).await.expect("a WebSocket");
        client.expect("authenticated").await;
        if let Some(room) = room {
            client.send(&json!({"type": "join", "room": room})).await;
            client.expect("joined").await;
        }
        client
    };
    let mut stays = enter(&two.server, Some("a")).await;
    let mut goes = enter(&two.server, Some("b")).await;
    // Also one that is in no room is seen.
    let mut idle = enter(&one.server, None).await;
    let user = one.list(ADMIN, "/v1/users/ann").await;
    let connections = user["connections"].as_array().unwrap();
    assert_eq!(connections.len(), 3, "{user}");
    let id = &connections.iter().find(|connection| connection["rooms"] == json!(["b"])).unwrap()["id"];
    let path = "/v1/users/ann/disconnect";
    let (status, _) = one.call(ADMIN, Method::POST, path, &json!({"connection": id})).await;
    assert_eq!((status, goes.closed().await), (204, 4510));
    stays.hears_nothing().await;
    idle.hears_nothing().await;
    let (status, _) = one.call(ADMIN, Method::POST, path, &Value::Null).await;
    assert_eq!((status, stays.closed().await, idle.closed().await), (204, 4510, 4510));

    let (status, _) = one.call(&token, Method::GET, "/v1/rooms/a/members", &Value::Null).await;
    assert_eq!(status, 200, "with the right `presence`");
    let blind = Token::of("bob", json!({"rooms": {"a": ["join"]}})).signed();
    let (status, problem) = one.call(&blind, Method::GET, "/v1/rooms/a/members", &Value::Null).await;
    assert_eq!((status, &problem["right"]), (403, &json!("presence")));
}

#[tokio::test]
async fn while_redis_is_away_nothing_is_listed() {
    let Some(mut redis) = Redis::start().await else { return };
    let api = Api::start(Some(&redis), "one", &[]).await;
    redis.kill();
    for path in ["/v1/rooms", "/v1/rooms/a", "/v1/rooms/a/members", "/v1/users/ann", "/v1/servers"] {
        let (status, problem) = api.call(ADMIN, Method::GET, path, &Value::Null).await;
        assert_eq!((status, &problem["code"]), (503, &json!("unavailable")), "{path}");
    }
}

#[tokio::test]
async fn one_server_without_redis_lists_its_own() {
    let api = Api::start(None, "", &[]).await;
    let mut ann = api.server.member("lobby", "ann").await;
    let members = api.list(READER, "/v1/rooms/lobby/members").await;
    assert_eq!((names(&members["users"], "username"), &members["missing"]), (vec!["ann"], &json!([])));
    let servers = api.list(ADMIN, "/v1/servers").await;
    assert_eq!(names(&servers["servers"], "name"), [api.server.name.as_str()]);
    ann.leave("lobby").await;
    assert_eq!(api.list(READER, "/v1/rooms").await["rooms"], json!([]));
}

/// What anybody puts on the channel of the questions harms nobody.
#[tokio::test]
async fn a_question_that_cannot_be_read_is_ignored() {
    let Some(redis) = Redis::start().await else { return };
    let api = Api::start(Some(&redis), "one", &[]).await;
    let _ann = api.server.member("lobby", "ann").await;
    let long = "x".repeat(10_000);
    let ask =
        |question: &str| json!({"type": "question", "originServer": "x", "id": 7, "question": question}).to_string();
    for text in ["", "{}", "[1]", r#"{"type":"question"}"#, &ask("x"), &ask(r#"{"ask":"future"}"#), &ask(&long)] {
        redis.publish("ws:control", text).await;
    }
    for _ in 0..100 {
        redis.publish("ws:control", ask(r#"{"ask":"rooms","prefix":"","after":"","limit":99999}"#)).await;
    }
    eventually("it answers others as before", async || {
        let list = api.list(READER, "/v1/rooms").await;
        (list["missing"] == json!([]) && names(&list["rooms"], "room") == ["lobby"]).then_some(())
    })
    .await;
}
