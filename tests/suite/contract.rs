//! What every broker promises, held against both: the one in memory and the one on a real Redis.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use roomcast::{
    broker::{Broker, Listener, MemoryBroker, PublishError, Published, RedisBroker},
    config::Config,
    protocol::{Channel, Draft, Envelope, Frame, MessageId, RoomId},
    room::{LogSlice, Placed, Position, ReadFrom},
    telemetry::Metrics,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::support::{Redis, eventually};

/// A server as far as a broker knows one: it wants channels and writes down what it hears.
#[derive(Default)]
struct Recorder {
    wants: Mutex<HashSet<Channel>>,
    subscribed: Mutex<Vec<Channel>>,
    heard: Mutex<Vec<(Channel, Bytes)>>,
}

impl Recorder {
    fn want(&self, channel: &Channel, wanted: bool) {
        let mut wants = self.wants.lock().unwrap();
        if wanted {
            wants.insert(channel.clone())
        } else {
            wants.remove(channel)
        };
    }

    fn times_subscribed(&self, channel: &Channel) -> usize {
        self.subscribed.lock().unwrap().iter().filter(|subscribed| *subscribed == channel).count()
    }
}

impl Listener for Recorder {
    fn wants(&self, channel: &Channel) -> bool {
        self.wants.lock().unwrap().contains(channel)
    }

    fn wanted(&self) -> Vec<Channel> {
        self.wants.lock().unwrap().iter().cloned().collect()
    }

    fn subscribed(&self, channel: &Channel) {
        self.subscribed.lock().unwrap().push(channel.clone());
    }

    fn heard(&self, channel: &Channel, payload: Bytes, _: bool) {
        self.heard.lock().unwrap().push((channel.clone(), payload));
    }
}

