//! How much one client may take, what happens beyond, and that others do not notice. Each test sets the limits that it is
//! about; counts and answers are asserted, not times.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::support::{Client, Redis, SECRET, Server, Token, eventually};

const ON: (&str, &str) = ("ROOMCAST_LIMITS", "on");

/// No address is exempt, and the loopback is a proxy that says where its clients come from.
const BEHIND_PROXY: [(&str, &str); 3] =
    [ON, ("ROOMCAST_UNLIMITED_ADDRESSES", "none"), ("ROOMCAST_TRUSTED_PROXIES", "127.0.0.1")];

async fn server(settings: &[(&str, &str)]) -> Server {
    Server::in_memory(&[&[ON], settings].concat()).await
}

async fn behind_proxy(settings: &[(&str, &str)]) -> Server {
    Server::in_memory(&[&BEHIND_PROXY, settings].concat()).await
}

fn url(server: &Server) -> String {
    format!("ws://{}/ws", server.address)
}

async fn from(server: &Server, address: &str) -> Result<Client, Error> {
    Client::dial_with(&url(server), &[("x-forwarded-for", address)]).await
}

async fn limited(server: &Server, limit: &str) -> f64 {
    server.metric(&format!("roomcast_limited_total{{limit=\"{limit}\"}}")).await
}

fn status(refused: Result<Client, Error>) -> u16 {
    match refused {
        Err(Error::Http(response)) => response.status().as_u16(),
        other => panic!("{:?}", other.map(|_| ())),
    }
}

/// Sends frames until the server closes. Returns what it was told, and the close code.
///
/// Not so fast that the system's buffers fill while the server does not read: once the window is shut, TCP may take so
/// long to try again that a reset comes before the close frame.
async fn flood(mut client: Client, frame: &Message) -> (Vec<Value>, u16) {
    let mut told = Vec::new();
    loop {
        client.try_send(frame.clone()).await;
        sleep(Duration::from_millis(10)).await;
        while let Some(frame) = client.ready_frame().await {
            match frame {
                Message::Text(text) => {
                    let event: Value = serde_json::from_str(&text).expect("JSON");
                    if event["code"] == "rate_limited" {
                        told.push(event);
                    }
                }
                Message::Close(frame) => return (told, frame.expect("a code").code.into()),
                _ => {}
            }
        }
    }
}

/// The answer to an upgrade with these bytes as `X-Forwarded-For`, and the connection.
async fn upgrade_from(server: &Server, forwarded: &[u8]) -> (u16, TcpStream) {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Forwarded-For: ";
    stream.write_all(&[head.as_bytes(), forwarded, b"\r\n\r\n"].concat()).await.unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    (std::str::from_utf8(&answer[9..]).unwrap().parse().unwrap(), stream)
}

/// A proxy appends to what its client wrote, whatever that is.
#[tokio::test]
async fn nobody_evades_the_limits_of_an_address_by_what_it_writes_before_the_proxys_entry() {
    let loopback_is_a_proxy = ("ROOMCAST_TRUSTED_PROXIES", "127.0.0.1");
    let server = server(&[loopback_is_a_proxy, ("ROOMCAST_CONNECTIONS_PER_ADDRESS", "3")]).await;
    for forwarded in [&b"198.51.100.7"[..], b"\xff, 198.51.100.7", b"\xc3\xa9,198.51.100.7", b"198.51.100.9, unknown"] {
        let (mut statuses, mut open) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            let (status, stream) = upgrade_from(&server, forwarded).await;
            statuses.push(status);
            open.push(stream);
        }
        assert_eq!(statuses, [101, 101, 101, 429, 429], "{}", forwarded.escape_ascii());
        drop(open);
        eventually("they are gone", async || (server.metric("ws_connected_clients").await == 0.0).then_some(())).await;
    }
}

