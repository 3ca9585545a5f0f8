//! Streams of events: what a client hears that cannot have a WebSocket, and what it says.

use std::process::{Child, Command};

use reqwest::RequestBuilder;
use serde_json::{Value, json};

use crate::support::{Client, Events, Redis, SECRET, Server, Token, eventually, free_port, in_seconds, left_out};

const KEYED: [(&str, &str); 2] = [("ROOMCAST_JWT_SECRET", SECRET), ("ROOMCAST_JWT_AUDIENCE", "chat")];

fn get(server: &Server, path: &str) -> RequestBuilder {
    reqwest::Client::new().get(format!("http://{}{path}", server.address))
}

/// Says something by a call, and returns the status and the answer.
async fn post(server: &Server, path: &str, token: Option<&Token>, body: &Value) -> (u16, Value) {
    let request = reqwest::Client::new().post(format!("http://{}{path}", server.address));
    let request = request.header("content-type", "application/json").body(body.to_string());
    let request = match token {
        Some(token) => request.bearer_auth(token.signed()),
        None => request,
    };
    let response = request.send().await.expect("an answer");
    let (status, body) = (response.status().as_u16(), response.bytes().await.expect("a body"));
    (status, serde_json::from_slice(&body).unwrap_or_default())
}

async fn say(server: &Server, room: &str, text: &str) {
    let body = json!({"username": "bob", "text": text});
    let (status, answer) = post(server, &format!("/v1/rooms/{room}/messages"), None, &body).await;
    assert_eq!(status, 201, "{answer}");
}

