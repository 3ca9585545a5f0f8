use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};

use rand::{Rng, rngs::StdRng};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{Result, seed::Seed};

/// Most chunks under way in one direction of a connection; beyond, TCP slows the sender.
const IN_FLIGHT: usize = 64;
const CHUNK: usize = 16 * 1024;
const CONNECT: Duration = Duration::from_secs(2);

/// The behaviour of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Passes everything on at once.
    Fair,
    /// Packets vanish: connections stay open and nothing gets through. TCP repeats what was sent, so it arrives when
    /// this is over.
    BlackHole,
    /// Everything takes tens of milliseconds, and some of it as long as a retransmission.
    Rough,
}

#[derive(Clone, Copy, Debug)]
struct State {
    target: SocketAddr,
    weather: Weather,
    /// Connections of an earlier generation are cut.
    generation: u64,
}

/// The network between one process and Redis.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<watch::Sender<State>>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Proxy {
    /// Listens on a free port and leads to `target`.
    pub async fn start(target: SocketAddr, seed: Seed) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(watch::Sender::new(State { target, weather: Weather::Fair, generation: 0 }));
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let accepting = accept(listener, state.clone(), seed, tasks.clone());
        let until = stop.clone();
        tasks.spawn(async move { until.run_until_cancelled(accepting).await });
        Ok(Self { address, state, stop, tasks })
    }

    /// Where to connect to instead of the target.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes what the network does, for connections that are open and for new ones.
    pub fn weather(&self, weather: Weather) {
        self.state.send_modify(|state| state.weather = weather);
    }

    /// Leads elsewhere from now on, and cuts open connections.
    pub fn lead_to(&self, target: SocketAddr) {
        self.state.send_modify(|state| (state.target, state.generation) = (target, state.generation + 1));
    }

    /// Ends all of it.
    pub async fn stop(self) {
        self.stop.cancel();
        self.state.send_modify(|state| state.generation = u64::MAX);
        self.tasks.close();
        self.tasks.wait().await;
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.cancel();
        self.state.send_modify(|state| state.generation = u64::MAX);
    }
}

async fn accept(listener: TcpListener, state: Arc<watch::Sender<State>>, seed: Seed, tasks: TaskTracker) {
    for number in 0_u64.. {
        let Ok((near, _)) = listener.accept().await else {
            sleep(Duration::from_millis(10)).await;
            continue;
        };
        let link = Link { state: state.subscribe(), generation: state.borrow().generation };
        let rngs = ["there", "back"].map(|way| seed.rng(&format!("{number} {way}")));
        tasks.spawn(link.carry(near, rngs));
    }
}

/// One connection through the proxy.
#[derive(Clone)]
struct Link {
    state: watch::Receiver<State>,
    generation: u64,
}

impl Link {
    async fn carry(self, near: TcpStream, [there, back]: [StdRng; 2]) {
        let connected = tokio::select! {
            far = self.clone().connect() => far,
            () = self.clone().cut() => None,
        };
        let Some(far) = connected else { return };
        // Small commands must not wait for each other, as they do not between the real two.
        let _ = (near.set_nodelay(true), far.set_nodelay(true));
        let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
        let (first, second) = (self.clone(), self.clone());
        tokio::select! {
            () = async { tokio::join!(first.pump(near_read, far_write, there), second.pump(far_read, near_write, back)); } => {}
            () = self.cut() => {}
        }
    }

    /// In a black hole, a connection opens only when that is over, because TCP retries.
    async fn connect(mut self) -> Option<TcpStream> {
        let state = *self.state.wait_for(|state| state.weather != Weather::BlackHole).await.ok()?;
        timeout(CONNECT, TcpStream::connect(state.target)).await.ok()?.ok()
    }

    async fn cut(mut self) {
        let generation = self.generation;
        // An error means that the proxy is gone.
        let _ = self.state.wait_for(|state| state.generation != generation).await;
    }

