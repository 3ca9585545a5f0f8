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

/// Most chunks that are on their way in one direction of a connection; beyond, the sender is slowed by TCP.
const IN_FLIGHT: usize = 64;
const CHUNK: usize = 16 * 1024;
const CONNECT: Duration = Duration::from_secs(2);

/// What the network between the two sides does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weather {
    /// Passes everything on at once.
    Fair,
    /// Packets vanish: connections stay open and nothing comes through. What was sent arrives when this is over,
    /// as TCP sends it again.
    BlackHole,
    /// Everything takes tens of milliseconds, and some of it as long as TCP needs to send it again.
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

    /// Leads elsewhere from now on, and cuts what is open.
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

    /// In a black hole a connection is opened when it is over, as TCP tries again.
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
