use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{JoinHandle, sleep, spawn},
    time::{Duration, Instant},
};

use crate::Result;

/// As long as what roomcast publishes for a text of 128 bytes.
const PAYLOAD: usize = 300;

/// Connections that publish, one for each of two servers.
const PUBLISHERS: usize = 2;
const SUBSCRIBERS: usize = 2;
const CHANNELS: usize = 10;

/// How often an idle reader checks whether to end.
const LOOK: Duration = Duration::from_millis(100);

/// The pace of the messages.
#[derive(Clone, Copy, Debug)]
pub enum Pace {
    /// This many a second, one by one.
    Rate(f64),
    /// As fast as Redis answers, with this many in flight on each connection.
    Pipelined(usize),
}

/// Plain `PUBLISH` from two connections to two subscribers, which is the least that rooms on two servers can cost Redis.
/// It ends when this is dropped.
#[derive(Debug)]
pub struct Plain {
    stop: Arc<AtomicBool>,
    published: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Plain {
    /// Begins to publish.
    pub fn start(redis: SocketAddr, pace: Pace) -> Result<Self> {
        let (stop, published) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut plain = Self { stop: stop.clone(), published: published.clone(), threads: Vec::new() };
        for _ in 0..SUBSCRIBERS {
            let mut stream = connect(redis)?;
            let channels = (0..CHANNELS).map(channel).collect::<Vec<_>>();
            let mut words = vec!["SUBSCRIBE"];
            words.extend(channels.iter().map(String::as_str));
            stream.write_all(&command(&words))?;
            let stop = stop.clone();
            plain.threads.push(spawn(move || discard(stream, &stop)));
        }
        for publisher in 0..PUBLISHERS {
            let (stream, stop, published) = (connect(redis)?, stop.clone(), published.clone());
            // An error means that Redis has gone, which its measurement notices.
            plain.threads.push(spawn(move || drop(publish(stream, pace, publisher, &stop, &published))));
        }
        Ok(plain)
    }

    /// How many messages Redis has answered for.
    pub fn published(&self) -> u64 {
        self.published.load(Ordering::Relaxed)
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn connect(redis: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(redis)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(LOOK))?;
    Ok(stream)
}

fn discard(mut stream: TcpStream, stop: &AtomicBool) {
    let mut buffer = vec![0; 64 * 1024];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return,
            _ => {}
        }
    }
}

fn publish(
    mut stream: TcpStream,
    pace: Pace,
    publisher: usize,
    stop: &AtomicBool,
    published: &AtomicU64,
) -> Result<()> {
    let text = "x".repeat(PAYLOAD);
    let publishes: Vec<Vec<u8>> = (0..CHANNELS).map(|room| command(&["PUBLISH", &channel(room), &text])).collect();
    let (batch, between) = match pace {
        Pace::Rate(rate) => (1, Duration::from_secs_f64(PUBLISHERS as f64 / rate)),
        Pace::Pipelined(batch) => (batch, Duration::ZERO),
    };
    let start = Instant::now() + between * publisher as u32 / PUBLISHERS as u32;
    let mut buffer = vec![0; 16 * 1024];
    let mut room = 0;
    for round in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        sleep((start + between * round).saturating_duration_since(Instant::now()));
        let mut commands = Vec::new();
        for _ in 0..batch {
            commands.extend_from_slice(&publishes[room]);
            room = (room + 1) % CHANNELS;
        }
        stream.write_all(&commands)?;
        let mut answers = 0;
        while answers < batch {
            match stream.read(&mut buffer) {
                Ok(0) => return Err("Redis has closed".into()),
                Ok(length) => answers += buffer[..length].iter().filter(|byte| **byte == b'\n').count(),
                Err(error) if error.kind() == ErrorKind::WouldBlock && !stop.load(Ordering::Relaxed) => {}
                Err(error) => return Err(error.into()),
            }
        }
        published.fetch_add(batch as u64, Ordering::Relaxed);
    }
    Ok(())
}

fn channel(room: usize) -> String {
    format!("ws:room:plain-{room}")
}

/// A command as it goes over the wire.
fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}