#[tokio::test]
async fn a_client_that_is_too_fast_is_slowed_and_others_are_not() {
    let server = server(&[("ROOMCAST_MESSAGES_PER_CONNECTION", "5/s burst 10")]).await;
    let (mut fast, mut calm) = (server.member("lobby", "fast").await, server.member("lobby", "calm").await);
    for number in 0..30 {
        fast.say("lobby", &number.to_string()).await;
    }
    calm.say("lobby", "in between").await;
    // Nothing is lost, and the calm one's message is not behind all of the fast one's, which take four seconds.
    let texts = calm.texts(31).await;
    let own = texts.iter().position(|text| text == "in between").expect("its own message");
    assert!(own < 30, "{texts:?}");
    let others: Vec<&str> = texts.iter().map(String::as_str).filter(|text| *text != "in between").collect();
    assert_eq!(others, (0..30).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!(limited(&server, "messages_per_connection").await, 1.0, "it counts once for each time of haste");
    assert_eq!(server.metric("ws_errors_total{code=\"rate_limited\"}").await, 0.0);
}

#[tokio::test]
async fn frames_of_every_kind_count() {
    let server = server(&[("ROOMCAST_FRAMES_PER_CONNECTION", "1/s burst 5")]).await;
    for frame in [Message::text("{}"), Message::Ping("x".into()), Message::Pong("x".into()), Message::text("[")] {
        let before = limited(&server, "frames_per_connection").await;
        let mut client = server.client().await;
        for _ in 0..7 {
            client.send_raw(frame.clone()).await;
        }
        server.metric_is("roomcast_limited_total{limit=\"frames_per_connection\"}", before + 1.0).await;
    }
}

/// The whole way: slowed, told, closed. It takes the half minute that it has to take.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_slow_down_is_told_and_closed() {
    let server = server(&[("ROOMCAST_FRAMES_PER_CONNECTION", "20/s burst 20")]).await;
    let (told, code) = flood(server.client().await, &Message::text("{}")).await;
    assert_eq!(code, 4029);
    assert!(told.len() >= 3, "{told:?}");
    assert!(told[0]["retry_after_ms"].as_u64().is_some_and(|wait| wait <= 5000), "{}", told[0]);
    assert_eq!(told[0].get("id"), None);
    server.metric_is("ws_disconnects_total{reason=\"too_fast\"}", 1.0).await;
}

#[tokio::test]
async fn large_messages_cost_more() {
    let server = server(&[("ROOMCAST_BYTES_PER_CONNECTION", "4KiB/s burst 8KiB")]).await;
    let (mut large, mut small) = (server.member("lobby", "large").await, server.member("lobby", "small").await);
    for _ in 0..3 {
        large.say("lobby", &"x".repeat(4000)).await;
    }
    small.texts(3).await;
    assert_eq!(limited(&server, "bytes_per_connection").await, 1.0);
    small.say("lobby", "hi").await;
    small.texts(1).await;
    assert_eq!(limited(&server, "bytes_per_connection").await, 1.0);
}

