//! A client as roomcast asks clients to be: it remembers its position in each room, reconnects to another server after
//! a random pause, resumes, and sends again what was not acknowledged.

pub mod frame;
mod outstanding;
mod session;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use rand::{Rng, rngs::StdRng};
use tokio::{
    net::{TcpSocket, TcpStream},
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{WebSocketStream, client_async_with_config, tungstenite::protocol::WebSocketConfig};
use tokio_util::sync::CancellationToken;

use self::{outstanding::Outstanding, session::Session};
use crate::{
    Result,
    cluster::Directory,
    record::{Client as Number, MessageId, Position, Room, What},
    recorder::Recorder,
};

const CONNECT: Duration = Duration::from_secs(3);

/// How long a client waits before it tries again.
#[derive(Clone, Copy, Debug)]
pub struct Pauses {
    /// The bound of the first pause before a new connection; it doubles with each attempt, up to the longest.
    first: Duration,
    longest: Duration,
    /// How long a connection must last to reset the bound.
    peace: Duration,
    /// The pause before a refused message is sent again.
    retry: (Duration, Duration),
}

impl Pauses {
    /// Much shorter than clients should use, so that a short run has many connections.
    pub const SHORT: Self = Self {
        first: Duration::from_millis(50),
        longest: Duration::from_secs(1),
        peace: Duration::ZERO,
        retry: (Duration::from_millis(50), Duration::from_millis(300)),
    };

    /// Those of docs/protocol.md.
    pub const DOCUMENTED: Self = Self {
        first: Duration::from_secs(1),
        longest: Duration::from_secs(30),
        peace: Duration::from_secs(60),
        retry: (Duration::ZERO, Duration::from_secs(1)),
    };
}

/// What a client says.
#[derive(Clone, Copy, Debug)]
pub enum Voice {
    /// So many characters.
    Filler(usize),
    /// One of these after another.
    Sentences(&'static [&'static str]),
}

impl Voice {
    /// The text of a message. No two clients begin at the same sentence.
    fn text(self, id: MessageId) -> String {
        match self {
            Self::Filler(length) => format!("{id} {}", "x".repeat(length)),
            Self::Sentences(sentences) => {
                let first = id.client as usize * 7;
                sentences[(first + id.number as usize) % sentences.len()].to_owned()
            }
        }
    }
}

/// What one client does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its username. If it has none, one is made of its number.
    pub name: Option<&'static str>,
    /// The rooms it is in.
    pub rooms: Vec<Room>,
    /// The mean time between two messages; `None` for one that only listens.
    pub pace: Option<Duration>,
    /// What it says.
    pub voice: Voice,
    /// Its only server; otherwise any.
    pub server: Option<usize>,
    /// Its socket has a small receive buffer, like a small device's.
    pub small_buffer: bool,
    /// How long it rests after each frame that it reads.
    pub rest: Duration,
    /// How long it waits before it tries again.
    pub pauses: Pauses,
}

impl Plan {
    /// A silent client in no room yet, on any server.
    pub fn listener() -> Self {
        Self {
            name: None,
            rooms: Vec::new(),
            pace: None,
            voice: Voice::Filler(0),
            server: None,
            small_buffer: false,
            rest: Duration::ZERO,
            pauses: Pauses::SHORT,
        }
    }
}

/// A scenario's orders to a client.
#[derive(Clone, Debug)]
pub enum Order {
    /// Lose the connection and stay away until told to come back.
    GoAway,
    /// Come back. Each number is for one connection from now on, which is lost this many frames after its first `join`.
    ComeBack(Vec<usize>),
    /// Say this in all of its rooms, once.
    Say(String),
    /// Send messages at this pace from now on.
    Pace(Duration),
    /// Lose the connection, as if the network were gone, and come back.
    Cut,
    /// Stay away for a while first.
    StayAway(Duration),
    /// Read nothing for a while.
    Stall(Duration),
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The run is over.
    Stop,
    /// The connection is gone, with the server's code if there was one.
    Gone(Option<u16>),
    /// The client gave it up, and reconnects after this time.
    Left(Duration),
    /// The client gave it up, and stays away until told to come back.
    Away,
}

/// One client, over all of its connections.
#[derive(Debug)]
pub struct Client {
    number: Number,
    plan: Plan,
    directory: Directory,
    recorder: Arc<Recorder>,
    sending: watch::Receiver<bool>,
    orders: mpsc::Receiver<Order>,
    stop: CancellationToken,
    rng: StdRng,
    positions: BTreeMap<Room, Position>,
    cuts: VecDeque<usize>,
    outstanding: Outstanding,
    next_message: Instant,
}

