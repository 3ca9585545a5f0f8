//! What every broker promises, checked with both: the one in memory and the one on a real Redis.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use roomcast::{
    access::Rate,
    broker::{
        Broker, FOR_EVER, Listener, MOST_RULES, MemoryBroker, ModerateError, PublishError, Published, RedisBroker, Rule,
    },
    config::Config,
    order::{LogSlice, Publication, ReadFrom},
    protocol::{Channel, Content, Draft, Envelope, EventName, Frame, MessageId, Position, RoomId, Stamp, Username},
    server::options,
    telemetry::Metrics,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::support::{Redis, eventually};

/// A server as a broker sees it: it wants channels, and records what it hears.
#[derive(Default)]
struct Recorder {
    wants: Mutex<HashSet<Channel>>,
    subscribed: Mutex<Vec<Channel>>,
    refused: Mutex<Vec<Channel>>,
    heard: Mutex<Vec<(Channel, Bytes, bool)>>,
    sanctioned: Mutex<Vec<(String, u64)>>,
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

    fn refused(&self, channel: &Channel) {
        self.refused.lock().unwrap().push(channel.clone());
    }

    fn heard(&self, channel: &Channel, payload: Bytes, is_vouched: bool) {
        self.heard.lock().unwrap().push((channel.clone(), payload, is_vouched));
    }

    fn sanctioned(&self, all: &[(String, u64)]) {
        let mut all = all.to_vec();
        all.sort();
        *self.sanctioned.lock().unwrap() = all;
    }

    fn asked(&self, question: &str) -> Option<String> {
        question.strip_prefix("repeat ").map(str::to_owned)
    }

    fn outlives(&self, text: &str) -> bool {
        text.starts_with("lasting")
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

    async fn publish(&self, channel: &Channel, draft: &Draft) -> Publication<Frame> {
        match self.broker.publish(channel, draft, None).await {
            Ok(Published::New(placed)) => placed,
            other => panic!("{other:?}"),
        }
    }

    async fn read(&self, channel: &Channel, position: Position, known: u64, void: bool) -> LogSlice<Frame> {
        self.broker.recover(channel, Some(ReadFrom { position, known, void })).await.unwrap()
    }
}

fn config(settings: &[(&str, &str)]) -> Config {
    Config::from_env(settings.iter().map(|(name, value)| (name.into(), value.into()))).unwrap().0
}

/// Runs a check on a fresh broker of each kind, with these settings.
async fn on_both(settings: &[(&str, &str)], check: impl AsyncFn(&Subject)) {
    let config = config(settings);
    let memory = Subject::start(Arc::new(MemoryBroker::new((&config).into(), config.memory_broker_bytes)));
    check(&memory).await;
    memory.end().await;
    let Some(redis) = Redis::start().await else { return };
    let on_redis = Subject::start(redis_broker(&redis, &config));
    eventually("the broker is ready", async || on_redis.broker.troubles().is_empty().then_some(())).await;
    check(&on_redis).await;
    on_redis.end().await;
}

fn redis_broker(redis: &Redis, config: &Config) -> Arc<dyn Broker> {
    Arc::new(
        RedisBroker::new(&options::redis(config, &redis.url(), None, None), "one", &Arc::new(Metrics::new())).unwrap(),
    )
}

fn room(name: &str) -> Channel {
    Channel::Room(RoomId::parse(name, 128).unwrap())
}

fn draft(text: &str, id: Option<&str>) -> Draft {
    let id = id.map(|id| MessageId::parse(id, 64).unwrap());
    Draft::new("one", None, None, &text.into(), id.as_ref())
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
            let stamp = Stamp { position: placed.position, ts: placed.ts };
            assert_eq!(envelope.stamp, Some(stamp));
            published.push(placed);
        }
        assert_eq!(subject.publish(&b, &draft("x", None)).await.position.seq, 1);

