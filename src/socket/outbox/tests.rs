use bytes::BytesMut;
use futures_util::FutureExt;
use proptest::prelude::*;
use tokio::{
    io::AsyncReadExt,
    net::{TcpListener, TcpSocket, TcpStream},
    task::yield_now,
};

use super::*;
use crate::{
    protocol::Item,
    socket::memory::{self, MemorySending, Peer},
};

const TIMEOUT: Duration = Duration::from_secs(5);

/// Bounds that are never reached.
fn wide() -> Arc<Bounds> {
    bounds(usize::MAX, usize::MAX, usize::MAX)
}

fn bounds(max_messages: usize, max_bytes: usize, max_total: usize) -> Arc<Bounds> {
    Arc::new(Bounds::new(max_messages, max_bytes, max_total, crate::telemetry::Counter::default()))
}

/// The client's end of a connection, over TCP or in memory.
trait Client {
    /// Takes at most `most` of the bytes that have arrived; waits for some. Empty at the end.
    async fn some(&mut self, most: usize) -> Vec<u8>;

    /// Takes everything up to the end.
    async fn rest(&mut self) -> Vec<u8> {
        let mut wire = Vec::new();
        loop {
            let taken = self.some(1 << 20).await;
            if taken.is_empty() {
                return wire;
            }
            wire.extend(taken);
        }
    }
}

impl Client for TcpStream {
    async fn some(&mut self, most: usize) -> Vec<u8> {
        let mut bytes = vec![0; most];
        let length = self.read(&mut bytes).await.unwrap_or(0);
        bytes.truncate(length);
        bytes
    }
}

impl Client for Peer {
    async fn some(&mut self, most: usize) -> Vec<u8> {
        loop {
            let taken = self.take(most);
            if !taken.is_empty() || self.end().is_some() {
                return taken;
            }
            yield_now().await;
        }
    }
}

/// An outbox and its client over TCP, with the smallest buffers that the system allows.
async fn over_tcp(bounds: &Arc<Bounds>) -> (Outbox, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(1).unwrap();
    let client = socket.connect(listener.local_addr().unwrap()).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    (Outbox::new(stream.into_split().1, Dialect::Json, bounds.clone()), client)
}

/// The same in memory.
async fn in_memory(bounds: &Arc<Bounds>) -> (Outbox<MemorySending>, Peer) {
    let ((sending, _), peer) = memory::connection(25_000);
    (Outbox::new(sending, Dialect::Json, bounds.clone()), peer)
}

