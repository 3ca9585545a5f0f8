use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::Router;
use hyper::{
    server::conn::http1,
    service::{Service, service_fn},
};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::{TcpListener, TcpSocket},
    time::{Instant, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    plain::{PlainBound, PlainPlace, PlainPlaces},
    stream::{Patience, Stream},
};
use crate::telemetry::Counter;

/// How many connections the kernel queues before the server accepts them, if it allows that many (on Linux,
/// `net.core.somaxconn`). Further ones try again after a second.
const BACKLOG: u32 = 4096;

/// Longest head of a request, and so the most to keep of what a client sends before its upgrade.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// How long a client may take for the last answer on a connection.
const LAST_ANSWER: Duration = Duration::from_secs(2);

/// How long to wait after a failed accept, for example when no file descriptors are left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often at most the log says that connections cannot be accepted.
const LOG_PAUSE: Duration = Duration::from_secs(1);

/// Binds an address to listen on.
///
/// # Errors
/// If the system refuses it.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restarted server may use a port on which old connections still linger.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts connections and serves HTTP on them until `stop`, with at most `bound` of them before their upgrade. Beyond,
/// it closes those that have kept the server waiting longest, and counts them in `displaced`. After `stop`, open
/// connections finish their current request; `connections` tracks each. Upgraded connections are independent of this.
///
/// This is `axum::serve` with these bounds, NODELAY, gentle closes, and tasks that can be awaited.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    bound: PlainBound,
    displaced: Counter,
    connections: TaskTracker,
    stop: CancellationToken,
) {
    let places = PlainPlaces::new(bound, displaced);
    stop.clone().run_until_cancelled(accept(listener, router, places, Patience::DEFAULT, connections, stop)).await;
}