        let top = published[2].position;
        let from_one = subject.read(&a, published[0].position, 3, false).await;
        assert_eq!(from_one, LogSlice { top, entries: published.clone() });
        let from_three = subject.read(&a, top, 3, false).await;
        assert_eq!(from_three.entries, published[2..]);
        // Of another epoch, so nothing can be skipped: everything.
        let other = Position::new(roomcast::protocol::Epoch(1), 2);
        assert_eq!(subject.read(&a, other, 2, false).await.entries, published);
        let tops = subject.broker.tops(&[a, b, room("c")]).await.unwrap();
        let tops: Vec<_> = tops.into_iter().map(Result::unwrap).collect();
        assert_eq!(tops[0], Some(Stamp { position: top, ts: published[2].ts }));
        assert_eq!((tops[1].unwrap().position.seq, tops[2]), (1, None));
    })
    .await;
}

#[tokio::test]
async fn reading_a_log_changes_nothing() {
    on_both(&[("ROOMCAST_HISTORY_AGE", "1s")], async |subject| {
        let (a, nowhere) = (room("a"), Position::new(roomcast::protocol::Epoch(1), 0));
        for _ in 0..2 {
            assert_eq!(subject.broker.read(&a, nowhere).await.unwrap(), None, "nobody has begun an epoch");
        }
        assert!(subject.broker.tops(std::slice::from_ref(&a)).await.unwrap().iter().all(|top| matches!(top, Ok(None))));
        let first = subject.publish(&a, &draft("x", None)).await;
        let read = async |from| subject.broker.read(&a, from).await.unwrap().expect("a log");
        let slice = read(first.position).await;
        assert_eq!((slice.top, slice.entries), (first.position, vec![first.clone()]));
        assert_eq!(read(nowhere).await.entries, std::slice::from_ref(&first), "of another epoch, so from the start");
        // A reader that knows of more than there is does not begin a new epoch either.
        assert_eq!(read(Position::new(first.position.epoch, 9)).await.top, first.position);
        eventually("the entry is too old", async || read(nowhere).await.entries.is_empty().then_some(())).await;
        let second = subject.publish(&a, &draft("y", None)).await;
        assert_eq!(second.position, Position::new(first.position.epoch, 2));
        assert_eq!(read(first.position).await.entries, [second]);
    })
    .await;
}

