use std::collections::{BTreeMap, VecDeque};

use crate::protocol::{Epoch, Position, ResetReason, Stamp};

/// How many of the last publications to remember by their time.
const REMEMBERED: usize = 256;

/// A publication in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication<T> {
    /// Where it stands.
    pub position: Position,
    /// When it got its place, in Unix milliseconds by the broker's clock. If a wound back log assigns a number a second
    /// time, the time differs.
    pub ts: u64,
    /// What was published.
    pub item: T,
}

/// What a server does for the members of a room, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect<T> {
    /// Hand this publication to every member.
    Deliver(Publication<T>),
    /// Tell every member that what it has not seen up to this position is lost.
    Reset(Position, ResetReason),
}

/// From where to read a log, and what the reader knows about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadFrom {
    /// The last position that the reader has. The entry there is read again, to check that it is still the same.
    pub position: Position,
    /// The highest assigned `seq` of this epoch that the reader knows. A log whose top is lower was wound back, and
    /// starts a new epoch.
    pub known: u64,
    /// The reader has seen two publications under one number, so the epoch is void, and a new one must begin.
    pub void: bool,
}

/// A part of a channel's log at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSlice<T> {
    /// The last position assigned.
    pub top: Position,
    /// Entries of this epoch in rising order: from the requested position, if its epoch still holds, else from the
    /// start. There may be more after the last one.
    pub entries: Vec<Publication<T>>,
}

/// What was published on a channel before a position, or last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past<T> {
    /// The last position assigned.
    pub top: Position,
    /// In rising order; nothing if the position is of another epoch.
    pub entries: Vec<Publication<T>>,
    /// Whether the log has still earlier ones.
    pub has_more: bool,
}

/// Puts the publications of one channel into one order.
///
/// They arrive over two connections, as answers to this server's publishes and as pushes of others', and some may never
/// arrive. The sequencer lets each through once, in the order of `seq`, holds back what came early, and knows when the
/// log must be read ([`Sequencer::is_behind`]).
///
/// It starts without a position, and lets nothing through until the log gives it one. The idea of (epoch, offset) is
/// Centrifugo's; the hold-back is the receive window of any reliable transport.
#[derive(Clone, Debug)]
pub struct Sequencer<T> {
    /// Everything up to here has been let through.
    at: Option<Position>,
    /// The highest `seq` of this epoch known to exist.
    top: u64,
    /// Publications of this epoch beyond the next one.
    held: BTreeMap<u64, Publication<T>>,
    /// How many publications it may hold. It drops further ones, and reads them from the log when their turn comes.
    capacity: usize,
    /// A position of another epoch. Only the log can tell which of the two is valid now.
    stray: Option<Position>,
    /// The times of the last publications that were let through, up to the one at `at`.
    times: VecDeque<u64>,
    /// A number that was let through came again, with another publication.
    void: bool,
    /// From where the log was last requested. While it is read, `at` may move on.
    asked: u64,
}

impl<T> Sequencer<T> {
    /// A sequencer without a position, which holds back at most `capacity` publications.
    pub fn new(capacity: usize) -> Self {
        let (held, times) = (BTreeMap::new(), VecDeque::new());
        Self { at: None, top: 0, held, capacity, stray: None, times, void: false, asked: 0 }
    }

    /// The position up to which everything has been let through; `None` before the first reading of the log.
    pub fn position(&self) -> Option<Position> {
        self.at
    }

    /// The highest position known to exist, let through or not.
    pub fn known(&self) -> Option<Position> {
        self.at.map(|at| Position::new(at.epoch, self.top))
    }

    /// Whether something exists that only the log can supply, unless it is still on its way.
    pub fn is_behind(&self) -> bool {
        self.void || self.stray.is_some() || self.at.is_none_or(|at| self.top > at.seq)
    }

    /// Takes a publication that arrived.
    pub fn accept(&mut self, placed: Publication<T>, mut effect: impl FnMut(Effect<T>)) {
        let Some(at) = self.observe(placed.position) else { return };
        let seq = placed.position.seq;
        if seq <= at.seq {
            self.void |= self.contradicts(seq, placed.ts);
        } else if seq - 1 == at.seq {
            self.let_through(placed, &mut effect);
            self.release(&mut effect);
        } else if let Some(held) = self.held.get(&seq) {
            self.void |= held.ts != placed.ts;
        } else if self.held.len() < self.capacity {
            self.held.insert(seq, placed);
        }
    }