/// A broker and the server that listens through it.
struct Subject {
    broker: Arc<dyn Broker>,
    recorder: Arc<Recorder>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Subject {
    fn start(broker: Arc<dyn Broker>) -> Self {
        let (recorder, stop, tasks) = (Arc::new(Recorder::default()), CancellationToken::new(), TaskTracker::new());
        tasks.spawn(broker.clone().listen(recorder.clone(), stop.clone()));
        tasks.close();
        Self { broker, recorder, stop, tasks }
    }

    async fn end(self) {
        self.stop.cancel();
        self.tasks.wait().await;
    }

    async fn publish(&self, channel: &Channel, draft: &Draft) -> Placed<Frame> {
        match self.broker.publish(channel, draft, None).await {
            Ok(Published::Placed(placed)) => placed,
            other => panic!("{other:?}"),
        }
    }

    async fn read(&self, channel: &Channel, position: Position, known: u64, void: bool) -> LogSlice<Frame> {
        self.broker.read(channel, Some(ReadFrom { position, known, void })).await.unwrap()
    }
}

fn config(settings: &[(&str, &str)]) -> Config {
    Config::from_env(settings.iter().map(|(name, value)| (name.into(), value.into()))).unwrap().0
}

/// Runs a check on a fresh broker of each kind, with these settings.
async fn on_both(settings: &[(&str, &str)], check: impl AsyncFn(&Subject)) {
    let config = config(settings);
    let memory = Subject::start(Arc::new(MemoryBroker::new(&config)));
    check(&memory).await;
    memory.end().await;
    let Some(redis) = Redis::start().await else { return };
    let on_redis = Subject::start(redis_broker(&redis, &config));
    eventually("the broker is ready", async || on_redis.broker.troubles().is_empty().then_some(())).await;
    check(&on_redis).await;
    on_redis.end().await;
}

fn redis_broker(redis: &Redis, config: &Config) -> Arc<dyn Broker> {
    Arc::new(RedisBroker::new(&redis.url(), "one", config, &Arc::new(Metrics::new())).unwrap())
}

fn room(name: &str) -> Channel {
    Channel::Room(RoomId::parse(name, 128).unwrap())
}

fn draft(text: &str, id: Option<&str>) -> Draft {
    let id = id.map(|id| MessageId::parse(id, 64).unwrap());
    Draft::new("one", None, None, text, id.as_ref())
}

fn seqs(slice: &LogSlice<Frame>) -> Vec<u64> {
    slice.entries.iter().map(|entry| entry.position.seq).collect()
}

#[tokio::test]
async fn each_channel_has_its_own_order_and_the_log_has_what_was_published() {
    on_both(&[], async |subject| {
        let (a, b) = (room("a"), room("b"));
        let mut published = Vec::new();
        for number in 1..=3 {
            let placed = subject.publish(&a, &draft(&number.to_string(), None)).await;
            assert_eq!(placed.position.seq, number);
            let envelope = Envelope::read(&placed.item).unwrap();
            assert_eq!(envelope.placed, Some((placed.position.epoch, number, placed.ts)));
            published.push(placed);
        }
        assert_eq!(subject.publish(&b, &draft("x", None)).await.position.seq, 1);

        let top = published[2].position;
        let from_one = subject.read(&a, published[0].position, 3, false).await;
        assert_eq!(from_one, LogSlice { top, entries: published.clone() });
        let from_three = subject.read(&a, top, 3, false).await;
        assert_eq!(from_three.entries, published[2..]);
        // Of another epoch, so that nothing can be skipped: all there is.
        let other = Position::new(roomcast::protocol::Epoch(1), 2);
        assert_eq!(subject.read(&a, other, 2, false).await.entries, published);
        let tops = subject.broker.tops(&[a, b, room("c")]).await.unwrap();
        assert_eq!(tops[0], Some((top, published[2].ts)));
        assert_eq!((tops[1].unwrap().0.seq, tops[2]), (1, None));
    })
    .await;
}

#[tokio::test]
async fn a_channel_gets_its_epoch_from_the_first_who_asks() {
    on_both(&[], async |subject| {
        let a = room("a");
        let first = subject.broker.read(&a, None).await.unwrap();
        assert_eq!((first.top.seq, first.entries.len()), (0, 0));
        assert_eq!(subject.broker.read(&a, None).await.unwrap().top, first.top);
        assert_eq!(subject.publish(&a, &draft("x", None)).await.position, Position::new(first.top.epoch, 1));
        assert!(subject.broker.read(&a, None).await.unwrap().entries.is_empty(), "nothing was asked for but the top");
    })
    .await;
}

#[tokio::test]
async fn an_id_makes_one_message_in_its_channel() {
    on_both(&[], async |subject| {
        let (a, b) = (room("a"), room("b"));
        let first = subject.publish(&a, &draft("x", Some("id"))).await;
        let again = subject.broker.publish(&a, &draft("x", Some("id")), None).await.unwrap();
        assert_eq!(again, Published::Repeated(first.position));
        let conflict = subject.broker.publish(&a, &draft("y", Some("id")), None).await;
        assert!(matches!(conflict, Err(PublishError::IdConflict)), "{conflict:?}");
        assert_eq!(subject.publish(&b, &draft("y", Some("id"))).await.position.seq, 1);
        assert_eq!(subject.publish(&a, &draft("x", None)).await.position.seq, 2);
    })
    .await;
}

#[tokio::test]
async fn an_id_is_forgotten_after_its_window() {
    on_both(&[("ROOMCAST_DEDUP_WINDOW", "1s")], async |subject| {
        let a = room("a");
        subject.publish(&a, &draft("x", Some("id"))).await;
        eventually("the id can be used again", async || {
            // In memory an id goes when something is published after its time.
            subject.publish(&a, &draft("tick", None)).await;
            let result = subject.broker.publish(&a, &draft("x", Some("id")), None).await.unwrap();
            matches!(result, Published::Placed(_)).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test]
async fn a_log_behind_what_is_known_or_void_starts_a_new_epoch_once() {
    on_both(&[], async |subject| {
        let a = room("a");
        let first = subject.publish(&a, &draft("x", None)).await.position;
        let ahead = Position::new(first.epoch, 5);
        // By publishing.
        let Ok(Published::Placed(placed)) = subject.broker.publish(&a, &draft("y", None), Some(ahead)).await else {
            panic!("not placed")
        };
        let second = placed.position;
        assert!(second.epoch != first.epoch && second.seq == 1);
        // Another server that knew as much finds the new epoch and leaves it.
        let slice = subject.read(&a, ahead, 5, false).await;
        assert_eq!((slice.top, seqs(&slice)), (second, vec![1]));
        // By reading, for either reason.
        let slice = subject.read(&a, second, 2, false).await;
        assert!(slice.top.epoch != second.epoch && slice.top.seq == 0 && slice.entries.is_empty());
        let third = subject.publish(&a, &draft("z", None)).await.position;
        assert_eq!(third, Position::new(slice.top.epoch, 1));
        let slice = subject.read(&a, third, 1, true).await;
        assert!(slice.top.epoch != third.epoch && slice.entries.is_empty());
        let again = subject.read(&a, third, 1, true).await;
        assert_eq!(again.top, slice.top, "the void epoch was replaced once");
    })
    .await;
}

#[tokio::test]
async fn the_log_keeps_to_its_length() {
    on_both(&[("ROOMCAST_HISTORY_LENGTH", "100")], async |subject| {
        let a = room("a");
        let mut last = subject.publish(&a, &draft("x", None)).await.position;
        for _ in 0..400 {
            last = subject.publish(&a, &draft("x", None)).await.position;
        }
        let slice = subject.read(&a, Position::new(last.epoch, 1), 401, false).await;
        let first = seqs(&slice)[0];
        // Redis trims whole blocks of a hundred.
        assert!((150..=302).contains(&first), "{first}");
    })
    .await;
}

#[tokio::test]
async fn the_log_keeps_to_its_size_and_never_loses_its_last_entry() {
    let settings = [("ROOMCAST_HISTORY_BYTES", "20000"), ("ROOMCAST_HISTORY_LENGTH", "1000000")];
    on_both(&settings, async |subject| {
        let a = room("a");
        let text = "x".repeat(1000);
        let mut last = subject.publish(&a, &draft(&text, None)).await.position;
        for _ in 0..100 {
            last = subject.publish(&a, &draft(&text, None)).await.position;
        }
        let slice = subject.read(&a, Position::new(last.epoch, 1), 101, false).await;
        assert!((10..=28).contains(&slice.entries.len()), "{}", slice.entries.len());
        let huge = "x".repeat(30_000);
        for _ in 0..20 {
            last = subject.publish(&a, &draft(&huge, None)).await.position;
        }
        let slice = subject.read(&a, last, last.seq, false).await;
        assert_eq!(seqs(&slice), [last.seq]);
    })
    .await;
}

#[tokio::test]
async fn what_is_wanted_is_subscribed_and_said_each_time() {
    on_both(&[], async |subject| {
        let a = room("a");
        for round in 1..=20 {
            subject.recorder.want(&a, true);
            subject.broker.interest_changed(a.clone());
            eventually("subscribed", async || (subject.recorder.times_subscribed(&a) >= round).then_some(())).await;
            subject.recorder.want(&a, false);
            subject.broker.interest_changed(a.clone());
        }
        // A channel that is not wanted is never said to be subscribed.
        let b = room("b");
        subject.broker.interest_changed(b.clone());
        subject.recorder.want(&a, true);
        let before = subject.recorder.times_subscribed(&a);
        subject.broker.interest_changed(a.clone());
        eventually("subscribed", async || (subject.recorder.times_subscribed(&a) > before).then_some(())).await;
        assert_eq!(subject.recorder.times_subscribed(&b), 0);
    })
    .await;
}

/// Of the Redis broker alone: the one in memory has no other servers to hear from.
#[tokio::test]
async fn what_one_server_publishes_the_others_hear_as_it_is() {
    let Some(redis) = Redis::start().await else { return };
    let config = config(&[]);
    let (one, two) = (Subject::start(redis_broker(&redis, &config)), Subject::start(redis_broker(&redis, &config)));
    let a = room("a");
    two.recorder.want(&a, true);
    two.broker.interest_changed(a.clone());
    eventually("subscribed", async || (two.recorder.times_subscribed(&a) > 0).then_some(())).await;
    let placed = one.publish(&a, &draft("x", None)).await;
    let plain = draft("plain", None).unnumbered(7);
    one.broker.send(&a, &plain).await.unwrap();
    let heard = |frame: Frame| (a.clone(), Bytes::copy_from_slice(frame.as_bytes()));
    let expected = [heard(placed.item), heard(plain)];
    eventually("both are heard", async || {
        let heard = two.recorder.heard.lock().unwrap();
        (*heard == expected).then_some(())
    })
    .await;
    one.end().await;
    two.end().await;
}