#[tokio::test]
async fn a_channel_gets_its_epoch_from_the_first_who_asks() {
    on_both(&[], async |subject| {
        let a = room("a");
        let first = subject.broker.recover(&a, None).await.unwrap();
        assert_eq!((first.top.seq, first.entries.len()), (0, 0));
        assert_eq!(subject.broker.recover(&a, None).await.unwrap().top, first.top);
        assert_eq!(subject.publish(&a, &draft("x", None)).await.position, Position::new(first.top.epoch, 1));
        assert!(
            subject.broker.recover(&a, None).await.unwrap().entries.is_empty(),
            "nothing was asked for but the top"
        );
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
async fn an_id_belongs_to_its_sender() {
    on_both(&[], async |subject| {
        let (a, id) = (RoomId::parse("a", 9).unwrap(), MessageId::parse("id", 9).unwrap());
        let draft = |sender: &str, text: &str| {
            let sender = roomcast::protocol::Username::parse(sender, 9).unwrap();
            Draft::new("one", Some(&a), Some(&sender), &text.into(), Some(&id))
        };
        let a = room("a");
        let ann = subject.publish(&a, &draft("ann", "yes")).await;
        // Another's is another, whatever it says.
        assert_eq!(subject.publish(&a, &draft("eve", "yes")).await.position.seq, 2);
        assert_eq!(subject.publish(&a, &draft("bob", "no")).await.position.seq, 3);
        let again = subject.broker.publish(&a, &draft("ann", "yes"), None).await.unwrap();
        assert_eq!(again, Published::Repeated(ann.position));
    })
    .await;
}

#[tokio::test]
async fn a_page_of_the_log_is_bounded_in_entries_and_in_bytes() {
    on_both(&[], async |subject| {
        for (name, count, length) in [("short", 600, 10), ("long", 12, 100_000), ("huge", 3, 400_000)] {
            let (channel, text) = (room(name), "x".repeat(length));
            let mut published = Vec::new();
            for _ in 0..count {
                published.push(subject.publish(&channel, &draft(&text, None)).await);
            }
            let (mut at, mut read, mut pages) = (Position::new(published[0].position.epoch, 0), Vec::new(), Vec::new());
            while at.seq < count {
                // As readers do: from the last one that they have, to see that it is still there.
                let entries = subject.read(&channel, at, count, false).await.entries;
                let bytes: usize = entries.iter().map(|entry| entry.item.len()).sum();
                assert!(entries.len() == 2 || bytes <= 256 << 10, "{bytes}");
                pages.push(entries.len());
                let new: Vec<_> = entries.into_iter().filter(|entry| entry.position.seq > at.seq).collect();
                at = new.last().expect("something new").position;
                read.extend(new);
            }
            assert_eq!(read, published);
            let expected: &[usize] = match name {
                "short" => &[256, 256, 90],
                "long" => &[2; 11],
                _ => &[2; 2],
            };
            assert_eq!(pages, expected, "{name}");
        }
    })
    .await;
}

/// For the Redis broker alone, like the next ones: nobody else can reach the memory of the other.
#[tokio::test]
async fn what_is_wrong_with_one_channel_costs_no_other_and_no_connection() {
    let Some(redis) = Redis::start().await else { return };
    let subject = Subject::start(redis_broker(&redis, &config(&[])));
    eventually("the broker is ready", async || subject.broker.troubles().is_empty().then_some(())).await;
    let channels = ["good", "string", "text", "later"].map(room);
    for channel in &channels {
        subject.publish(channel, &draft("x", None)).await;
    }
    let mut connection = redis.connect().await;
    let meta = |name: &str| format!("ws:meta:{{ws:room:{name}}}");
    let _: () = redis::AsyncCommands::set(&mut connection, meta("string"), "no hash").await.unwrap();
    let _: () = redis::AsyncCommands::hset(&mut connection, meta("text"), "seq", "no number").await.unwrap();
    let connections = async |connection: &mut redis::aio::MultiplexedConnection| {
        let stats: String = redis::cmd("INFO").arg("stats").query_async(connection).await.unwrap();
        stats.lines().find(|line| line.starts_with("total_connections_received:")).unwrap().to_owned()
    };
    let before = connections(&mut connection).await;
    for _ in 0..3 {
        let tops = subject.broker.tops(&channels).await.unwrap();
        let seqs: Vec<_> = tops.into_iter().map(|top| top.ok().flatten().map(|top| top.position.seq)).collect();
        assert_eq!(seqs, [Some(1), None, None, Some(1)]);
        for channel in &channels[1..3] {
            assert!(subject.broker.recover(channel, None).await.is_err());
            assert!(subject.broker.publish(channel, &draft("x", None), None).await.is_err());
        }
        subject.publish(&channels[0], &draft("x", None)).await;
        let _: () = redis::AsyncCommands::hset(&mut connection, meta("good"), "seq", 1).await.unwrap();
        let _: () = redis::AsyncCommands::del(&mut connection, "ws:log:{ws:room:good}").await.unwrap();
    }
    assert_eq!(connections(&mut connection).await, before);
    assert!(subject.broker.troubles().is_empty());
    subject.end().await;
}

/// Two servers on one Redis, of which the second listens to a channel.
async fn two_of_which_one_listens(redis: &Redis, channel: &Channel) -> (Subject, Subject) {
    let config = config(&[]);
    let (one, two) = (Subject::start(redis_broker(redis, &config)), Subject::start(redis_broker(redis, &config)));
    two.recorder.want(channel, true);
    two.broker.interest_changed(channel.clone());
    eventually("subscribed", async || (two.recorder.times_subscribed(channel) > 0).then_some(())).await;
    (one, two)
}

#[tokio::test]
async fn only_what_redis_gave_its_place_is_vouched_for() {
    let Some(redis) = Redis::start().await else { return };
    let a = room("a");
    let (one, two) = two_of_which_one_listens(&redis, &a).await;
    let spy = redis::Client::open(redis.url()).unwrap();
    let mut spy = spy.get_async_pubsub().await.unwrap();
    spy.subscribe("ws:room:a").await.unwrap();
    let placed = one.publish(&a, &draft("x", None)).await;
    let pushed: String = futures_util::StreamExt::next(&mut spy.on_message()).await.unwrap().get_payload().unwrap();
    let too_long = format!(r#"{{"originServer":"n","text":"{}"}}"#, "x".repeat(1 << 20));
    for forged in [
        pushed.replace(r#""seq":1"#, r#""seq":9"#),
        pushed.split_once(r#","mac""#).unwrap().0.to_owned() + "}",
        too_long,
        // A copy is what it is.
        pushed.clone(),
    ] {
        redis.publish("ws:room:a", forged).await;
    }
    let heard = || two.recorder.heard.lock().unwrap().clone();
    eventually("all but what is too long is heard", async || (heard().len() == 4).then_some(())).await;
    let vouched: Vec<bool> = heard().iter().map(|(_, _, is_vouched)| *is_vouched).collect();
    assert_eq!(vouched, [true, false, false, true]);
    assert_eq!(heard()[0].1, placed.item.as_bytes());

    // The secret is lost with everything else, and the servers agree on a new one.
    let _: () = redis::cmd("FLUSHALL").query_async(&mut redis.connect().await).await.unwrap();
    eventually("pushes are vouched for again", async || {
        one.publish(&a, &draft("x", None)).await;
        let secret: Option<String> = redis::AsyncCommands::get(&mut redis.connect().await, "ws:secret").await.unwrap();
        (secret.is_some() && heard().last().unwrap().2).then_some(())
    })
    .await;
    one.end().await;
    two.end().await;
}

#[tokio::test]
async fn an_id_is_forgotten_after_its_window() {
    on_both(&[("ROOMCAST_DEDUP_WINDOW", "1s")], async |subject| {
        let a = room("a");
        subject.publish(&a, &draft("x", Some("id"))).await;
        eventually("the id can be used again", async || {
            let result = subject.broker.publish(&a, &draft("x", Some("id")), None).await.unwrap();
            matches!(result, Published::New(_)).then_some(())
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
        let Ok(Published::New(placed)) = subject.broker.publish(&a, &draft("y", None), Some(ahead)).await else {
            panic!("not placed")
        };
        let second = placed.position;
        assert!(second.epoch != first.epoch && second.seq == 1);
        // Another server that knew as much finds the new epoch and keeps it.
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
    let a = room("a");
    let (one, two) = two_of_which_one_listens(&redis, &a).await;
    let placed = one.publish(&a, &draft("x", None)).await;
    let plain = draft("plain", None).unnumbered(7);
    one.broker.send(&a, &plain).await.unwrap();
    let heard = |frame: Frame, is_vouched| (a.clone(), Bytes::copy_from_slice(frame.as_bytes()), is_vouched);
    let expected = [heard(placed.item, true), heard(plain, false)];
    eventually("both are heard", async || {
        let heard = two.recorder.heard.lock().unwrap();
        (*heard == expected).then_some(())
    })
    .await;
    one.end().await;
    two.end().await;
}

/// How an attempt to speak ends.
async fn speaks(
    subject: &Subject,
    channel: &Channel,
    user: &str,
    id: &str,
    is_moderator: bool,
) -> Result<(), PublishError> {
    let (room, user) = (channel.room().unwrap(), Username::parse(user, 9).unwrap());
    let id = MessageId::parse(id, 9).unwrap();
    let draft = Draft::new("one", Some(room), Some(&user), &"x".into(), Some(&id)).by_moderator(is_moderator);
    subject.broker.publish(channel, &draft, None).await.map(drop)
}

#[tokio::test]
async fn what_holds_for_the_speakers_of_a_room_holds_at_once_and_until_its_time() {
    on_both(&[], async |subject| {
        let (channel, broker) = (room("moderated"), &subject.broker);
        let (room, ann) = (channel.room().unwrap(), Username::parse("ann", 9).unwrap());
        assert!(speaks(subject, &channel, "ann", "before", false).await.is_ok());
        broker.moderate(room, Rule::Muted(ann.clone(), Some(FOR_EVER))).await.unwrap();
        assert!(matches!(speaks(subject, &channel, "ann", "1", false).await, Err(PublishError::Muted(FOR_EVER))));
        assert!(
            speaks(subject, &channel, "ann", "before", false).await.is_ok(),
            "it is kept already, so it is said so"
        );
        assert!(speaks(subject, &channel, "bob", "1", false).await.is_ok());
        broker.moderate(room, Rule::Muted(ann.clone(), None)).await.unwrap();
        assert!(speaks(subject, &channel, "ann", "1", false).await.is_ok(), "its id was not taken by the refusal");

        broker.moderate(room, Rule::Banned(ann.clone(), Some(FOR_EVER))).await.unwrap();
        assert_eq!(broker.banned(room, &ann).await.unwrap(), Some(FOR_EVER));
        assert_eq!(broker.banned(room, &Username::parse("bob", 9).unwrap()).await.unwrap(), None);
        assert!(matches!(speaks(subject, &channel, "ann", "2", false).await, Err(PublishError::Banned(_))));
        broker.moderate(room, Rule::Banned(ann.clone(), None)).await.unwrap();
        assert_eq!(broker.banned(room, &ann).await.unwrap(), None);

        broker.moderate(room, Rule::Slow(Some(Duration::from_secs(60)))).await.unwrap();
        assert!(speaks(subject, &channel, "ann", "3", false).await.is_ok());
        match speaks(subject, &channel, "ann", "4", false).await {
            Err(PublishError::SlowMode(wait)) => {
                assert!(wait <= Duration::from_secs(60) && wait > Duration::from_secs(30))
            }
            other => panic!("{other:?}"),
        }
        assert!(speaks(subject, &channel, "ann", "3", false).await.is_ok(), "it is kept already");
        assert!(speaks(subject, &channel, "bob", "3", false).await.is_ok());
        assert!(speaks(subject, &channel, "ann", "5", true).await.is_ok(), "a moderator");
        broker.moderate(room, Rule::Slow(None)).await.unwrap();
        assert!(speaks(subject, &channel, "ann", "4", false).await.is_ok());

        let soon = now() + 300;
        broker.moderate(room, Rule::Muted(ann.clone(), Some(soon))).await.unwrap();
        eventually("the mute ends", async || speaks(subject, &channel, "ann", "6", false).await.ok()).await;
        assert!(now() >= soon);
    })
    .await;
}

#[tokio::test]
async fn who_may_not_speak_does_not_signal_either() {
    on_both(&[], async |subject| {
        let (channel, broker) = (room("moderated"), &subject.broker);
        let (room, ann) = (channel.room().unwrap(), Username::parse("ann", 9).unwrap());
        let content = Content { event: Some(EventName::parse("typing".into()).unwrap()), ..Content::default() };
        let draft = Draft::signal("one", room, Some(&ann), &content);
        let frame = broker.signal(&channel, &draft).await.unwrap();
        let envelope = Envelope::read(&frame).unwrap();
        assert_eq!((&*envelope.origin_server, envelope.stamp), ("one", None));
        broker.moderate(room, Rule::Slow(Some(Duration::from_secs(60)))).await.unwrap();
        for _ in 0..2 {
            assert!(broker.signal(&channel, &draft).await.is_ok(), "slow mode is about messages");
        }
        broker.moderate(room, Rule::Muted(ann.clone(), Some(FOR_EVER))).await.unwrap();
        assert!(matches!(broker.signal(&channel, &draft).await, Err(PublishError::Muted(FOR_EVER))));
        broker.moderate(room, Rule::Muted(ann.clone(), None)).await.unwrap();
        broker.moderate(room, Rule::Banned(ann, Some(FOR_EVER))).await.unwrap();
        assert!(matches!(broker.signal(&channel, &draft).await, Err(PublishError::Banned(FOR_EVER))));
        assert!(broker.tops(std::slice::from_ref(&channel)).await.unwrap().iter().all(|top| matches!(top, Ok(None))));
    })
    .await;
}

#[tokio::test]
async fn a_log_is_read_backwards_page_by_page() {
    on_both(&[], async |subject| {
        for (name, count, length, limit) in [("short", 250, 10, 60), ("long", 9, 100_000, 60), ("huge", 3, 400_000, 2)]
        {
            let (channel, text) = (room(name), "x".repeat(length));
            assert_eq!(subject.broker.read_back(&channel, None, limit).await.unwrap(), None, "there is no log");
            let mut published = Vec::new();
            for _ in 0..count {
                published.push(subject.publish(&channel, &draft(&text, None)).await);
            }
            let top = published[count - 1].position;
            let (mut before, mut read) = (None, Vec::new());
            loop {
                let past = subject.broker.read_back(&channel, before, limit).await.unwrap().expect("a log");
                assert_eq!(past.top, top);
                let (entries, bytes) = (past.entries.len(), past.entries.len() * length);
                assert!(entries > 0 && entries as u64 <= limit && (entries == 1 || bytes <= 256 << 10), "{entries}");
                before = Some(past.entries[0].position);
                read.splice(0..0, past.entries);
                if !past.has_more {
                    break;
                }
            }
            assert_eq!(read, published, "{name}");
            let back = async |before| subject.broker.read_back(&channel, Some(before), limit).await.unwrap().unwrap();
            let beyond = back(Position::new(top.epoch, top.seq + 9)).await;
            assert_eq!(beyond.entries.last(), published.last());
            let other = back(Position::new(roomcast::protocol::Epoch(1), 2)).await;
            assert_eq!((other.top, other.entries, other.has_more), (top, vec![], false));
        }
    })
    .await;
}

#[tokio::test]
async fn what_the_log_no_longer_keeps_is_not_read_backwards_either() {
    on_both(&[("ROOMCAST_HISTORY_AGE", "1s")], async |subject| {
        let a = room("a");
        let old = subject.publish(&a, &draft("old", None)).await;
        let read = async || subject.broker.read_back(&a, None, 9).await.unwrap().unwrap();
        assert_eq!(read().await.entries, [old]);
        eventually("it is too old", async || read().await.entries.is_empty().then_some(())).await;
        let young = subject.publish(&a, &draft("young", None)).await;
        let past = read().await;
        assert_eq!((past.entries, past.has_more), (vec![young], false));
    })
    .await;
}

#[tokio::test]
async fn a_room_has_so_many_mutes_and_bans_and_forgets_those_that_have_ended() {
    on_both(&[], async |subject| {
        let (channel, broker) = (room("moderated"), &subject.broker);
        let room = channel.room().unwrap();
        let user = |number: usize| Username::parse(&format!("user-{number}"), 32).unwrap();
        let soon = now() + 2_000;
        let mute = async |number, until| broker.moderate(room, Rule::Muted(user(number), Some(until))).await;
        mute(0, soon).await.unwrap();
        futures_util::future::try_join_all((1..MOST_RULES).map(|number| mute(number, FOR_EVER))).await.unwrap();
        if now() < soon {
            assert!(matches!(mute(MOST_RULES, FOR_EVER).await, Err(ModerateError::Full)));
        }
        assert!(mute(1, FOR_EVER).await.is_ok(), "it is there already");
        broker.moderate(room, Rule::Muted(user(2), None)).await.unwrap();
        mute(MOST_RULES, FOR_EVER).await.unwrap();
        eventually("the first has ended", async || mute(MOST_RULES + 1, FOR_EVER).await.ok()).await;
    })
    .await;
}

/// Rules are set before anybody has entered, and must not be lost with a room's numbering.
#[tokio::test]
async fn what_holds_in_a_room_outlives_its_log() {
    let Some(redis) = Redis::start().await else { return };
    let subject = Subject::start(redis_broker(&redis, &config(&[])));
    eventually("the broker is ready", async || subject.broker.troubles().is_empty().then_some(())).await;
    let channel = room("moderated");
    let ann = Username::parse("ann", 9).unwrap();
    subject.broker.moderate(channel.room().unwrap(), Rule::Muted(ann, Some(FOR_EVER))).await.unwrap();
    let refused = async || matches!(speaks(&subject, &channel, "ann", "1", false).await, Err(PublishError::Muted(_)));
    assert!(refused().await, "before there is a log");
    assert!(speaks(&subject, &channel, "bob", "1", false).await.is_ok());
    let mut connection = redis.connect().await;
    let meta: Vec<String> = redis::cmd("KEYS").arg("ws:meta:*").query_async(&mut connection).await.unwrap();
    let _: () = redis::cmd("DEL").arg(&meta).query_async(&mut connection).await.unwrap();
    subject.broker.recover(&channel, None).await.unwrap();
    assert!(refused().await, "after a server has begun a new log");
    let keys: Vec<String> = redis::cmd("KEYS").arg("ws:mod:*").query_async(&mut connection).await.unwrap();
    assert_eq!(keys.len(), 1);
    let ttl: i64 = redis::cmd("PTTL").arg(&keys[0]).query_async(&mut connection).await.unwrap();
    assert!(ttl > 0, "it does not stay for ever: {ttl}");
    subject.end().await;
}

#[tokio::test]
async fn what_is_proclaimed_holds_on_every_server_until_its_time() {
    on_both(&[], async |subject| {
        let (soon, later) = (now() + 200, now() + 60_000);
        let held = || subject.recorder.sanctioned.lock().unwrap().clone();
        subject.broker.proclaim(&[("a".into(), Some(soon)), ("b".into(), Some(later))]).await.unwrap();
        assert_eq!(held(), [("a".into(), soon), ("b".into(), later)], "before the answer");
        eventually("it is over", async || (now() > soon).then_some(())).await;
        subject.broker.proclaim(&[("c".into(), Some(FOR_EVER))]).await.unwrap();
        assert_eq!(held(), [("b".into(), later), ("c".into(), FOR_EVER)]);
        subject.broker.proclaim(&[("b".into(), None)]).await.unwrap();
        assert_eq!(held(), [("c".into(), FOR_EVER)]);
    })
    .await;
}

#[tokio::test]
async fn other_servers_hear_what_is_proclaimed_also_after_they_were_away_and_redis_does_not_forget() {
    let Some(mut redis) = Redis::start().await else { return };
    let subjects = [(); 2].map(|()| Subject::start(redis_broker(&redis, &config(&[]))));
    for subject in &subjects {
        eventually("the broker is ready", async || subject.broker.troubles().is_empty().then_some(())).await;
    }
    let hears = async |subject: &Subject, text: &str| {
        let held = || subject.recorder.sanctioned.lock().unwrap().iter().any(|(held, _)| held == text);
        eventually(&format!("it hears {text}"), async || held().then_some(())).await;
    };
    subjects[0].broker.proclaim(&[("lasting 1".into(), Some(FOR_EVER))]).await.unwrap();
    hears(&subjects[1], "lasting 1").await;
    let late = Subject::start(redis_broker(&redis, &config(&[])));
    hears(&late, "lasting 1").await;
    // Redis comes back with nothing.
    let mut connection = redis.connect().await;
    let _: () = redis::cmd("FLUSHALL").query_async(&mut connection).await.unwrap();
    eventually("it is put back", async || {
        let held: Vec<String> = redis::cmd("ZRANGE")
            .arg("ws:sanctions:{ws:control}")
            .arg(0)
            .arg(-1)
            .query_async(&mut redis.connect().await)
            .await
            .unwrap();
        held.contains(&"lasting 1".to_owned()).then_some(())
    })
    .await;
    subjects[1].broker.proclaim(&[("lasting 2".into(), Some(FOR_EVER))]).await.unwrap();
    for subject in subjects.iter().chain([&late]) {
        hears(subject, "lasting 2").await;
        hears(subject, "lasting 1").await;
    }
    redis.kill();
    for subject in subjects.into_iter().chain([late]) {
        subject.end().await;
    }
}

#[tokio::test]
async fn a_purse_holds_what_it_holds() {
    on_both(&[], async |subject| {
        let rate = Rate { per_second: 0.01, burst: 3.0 };
        for _ in 0..3 {
            assert_eq!(subject.broker.spend("a", rate, 1.0).await.unwrap(), None);
        }
        let wait = subject.broker.spend("a", rate, 1.0).await.unwrap().expect("it is empty");
        assert!(wait > Duration::from_secs(90) && wait <= Duration::from_secs(100), "{wait:?}");
        assert_eq!(subject.broker.spend("b", rate, 1.0).await.unwrap(), None);
    })
    .await;
}

/// Unix time in milliseconds.
fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()).unwrap()
}
