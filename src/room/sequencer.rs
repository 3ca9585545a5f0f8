use std::collections::BTreeMap;

use super::Position;
use crate::protocol::Epoch;

/// What a server does for the members of a room, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect<T> {
    /// Hand this publication to every member.
    Deliver(T),
    /// Tell every member that what it has not seen up to this position cannot be had any more.
    Reset(Position, ResetReason),
}

/// Why the stream of a room has a gap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetReason {
    /// The log no longer reaches back to what was missed.
    Trimmed,
    /// The log was lost or wound back, and numbering began anew.
    NewEpoch,
}

impl ResetReason {
    /// The reason as it stands in the `reset` event and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trimmed => "trimmed",
            Self::NewEpoch => "new_epoch",
        }
    }
}

/// A part of a channel's log, as read at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogSlice<T> {
    /// The last position given out.
    pub top: Position,
    /// Entries in rising order of `seq`: those after the position that was asked for, if the epoch is still the
    /// same, else from the start. There may be more after the last one.
    pub entries: Vec<(u64, T)>,
}

/// Makes one order of the publications of one channel.
///
/// They come over two connections, as answers to own publishes and as pushes for those of others, and some may
/// not come at all. The sequencer lets each through once, in the order of `seq`, keeps back what came early, and
/// knows when the log has to be asked ([`Sequencer::is_behind`]).
///
/// It starts without a position and lets nothing through until the log has told it one.
/// The idea of (epoch, offset) is Centrifugo's; the hold-back is the receive window of any reliable transport.
#[derive(Clone, Debug)]
pub struct Sequencer<T> {
    /// All up to here has been let through.
    at: Option<Position>,
    /// The highest `seq` of this epoch known to exist.
    top: u64,
    /// Publications of this epoch beyond the next one.
    held: BTreeMap<u64, T>,
    /// How many publications may be held. Those beyond are dropped, and read from the log when their turn comes.
    capacity: usize,
    /// A position that does not fit the epoch we are in. Only the log can tell which of the two holds now.
    stray: Option<Position>,
}

impl<T> Sequencer<T> {
    /// A sequencer that waits for its first position and holds back at most `capacity` publications.
    pub fn new(capacity: usize) -> Self {
        Self { at: None, top: 0, held: BTreeMap::new(), capacity, stray: None }
    }

    /// Up to where everything has been let through; `None` before the log has been read for the first time.
    pub fn position(&self) -> Option<Position> {
        self.at
    }

    /// The highest position known to exist, let through or not.
    pub fn known(&self) -> Option<Position> {
        self.at.map(|at| Position::new(at.epoch, self.top))
    }

    /// Whether something is known to exist that only the log can supply, unless it is still on its way.
    pub fn is_behind(&self) -> bool {
        self.stray.is_some() || self.at.is_none_or(|at| self.top > at.seq)
    }

    /// A publication came. Returns whether it was news: false if it had been let through or held before.
    pub fn accept(&mut self, position: Position, item: T, mut effect: impl FnMut(Effect<T>)) -> bool {
        let Some(at) = self.observe(position) else { return true };
        if position.seq <= at.seq {
            return false;
        }
        if position.seq == at.seq + 1 {
            effect(Effect::Deliver(item));
            self.at = Some(position);
            self.release(&mut effect);
            return true;
        }
        if self.held.len() < self.capacity {
            return self.held.insert(position.seq, item).is_none();
        }
        true
    }

    /// A position came to be known without its publication. Returns where the sequencer stands if the position
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

    /// Starts a reading of the log: what is to be read is all after the returned position. Strays that came
    /// before this moment are settled by [`fill`](Self::fill); those that come during the reading remain.
    pub fn begin_read(&mut self) -> Option<Position> {
        self.stray = None;
        self.at
    }

    /// The log was read. It is the authority on the epoch, and on what can still be had.
    pub fn fill(&mut self, slice: LogSlice<T>, mut effect: impl FnMut(Effect<T>)) {
        let LogSlice { top, entries } = slice;
        let Some(at) = self.at else {
            // Nobody is owed what came before the first position.
            self.enter(top.epoch, top.seq, top.seq);
            return;
        };
        if at.epoch != top.epoch {
            let first = entries.first().map_or(top.seq, |(seq, _)| seq.saturating_sub(1));
            self.enter(top.epoch, first, top.seq);
            effect(Effect::Reset(Position::new(top.epoch, first), ResetReason::NewEpoch));
        }
        self.top = self.top.max(top.seq);
        let is_empty = entries.is_empty();
        for (seq, item) in entries {
            self.skip_to(seq - 1, &mut effect);
            if self.at.is_some_and(|at| at.seq + 1 == seq) {
                effect(Effect::Deliver(item));
                self.at = Some(Position::new(top.epoch, seq));
                self.held.remove(&seq);
            }
        }
        if is_empty {
            // The log has nothing after the position asked for, so what is missing up to its top is gone.
            self.skip_to(top.seq, &mut effect);
        }
        self.release(&mut effect);
    }