async fn accept(
    listener: TcpListener,
    router: Router,
    places: Arc<PlainPlaces>,
    patience: Patience,
    connections: TaskTracker,
    stop: CancellationToken,
) {
    let service = TowerToHyperService::new(router);
    let mut logged: Option<Instant> = None;
    loop {
        // Take the place first and then the connection, so that there are never more connections than places.
        let place = places.take().await;
        match listener.accept().await {
            Ok((tcp, peer)) => {
                // Each write is a whole batch already, so delaying it gains nothing.
                let _ = tcp.set_nodelay(true);
                let stream = Stream::new(tcp, place.clone(), patience, connections.clone());
                connections.spawn(serve_one(stream, Peer(peer.ip()), place, service.clone(), stop.clone()));
            }
            Err(error) => {
                if logged.is_none_or(|at| at.elapsed() >= LOG_PAUSE) {
                    tracing::warn!(%error, "cannot accept a connection");
                    logged = Some(Instant::now());
                }
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// The address of the other side of a connection: an extension of each of its requests.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

async fn serve_one(
    stream: Stream,
    peer: Peer,
    place: Arc<PlainPlace>,
    service: TowerToHyperService<Router>,
    stop: CancellationToken,
) {
    let gone = place.gone().clone();
    let service = service_fn(move |mut request: hyper::Request<_>| {
        place.requested();
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(place.clone());
        service.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // The stream has its own deadlines, because hyper's would begin when the previous answer has gone.
        .header_read_timeout(None)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return ended(result),
        () = gone.cancelled() => return,
        () = stop.cancelled() => {}
    }
    // It ends after its current request, or without it if the client does not take the answer.
    connection.as_mut().graceful_shutdown();
    match timeout(LAST_ANSWER, connection).await {
        Ok(result) => ended(result),
        Err(_) => tracing::debug!("a client did not read its answer in time"),
    }
}

fn ended(result: hyper::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended with an error");
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpStream,
    };

    use super::*;

    const LONG: Duration = Duration::from_secs(3600);
    const DEADLINE: Duration = Duration::from_secs(20);
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    const HALF: &[u8] = b"GET / HTTP/1.1\r\nHo";

    /// A running listener.
    struct Listener {
        address: SocketAddr,
        displaced: Counter,
        stop: CancellationToken,
        connections: TaskTracker,
    }

    impl Listener {
        fn start(places: usize, patience: Patience) -> Self {
            let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
            let address = listener.local_addr().unwrap();
            let displaced = Counter::default();
            let (stop, connections) = (CancellationToken::new(), TaskTracker::new());
            let router =
                Router::new().route("/", get(|| async { "yes" })).route("/large", get(|| async { vec![0; 64 << 20] }));
            let places = PlainPlaces::new(PlainBound::for_clients(places), displaced.clone());
            let accepting = accept(listener, router, places, patience, connections.clone(), stop.clone());
            connections.spawn(stop.clone().run_until_cancelled_owned(accepting));
            Self { address, displaced, stop, connections }
        }

        async fn connect(&self, sent: &[u8]) -> TcpStream {
            let mut stream = TcpStream::connect(self.address).await.unwrap();
            stream.write_all(sent).await.unwrap();
            stream
        }

        async fn end(self) {
            self.stop.cancel();
            self.connections.close();
            self.connections.wait().await;
        }
    }

    async fn answers(stream: &mut TcpStream) {
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\nyes") {
            answer.push(timeout(DEADLINE, stream.read_u8()).await.expect("an answer in time").expect("an answer"));
        }
    }

    /// Waits for the end, and returns everything before it.
    async fn closed(mut stream: TcpStream) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("an end in time");
        rest
    }

    #[tokio::test]
    async fn the_time_for_a_head_begins_with_its_first_byte() {
        let patience = Patience { head: Duration::from_millis(50), idle: LONG, answer: LONG };
        let listener = Listener::start(8, patience);
        let mut idle = listener.connect(REQUEST).await;
        answers(&mut idle).await;
        let (mut silent, slow) = (listener.connect(b"").await, listener.connect(HALF).await);
        let mut second = listener.connect(REQUEST).await;
        answers(&mut second).await;
        second.write_all(HALF).await.unwrap();
        assert_eq!((closed(slow).await, closed(second).await), (Vec::new(), Vec::new()));
        // Connections without a request were not displaced meanwhile.
        for stream in [&mut idle, &mut silent] {
            stream.write_all(REQUEST).await.unwrap();
            answers(stream).await;
        }
        drop((idle, silent));
        listener.end().await;
    }

    #[tokio::test]
    async fn who_asks_for_nothing_or_takes_no_answer_is_closed() {
        let brief = Duration::from_millis(50);
        let listener = Listener::start(8, Patience { head: LONG, idle: brief, answer: LONG });
        assert_eq!(closed(listener.connect(b"").await).await, b"");
        assert!(closed(listener.connect(REQUEST).await).await.ends_with(b"yes"));
        listener.end().await;

        let listener = Listener::start(8, Patience { head: LONG, idle: LONG, answer: brief });
        let mut deaf = listener.connect(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await;
        deaf.read_u8().await.unwrap();
        // This client reads no more, so only the server can end it; the remaining task is the one that accepts.
        let ended = async {
            while listener.connections.len() > 1 {
                sleep(brief).await;
            }
        };
        timeout(DEADLINE, ended).await.expect("an end");
        assert!(closed(deaf).await.len() < 64 << 20);
        listener.end().await;
    }

    #[tokio::test]
    async fn beyond_the_places_the_one_that_has_waited_longest_is_closed() {
        let listener = Listener::start(3, Patience { head: LONG, idle: LONG, answer: LONG });
        let mut silent = std::pin::pin!(closed(listener.connect(HALF).await));
        let mut held = Vec::new();
        // Each new connection gets an answer, whoever holds the places, and in the end the silent one must go too.
        let silenced = loop {
            let mut stream = listener.connect(REQUEST).await;
            answers(&mut stream).await;
            held.push(stream);
            if let Ok(silenced) = timeout(Duration::from_millis(5), silent.as_mut()).await {
                break silenced;
            }
        };
        assert_eq!(silenced, b"");
        assert!(listener.displaced.get() as usize >= held.len() - 2, "{}", listener.displaced.get());
        assert_eq!(closed(held.swap_remove(0)).await, b"");
        drop(held);
        listener.end().await;
    }

    #[tokio::test]
    async fn a_head_that_is_too_long_is_refused_and_not_kept() {
        let listener = Listener::start(8, Patience::DEFAULT);
        let long = format!("GET / HTTP/1.1\r\nHost: x\r\nCookie: {}", "x".repeat(400 << 10));
        let answer = closed(listener.connect(long.as_bytes()).await).await;
        assert!(answer.starts_with(b"HTTP/1.1 431 "), "{}", String::from_utf8_lossy(&answer));
        // A head below the bound is not refused.
        let fits = format!("GET / HTTP/1.1\r\nHost: x\r\nCookie: {}\r\n\r\n", "x".repeat(MAX_HEAD_BYTES - 64));
        answers(&mut listener.connect(fits.as_bytes()).await).await;
        listener.end().await;
    }
}
