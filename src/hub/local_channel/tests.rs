use proptest::prelude::*;

use super::*;
use crate::{
    hub::{agenda::Job, recipient::tests::Listening},
    protocol::{Epoch, History, ResetReason, RoomId},
};

const EPOCH: Epoch = Epoch(7);

/// A room with one member, its true log, and the readings that it asks for.
struct Stage {
    room: LocalChannel,
    log: Vec<Publication<Frame>>,
    now: Instant,
    member: Arc<Listening>,
    page: Option<(Position, u64)>,
}

fn publication(seq: u64) -> Publication<Frame> {
    Publication { position: Position::new(EPOCH, seq), ts: 1000 + seq, item: format!("m{seq}").into() }
}

fn lobby() -> RoomId {
    RoomId::parse("lobby", 9).unwrap()
}

fn messages(seqs: impl IntoIterator<Item = u64>) -> Vec<String> {
    seqs.into_iter().map(|seq| format!("m{seq}")).collect()
}

impl Stage {
    /// `line` messages may be in line, and `memory` bytes in memory.
    fn new(line: usize, memory: usize) -> Self {
        let rules = Rules {
            keeps_history: true,
            compare_interval: Duration::from_secs(5),
            recent: RecentLimits { length: 1000, bytes: 1 << 20, age: 1_000_000 },
            budget: Arc::new(Budget::new(memory)),
            line: Load { messages: line, bytes: 1 << 20 },
            room_bytes: None,
        };
        let now = Instant::now();
        let mut room = LocalChannel::new(&Channel::Room(lobby()), Generation(1), &rules);
        room.subscribed(now);
        assert_eq!(room.begin_reading(), Some(None));
        room.fill(LogSlice { top: Position::new(EPOCH, 0), entries: Vec::new() }, now);
        let (client, member) = Listening::client(1);
        room.admit(&client);
        Self { room, log: Vec::new(), now, member, page: None }
    }

    fn wants(&self, job: Job) -> Option<Instant> {
        self.room.wants(self.now)[job as usize]
    }

    fn publish(&mut self) {
        let next = publication(self.log.len() as u64 + 1);
        self.log.push(next.clone());
        self.room.accept(next, self.now);
    }

    fn serve(&mut self) -> usize {
        self.now = self.wants(Job::Serve).unwrap_or(self.now);
        self.room.serve(10, self.now).0
    }

    /// A page of at most three messages after that position.
    fn slice(&self, from: Position) -> LogSlice<Frame> {
        let after = self.log.iter().filter(|entry| entry.position.seq >= from.seq).take(3);
        let top = self.log.last().map_or(0, |last| last.position.seq);
        LogSlice { top: Position::new(EPOCH, top), entries: after.cloned().collect() }
    }

    /// Reads a page, if one is wanted.
    fn read(&mut self) -> bool {
        if self.page.is_none() && self.wants(Job::Page).is_some() {
            self.page = self.room.begin_page();
        }
        let Some(page) = self.page.take() else { return false };
        self.room.page_read(page, Some(Some(self.slice(page.0))), self.now);
        true
    }

    /// Serves and reads until nothing is left to do, and returns what the member got.
    fn end(mut self) -> Vec<String> {
        // Like a worker: what the room wants, and nothing more.
        while self.wants(Job::Serve).is_some() || self.wants(Job::Page).is_some() {
            self.serve();
            self.read();
        }
        assert!(!self.room.feed.is_pressed() && self.wants(Job::Serve).is_none());
        self.member.texts()
    }
}

#[test]
fn a_flooded_room_writes_nothing_by_itself_and_its_members_get_all_from_memory() {
    let mut stage = Stage::new(4, 1 << 20);
    (0..100).for_each(|_| stage.publish());
    assert!(stage.room.feed.is_pressed() && stage.room.feed.audience.in_line().messages == 4);
    assert!(stage.room.relieved().is_some() && stage.wants(Job::Page).is_none());
    assert_eq!(stage.end(), messages(1..=100));
}

#[test]
fn what_is_not_in_memory_is_taken_from_the_log() {
    let mut stage = Stage::new(4, 0);
    (0..100).for_each(|_| stage.publish());
    assert_eq!(stage.end(), messages(1..=100));
}