/// Runs the same test over both.
macro_rules! over_both {
    ($(#[$attribute:meta])* async fn $name:ident($connect:ident) $body:block) => {
        mod $name {
            use super::*;

            $(#[$attribute])*
            async fn over_tcp() {
                let $connect = super::over_tcp;
                $body
            }

            $(#[$attribute])*
            async fn in_memory() {
                let $connect = super::in_memory;
                $body
            }
        }
    };
}

/// The payloads in these bytes.
fn texts(wire: Vec<u8>) -> Vec<String> {
    let role = tungstenite::protocol::Role::Client;
    let mut client = tungstenite::WebSocket::from_raw_socket(std::io::Cursor::new(wire), role, None);
    let mut texts = Vec::new();
    while let Ok(message) = client.read() {
        texts.push(message.to_text().unwrap().to_owned());
    }
    texts
}

async fn received(client: &mut impl Client) -> Vec<String> {
    texts(client.rest().await)
}

fn message(text: &str) -> Batch {
    Item::Message(text.to_owned().into()).into()
}

fn large(number: usize) -> Batch {
    message(&format!("{number:10000}"))
}

fn wire_of(batch: &Batch) -> Bytes {
    wire::encode(Dialect::Json, batch.items())
}

/// Pushes until something waits. Returns how many it were.
fn fill(outbox: &Outbox<impl Sending>) -> usize {
    let is_free = || outbox.state().backlog.is_empty();
    (0..)
        .take_while(|number| {
            is_free() && {
                outbox.deliver(&large(*number));
                true
            }
        })
        .count()
}

over_both! {
    #[tokio::test]
    async fn what_is_pushed_is_on_its_way_at_once_and_in_order(connect) {
        let bounds = wide();
        let (outbox, mut client) = connect(&bounds).await;
        let texts: Vec<String> = (0..10).map(|number| number.to_string()).collect();
        texts.iter().for_each(|text| outbox.deliver(&message(text)));
        outbox.shut();
        assert_eq!(received(&mut client).await, texts);
        assert_eq!(bounds.sent.get(), 10);
    }
}

over_both! {
    #[tokio::test]
    async fn what_the_client_does_not_take_yet_is_written_by_its_session(connect) {
        let bounds = wide();
        let (outbox, mut client) = connect(&bounds).await;
        let filled = fill(&outbox);
        (filled..filled + 100).for_each(|number| outbox.deliver(&large(number)));
        assert!(bounds.sent.get() < filled as u64 && bounds.total.held().0 > 0);
        let session = async {
            tokio::select! {
                ended = outbox.attend(TIMEOUT) => panic!("{ended:?}"),
                () = outbox.drained() => outbox.shut(),
            }
        };
        let ((), texts) = tokio::join!(session, received(&mut client));
        let expected = (0..filled + 100).map(|number| format!("{number:10000}"));
        assert!(texts.into_iter().eq(expected));
        assert_eq!(bounds.sent.get(), filled as u64 + 100);
        assert_eq!(bounds.total.held(), (0, 0));
    }
}

over_both! {
    #[tokio::test]
    async fn an_overflow_closes_and_drops_but_cuts_no_message(connect) {
        for bounds in [bounds(3, usize::MAX, usize::MAX), bounds(usize::MAX, 30_000, usize::MAX)] {
            let (outbox, mut client) = connect(&bounds).await;
            let filled = fill(&outbox);
            (0..3).for_each(|number| outbox.deliver(&large(number)));
            assert_eq!(outbox.attend(TIMEOUT).await, Some(CloseCode::SlowConsumer));
            outbox.deliver(&message("too late"));
            outbox.finish(&wire_of(&message("goodbye")), true);
            let session = async {
                outbox.drained().await;
                outbox.shut();
            };
            let ((), texts) = tokio::join!(session, received(&mut client));
            let (goodbye, texts) = texts.split_last().unwrap();
            assert_eq!(goodbye, "goodbye");
            assert!(texts.len() <= filled && texts.iter().enumerate().all(|(at, text)| *text == format!("{at:10000}")));
        }
    }
}

over_both! {
    #[tokio::test]
    async fn of_pongs_that_nobody_takes_only_the_latest_waits(connect) {
        let bounds = bounds(100, usize::MAX, usize::MAX);
        let (outbox, mut client) = connect(&bounds).await;
        let filled = fill(&outbox);
        outbox.deliver(&large(filled));
        let waiting = outbox.state().backlog.bytes();
        for number in 0..1000 {
            let mut pongs = BytesMut::new();
            wire::put_pong(&mut pongs, b"early");
            let last = pongs.len();
            wire::put_pong(&mut pongs, format!("{number:04}").as_bytes());
            outbox.push_pongs(pongs.freeze(), last);
        }
        assert_eq!(outbox.state().backlog.bytes(), waiting + 6);
        assert_eq!(outbox.attend(TIMEOUT).now_or_never(), None);
        let session = async {
            outbox.drained().await;
            outbox.shut();
        };
        let ((), wire) = tokio::join!(session, client.rest());
        // It goes out right after the message that was being written.
        let expected = [b"\x8a\x040999", &wire_of(&large(filled))[..]].concat();
        assert!(wire.ends_with(&expected));
        assert_eq!(bounds.total.held(), (0, 0));
    }
}

over_both! {
    #[tokio::test]
    async fn what_the_client_takes_of_what_waits_is_a_sign_of_life(connect) {
        let (outbox, mut client) = connect(&wide()).await;
        assert!(!outbox.has_moved());
        fill(&outbox);
        assert!(!outbox.has_moved(), "what the system takes at once says nothing");
        while !outbox.has_moved() {
            assert_eq!(outbox.attend(TIMEOUT).now_or_never(), None);
            client.some(4096).await;
        }
        assert!(!outbox.has_moved());
    }
}

over_both! {
    // The system reports room when a third of its buffer is free. A client may have accepted less, which still counts.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_little_is_not_taken_for_one_that_takes_nothing(connect) {
        let (outbox, mut client) = connect(&wide()).await;
        fill(&outbox);
        (0..100).for_each(|number| outbox.deliver(&large(number)));
        let start = Instant::now();
        while !outbox.has_moved() {
            assert!(start.elapsed() < TIMEOUT, "it is looked at more than once in that time");
            let _ = tokio::time::timeout(TIMEOUT / 20, outbox.attend(TIMEOUT)).await;
            client.some(4096).await;
        }
        loop {
            tokio::select! {
                biased;
                ended = outbox.attend(TIMEOUT) => panic!("{ended:?}"),
                // Only this and the deadline move the clock.
                () = tokio::time::sleep(TIMEOUT / 20) => {}
            }
            if start.elapsed() > 5 * TIMEOUT {
                break;
            }
            client.some(4096).await;
        }
    }
}

over_both! {
    #[tokio::test]
    async fn its_phase_says_how_far_it_has_come(connect) {
        let (outbox, client) = connect(&wide()).await;
        assert_eq!(outbox.phase(), Phase::Open);
        outbox.close(CloseCode::ServiceRestart);
        outbox.close(CloseCode::Idle);
        assert_eq!(outbox.phase(), Phase::Closing(CloseCode::ServiceRestart), "the first code stands");
        outbox.deliver(&message("still taken"));
        outbox.finish(&wire::close(1012, "service_restart"), false);
        outbox.deliver(&message("too late"));
        assert_eq!(outbox.phase(), Phase::Ended(CloseCode::ServiceRestart));
        outbox.shut();
        assert_eq!(outbox.phase(), Phase::Lost);
        let mut client = client;
        assert_eq!(received(&mut client).await, ["still taken", "service_restart"]);
    }
}

over_both! {
    #[tokio::test]
    async fn when_all_have_too_much_waiting_those_that_keep_up_stay(connect) {
        let bounds = bounds(usize::MAX, usize::MAX, 1_000_000);
        let (hog, _hog) = connect(&bounds).await;
        let (slow, _slow) = connect(&bounds).await;
        fill(&hog);
        (0..60).for_each(|number| hog.deliver(&large(number)));
        fill(&slow);
        (0..40).for_each(|number| slow.deliver(&large(number)));
        assert_eq!(slow.attend(TIMEOUT).now_or_never(), None);
        hog.deliver(&large(60));
        assert_eq!(hog.attend(TIMEOUT).now_or_never(), Some(Some(CloseCode::SlowConsumer)));
        drop((hog, slow));
        assert_eq!(bounds.total.held(), (0, 0));
    }
}

over_both! {
    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_for_too_long_is_to_be_closed(connect) {
        let (outbox, _client) = connect(&wide()).await;
        fill(&outbox);
        assert_eq!(outbox.attend(TIMEOUT).await, Some(CloseCode::SlowConsumer));
    }
}

over_both! {
    #[tokio::test]
    async fn a_broken_connection_is_noticed_by_whoever_writes(connect) {
        let (outbox, client) = connect(&wide()).await;
        drop(client);
        let pushing = async {
            loop {
                outbox.deliver(&large(0));
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            ended = outbox.attend(TIMEOUT) => assert_eq!(ended, None),
            () = pushing => {}
        }
        outbox.deliver(&message("into nothing"));
        outbox.drained().await;
    }
}

async fn free(outbox: &Outbox<impl Sending>) -> bool {
    poll_fn(|context| outbox.poll_free(context)).await
}

over_both! {
    #[tokio::test]
    async fn a_writer_that_waits_goes_on_when_nothing_waits_or_at_an_end(connect) {
        let (outbox, mut client) = connect(&wide()).await;
        assert!(free(&outbox).await);
        fill(&outbox);
        assert_eq!(free(&outbox).now_or_never(), None);
        let reading = async { while !client.some(4096).await.is_empty() {} };
        tokio::select! {
            is_open = free(&outbox) => assert!(is_open),
            ended = outbox.attend(TIMEOUT) => panic!("{ended:?}"),
            () = reading => panic!("the client has been closed"),
        }
        fill(&outbox);
        let close = async { outbox.close(CloseCode::Idle) };
        let (is_open, ()) = tokio::join!(free(&outbox), close);
        assert!(!is_open);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Deliver(usize),
    Take(usize),
    Write,
    Ping,
    Close,
    Break,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..300_usize).prop_map(Step::Deliver),
        4 => (1..200_usize).prop_map(Step::Take),
        4 => Just(Step::Write),
        1 => Just(Step::Ping),
        1 => Just(Step::Close),
        1 => Just(Step::Break),
    ]
}

proptest! {
    /// Whatever is sent, taken and closed, in pieces of whatever size: the client gets whole messages, in order, from the
    /// first on without a hole, then one close frame; unless it was too slow or the connection broke, it gets all.
    #[test]
    fn a_client_gets_whole_messages_in_order_and_one_close_frame(
        capacity in 1..300_usize,
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let bounds = bounds(5, 1000, usize::MAX);
        let ((sending, _), peer) = memory::connection(capacity);
        let outbox = Outbox::new(sending, Dialect::Json, bounds.clone());
        let (mut sent, mut taken, mut has_closed, mut peer) = (Vec::new(), Vec::new(), false, Some(peer));
        for step in steps {
            match step {
                Step::Deliver(size) => {
                    let text = format!("{}{}", sent.len(), "x".repeat(size));
                    if outbox.phase().takes_messages() {
                        outbox.deliver(&message(&text));
                        sent.push(text);
                    }
                }
                Step::Take(most) => taken.extend(peer.iter().flat_map(|peer| peer.take(most))),
                Step::Write => {
                    outbox.insist();
                }
                // The session sends none once it closes.
                Step::Ping if has_closed => {}
                Step::Ping => outbox.ping(),
                Step::Close => {
                    let is_slow = outbox.has_overflowed();
                    if !std::mem::replace(&mut has_closed, true) {
                        outbox.finish(&wire::close(1000, "bye"), is_slow);
                    }
                }
                Step::Break => {
                    taken.extend(peer.iter().flat_map(|peer| peer.take(usize::MAX)));
                    peer = None;
                }
            }
            let backlog = &outbox.state().backlog;
            prop_assert!(backlog.weight() <= 5 + 2 && bounds.total.held().0 == backlog.bytes());
        }
        let (is_slow, is_whole) = (outbox.has_overflowed(), peer.is_some());
        if is_whole && !has_closed {
            outbox.finish(&wire::close(1000, "bye"), is_slow);
        }
        while let Some(peer) = peer.as_ref().filter(|_| !outbox.is_free()) {
            taken.extend(peer.take(usize::MAX));
            outbox.insist();
        }
        taken.extend(peer.iter().flat_map(|peer| peer.take(usize::MAX)));
        let closes = taken.windows(2).filter(|bytes| bytes == b"\x88\x05").count();
        prop_assert!(closes == 1 || closes == 0 && !is_whole, "{}", closes);
        let mut got = texts(taken);
        got.retain(|text| !text.is_empty() && text != "bye");
        prop_assert!(got.len() <= sent.len() && got.iter().zip(&sent).all(|(got, sent)| got == sent), "{:?}", got);
        prop_assert!(is_slow || !is_whole || got.len() == sent.len());
        drop(outbox);
        prop_assert_eq!(bounds.total.held(), (0, 0));
    }
}