    /// Carries one direction until it ends, in order, each chunk when its time has come.
    async fn pump(mut self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut rng: StdRng) {
        let mut waiting: VecDeque<(Instant, Vec<u8>)> = VecDeque::new();
        let mut buffer = vec![0; CHUNK];
        let mut is_open = true;
        while is_open || !waiting.is_empty() {
            let weather = self.state.borrow_and_update().weather;
            let due = waiting.front().map(|(due, _)| *due).filter(|_| weather != Weather::BlackHole);
            tokio::select! {
                read = from.read(&mut buffer), if is_open && waiting.len() < IN_FLIGHT => match read {
                    Ok(length) if length > 0 => {
                        // Nothing overtakes what was sent before it.
                        let earliest = waiting.back().map_or_else(Instant::now, |(due, _)| *due);
                        let due = earliest.max(Instant::now() + delay(weather, &mut rng));
                        waiting.push_back((due, buffer[..length].to_vec()));
                    }
                    _ => is_open = false,
                },
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    if let Some((_, chunk)) = waiting.pop_front() && to.write_all(&chunk).await.is_err() {
                        return;
                    }
                }
                changed = self.state.changed() => if changed.is_err() {
                    return;
                },
            }
        }
        // The end of a connection is a packet like any other.
        let _ = self.state.wait_for(|state| state.weather != Weather::BlackHole).await;
        let _ = to.shutdown().await;
    }
}

fn delay(weather: Weather, rng: &mut StdRng) -> Duration {
    match weather {
        Weather::Fair | Weather::BlackHole => Duration::ZERO,
        Weather::Rough if rng.random_bool(0.02) => Duration::from_millis(rng.random_range(200..400)),
        Weather::Rough => Duration::from_millis(rng.random_range(5..40)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_secs(10);

    /// Answers everything with itself; a greeting tells one from another.
    async fn echo(greeting: &'static [u8]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        #[allow(clippy::disallowed_methods, reason = "it ends with the test's runtime")]
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    stream.write_all(greeting).await.unwrap();
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                });
            }
        });
        address
    }

    async fn hears(stream: &mut TcpStream, expected: &[u8]) {
        let mut heard = vec![0; expected.len()];
        timeout(SOON, stream.read_exact(&mut heard)).await.expect("in time").expect("an open connection");
        assert_eq!(heard, expected);
    }

    async fn hears_nothing(stream: &mut TcpStream) {
        let silence = timeout(Duration::from_millis(100), stream.read_u8()).await;
        assert!(silence.is_err(), "{silence:?}");
    }

    #[tokio::test]
    async fn a_black_hole_is_silent_and_loses_nothing_and_leading_elsewhere_cuts() {
        let proxy = Proxy::start(echo(b"one").await, Seed(1)).await.unwrap();
        let mut early = TcpStream::connect(proxy.address()).await.unwrap();
        hears(&mut early, b"one").await;

        proxy.weather(Weather::BlackHole);
        early.write_all(b"held").await.unwrap();
        let mut late = TcpStream::connect(proxy.address()).await.unwrap();
        hears_nothing(&mut early).await;
        hears_nothing(&mut late).await;
        proxy.weather(Weather::Fair);
        hears(&mut early, b"held").await;
        hears(&mut late, b"one").await;

        proxy.lead_to(echo(b"two").await);
        let end = timeout(SOON, early.read_u8()).await.expect("in time");
        assert!(end.is_err(), "it is cut");
        let mut new = TcpStream::connect(proxy.address()).await.unwrap();
        hears(&mut new, b"two").await;
        timeout(SOON, proxy.stop()).await.expect("it ends");
    }

    #[tokio::test]
    async fn rough_weather_delays_and_keeps_the_order() {
        let proxy = Proxy::start(echo(b"").await, Seed(1)).await.unwrap();
        proxy.weather(Weather::Rough);
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        let start = Instant::now();
        for number in 0..20 {
            stream.write_all(&[number]).await.unwrap();
            sleep(Duration::from_millis(2)).await;
        }
        hears(&mut stream, &(0..20).collect::<Vec<u8>>()).await;
        assert!(start.elapsed() > Duration::from_millis(10), "at least five milliseconds there, and five back");
    }
}
