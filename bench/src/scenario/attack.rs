use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, available_parallelism},
    time::Duration,
};

use roomcast_load::{Flow, Plan};

use super::{Scenario, column};
use crate::{
    Result,
    cluster::{Cluster, Load},
    results::Figures,
    stage::Stage,
    subject::{OURS, Subject},
};

/// Honest clients beside some that send all they can.
pub const SCENARIO: Scenario = Scenario {
    name: "attack",
    about: "One server with its default limits. 200 clients in 20 rooms get 100 messages a second, alone and beside twice as many \
            attackers as cores, which send as fast as they are read from: WebSocket pings, frames that are refused, messages to a \
            room of 500 others.",
    columns: &[
        column("p99 alone", "p99 ms alone", 2),
        column("p99 pings", "p99 ms beside pings", 2),
        column("p99 refused", "p99 ms beside refused frames", 2),
        column("p99 flood", "p99 ms beside a flooded room", 2),
        column("ratio", "the worst / alone", 1),
        column("missing", "missing", 0),
    ],
    compares_peers: false,
    takes: |subject| subject.name == OURS,
    measure,
};

/// A masked text frame with a mask of zero.
fn text(payload: &str) -> Vec<u8> {
    let length = u8::try_from(payload.len()).expect("a short text");
    [&[0x81, 0x80 | length, 0, 0, 0, 0], payload.as_bytes()].concat()
}

fn measure(stage: &Stage, subject: &'static Subject) -> Result<Figures> {
    let cluster = Cluster::start_with(stage, subject, 1, &[("ROOMCAST_LIMITS", "on")])?;
    let honest = || {
        let plan = Plan {
            clients: stage.pick(200, 40),
            rooms: stage.pick(20, 4),
            flow: Flow::Rate(100.0),
            warm_up: stage.warm_up(),
            duration: stage.half(),
            ..Plan::default()
        };
        cluster.load_to_end(plan)
    };
    let address = cluster.addresses().next().ok_or("there is no server")?;
    let alone = honest()?;
    // An empty ping, with its mask.
    let pings = beside_attackers(address, &[0x89, 0x80, 0, 0, 0, 0].repeat(1000), "", honest)?;
    let refused = beside_attackers(address, &text("{}").repeat(1000), "", honest)?;
    let said = text(r#"{"type":"message","text":"x"}"#).repeat(1000);
    let join = r#"{"type":"join","room":"flooded","username":"a"}"#;
    let listeners = listeners(address, stage.pick(500, 50), join)?;
    let flood = beside_attackers(address, &said, join, honest)?;
    drop(listeners);

    let p99 = |load: &Load| load.report.latency_ms.as_ref().map_or(f64::NAN, |latency| latency.p99);
    let missing =
        |load: &Load| load.report.deliveries.as_ref().map_or(f64::NAN, |deliveries| deliveries.missing as f64);
    let under_attack = [&pings, &refused, &flood];
    let worst = under_attack.map(p99).into_iter().fold(f64::NAN, f64::max);
    Ok(vec![
        ("p99 alone", p99(&alone)),
        ("p99 pings", p99(&pings)),
        ("p99 refused", p99(&refused)),
        ("p99 flood", p99(&flood)),
        ("ratio", worst / p99(&alone)),
        ("missing", under_attack.map(missing).into_iter().sum()),
    ])
}

/// Does some work while attackers send this, again and again, after they have sent `first`. One that is closed comes back.
fn beside_attackers<T>(address: SocketAddr, blob: &[u8], first: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let count = 2 * available_parallelism().map_or(1, Into::into);
        for _ in 0..count {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // It ends when the server closes it.
                    let _ = attack(address, blob, first, &stop);
                }
            });
        }
        let worked = work();
        stop.store(true, Ordering::Relaxed);
        worked
    })
}

fn attack(address: SocketAddr, blob: &[u8], first: &str, stop: &AtomicBool) -> Result<()> {
    let mut stream = open(address, first)?;
    stream.set_nonblocking(true)?;
    let (mut sent, mut heard) = (0, vec![0; 64 << 10]);
    while !stop.load(Ordering::Relaxed) {
        let blocked = |error: &std::io::Error| error.kind() == ErrorKind::WouldBlock;
        let read = match stream.read(&mut heard) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) if blocked(&error) => 0,
            Err(error) => return Err(error.into()),
        };
        let written = match stream.write(&blob[sent..]) {
            Ok(length) => length,
            Err(error) if blocked(&error) => 0,
            Err(error) => return Err(error.into()),
        };
        sent = (sent + written) % blob.len();
        // The attackers must not take the processor from the server themselves.
        if read + written == 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }
    Ok(())
}

/// Members of the room that is flooded. They read nothing: what waits for them is bounded.
fn listeners(address: SocketAddr, count: usize, join: &str) -> Result<Vec<TcpStream>> {
    (0..count).map(|_| open(address, join)).collect()
}

/// A WebSocket on which this has been sent.
fn open(address: SocketAddr, first: &str) -> Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    );
    stream.write_all(request.as_bytes())?;
    let mut head = [0; 12];
    stream.read_exact(&mut head)?;
    if &head != b"HTTP/1.1 101" {
        return Err(format!("the upgrade is answered with {:?}", String::from_utf8_lossy(&head)).into());
    }
    if !first.is_empty() {
        stream.write_all(&text(first))?;
    }
    Ok(stream)
}
