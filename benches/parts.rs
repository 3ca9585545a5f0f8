//! What the parts cost that every message goes through: `cargo bench`. What they cost together, and beside other
//! servers, is measured by `make bench`.

use std::{sync::Arc, time::Duration};

use divan::{Bencher, counter::ItemsCount};
use roomcast::{
    broker::MemoryBroker,
    config::Config,
    hub::{By, Client, Hub, Membership},
    order::{Publication, Sequencer},
    protocol::{
        Batch, Channel, Command, Dialect, Draft, Envelope, Epoch, Frame, History, Item, Limits, Position, RoomId,
        Stamp, Username,
    },
    server::options::session,
    socket::{Bounds, Outbox},
    telemetry::{Metrics, trace::Tracer},
};
use tokio::{
    io::{copy, sink},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::Span;

fn main() {
    divan::main();
}

fn config() -> Config {
    Config::from_env([]).expect("the defaults").0
}

fn draft(room: &RoomId) -> Draft {
    let username = Username::parse("ann", 64).expect("a username");
    Draft::new("bench:1", Some(room), Some(&username), &"x".repeat(128).as_str().into(), None)
}

fn room() -> RoomId {
    RoomId::parse("lobby", 128).expect("a room")
}

#[divan::bench]
fn decode_a_command(bencher: Bencher<'_, '_>) {
    let limits = Limits::from(&config());
    let text = format!(r#"{{"type":"message","room":"lobby","text":"{}","id":"7f3a"}}"#, "x".repeat(128));
    bencher.bench(|| Command::decode(divan::black_box(&text), &limits).expect("a command"));
}

#[divan::bench]
fn read_an_envelope(bencher: Bencher<'_, '_>) {
    let frame = draft(&room()).numbered(Stamp { position: Position::new(Epoch(7), 1), ts: 1_700_000_000_000 });
    bencher.bench(|| Envelope::read(divan::black_box(&frame)).expect("an envelope").stamp);
}

#[divan::bench]
fn put_a_frame_on_the_wire(bencher: Bencher<'_, '_>) {
    let frame = draft(&room()).numbered(Stamp { position: Position::new(Epoch(7), 1), ts: 1_700_000_000_000 });
    bencher.bench(|| Batch::from(Item::Message(divan::black_box(&frame).clone())));
}

/// Messages that come in order, or each pair of them the wrong way round.
#[divan::bench(args = [false, true])]
fn sequence_a_thousand(bencher: Bencher<'_, '_>, swapped: bool) {
    let frame: Frame = "x".repeat(300).into();
    let placed = |seq| Publication { position: Position::new(Epoch(7), seq), ts: seq, item: frame.clone() };
    let order = move |at: u64| if swapped { at ^ 1 } else { at };
    bencher
        .counter(ItemsCount::new(1000_usize))
        .with_inputs(|| {
            let mut sequencer = Sequencer::new(256);
            sequencer.fill(roomcast::order::LogSlice { top: Position::new(Epoch(7), 0), entries: Vec::new() }, |_| {});
            (sequencer, (0..1000).map(|at| placed(1 + order(at))).collect::<Vec<_>>())
        })
        .bench_values(|(mut sequencer, messages)| {
            let mut delivered = 0;
            for message in messages {
                sequencer.accept(message, |_| delivered += 1);
            }
            assert_eq!(delivered, 1000);
        });
}

/// One message to the members of a room, until it has been written to the sockets of all of them.
#[divan::bench(args = [2, 100, 1000])]
fn fan_out(bencher: Bencher<'_, '_>, members: u64) {
    let runtime = Runtime::new().expect("a runtime");
    let (metrics, config, stop) = (Arc::new(Metrics::new()), config(), CancellationToken::new());
    let hub = Arc::new(Hub::new(
        "bench:1",
        Arc::new(MemoryBroker::new((&config).into(), config.memory_broker_bytes)),
        (&config).into(),
        Tracer::new(None, "none"),
        metrics.clone(),
    ));
    runtime.spawn(hub.clone().run(stop.clone()));
    let bounds = session(&config, "bench:1", &metrics).bounds;
    let joined = runtime.block_on(join_all(&hub, &bounds, members));
    let (channel, draft) = (Channel::Room(room()), draft(&room()));
    bencher.counter(ItemsCount::new(members)).bench_local(|| {
        let goal = metrics.messages_sent.get() + members;
        runtime.block_on(async {
            hub.publish(&channel, &draft, By::Call(&Span::none())).await.expect("published");
            while metrics.messages_sent.get() < goal {
                tokio::task::yield_now().await;
            }
        });
    });
    drop(joined);
    stop.cancel();
    runtime.shutdown_timeout(Duration::from_secs(1));
}

async fn join_all(hub: &Arc<Hub>, bounds: &Arc<Bounds>, members: u64) -> Vec<(Client, Membership, Membership)> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
    let (mut joined, tasks) = (Vec::new(), TaskTracker::new());
    let username = Username::parse("member", 64).expect("a username");
    for _ in 0..members {
        let mut client = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("a connection");
        let (stream, _) = listener.accept().await.expect("a connection");
        tasks.spawn(async move { copy(&mut client, &mut sink()).await });
        let (client, broadcasts) =
            hub.connect(Arc::new(Outbox::new(stream.into_split().1, Dialect::Json, bounds.clone())), None, true);
        let membership = hub.join(&client, &room(), &username, History::None).await.expect("a membership");
        joined.push((client, broadcasts, membership));
    }
    joined
}