#[tokio::test]
async fn what_is_said_anywhere_is_heard_on_a_stream_as_on_a_socket_and_the_other_way_round() {
    let Some(redis) = Redis::start().await else { return };
    let (one, two) = (Server::on(&redis, "one").await, Server::on(&redis, "two").await);
    let mut socket = two.member("lobby", "ann").await;
    let mut stream = Events::of(one.address, "/v1/rooms/lobby/events?username=cat").await;
    let joined = stream.expect("joined").await;
    assert_eq!(stream.id, format!("{}:0", joined["epoch"].as_str().unwrap()));

    // A line break in data is kept on the socket, and is only space on the stream.
    let body = "{\"username\":\"bob\",\"text\":\"a\\nb\",\"data\":{\"x\":\r\n1},\"event\":\"e\",\"id\":\"m-1\"}";
    let request = reqwest::Client::new().post(format!("http://{}/v1/rooms/lobby/messages", one.address));
    let request = request.header("content-type", "application/json").body(body);
    let kept: Value = serde_json::from_slice(&request.send().await.unwrap().bytes().await.unwrap()).unwrap();
    let (heard, seen) = (stream.expect("message").await, socket.expect("message").await);
    assert_eq!(heard, seen);
    assert_eq!((&heard["data"]["x"], &heard["seq"], &heard["id"]), (&json!(1), &kept["seq"], &json!("m-1")));
    assert_eq!(stream.id, format!("{}:1", kept["epoch"].as_str().unwrap()));

    socket.say("lobby", "from a socket").await;
    assert_eq!(stream.expect("message").await["text"], "from a socket");
    let (status, _) = post(&one, "/v1/rooms/lobby/signals", None, &json!({"username": "bob", "event": "typing"})).await;
    assert_eq!(status, 204);
    socket.expect("message").await;
    for signal in [stream.expect("signal").await, socket.expect("signal").await] {
        assert_eq!((&signal["event"], &signal["username"]), (&json!("typing"), &json!("bob")));
    }
    socket.send(&json!({"type": "broadcast", "text": "to all"})).await;
    stream.expect("broadcast").await;
    assert!(stream.id.ends_with(":2"), "neither a signal nor a broadcast moves the id: {}", stream.id);
    one.metric_is("roomcast_event_streams", 1.0).await;
    one.metric_is("ws_connected_clients", 1.0).await;
    drop(stream);
    one.metric_is("roomcast_event_streams", 0.0).await;
    one.metric_is("ws_connected_clients", 0.0).await;
    one.metric_is("roomcast_memberships", 0.0).await;
    eventually("nobody listens there any more", async || {
        (redis.channels().await == ["ws:broadcast", "ws:room:lobby"]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stream_goes_on_after_the_last_event_on_any_server() {
    let Some(redis) = Redis::start().await else { return };
    let (one, two) = (Server::on(&redis, "one").await, Server::on(&redis, "two").await);
    let mut stream = Events::of(one.address, "/v1/events?room=a&room=b&room=c&username=cat").await;
    for room in ["a", "b", "c"] {
        assert_eq!(stream.expect("joined").await["room"], room);
    }
    for (number, room) in ["a", "b", "a"].into_iter().enumerate() {
        say(&two, room, &number.to_string()).await;
    }
    assert_eq!(stream.texts(3).await, ["0", "1", "2"]);
    let id = std::mem::take(&mut stream.id);
    let seqs: Vec<_> = id.split(',').map(|place| (&place[..2], &place[place.len() - 2..])).collect();
    assert_eq!(seqs, [("a=", ":2"), ("b=", ":1"), ("c=", ":0")]);
    drop(stream);
    for (number, room) in ["b", "c", "b"].into_iter().enumerate() {
        say(&one, room, &number.to_string()).await;
    }
    let request = get(&two, "/v1/events?room=a&room=b&room=c&username=cat").header("last-event-id", &id);
    let mut stream = Events::by(request).await.unwrap();
    let mut texts = Vec::new();
    for _ in 0..6 {
        match stream.next().await.unwrap() {
            (kind, joined) if kind == "joined" => assert_eq!(joined["resumed"], true, "{joined}"),
            (_, message) => texts.push(format!("{}{}", message["room"].as_str().unwrap(), message["seq"])),
        }
    }
    assert_eq!(texts, ["b2", "b3", "c1"]);
    say(&two, "a", "nothing in between").await;
    assert_eq!(stream.texts(1).await, ["nothing in between"]);

    // The log is lost: a client is told, and its id is of the new epoch.
    let old = stream.id.clone();
    let mut connection = redis.connect().await;
    let _: () = redis::cmd("FLUSHALL").query_async(&mut connection).await.unwrap();
    let reset = stream.expect("reset").await;
    assert_eq!(reset["reason"], "new_epoch");
    eventually("all rooms are told", async || {
        let epoch = |id: &str| id.split(',').map(|place| place[2..18].to_owned()).collect::<Vec<_>>();
        if epoch(&stream.id).iter().zip(epoch(&old)).all(|(new, old)| *new != old) {
            return Some(());
        }
        stream.expect("reset").await;
        None
    })
    .await;
    let mut late = Events::of(one.address, &format!("/v1/events?room=a&username=dan&after={old}")).await;
    assert_eq!(late.expect("joined").await["resumed"], false);
}

#[tokio::test]
async fn much_that_was_missed_comes_in_order_and_once() {
    let server = Server::in_memory(&[("ROOMCAST_OUTBOX_MESSAGES", "64")]).await;
    for number in 0..500 {
        say(&server, "lobby", &number.to_string()).await;
    }
    let mut stream = Events::of(server.address, "/v1/rooms/lobby/events?username=cat&last=100").await;
    let joined = stream.expect("joined").await;
    assert_eq!((&joined["seq"], &joined["until"]), (&json!(400), &json!(500)));
    assert_eq!(stream.texts(100).await, (400..500).map(|number| number.to_string()).collect::<Vec<_>>());
    say(&server, "lobby", "live").await;
    assert_eq!(stream.texts(1).await, ["live"]);
}

#[tokio::test]
async fn nobody_hears_what_no_grant_allows() {
    let server =
        Server::in_memory(&[&KEYED, &[("ROOMCAST_LIMITS", "on"), ("ROOMCAST_CONNECTIONS_PER_USER", "2")][..]].concat())
            .await;
    let token = |rights: Value| Token::of("ann", rights).signed();
    let all = token(json!({"rooms": {"*": ["*"]}}));
    let path = "/v1/rooms/lobby/events";
    let refused = async |path: &str, token: Option<&str>| {
        let request = get(&server, path);
        let request = token.map_or_else(|| get(&server, path), |token| request.bearer_auth(token));
        let (status, problem) = Events::by(request).await.err().expect("a refusal");
        (status, problem["code"].as_str().unwrap_or_default().to_owned(), problem["right"].clone())
    };
    let unauthorized = (401, "unauthorized".to_owned(), Value::Null);
    assert_eq!(refused(path, None).await, unauthorized);
    assert_eq!(refused(path, Some("x.y.z")).await, unauthorized);
    let forbidden = |right| (403, "forbidden".to_owned(), json!(right));
    assert_eq!(refused(path, Some(&token(json!({"rooms": {"other": ["*"]}})))).await, forbidden("join"));
    let only_join = token(json!({"rooms": {"lobby": ["join"]}}));
    assert_eq!(refused(&format!("{path}?last=5"), Some(&only_join)).await, forbidden("history"));
    let (status, code, _) = refused(&format!("{path}?username=bob"), Some(&all)).await;
    assert_eq!((status, code.as_str()), (403, "forbidden"));

    // Of several rooms, those that are allowed are heard.
    let one = token(json!({"rooms": {"a": ["join", "send"]}}));
    let mut stream = Events::by(get(&server, "/v1/events?room=x&room=a&room=b%20c").bearer_auth(&one)).await.unwrap();
    assert_eq!(stream.expect("authenticated").await["username"], "ann");
    let mut told = Vec::new();
    for _ in 0..3 {
        let (kind, data) = stream.next().await.unwrap();
        told.push(data["code"].as_str().unwrap_or(&kind).to_owned());
    }
    told.sort();
    assert_eq!(told, ["bad_room", "forbidden", "joined"]);
    let own = Token::of("ann", json!({"rooms": {"a": ["join", "send"]}}));
    let (status, problem) = post(&server, "/v1/rooms/x/messages", Some(&own), &json!({"text": "x"})).await;
    assert_eq!((status, &problem["right"]), (403, &json!("send")));
    let (status, _) = post(&server, "/v1/rooms/a/messages", Some(&own), &json!({"text": "x"})).await;
    assert_eq!((status, &stream.expect("message").await["username"]), (201, &json!("ann")));

    // Each user has so many connections, of whatever kind.
    let offer = format!("roomcast.v1, roomcast.bearer.{all}");
    let url = format!("ws://{}/ws", server.address);
    let mut socket = Client::dial_with(&url, &[("sec-websocket-protocol", &offer)]).await.expect("a WebSocket");
    socket.expect("authenticated").await;
    assert_eq!(refused(path, Some(&all)).await, (429, "rate_limited".into(), Value::Null));
    drop(stream);
    eventually("there is a place again", async || {
        Events::by(get(&server, path).bearer_auth(&all)).await.ok().map(drop)
    })
    .await;
}

#[tokio::test]
async fn what_ends_a_socket_ends_a_stream() {
    let Some(redis) = Redis::start().await else { return };
    let keys = "admin:admin+read:admin-key-0123456789abcdef";
    let api = [("ROOMCAST_API_LISTEN", "127.0.0.1:0"), ("ROOMCAST_API_KEYS", keys)];
    let one = Server::with(&redis, "one", &KEYED).await;
    let two = Server::with(&redis, "two", &[&KEYED, &api[..]].concat()).await;
    let base = two.api_base();
    let token = |user: &str| Token::of(user, json!({"rooms": {"*": ["*"]}}));
    let listen = async |user: &str| {
        let request = get(&one, "/v1/rooms/lobby/events").bearer_auth(token(user).signed());
        let mut stream = Events::by(request).await.unwrap();
        stream.expect("authenticated").await;
        stream.expect("joined").await;
        stream
    };
    let admin = async |method: reqwest::Method, path: &str, body: Value| {
        let request = reqwest::Client::new().request(method, format!("{base}{path}"));
        let request = request.bearer_auth("admin-key-0123456789abcdef").header("content-type", "application/json");
        assert_eq!(request.body(body.to_string()).send().await.unwrap().status(), 204, "{path}");
    };
    let mut bystander = listen("cat").await;

    let mut stream = listen("ann").await;
    admin(reqwest::Method::POST, "/v1/rooms/lobby/kick", json!({"username": "ann"})).await;
    assert_eq!(stream.expect("left").await["reason"], "kicked");
    assert_eq!(stream.closed().await, 1000);
    let mut stream = listen("ann").await;
    admin(reqwest::Method::PUT, "/v1/rooms/lobby/bans/ann", json!({})).await;
    assert_eq!(stream.expect("left").await["reason"], "banned");
    let request = get(&two, "/v1/rooms/lobby/events").bearer_auth(token("ann").signed());
    let (status, problem) = Events::by(request).await.err().expect("a refusal");
    assert_eq!((status, &problem["code"]), (403, &json!("banned")));

    let mut stream = listen("bob").await;
    admin(reqwest::Method::POST, "/v1/users/bob/disconnect", Value::Null).await;
    assert_eq!(stream.closed().await, 4510);
    let mut stream = listen("bob").await;
    admin(reqwest::Method::POST, "/v1/revocations", json!({"user": "bob"})).await;
    assert_eq!(stream.expect("error").await["code"], "unauthorized");
    assert_eq!(stream.closed().await, 4501);
    let brief = token("dan").with("exp", in_seconds(2));
    let mut stream = Events::by(get(&one, "/v1/rooms/lobby/events").bearer_auth(brief.signed())).await.unwrap();
    assert_eq!(stream.closed().await, 4010);

    // A back end with a key to read listens too, under its key's name.
    let request = reqwest::Client::new().get(format!("{base}/v1/rooms/lobby/events?last=1"));
    let mut back_end = Events::by(request.bearer_auth("admin-key-0123456789abcdef")).await.unwrap();
    back_end.expect("joined").await;
    post(&one, "/v1/rooms/lobby/messages", Some(&token("cat")), &json!({"text": "hi"})).await;
    assert_eq!((bystander.texts(1).await, back_end.texts(1).await), (vec!["hi".to_owned()], vec!["hi".to_owned()]));
}

#[tokio::test]
async fn a_server_that_stops_says_when_to_come_back_and_ends_its_streams() {
    let mut server = Server::in_memory(&[("ROOMCAST_DRAIN_DELAY", "200ms"), ("ROOMCAST_DRAIN_TIME", "500ms")]).await;
    let mut stream = Events::of(server.address, "/v1/rooms/lobby/events?username=cat").await;
    stream.expect("joined").await;
    server.signal("TERM");
    assert_eq!(stream.expect("reconnect").await["reason"], "shutting_down");
    assert_eq!(stream.closed().await, 1012);
    assert_eq!(server.ended().await.code(), Some(0));
}

#[tokio::test]
async fn one_that_does_not_read_is_ended_and_the_others_get_everything() {
    let server = Server::in_memory(&[("ROOMCAST_OUTBOX_MESSAGES", "64"), ("ROOMCAST_WRITE_TIMEOUT", "1s")]).await;
    let deaf = Events::of(server.address, "/v1/rooms/lobby/events?username=deaf").await;
    let mut stream = Events::of(server.address, "/v1/rooms/lobby/events?username=cat").await;
    stream.expect("joined").await;
    let mut ann = server.member("lobby", "ann").await;
    let (text, mut sent) = ("x".repeat(16_000), 0);
    while server.metric(r#"ws_disconnects_total{reason="slow_consumer"}"#).await == 0.0 {
        assert!(sent < 10_000, "the client that never reads is never ended");
        for _ in 0..20 {
            ann.say("lobby", &text).await;
            sent += 1;
            assert_eq!(stream.expect("message").await["seq"], json!(sent));
            ann.expect("message").await;
        }
    }
    server.metric_is("roomcast_event_streams", 1.0).await;
    drop(deaf);
}

#[tokio::test]
async fn a_silent_stream_shows_that_it_lives() {
    let server = Server::in_memory(&[("ROOMCAST_PING_INTERVAL", "200ms")]).await;
    let mut stream = Events::of(server.address, "/v1/rooms/lobby/events?username=cat").await;
    stream.expect("joined").await;
    for _ in 0..3 {
        assert_eq!(stream.bytes().await, ":\n\n");
    }
}

#[tokio::test]
async fn pages_of_other_sites_may_call_only_if_they_may_connect() {
    let server = Server::in_memory(&[("ROOMCAST_ALLOWED_ORIGINS", "https://example.com")]).await;
    let call = async |method: reqwest::Method, origin: &str| {
        let request = reqwest::Client::new().request(method, format!("http://{}/v1/rooms/a/messages", server.address));
        let request = request.header("origin", origin).header("content-type", "application/json");
        let response = request.body(r#"{"username":"ann","text":"x"}"#).send().await.unwrap();
        let allowed = response.headers().get("access-control-allow-origin").map(|it| it.to_str().unwrap().to_owned());
        (response.status().as_u16(), allowed)
    };
    let site = "https://example.com";
    assert_eq!(call(reqwest::Method::POST, site).await, (201, Some(site.into())));
    assert_eq!(call(reqwest::Method::OPTIONS, site).await, (204, Some(site.into())));
    for method in [reqwest::Method::POST, reqwest::Method::OPTIONS, reqwest::Method::GET] {
        assert_eq!(call(method, "https://evil.example").await, (403, None));
    }
    // No key of a back end counts here, and nothing else than what clients do is there.
    let (status, _) = post(&server, "/v1/broadcasts", None, &json!({"text": "x"})).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn who_has_no_token_is_limited_by_its_address() {
    let limits = [
        ("ROOMCAST_LIMITS", "on"),
        ("ROOMCAST_MESSAGES_PER_ADDRESS", "1/s burst 5"),
        ("ROOMCAST_UNLIMITED_ADDRESSES", "none"),
    ];
    let server = Server::in_memory(&limits).await;
    let body = json!({"username": "ann", "text": "x"});
    let limited = eventually("the address is too fast", async || {
        let (status, answer) = post(&server, "/v1/rooms/lobby/messages", None, &body).await;
        (status == 429).then_some(answer)
    })
    .await;
    assert_eq!(limited["code"], "rate_limited");
    assert!(limited["retry_after_ms"].as_u64().expect("a time") > 0);
}

/// nginx in front of two servers, configured as for WebSockets and nothing else.
struct Nginx {
    process: Child,
    port: u16,
    _folder: tempfile::TempDir,
}

impl Nginx {
    fn start(servers: &[&Server]) -> Option<Self> {
        let path = format!("{}:/usr/sbin:/sbin", std::env::var_os("PATH").unwrap_or_default().to_string_lossy());
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let upstream: String = servers.iter().map(|server| format!("server {};", server.address)).collect();
        let config = format!(
            "daemon off; pid nginx.pid; error_log stderr; worker_processes 1; events {{ worker_connections 64; }}
            http {{ access_log off; client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u;
            scgi_temp_path s; upstream all {{ {upstream} }}
            server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://all; proxy_http_version 1.1; }} }} }}"
        );
        std::fs::write(folder.path().join("nginx.conf"), config).unwrap();
        let mut command = Command::new("nginx");
        command.args(["-c", "nginx.conf", "-p"]).arg(folder.path()).env("PATH", path);
        match command.spawn() {
            Ok(process) => Some(Self { process, port, _folder: folder }),
            Err(_) => {
                left_out("nginx", "nginx");
                None
            }
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its worker ends with it.
        let _ = Command::new("kill").args(["-s", "TERM", &self.process.id().to_string()]).status();
        let _ = self.process.wait();
    }
}

/// Without affinity, without any setting for streams, and without WebSockets.
#[tokio::test]
async fn a_client_talks_both_ways_through_a_proxy_that_breaks_websockets() {
    let Some(redis) = Redis::start().await else { return };
    let (one, two) = (Server::on(&redis, "one").await, Server::on(&redis, "two").await);
    let mut socket = two.member("lobby", "ann").await;
    let Some(nginx) = Nginx::start(&[&one, &two]) else { return };
    let front = std::net::SocketAddr::from(([127, 0, 0, 1], nginx.port));
    assert!(Client::dial(&format!("ws://{front}/ws")).await.is_err(), "it does break them");
    eventually("nginx is up", async || tokio::net::TcpStream::connect(front).await.ok()).await;
    let mut streams = Vec::new();
    for name in ["cat", "dan"] {
        let mut stream = Events::of(front, &format!("/v1/rooms/lobby/events?username={name}")).await;
        stream.expect("joined").await;
        streams.push(stream);
    }
    let client = reqwest::Client::new();
    for number in 0..20 {
        let request = client.post(format!("http://{front}/v1/rooms/lobby/messages"));
        let body = json!({"username": "cat", "text": number.to_string()}).to_string();
        let request =
            request.header("content-type", "application/json").header("idempotency-key", format!("k{number}"));
        assert_eq!(request.body(body).send().await.unwrap().status(), 201);
    }
    let all: Vec<_> = (0..20).map(|number| number.to_string()).collect();
    assert_eq!(socket.texts(20).await, all);
    for stream in &mut streams {
        assert_eq!(stream.texts(20).await, all);
    }
}