impl Client {
    /// A client that has not connected yet.
    pub fn new(
        number: Number,
        plan: Plan,
        (directory, recorder): (Directory, Arc<Recorder>),
        sending: watch::Receiver<bool>,
        orders: mpsc::Receiver<Order>,
        stop: CancellationToken,
        rng: StdRng,
    ) -> Self {
        let (positions, outstanding, next_message) = (BTreeMap::new(), Outstanding::default(), Instant::now());
        let mut client = Self {
            number,
            plan,
            directory,
            recorder,
            sending,
            orders,
            stop,
            rng,
            positions,
            cuts: VecDeque::new(),
            outstanding,
            next_message,
        };
        client.plan_next_message(0.0, 1.0);
        client
    }

    /// Connects, and reconnects whenever the connection is gone, until the run is over.
    pub async fn run(mut self) {
        let (mut last, mut failures) = (None, 0);
        loop {
            let stop = self.stop.clone();
            let Some(connected) = stop.run_until_cancelled(self.connect(last)).await else { return };
            let pause = match connected {
                Ok((server, socket)) => {
                    last = Some(server);
                    let since = Instant::now();
                    let end = Session::new(&mut self, socket).run().await;
                    if since.elapsed() >= self.plan.pauses.peace {
                        failures = 0;
                    }
                    let code = if let End::Gone(code) = end { code } else { None };
                    if matches!(end, End::Stop) {
                        return;
                    }
                    self.record(What::Disconnected { code });
                    match end {
                        End::Left(pause) => pause,
                        End::Away => match stop.run_until_cancelled(self.stay_away()).await {
                            Some(()) => Duration::ZERO,
                            None => return,
                        },
                        _ => self.pause(&mut failures),
                    }
                }
                Err(_) => self.pause(&mut failures),
            };
            if stop.run_until_cancelled(sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    async fn connect(&mut self, last: Option<usize>) -> Result<(usize, WebSocketStream<TcpStream>)> {
        let choice = match self.plan.server {
            Some(number) => self.directory.get(number).map(|address| (number, address)),
            None => self.directory.other_than(last, &mut self.rng),
        };
        let (number, address) = choice.ok_or("there is no server")?;
        let socket = timeout(CONNECT, open(address, self.plan.small_buffer)).await??;
        self.record(What::Connected { server: address.to_string() });
        Ok((number, socket))
    }

    async fn stay_away(&mut self) {
        while let Some(order) = self.orders.recv().await {
            if let Order::ComeBack(cuts) = order {
                self.cuts = cuts.into();
                return;
            }
        }
    }

    fn set_pace(&mut self, pace: Duration) {
        self.plan.pace = Some(pace);
        self.plan_next_message(0.0, 1.0);
    }

    fn record(&self, what: What) {
        self.recorder.record(self.number, what);
    }

    /// Exponential with full jitter, so that clients of the same lost server do not all come back at the same time.
    fn pause(&mut self, attempts: &mut u32) -> Duration {
        let Pauses { first, longest, .. } = self.plan.pauses;
        let bound = first.saturating_mul(1 << (*attempts).min(8)).min(longest);
        *attempts += 1;
        bound.mul_f64(self.rng.random_range(0.0..1.0))
    }

    fn retry(&mut self) -> Duration {
        let (shortest, longest) = self.plan.pauses.retry;
        self.rng.random_range(shortest..longest)
    }

    fn username(&self) -> String {
        self.plan.name.map_or_else(|| format!("client-{}", self.number), str::to_owned)
    }

    fn plan_next_message(&mut self, earliest: f64, latest: f64) {
        let pace = self.plan.pace.unwrap_or_default();
        self.next_message = Instant::now() + pace.mul_f64(self.rng.random_range(earliest..latest));
    }
}

async fn open(address: SocketAddr, small_buffer: bool) -> Result<WebSocketStream<TcpStream>> {
    let socket = TcpSocket::new_v4()?;
    if small_buffer {
        socket.set_recv_buffer_size(4096)?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    // Small, as there may be a thousand clients in this process.
    let config = WebSocketConfig::default().read_buffer_size(8 * 1024);
    let (socket, _) = client_async_with_config(format!("ws://{address}/ws"), stream, Some(config)).await?;
    Ok(socket)
}