#[test]
fn only_what_the_log_no_longer_has_is_told_as_a_gap() {
    let mut stage = Stage::new(4, 0);
    (0..100).for_each(|_| stage.publish());
    stage.log.drain(..50);
    while stage.serve() > 0 {}
    assert!(stage.read());
    assert_eq!(stage.room.take_tally().resets(ResetReason::Trimmed), 1);
    let expected = [messages(1..=4), vec!["reset 50".into()], messages(51..=100)].concat();
    assert_eq!(stage.end(), expected);
}

#[test]
fn a_page_that_failed_is_read_again_after_a_while() {
    let mut stage = Stage::new(4, 0);
    (0..100).for_each(|_| stage.publish());
    while stage.serve() > 0 {}
    let page = stage.room.begin_page().expect("a page");
    stage.room.page_read(page, None, stage.now);
    let due = stage.wants(Job::Page).expect("it is still needed");
    assert!(due > stage.now && stage.wants(Job::Read).is_none());
    stage.now = due;
    assert_eq!(stage.end(), messages(1..=100));
}

#[test]
fn a_page_of_a_log_that_was_wound_back_is_of_no_use_and_has_the_log_read() {
    let mut stage = Stage::new(4, 0);
    (0..100).for_each(|_| stage.publish());
    while stage.serve() > 0 {}
    let page = stage.room.begin_page().expect("a page");
    let slice = LogSlice { top: Position::new(EPOCH, 99), entries: Vec::new() };
    stage.room.page_read(page, Some(Some(slice)), stage.now);
    assert_eq!(stage.wants(Job::Read), Some(stage.now));
    assert_eq!(stage.member.texts(), messages(1..=4));
}

#[test]
fn an_epoch_that_begins_while_members_are_behind_is_told_at_once() {
    let mut stage = Stage::new(4, 1 << 20);
    (0..100).for_each(|_| stage.publish());
    stage.room.refused(Refusal::NotAllowed);
    stage.room.begin_reading();
    let (epoch, seq) = (Epoch(8), 2);
    let position = Position::new(epoch, seq);
    let entries = vec![Publication { position, ts: 1, item: Frame::from("new".to_owned()) }];
    stage.room.fill(LogSlice { top: position, entries }, stage.now);
    stage.log.clear();
    assert_eq!(stage.end(), [messages(1..=4), vec!["reset 1".into(), "new".into()]].concat());
}

#[test]
fn a_page_is_not_read_again_while_there_is_no_place_in_line_for_it() {
    let mut stage = Stage::new(4, 0);
    (0..100).for_each(|_| stage.publish());
    while stage.serve() > 0 {}
    let page = stage.room.begin_page().expect("a page");
    // A frame without a place fills the line meanwhile.
    (0..4).for_each(|_| stage.room.feed.audience.deliver(crate::protocol::Item::Event(Event::Pong)));
    stage.room.page_read(page, Some(Some(stage.slice(page.0))), stage.now);
    assert_eq!(stage.wants(Job::Page), None, "it is known what to read, and that it is too early");
    stage.serve();
    assert!(stage.wants(Job::Page).is_some());
}

#[test]
fn a_gap_that_a_reading_finds_is_told_to_members_who_are_behind_when_it_is_their_turn() {
    let mut stage = Stage::new(4, 0);
    (0..10).for_each(|_| stage.publish());
    // Pushes are lost, and the log no longer has them.
    stage.log.extend((11..=30).map(publication));
    stage.log.drain(..20);
    stage.room.observe(Position::new(EPOCH, 30), stage.now);
    stage.room.begin_reading();
    let slice = stage.slice(Position::new(EPOCH, 10));
    stage.room.fill(slice, stage.now);
    assert_eq!(stage.room.take_tally().resets(ResetReason::Trimmed), 0, "they have not come to it");
    while stage.serve() > 0 || stage.read() {}
    assert_eq!(stage.room.take_tally().resets(ResetReason::Trimmed), 1);
    let got = stage.member.texts();
    assert_eq!(got[..5], [messages(1..=4), vec!["reset 20".into()]].concat());
}

#[test]
fn a_room_that_is_open_and_refused_later_has_its_log_read() {
    let mut stage = Stage::new(4, 0);
    assert_eq!(stage.wants(Job::Read), None);
    stage.room.refused(Refusal::NotAllowed);
    assert!(stage.wants(Job::Read).is_some());
}