    /// Takes a position that became known without its publication. Returns where the sequencer stands if the position
    /// is of the same epoch.
    pub fn observe(&mut self, position: Position) -> Option<Position> {
        let Some(at) = self.at.filter(|at| at.epoch == position.epoch) else {
            let newer = self.stray.is_none_or(|stray| stray.epoch != position.epoch || stray.seq < position.seq);
            if newer {
                self.stray = Some(position);
            }
            return None;
        };
        self.top = self.top.max(position.seq);
        Some(at)
    }

    /// Takes the top of the log. Returns whether the log must be read because of it: it looks wound back, although the
    /// top may just be older than the last publications.
    pub fn compare(&mut self, top: Stamp) -> bool {
        let Some(at) = self.observe(top.position) else { return false };
        let seq = top.position.seq;
        self.void |= seq <= at.seq && self.contradicts(seq, top.ts);
        seq < self.top
    }

    /// Starts a reading of the log; `None` asks for its top alone. Strays that came before this moment are settled
    /// by [`fill`](Self::fill); those that come during the reading remain.
    pub fn begin_read(&mut self) -> Option<ReadFrom> {
        self.stray = None;
        self.asked = self.at.map_or(0, |at| at.seq);
        self.at.map(|position| ReadFrom { position, known: self.top, void: self.void })
    }

    /// Takes a page of the log, which decides about the epoch and about what is lost.
    pub fn fill(&mut self, slice: LogSlice<T>, mut effect: impl FnMut(Effect<T>)) {
        let LogSlice { top, mut entries } = slice;
        let Some(at) = self.at else {
            // Nobody needs what came before the first position.
            self.enter(top.epoch, top.seq, top.seq);
            return;
        };
        // Whether the log had nothing after the requested position, whatever has arrived since.
        let asked = if at.epoch == top.epoch { self.asked } else { 0 };
        let is_exhausted = entries.iter().all(|entry| entry.position.seq <= asked);
        if at.epoch == top.epoch {
            entries.retain(|entry| {
                let seen = entry.position.seq <= at.seq;
                self.void |= seen && self.contradicts(entry.position.seq, entry.ts);
                !seen
            });
            if self.void {
                // After a number that stands for two publications, another order begins.
                return;
            }
        } else {
            let first = entries.first().map_or(top.seq, |entry| entry.position.seq.saturating_sub(1));
            self.enter(top.epoch, first, top.seq);
            effect(Effect::Reset(Position::new(top.epoch, first), ResetReason::NewEpoch));
        }
        self.top = self.top.max(top.seq);
        for entry in entries {
            let seq = entry.position.seq;
            self.skip_to(seq.saturating_sub(1), &mut effect);
            if self.at.is_some_and(|at| at.seq.saturating_add(1) == seq) {
                self.let_through(entry, &mut effect);
            }
        }
        if is_exhausted {
            // So what is missing up to the top is gone.
            self.skip_to(top.seq, &mut effect);
        }
        self.release(&mut effect);
    }

    fn enter(&mut self, epoch: Epoch, seq: u64, top: u64) {
        self.at = Some(Position::new(epoch, seq));
        self.top = top;
        self.void = false;
        self.held.clear();
        self.times.clear();
        if let Some(stray) = self.stray.take_if(|stray| stray.epoch == epoch) {
            self.top = self.top.max(stray.seq);
        }
    }

    fn let_through(&mut self, placed: Publication<T>, effect: &mut impl FnMut(Effect<T>)) {
        self.at = Some(placed.position);
        if self.times.len() == REMEMBERED {
            self.times.pop_front();
        }
        self.times.push_back(placed.ts);
        effect(Effect::Deliver(placed));
    }

    /// Whether another publication was let through under this number, as far as is remembered.
    fn contradicts(&self, seq: u64, ts: u64) -> bool {
        let back = self.at.and_then(|at| usize::try_from(at.seq - seq).ok());
        let index = back.and_then(|back| self.times.len().checked_sub(back + 1));
        index.is_some_and(|index| self.times[index] != ts)
    }

