//! A first measure of what a delivery costs: members in rooms over several servers, messages at a steady rate, and
//! the servers' CPU time by pid.
//!
//! `cargo run --release --example load -- CLIENTS ROOMS MESSAGES_PER_SECOND SECONDS URL@PID [URL@PID …]`

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use tokio::time::{Instant, interval, sleep};
use tokio_tungstenite::{connect_async, tungstenite::Message};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

#[derive(Default)]
struct Seen {
    delivered: AtomicU64,
    misordered: AtomicU64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [clients, rooms, rate, seconds, servers @ ..] = &arguments[..] else {
        return Err("usage: load CLIENTS ROOMS MESSAGES_PER_SECOND SECONDS URL@PID [URL@PID …]".into());
    };
    let (clients, rooms): (usize, usize) = (clients.parse()?, rooms.parse()?);
    let (rate, seconds): (f64, u64) = (rate.parse()?, seconds.parse()?);
    let servers: Vec<(&str, &str)> = servers.iter().filter_map(|server| server.split_once('@')).collect();

    let seen = Arc::new(Seen::default());
    let mut senders = Vec::new();
    for index in 0..clients {
        let (url, _) = servers[index / rooms % servers.len()];
        let (socket, _) = connect_async(url).await?;
        let (mut sink, mut stream) = socket.split();
        let join = format!(r#"{{"type":"join","room":"room-{}","username":"user-{index}"}}"#, index % rooms);
        sink.send(Message::text(join)).await?;
        stream.next().await.ok_or("closed instead of joined")??;
        let seen = seen.clone();
        #[allow(clippy::disallowed_methods, reason = "these tasks end with the program")]
        tokio::spawn(async move {
            let mut last = 0;
            while let Some(Ok(message)) = stream.next().await {
                let Message::Text(text) = message else { continue };
                seen.delivered.fetch_add(1, Relaxed);
                let seq = text.split(r#""seq":"#).nth(1).and_then(|rest| rest.split(',').next()?.parse().ok());
                let seq: u64 = seq.unwrap_or(0);
                if last != 0 && seq != last + 1 {
                    seen.misordered.fetch_add(1, Relaxed);
                }
                last = seq;
            }
        });
        senders.push(sink);
    }

    let (resident, cpu) = (resident(&servers)?, cpu(&servers)?);
    let start = Instant::now();
    let mut ticks = interval(Duration::from_secs_f64(1.0 / rate));
    let total = (rate * seconds as f64) as usize;
    for number in 0..total {
        ticks.tick().await;
        let message = format!(r#"{{"type":"message","text":"{number:x>128}"}}"#);
        // Every room has a sender on every server in turn.
        senders[number % clients].send(Message::text(message)).await?;
    }
    let expected = (total * clients / rooms) as u64;
    while seen.delivered.load(Relaxed) < expected && start.elapsed() < Duration::from_secs(seconds + 10) {
        sleep(Duration::from_millis(1)).await;
    }
    let (elapsed, used) = (start.elapsed().as_secs_f64(), self::cpu(&servers)? - cpu);
    let delivered = seen.delivered.load(Relaxed);
    println!("deliveries         {delivered} of {expected}, {} out of order", seen.misordered.load(Relaxed));
    println!("per second         {:.0}", delivered as f64 / elapsed);
    println!("CPU per delivery   {:.2} µs, of all servers together", used * 1e6 / delivered as f64);
    println!("resident           {resident} KiB with all connected, in all servers together");
    Ok(())
}

/// Seconds of CPU that the servers have used.
fn cpu(servers: &[(&str, &str)]) -> Result<f64> {
    let mut ticks = 0;
    for (_, pid) in servers {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        ticks += fields[11].parse::<u64>()? + fields[12].parse::<u64>()?;
    }
    Ok(ticks as f64 / 100.0)
}

fn resident(servers: &[(&str, &str)]) -> Result<u64> {
    let mut total = 0;
    for (_, pid) in servers {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find(|line| line.starts_with("VmRSS")).ok_or("no VmRSS")?;
        total += line.split_whitespace().nth(1).ok_or("no size")?.parse::<u64>()?;
    }
    Ok(total)
}