    fn enter(&mut self, epoch: Epoch, seq: u64, top: u64) {
        self.at = Some(Position::new(epoch, seq));
        self.top = top;
        self.held.clear();
        if let Some(stray) = self.stray.take_if(|stray| stray.epoch == epoch) {
            self.top = self.top.max(stray.seq);
        }
    }

    /// Gives up what has not come up to `seq`, using what is held, and says so if anything is missing.
    fn skip_to(&mut self, seq: u64, effect: &mut impl FnMut(Effect<T>)) {
        while let Some(at) = self.at.filter(|at| at.seq < seq) {
            self.release(effect);
            if self.at != Some(at) {
                continue;
            }
            let next_held = self.held.first_key_value().map_or(u64::MAX, |(held, _)| *held);
            let to = Position::new(at.epoch, seq.min(next_held - 1));
            self.at = Some(to);
            effect(Effect::Reset(to, ResetReason::Trimmed));
        }
    }

    fn release(&mut self, effect: &mut impl FnMut(Effect<T>)) {
        while let (Some(at), Some(entry)) = (self.at, self.held.first_entry()) {
            if *entry.key() > at.seq + 1 {
                return;
            }
            let (seq, item) = entry.remove_entry();
            if seq == at.seq + 1 {
                effect(Effect::Deliver(item));
                self.at = Some(Position::new(at.epoch, seq));
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

    fn anchored(seq: u64) -> Sequencer<u64> {
        let mut sequencer = Sequencer::new(8);
        sequencer.begin_read();
        sequencer.fill(slice(OLD, seq, &[]), |_| panic!("nothing to do at the first position"));
        sequencer
    }

    fn slice(epoch: Epoch, top: u64, entries: &[u64]) -> LogSlice<u64> {
        LogSlice { top: Position::new(epoch, top), entries: entries.iter().map(|seq| (*seq, *seq)).collect() }
    }

    fn accept(sequencer: &mut Sequencer<u64>, epoch: Epoch, seq: u64) -> Vec<Effect<u64>> {
        let mut effects = Vec::new();
        sequencer.accept(Position::new(epoch, seq), seq, |effect| effects.push(effect));
        effects
    }

    fn fill(sequencer: &mut Sequencer<u64>, slice: LogSlice<u64>) -> Vec<Effect<u64>> {
        let mut effects = Vec::new();
        sequencer.fill(slice, |effect| effects.push(effect));
        effects
    }

    fn deliver(seqs: impl IntoIterator<Item = u64>) -> Vec<Effect<u64>> {
        seqs.into_iter().map(Effect::Deliver).collect()
    }

    #[test]
    fn lets_through_nothing_before_the_first_position() {
        let mut sequencer = Sequencer::new(8);
        assert!(accept(&mut sequencer, OLD, 6).is_empty());
        assert!(sequencer.is_behind());
        assert_eq!(sequencer.begin_read(), None);
        // One came while the log was read, and its push may have been the only one.
        assert!(accept(&mut sequencer, OLD, 7).is_empty());
        assert!(fill(&mut sequencer, slice(OLD, 6, &[])).is_empty());
        assert_eq!(sequencer.position(), Some(Position::new(OLD, 6)));
        assert!(sequencer.is_behind(), "7 is known to exist");
        assert_eq!(sequencer.begin_read(), Some(Position::new(OLD, 6)));
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
        assert!(!sequencer.accept(Position::new(OLD, 2), 2, |_| panic!("twice")));
    }

    #[test]
    fn a_position_without_its_publication_shows_the_hole() {
        let mut sequencer = anchored(3);
        sequencer.observe(Position::new(OLD, 4));
        assert!(sequencer.is_behind());
        assert_eq!(sequencer.known(), Some(Position::new(OLD, 4)));
        assert_eq!(fill(&mut sequencer, slice(OLD, 4, &[4])), deliver([4]));
        assert!(!sequencer.is_behind());
    }

    #[test]
    fn a_trimmed_log_is_a_reset_and_not_a_silent_skip() {
        let mut sequencer = anchored(3);
        accept(&mut sequencer, OLD, 9);
        let effects = fill(&mut sequencer, slice(OLD, 9, &[7, 8]));
        let reset = Effect::Reset(Position::new(OLD, 6), ResetReason::Trimmed);
        assert_eq!(effects, [vec![reset], deliver([7, 8, 9])].concat());

        // An empty log with a high top: even the last entry has expired.
        let effects = fill(&mut sequencer, slice(OLD, 12, &[]));
        assert_eq!(effects, [Effect::Reset(Position::new(OLD, 12), ResetReason::Trimmed)]);
        assert!(!sequencer.is_behind());
    }

    #[test]
    fn what_is_held_is_used_before_a_gap_is_declared() {
        let mut sequencer = anchored(3);
        for seq in [5, 6] {
            accept(&mut sequencer, OLD, seq);
        }
        let gap = |seq| Effect::Reset(Position::new(OLD, seq), ResetReason::Trimmed);
        let expected = [vec![gap(4)], deliver([5, 6]), vec![gap(7)], deliver([8])].concat();
        assert_eq!(fill(&mut sequencer, slice(OLD, 8, &[8])), expected);
    }

    #[test]
    fn another_epoch_is_a_reset_once_the_log_confirms_it() {
        let mut sequencer = anchored(50);
        assert!(accept(&mut sequencer, NEW, 2).is_empty());
        assert!(sequencer.is_behind());
        assert_eq!(sequencer.begin_read(), Some(Position::new(OLD, 50)));
        let effects = fill(&mut sequencer, slice(NEW, 2, &[1, 2]));
        let reset = Effect::Reset(Position::new(NEW, 0), ResetReason::NewEpoch);
        assert_eq!(effects, [vec![reset], deliver([1, 2])].concat());

        // A late answer from the old epoch is settled by the log without a word to the members.
        assert!(accept(&mut sequencer, OLD, 51).is_empty());
        sequencer.begin_read();
        assert!(fill(&mut sequencer, slice(NEW, 2, &[])).is_empty());
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
        assert_eq!(sequencer.begin_read(), Some(Position::new(OLD, 9)));
        let rest: Vec<u64> = (10..=20).collect();
        assert_eq!(fill(&mut sequencer, slice(OLD, 20, &rest)), deliver(10..=20));
    }

    /// What can happen to a server in a room, against one true log.
    #[derive(Clone, Debug)]
    enum Step {
        /// The next publication gets its number.
        Publish,
        /// The push or answer for one of the last publications arrives, perhaps late, perhaps again.
        Arrive(usize),
        /// An own echo tells of one of the last publications.
        Observe(usize),
        /// The log is read; in parts of at most three.
        Read,
        /// The log loses all but its last few entries.
        Trim(usize),
        /// Numbering begins anew.
        Rewind,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => Just(Step::Publish),
            6 => (0..6_usize).prop_map(Step::Arrive),
            1 => (0..6_usize).prop_map(Step::Observe),
            2 => Just(Step::Read),
            1 => (0..4_usize).prop_map(Step::Trim),
            1 => Just(Step::Rewind),
        ]
    }

    proptest! {
        /// Whatever is lost, late, repeated, trimmed or wound back: a member sees each epoch's publications in
        /// order, once, and every gap is announced; and when all is quiet, reading the log brings it up to date.
        #[test]
        fn one_order_and_no_silent_gap(steps in prop::collection::vec(step(), 0..80)) {
            let (mut sequencer, mut epoch, mut log, mut top) = (Sequencer::new(3), 1, Vec::<u64>::new(), 0);
            let mut sent: Vec<(Epoch, u64)> = Vec::new();
            let mut seen: Vec<Effect<(Epoch, u64)>> = Vec::new();
            let read = |sequencer: &mut Sequencer<(Epoch, u64)>, epoch, log: &[u64], top, seen: &mut Vec<_>| {
                let after = sequencer.begin_read();
                let from = after.filter(|at| at.epoch == epoch).map_or(0, |at| at.seq);
                let entries = log.iter().filter(|seq| **seq > from).take(3).map(|seq| (*seq, (epoch, *seq)));
                let entries = if after.is_some() { entries.collect() } else { Vec::new() };
                sequencer.fill(LogSlice { top: Position::new(epoch, top), entries }, |effect| seen.push(effect));
            };
            read(&mut sequencer, Epoch(epoch), &log, top, &mut seen);

            for step in steps {
                let recent = |back: usize| sent.len().checked_sub(back + 1).map(|index| sent[index]);
                match step {
                    Step::Publish => {
                        top += 1;
                        log.push(top);
                        sent.push((Epoch(epoch), top));
                    }
                    Step::Arrive(back) => if let Some((epoch, seq)) = recent(back) {
                        sequencer.accept(Position::new(epoch, seq), (epoch, seq), |effect| seen.push(effect));
                    },
                    Step::Observe(back) => if let Some((epoch, seq)) = recent(back) {
                        sequencer.observe(Position::new(epoch, seq));
                    },
                    Step::Read => read(&mut sequencer, Epoch(epoch), &log, top, &mut seen),
                    Step::Trim(keep) => drop(log.drain(..log.len().saturating_sub(keep))),
                    Step::Rewind => (epoch, log, top) = (epoch + 1, Vec::new(), 0),
                }
            }
            for _ in 0..200 {
                read(&mut sequencer, Epoch(epoch), &log, top, &mut seen);
            }
            prop_assert!(!sequencer.is_behind());
            prop_assert_eq!(sequencer.position(), Some(Position::new(Epoch(epoch), top)));

            let mut at = Position::new(Epoch(1), 0);
            for effect in seen {
                match effect {
                    Effect::Deliver((epoch, seq)) => {
                        prop_assert_eq!((epoch, seq), (at.epoch, at.seq + 1));
                        at.seq = seq;
                    }
                    Effect::Reset(to, ResetReason::Trimmed) => {
                        prop_assert!(to.epoch == at.epoch && to.seq > at.seq);
                        at = to;
                    }
                    Effect::Reset(to, ResetReason::NewEpoch) => {
                        prop_assert!(to.epoch > at.epoch);
                        at = to;
                    }
                }
            }
            prop_assert_eq!(at, Position::new(Epoch(epoch), top));
        }
    }
}