#[tokio::test]
async fn connections_of_one_user_share_what_it_may_say() {
    let keyed = [("ROOMCAST_JWT_SECRET", SECRET), ("ROOMCAST_JWT_AUDIENCE", "chat")];
    let limits = [("ROOMCAST_MESSAGES_PER_USER", "1/s burst 4"), ("ROOMCAST_CONNECTIONS_PER_USER", "2")];
    let server = server(&[keyed, limits].concat()).await;
    let enter = async |name: &str| {
        let token = Token::of(name, json!({"rooms": {"*": ["*"]}})).signed();
        let authorization = format!("Bearer {token}");
        Client::dial_with(&url(&server), &[("authorization", &authorization)]).await.expect("a WebSocket")
    };
    let (mut one, mut two, mut bob) = (enter("ann").await, enter("ann").await, enter("bob").await);
    for client in [&mut one, &mut two, &mut bob] {
        client.expect("authenticated").await;
        client.send(&json!({"type": "join", "room": "lobby"})).await;
        client.expect("joined").await;
    }
    let mut third = enter("ann").await;
    assert_eq!(third.expect("error").await["code"], "rate_limited");
    assert_eq!(third.closed().await, 4029);
    assert_eq!(limited(&server, "connections_per_user").await, 1.0);
    for client in [&mut one, &mut two] {
        for _ in 0..3 {
            client.say("lobby", "x").await;
        }
    }
    bob.texts(6).await;
    assert!(limited(&server, "messages_per_user").await >= 1.0);
    let before = limited(&server, "messages_per_user").await;
    bob.say("lobby", "mine").await;
    bob.texts(1).await;
    assert_eq!(limited(&server, "messages_per_user").await, before);
    // A place that is given back is free.
    drop(two);
    crate::support::eventually("a place is free", async || {
        let mut next = enter("ann").await;
        (next.next().await["type"] == "authenticated").then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_address_has_its_share_of_connections_and_others_have_theirs() {
    let limits = [("ROOMCAST_CONNECTIONS_PER_ADDRESS", "3"), ("ROOMCAST_UPGRADES_PER_ADDRESS", "1/s burst 20")];
    let server = behind_proxy(&limits).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        held.push(from(&server, "198.51.100.7").await.expect("a WebSocket"));
    }
    match from(&server, "198.51.100.7, 127.0.0.1").await {
        Err(Error::Http(response)) => {
            assert_eq!(
                (response.status().as_u16(), &response.headers()["content-type"]),
                (429, &"application/problem+json".parse().unwrap())
            );
            assert!(response.headers()["retry-after"].to_str().unwrap().parse::<u64>().is_ok_and(|wait| wait >= 1));
        }
        other => panic!("{:?}", other.map(|_| ())),
    }
    assert!(from(&server, "198.51.100.8").await.is_ok());
    // One household has one /64.
    for host in 1..=3 {
        held.push(from(&server, &format!("2001:db8:0:1::{host}")).await.expect("a WebSocket"));
    }
    assert_eq!(status(from(&server, "2001:db8:0:1:ffff::1").await), 429);
    assert!(from(&server, "2001:db8:0:2::1").await.is_ok());
    // Whoever forges the header without a proxy in between is still known by its connection.
    let forged = "198.51.100.7, 203.0.113.1";
    held.push(from(&server, forged).await.expect("counted as 203.0.113.1"));
    assert_eq!(limited(&server, "connections_per_address").await, 2.0);
    held.clear();
    for _ in 0..40 {
        if let Err(Error::Http(response)) = from(&server, "198.51.100.9").await {
            assert_eq!(response.status(), 429);
        }
    }
    assert!(limited(&server, "upgrades_per_address").await > 0.0);
    assert!(from(&server, "198.51.100.10").await.is_ok());
}

#[tokio::test]
async fn new_rooms_and_broadcasts_are_limited_over_all_servers() {
    let Some(redis) = Redis::start().await else { return };
    let limits = [("ROOMCAST_NEW_ROOMS", "1/s burst 5"), ("ROOMCAST_BROADCASTS", "1/s burst 4")];
    let settings = [&BEHIND_PROXY[..], &limits].concat();
    let servers = [Server::with(&redis, "one", &settings).await, Server::with(&redis, "two", &settings).await];
    let mut clients = Vec::new();
    for server in &servers {
        clients.push(from(server, "198.51.100.7").await.expect("a WebSocket"));
    }
    let mut neighbour = from(&servers[0], "198.51.100.8").await.expect("a WebSocket");
    let (mut joined, mut refused, start) = (0_u64, Vec::new(), Instant::now());
    for number in 0..10 {
        let client = &mut clients[number % 2];
        client.send(&json!({"type": "join", "room": format!("new-{number}"), "username": "u"})).await;
        match client.next().await {
            event if event["type"] == "joined" => joined += 1,
            event => refused.push(event),
        }
    }
    // And one more for each second that it took.
    let most = |burst: u64| burst + start.elapsed().as_secs() + 1;
    assert!(joined >= 5 && joined <= most(5), "{joined}");
    assert_eq!(refused[0]["code"], "rate_limited");
    assert!(refused[0]["room"].as_str().is_some_and(|room| room.starts_with("new-")), "{}", refused[0]);
    assert!(refused[0]["retry_after_ms"].as_u64().is_some_and(|wait| wait <= 1000), "{}", refused[0]);
    neighbour.join("of-the-neighbour", "u").await;
    // A room that is there costs nothing.
    clients[0].join("of-the-neighbour", "u").await;
    clients[1].join("of-the-neighbour", "u").await;

    let mut kept = 0;
    for number in 0..10 {
        let client = &mut clients[number % 2];
        client.send(&json!({"type": "broadcast", "text": "x", "id": format!("b-{number}")})).await;
        loop {
            let event = client.next().await;
            if event["type"] == "ack" {
                kept += 1;
                break;
            }
            if event["type"] == "error" {
                assert_eq!(event["code"], "rate_limited");
                assert_eq!(event["id"], format!("b-{number}"));
                break;
            }
        }
    }
    assert!(kept >= 4 && kept <= most(4), "{kept}");
    let refused = limited(&servers[0], "broadcasts").await + limited(&servers[1], "broadcasts").await;
    assert_eq!(refused as u64, 10 - kept);
}

#[tokio::test]
async fn a_server_has_only_so_many_rooms() {
    let server = server(&[("ROOMCAST_MAX_ROOMS", "2")]).await;
    let (_one, mut two) = (server.member("one", "u").await, server.member("two", "u").await);
    let mut third = server.client().await;
    third.send(&json!({"type": "join", "room": "three", "username": "u"})).await;
    let error = third.expect("error").await;
    assert_eq!((&error["code"], &error["room"]), (&json!("overloaded"), &json!("three")));
    third.join("one", "u").await;
    two.leave("two").await;
    third.join("three", "u").await;
}

#[tokio::test]
async fn only_pages_of_the_listed_sites_connect() {
    let sites = "https://app.example.com, https://*.example.org, own";
    let server = Server::in_memory(&[("ROOMCAST_ALLOWED_ORIGINS", sites)]).await;
    let own = format!("http://{}", server.address);
    for origin in ["https://app.example.com", "https://a.example.org", &own] {
        assert!(Client::dial_with(&url(&server), &[("origin", origin)]).await.is_ok(), "{origin}");
    }
    for origin in ["https://evil.com", "https://example.org", "null"] {
        assert_eq!(status(Client::dial_with(&url(&server), &[("origin", origin)]).await), 403, "{origin}");
    }
    assert!(Client::dial(&url(&server)).await.is_ok(), "programs send none");
}

#[test]
fn wrong_lists_and_rates_end_the_start_with_the_remedy() {
    for (setting, value, text) in [
        ("ROOMCAST_TRUSTED_PROXIES", "10.0.0.0/33", "10.0.0.0/8, 192.0.2.7 or private"),
        ("ROOMCAST_UNLIMITED_ADDRESSES", "privat", "\"privat\", which is no address"),
        ("ROOMCAST_ALLOWED_ORIGINS", "app.example.com", "write it like https://app.example.com"),
        ("ROOMCAST_MESSAGES_PER_CONNECTION", "20", "20/s burst 100, or off"),
        ("ROOMCAST_BYTES_PER_USER", "64kb/s burst 1MiB", "64KiB/s burst 1MiB, or off"),
        ("ROOMCAST_CONNECTIONS_PER_USER", "0", "or off"),
    ] {
        let (code, error) = crate::support::refuses_to_start(&[(setting, value)]);
        assert!(code == Some(64) && error.contains(setting) && error.contains(text), "{error}");
    }
}