#[test]
fn an_answer_comes_behind_what_was_said_before_it() {
    let mut stage = Stage::new(10, 1 << 20);
    (0..3).for_each(|_| stage.publish());
    assert!(
        stage.room.answer(ClientId(1), Some(Event::Pong), stage.now)
            && !stage.room.answer(ClientId(2), None, stage.now)
    );
    assert_eq!((stage.member.texts(), stage.member.calls()), ([messages(1..=3), vec!["pong".into()]].concat(), 1));
}

#[test]
fn a_room_is_there_for_those_who_come_in_too_and_closed_to_members_until_its_log_is_read() {
    let rules = Stage::new(4, 0);
    let rules = Rules {
        keeps_history: true,
        compare_interval: Duration::from_secs(5),
        recent: RecentLimits { length: 1, bytes: 1, age: 1 },
        budget: Arc::new(Budget::new(0)),
        line: rules.room.feed.audience.in_line(),
        room_bytes: None,
    };
    let mut room = LocalChannel::new(&Channel::Room(lobby()), Generation(1), &rules);
    let (client, _) = Listening::client(1);
    let mut arrival = Arrival::new(lobby(), "a:1".into(), History::None);
    assert!(matches!(room.arrive(&client, &mut arrival, None, Instant::now()), Step::Wait(_)));
    assert!(!room.is_empty() && !room.is_closed_to_members());
    room.refused(Refusal::Overloaded);
    let step = room.arrive(&client, &mut arrival, None, Instant::now());
    assert!(matches!(step, Step::Refused(Refusal::Overloaded)));
    room.leave(client.id);
    assert!(room.is_empty());
    room.admit(&client);
    assert!(room.is_closed_to_members());
}

#[derive(Clone, Copy, Debug)]
enum Doing {
    Publish,
    Serve,
    Read,
    Forget,
    Arrive,
    Answer(u64),
    Leave(u64),
}

fn doing() -> impl Strategy<Value = Doing> {
    prop_oneof![
        8 => Just(Doing::Publish),
        3 => Just(Doing::Serve),
        2 => Just(Doing::Read),
        1 => Just(Doing::Forget),
        1 => Just(Doing::Arrive),
        2 => (1..4_u64).prop_map(Doing::Answer),
        1 => (1..4_u64).prop_map(Doing::Leave),
    ]
}

/// Brings in a client that has nothing of this epoch.
fn arrive(stage: &mut Stage, id: u64) -> Arc<Listening> {
    let (client, listening) = Listening::client(id);
    let mut arrival = Arrival::new(lobby(), "a:1".into(), History::After(Position::new(EPOCH, 0)));
    let mut read: Option<Arc<Stretch>> = None;
    loop {
        match stage.room.arrive(&client, &mut arrival, read.take().as_deref(), stage.now) {
            Step::Entered => return listening,
            Step::Sent => {}
            Step::Wait(_) | Step::Refused(_) => panic!("the room is open"),
            Step::Read(mut page) => {
                assert!(stage.read());
                read = page.try_recv().ok();
            }
        }
    }
}

proptest! {
    /// However a room is flooded, served, read and forgotten, and whoever leaves: a member, or a client that arrives
    /// with a position, gets everything after it, in order and once, until it leaves.
    #[test]
    fn nobody_misses_anything_whatever_is_shed(steps in prop::collection::vec(doing(), 1..80)) {
        let mut stage = Stage::new(3, 6 * 150);
        let mut members = vec![(stage.member.clone(), true)];
        for step in steps {
            match step {
                Doing::Publish => stage.publish(),
                Doing::Serve => _ = stage.serve(),
                Doing::Read => _ = stage.read(),
                Doing::Forget => stage.room.forget(),
                Doing::Answer(client) => _ = stage.room.answer(ClientId(client), None, stage.now),
                Doing::Arrive => {
                    let id = members.len() as u64 + 1;
                    members.push((arrive(&mut stage, id), true));
                }
                Doing::Leave(client) => {
                    stage.room.leave(ClientId(client));
                    members.iter_mut().skip(client as usize - 1).take(1).for_each(|(_, stays)| *stays = false);
                }
            }
        }
        let count = stage.log.len() as u64;
        stage.end();
        for (id, (member, stays)) in members.into_iter().enumerate() {
            let mut got = member.texts();
            if id > 0 {
                prop_assert_eq!(got.remove(0), "joined 0");
            }
            let had = if stays { count } else { got.len() as u64 };
            prop_assert_eq!(got, messages(1..=had));
        }
    }
}