    /// Lets through what it holds up to `seq`, gives up the rest, and says so if anything is missing.
    fn skip_to(&mut self, seq: u64, effect: &mut impl FnMut(Effect<T>)) {
        while let Some(at) = self.at.filter(|at| at.seq < seq) {
            self.release(effect);
            if self.at != Some(at) {
                continue;
            }
            let next_held = self.held.first_key_value().map_or(u64::MAX, |(held, _)| *held);
            let to = Position::new(at.epoch, seq.min(next_held - 1));
            self.at = Some(to);
            self.times.clear();
            effect(Effect::Reset(to, ResetReason::Trimmed));
        }
    }

    fn release(&mut self, effect: &mut impl FnMut(Effect<T>)) {
        while let (Some(at), Some(entry)) = (self.at, self.held.first_entry()) {
            if *entry.key() - 1 > at.seq {
                return;
            }
            let placed = entry.remove();
            if placed.position.seq - 1 == at.seq {
                self.let_through(placed, effect);
            } else {
                self.void |= self.contradicts(placed.position.seq, placed.ts);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OLD: Epoch = Epoch(1);
    const NEW: Epoch = Epoch(2);

    /// A publication whose time is its number, unless a rewind assigned the number again.
    fn placed(epoch: Epoch, seq: u64) -> Publication<u64> {
        Publication { position: Position::new(epoch, seq), ts: seq, item: seq }
    }

    fn stamp(seq: u64, ts: u64) -> Stamp {
        Stamp { position: Position::new(OLD, seq), ts }
    }

    fn anchored(seq: u64) -> Sequencer<u64> {
        let mut sequencer = Sequencer::new(8);
        sequencer.begin_read();
        sequencer.fill(slice(OLD, seq, &[]), |_| panic!("nothing to do at the first position"));
        sequencer
    }

    fn slice(epoch: Epoch, top: u64, entries: &[u64]) -> LogSlice<u64> {
        let entries = entries.iter().map(|seq| placed(epoch, *seq)).collect();
        LogSlice { top: Position::new(epoch, top), entries }
    }

    /// What members see.
    #[derive(Clone, Debug, PartialEq, Eq)]
    enum Seen {
        Item(u64),
        Reset(Position, ResetReason),
    }

    fn seen(effect: Effect<u64>) -> Seen {
        match effect {
            Effect::Deliver(publication) => Seen::Item(publication.item),
            Effect::Reset(to, reason) => Seen::Reset(to, reason),
        }
    }

    fn accept(sequencer: &mut Sequencer<u64>, epoch: Epoch, seq: u64) -> Vec<Seen> {
        let mut effects = Vec::new();
        sequencer.accept(placed(epoch, seq), |effect| effects.push(seen(effect)));
        effects
    }

    fn fill(sequencer: &mut Sequencer<u64>, slice: LogSlice<u64>) -> Vec<Seen> {
        let mut effects = Vec::new();
        sequencer.fill(slice, |effect| effects.push(seen(effect)));
        effects
    }

    fn deliver(seqs: impl IntoIterator<Item = u64>) -> Vec<Seen> {
        seqs.into_iter().map(Seen::Item).collect()
    }

    fn after(sequencer: &mut Sequencer<u64>) -> Option<Position> {
        sequencer.begin_read().map(|from| from.position)
    }

    #[test]
    fn lets_through_nothing_before_the_first_position() {
        let mut sequencer = Sequencer::new(8);
        assert!(accept(&mut sequencer, OLD, 6).is_empty());
        assert!(sequencer.is_behind());
        assert_eq!(after(&mut sequencer), None);
        // One came while the log was being read, and its push may have been the only one.
        assert!(accept(&mut sequencer, OLD, 7).is_empty());
        assert!(fill(&mut sequencer, slice(OLD, 6, &[])).is_empty());
        assert_eq!(sequencer.position(), Some(Position::new(OLD, 6)));
        assert!(sequencer.is_behind(), "7 is known to exist");
        assert_eq!(after(&mut sequencer), Some(Position::new(OLD, 6)));
        assert_eq!(fill(&mut sequencer, slice(OLD, 7, &[7])), deliver([7]));
        assert!(!sequencer.is_behind());
    }

    #[test]
    fn holds_what_is_early_and_drops_what_was_let_through() {
        let mut sequencer = anchored(0);
        assert!(accept(&mut sequencer, OLD, 2).is_empty());
        assert!(sequencer.is_behind());
        assert_eq!(accept(&mut sequencer, OLD, 1), deliver([1, 2]));
        assert!(!sequencer.is_behind());
        assert!(accept(&mut sequencer, OLD, 2).is_empty());
    }

    #[test]
    fn a_position_without_its_publication_shows_the_hole() {
        let mut sequencer = anchored(3);
        sequencer.observe(Position::new(OLD, 4));
        assert!(sequencer.is_behind());
        assert_eq!(sequencer.known(), Some(Position::new(OLD, 4)));
        assert_eq!(fill(&mut sequencer, slice(OLD, 4, &[3, 4])), deliver([4]));
        assert!(!sequencer.is_behind());
    }

    #[test]
    fn a_trimmed_log_is_a_reset_and_not_a_silent_skip() {
        let mut sequencer = anchored(3);
        accept(&mut sequencer, OLD, 9);
        let effects = fill(&mut sequencer, slice(OLD, 9, &[7, 8]));
        let reset = Seen::Reset(Position::new(OLD, 6), ResetReason::Trimmed);
        assert_eq!(effects, [vec![reset], deliver([7, 8, 9])].concat());

        // An empty log with a high top: even the last entry has expired.
        let effects = fill(&mut sequencer, slice(OLD, 12, &[]));
        assert_eq!(effects, [Seen::Reset(Position::new(OLD, 12), ResetReason::Trimmed)]);
        assert!(!sequencer.is_behind());
    }

    #[test]
    fn what_is_held_is_used_before_a_gap_is_declared() {
        let mut sequencer = anchored(3);
        for seq in [5, 6] {
            accept(&mut sequencer, OLD, seq);
        }
        let gap = |seq| Seen::Reset(Position::new(OLD, seq), ResetReason::Trimmed);
        let expected = [vec![gap(4)], deliver([5, 6]), vec![gap(7)], deliver([8])].concat();
        assert_eq!(fill(&mut sequencer, slice(OLD, 8, &[8])), expected);
    }

    #[test]
    fn another_epoch_is_a_reset_once_the_log_confirms_it() {
        let mut sequencer = anchored(50);
        assert!(accept(&mut sequencer, NEW, 2).is_empty());
        assert!(sequencer.is_behind());
        assert_eq!(after(&mut sequencer), Some(Position::new(OLD, 50)));
        let effects = fill(&mut sequencer, slice(NEW, 2, &[1, 2]));
        let reset = Seen::Reset(Position::new(NEW, 0), ResetReason::NewEpoch);
        assert_eq!(effects, [vec![reset], deliver([1, 2])].concat());

        // The log settles a late answer from the old epoch; members notice nothing.
        assert!(accept(&mut sequencer, OLD, 51).is_empty());
        sequencer.begin_read();
        assert!(fill(&mut sequencer, slice(NEW, 2, &[2])).is_empty());
        assert!(!sequencer.is_behind());
    }

    #[test]
    fn an_epoch_that_changes_during_the_reading_is_read_again() {
        let mut sequencer = anchored(5);
        sequencer.begin_read();
        accept(&mut sequencer, NEW, 1);
        assert!(fill(&mut sequencer, slice(OLD, 5, &[])).is_empty());
        assert!(sequencer.is_behind());
    }

    #[test]
    fn beyond_the_capacity_the_log_supplies() {
        let mut sequencer = anchored(0);
        for seq in 2..=20 {
            accept(&mut sequencer, OLD, seq);
        }
        assert_eq!(accept(&mut sequencer, OLD, 1), deliver(1..=9));
        assert!(sequencer.is_behind());
        assert_eq!(after(&mut sequencer), Some(Position::new(OLD, 9)));
        let rest: Vec<u64> = (9..=20).collect();
        assert_eq!(fill(&mut sequencer, slice(OLD, 20, &rest)), deliver(10..=20));
    }

    #[test]
    fn a_number_under_which_another_publication_was_let_through_voids_the_epoch() {
        let again = |seq| Publication { ts: 1000 + seq, ..placed(OLD, seq) };
        let seen = |mut sequencer: Sequencer<u64>| {
            (1..=3).for_each(|seq| drop(accept(&mut sequencer, OLD, seq)));
            sequencer
        };
        // It comes as a push, as the top of the log, and in the log itself, which has grown past what was seen.
        let mut by_push = seen(anchored(0));
        by_push.accept(again(2), |_| panic!("twice"));
        let mut by_top = seen(anchored(0));
        by_top.compare(stamp(3, 1003));
        let mut by_log = seen(anchored(0));
        let log = LogSlice { top: Position::new(OLD, 5), entries: [3, 4, 5].map(again).into() };
        assert!(fill(&mut by_log, log).is_empty());
        for mut sequencer in [by_push, by_top, by_log] {
            assert!(sequencer.is_behind());
            assert!(sequencer.begin_read().unwrap().void);
            let effects = fill(&mut sequencer, slice(NEW, 0, &[]));
            assert_eq!(effects, [Seen::Reset(Position::new(NEW, 0), ResetReason::NewEpoch)]);
            assert!(!sequencer.is_behind());
        }
    }

    #[test]
    fn a_top_that_fits_needs_no_reading() {
        let mut sequencer = anchored(0);
        (1..=300).for_each(|seq| drop(accept(&mut sequencer, OLD, seq)));
        assert!(!sequencer.compare(stamp(300, 300)));
        assert!(!sequencer.is_behind());
        assert!(sequencer.compare(stamp(299, 299)), "wound back by one, or looked up a moment ago");
        assert!(!sequencer.is_behind());
        assert!(!sequencer.compare(stamp(301, 301)));
        assert!(sequencer.is_behind(), "the last one was missed");
    }

    #[test]
    fn pushes_that_overtake_a_reading_do_not_make_its_end_a_loss() {
        let mut sequencer = anchored(0);
        sequencer.observe(Position::new(OLD, 1000));
        sequencer.begin_read();
        let answer = slice(OLD, 1000, &(0..=256).collect::<Vec<_>>());
        for seq in 1..=300 {
            assert_eq!(accept(&mut sequencer, OLD, seq), deliver([seq]));
        }
        assert!(fill(&mut sequencer, answer).is_empty());
        assert_eq!(accept(&mut sequencer, OLD, 301), deliver([301]));
    }

    #[test]
    fn two_publications_under_a_number_that_is_held_void_the_epoch_too() {
        let mut sequencer = anchored(0);
        accept(&mut sequencer, OLD, 3);
        sequencer.accept(Publication { ts: 1003, ..placed(OLD, 3) }, |_| panic!("not its turn"));
        assert!(sequencer.begin_read().unwrap().void);
    }

    /// What can happen to a server in a room, against one true log.
    #[derive(Clone, Debug)]
    enum Step {
        /// The next publication gets its number, from a server that knows nothing of ours.
        Publish,
        /// A push or answer for one of the last publications arrives, perhaps late, perhaps again.
        Arrive(usize),
        /// An own echo tells of one of the last publications.
        Observe(usize),
        /// A page of at most three is read. It is under way until it arrives.
        Ask,
        /// The page under way arrives, if there is one.
        Answer,
        /// The top of the log is looked up.
        Compare,
        /// The log loses all but its last few entries.
        Trim(usize),
        /// The log loses its last few entries and will assign their numbers again.
        WindBack(usize),
        /// Everything is lost and numbering begins anew.
        Forget,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => Just(Step::Publish),
            8 => (0..6_usize).prop_map(Step::Arrive),
            1 => (0..6_usize).prop_map(Step::Observe),
            2 => Just(Step::Ask),
            2 => Just(Step::Answer),
            1 => Just(Step::Compare),
            1 => (0..4_usize).prop_map(Step::Trim),
            1 => (1..4_usize).prop_map(Step::WindBack),
            1 => Just(Step::Forget),
        ]
    }

    /// The true log, which behaves like the brokers.
    struct Log {
        epoch: u64,
        top: u64,
        entries: Vec<Publication<(u64, u64)>>,
        /// Everything that ever got a place, for late arrivals.
        sent: Vec<Publication<(u64, u64)>>,
        clock: u64,
    }

    impl Log {
        fn start_anew(&mut self) {
            (self.epoch, self.top) = (self.epoch + 1, 0);
            self.entries.clear();
        }

        fn publish(&mut self) {
            self.top += 1;
            self.clock += 1;
            let position = Position::new(Epoch(self.epoch), self.top);
            let placed = Publication { position, ts: self.clock, item: (self.epoch, self.clock) };
            self.entries.push(placed.clone());
            self.sent.push(placed);
        }

        fn wind_back(&mut self, count: usize) {
            let keep = self.entries.len().saturating_sub(count);
            self.top -= (self.entries.len() - keep) as u64;
            self.entries.truncate(keep);
        }

        fn read(&mut self, from: Option<ReadFrom>) -> LogSlice<(u64, u64)> {
            if from.is_some_and(|from| from.position.epoch.0 == self.epoch && (from.known > self.top || from.void)) {
                self.start_anew();
            }
            let entries = from.map_or(Vec::new(), |from| {
                let start = if from.position.epoch.0 == self.epoch { from.position.seq } else { 0 };
                self.entries.iter().filter(|entry| entry.position.seq >= start).take(3).cloned().collect()
            });
            LogSlice { top: Position::new(Epoch(self.epoch), self.top), entries }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        /// Whatever is lost, late, repeated, trimmed or wound back: a member sees each epoch's publications in
        /// order, once, and every gap is announced. When all is quiet, reading the log brings it up to date, and
        /// what it has seen since the last announced gap is what the log says.
        #[test]
        fn one_order_and_no_silent_gap(steps in prop::collection::vec(step(), 0..80)) {
            let mut log = Log { epoch: 1, top: 0, entries: Vec::new(), sent: Vec::new(), clock: 0 };
            let mut sequencer: Sequencer<(u64, u64)> = Sequencer::new(3);
            let (mut seen, mut answer) = (Vec::new(), None);
            let from = sequencer.begin_read();
            sequencer.fill(log.read(from), |effect| seen.push(effect));

            for step in steps {
                let recent = |back: usize| log.sent.len().checked_sub(back + 1).map(|index| log.sent[index].clone());
                match step {
                    Step::Publish => log.publish(),
                    Step::Arrive(back) => if let Some(placed) = recent(back) {
                        sequencer.accept(placed, |effect| seen.push(effect));
                    },
                    Step::Observe(back) => if let Some(placed) = recent(back) {
                        sequencer.observe(placed.position);
                    },
                    Step::Ask => if answer.is_none() {
                        let from = sequencer.begin_read();
                        answer = Some(log.read(from));
                    },
                    Step::Answer => if let Some(answer) = answer.take() {
                        sequencer.fill(answer, |effect| seen.push(effect));
                    },
                    Step::Compare => if let Some(last) = log.entries.last() {
                        sequencer.compare(Stamp { position: last.position, ts: last.ts });
                    },
                    Step::Trim(keep) => drop(log.entries.drain(..log.entries.len().saturating_sub(keep))),
                    Step::WindBack(count) => log.wind_back(count),
                    Step::Forget => log.start_anew(),
                }
            }
            if let Some(answer) = answer {
                sequencer.fill(answer, |effect| seen.push(effect));
            }
            for _ in 0..200 {
                let from = sequencer.begin_read();
                sequencer.fill(log.read(from), |effect| seen.push(effect));
            }
            prop_assert!(!sequencer.is_behind());
            prop_assert_eq!(sequencer.position(), Some(Position::new(Epoch(log.epoch), log.top)));

            let mut at = Position::new(Epoch(1), 0);
            let mut since_gap: Vec<(Position, (u64, u64))> = Vec::new();
            for effect in seen {
                match effect {
                    Effect::Deliver(Publication { item, .. }) => {
                        prop_assert_eq!(item.0, at.epoch.0);
                        at.seq += 1;
                        since_gap.push((at, item));
                    }
                    Effect::Reset(to, reason) => {
                        let forward = to.epoch > at.epoch || (to.epoch == at.epoch && to.seq > at.seq);
                        prop_assert!(forward && (reason == ResetReason::NewEpoch) == (to.epoch != at.epoch));
                        at = to;
                        since_gap.clear();
                    }
                }
            }
            prop_assert_eq!(at, Position::new(Epoch(log.epoch), log.top));
            let last_in_log = log.entries.last().map(|entry| entry.item);
            let last_seen = since_gap.last().map(|(_, item)| *item);
            // Of numbers that were assigned again, the sequencer can and must tell the newest.
            if let (Some(in_log), Some(seen)) = (last_in_log, last_seen) {
                prop_assert_eq!(in_log, seen);
            }
            let mut items: Vec<_> = since_gap.iter().map(|(_, item)| item).collect();
            items.dedup();
            prop_assert_eq!(items.len(), since_gap.len());
        }
    }
}
