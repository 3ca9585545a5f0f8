//! The memory that clients take, hostile ones too, is what docs/operations.md says: so much for each, and what the totals
//! allow for all together.

use serde_json::json;
use tokio::{io::AsyncWriteExt, net::TcpStream};

use crate::support::{Server, eventually, frame, head, held, read_frame};

const CLIENTS: usize = 150;

const TEXT: u8 = 0x81;
const PART: u8 = 0x01;
const CONTINUATION: u8 = 0x00;

/// The longest frame that is taken.
const LONGEST: usize = 128 << 10;

/// What docs/operations.md counts for each client.
const EACH: usize = 8 << 10;

/// And for each room in which it is alone.
const ROOM: usize = 2 << 10;

/// The totals of the servers here.
const INBOUND: usize = 1 << 20;
const OUTBOX: usize = 1 << 20;
const SEND_BUFFER: usize = 32 << 10;

/// What is asked of the system for what a server has not read yet.
const RECEIVE_BUFFER: usize = 64 << 10;

/// What the allocator may keep for a moment.
const SLACK: usize = 8 << 20;

async fn server() -> Server {
    let settings = [
        ("ROOMCAST_INBOUND_TOTAL_BYTES", INBOUND.to_string()),
        ("ROOMCAST_OUTBOX_TOTAL_BYTES", OUTBOX.to_string()),
        ("ROOMCAST_SEND_BUFFER_BYTES", SEND_BUFFER.to_string()),
        ("ROOMCAST_MESSAGE_TIMEOUT", "10m".to_owned()),
        ("ROOMCAST_PING_INTERVAL", "1h".to_owned()),
        ("ROOMCAST_WRITE_TIMEOUT", "1s".to_owned()),
    ];
    Server::in_memory(&settings.each_ref().map(|(name, value)| (*name, value.as_str()))).await
}

/// The memory of the process, in bytes.
fn resident(server: &Server) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim_end_matches("kB").trim().parse::<usize>().unwrap() * 1024
}

/// So many clients, each of which has sent these bytes.
async fn clients(server: &Server, bytes: &[u8]) -> Vec<TcpStream> {
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = server.raw_client().await;
        // Those that take more than their share are closed while they send.
        let _ = client.write_all(bytes).await;
        clients.push(client);
    }
    clients
}

async fn fits(server: &Server, before: usize) {
    let bound = before + CLIENTS * EACH + INBOUND + OUTBOX + SLACK;
    eventually(&format!("no more than {bound} bytes"), async || (resident(server) <= bound).then_some(())).await;
}

#[tokio::test]
async fn a_long_frame_leaves_nothing_behind() {
    let server = server().await;
    let before = resident(&server);
    let long = frame(TEXT, format!(r#"{{"x":"{}"}}"#, "x".repeat(LONGEST - 10)).as_bytes());
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        // One after another, as all of them together have more than may be unfinished at a time.
        let mut client = server.raw_client().await;
        client.write_all(&long).await.unwrap();
        let (_, answer) = read_frame(&mut client).await.unwrap();
        assert!(answer.starts_with(br#"{"type":"error","code":"unknown_type""#));
        clients.push(client);
    }
    fits(&server, before).await;
    server.metric_is("ws_connected_clients", CLIENTS as f64).await;
}

#[tokio::test]
async fn messages_that_are_never_finished_are_bounded_together() {
    let announced = [head(TEXT, LONGEST as u64, true), vec![b'x'; LONGEST - 1]].concat();
    let parts = [frame(PART, &vec![b'x'; LONGEST - 100]), frame(CONTINUATION, b"x")].concat();
    let binary = [head(0x02, LONGEST as u64, true), vec![b'x'; LONGEST - 1]].concat();
    for bytes in [announced, parts] {
        let server = server().await;
        let before = resident(&server);
        let _clients = clients(&server, &bytes).await;
        fits(&server, before).await;
        // Those that are left are no more than fit; the others have been told.
        eventually("few are left", async || {
            let left = server.metric("ws_connected_clients").await;
            (left <= (INBOUND / (LONGEST - 200)) as f64).then_some(())
        })
        .await;
        assert!(server.metric(r#"ws_disconnects_total{reason="overloaded"}"#).await > 0.0);
        // A client with short frames does not notice.
        server.member("lobby", "ann").await.hears_nothing().await;
    }
    let server = server().await;
    let before = resident(&server);
    let _clients = clients(&server, &binary).await;
    fits(&server, before).await;
    server.metric_is("ws_connected_clients", CLIENTS as f64).await;
}

#[tokio::test]
async fn rooms_take_what_is_said_and_are_given_back() {
    const ROOMS: usize = 100;
    const CLIENTS: usize = 50;
    let server = server().await;
    let before = resident(&server);
    let mut clients = Vec::new();
    for client in 0..CLIENTS {
        let mut stream = server.raw_client().await;
        let join = |room| json!({"type": "join", "room": format!("{client}-{room}"), "username": "u".repeat(64)});
        let joins = (0..ROOMS).map(|room| frame(TEXT, join(room).to_string().as_bytes()));
        stream.write_all(&joins.collect::<Vec<_>>().concat()).await.unwrap();
        clients.push(stream);
    }
    server.metric_is("roomcast_memberships", (CLIENTS * ROOMS) as f64).await;
    let bound = before + CLIENTS * (EACH + ROOMS * ROOM) + SLACK;
    eventually("no more than that", async || (resident(&server) <= bound).then_some(())).await;
    drop(clients);
    server.metric_is("roomcast_rooms", 0.0).await;
}

#[tokio::test]
async fn what_the_system_holds_for_clients_that_do_not_read_is_bounded_and_goes_with_them() {
    let server = server().await;
    let mut ann = server.member("lobby", "ann").await;
    let text = "x".repeat(16_000);
    for _ in 0..100 {
        ann.say("lobby", &text).await;
        ann.expect("message").await;
    }
    let join = json!({"type": "join", "room": "lobby", "username": "deaf", "last": 100}).to_string();
    let _clients = clients(&server, &frame(TEXT, join.as_bytes())).await;
    let bound = (CLIENTS * 2 * (SEND_BUFFER + RECEIVE_BUFFER)) as u64;
    eventually("all are closed", async || {
        let bytes: u64 = held(server.address).iter().map(|connection| connection.bytes).sum();
        assert!(bytes <= bound, "{bytes} of at most {bound}");
        (server.metric("ws_connected_clients").await == 1.0).then_some(())
    })
    .await;
    eventually("nothing is left of them", async || {
        held(server.address).iter().all(|connection| connection.bytes == 0).then_some(())
    })
    .await;
}
