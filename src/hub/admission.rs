use std::sync::Arc;

use super::{stretch::Next, tally::Tally};
use crate::protocol::{Event, History, Item, Position, ResetReason, RoomId};

/// A client on its way into a room: what it asked for, and what it has been sent.
#[derive(Debug)]
pub(super) struct Arrival {
    room: RoomId,
    /// The name of this server.
    origin_server: Arc<str>,
    history: History,
    /// It has got everything up to here, or was told about a gap; `None` until its start is known.
    at: Option<Position>,
    is_announced: bool,
    /// A gap that it must be told, as soon as the gap's end is known.
    gap: Option<ResetReason>,
    /// The reading of the log that shows whether its claimed position exists.
    awaited: Option<u64>,
}

/// The state of the room, as far as an arrival needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct View {
    /// The position up to which everything is in line for the members, or has been sent to them.
    pub(super) live: Position,
    /// The highest position known to exist.
    pub(super) known: Position,
    /// How many members there are, including this client.
    pub(super) members: usize,
    /// The next reading of the log, and the last successful one.
    pub(super) next_reading: u64,
    pub(super) last_read: u64,
}

/// The next step of an arrival.
#[derive(Debug)]
pub(super) enum Decision {
    /// Send it this; then it is a member like the others.
    Enter(Vec<Item>),
    /// Send it this; more follows.
    Send(Vec<Item>),
    /// Wait for the room to reach a place from which this client can go on.
    Wait,
    /// Wait for this reading of the log, or a later one, to succeed.
    Await(u64),
    /// First read the log after this `seq`.
    Read(u64),
}

impl Arrival {
    pub(super) fn new(room: RoomId, origin_server: Arc<str>, history: History) -> Self {
        Self { room, origin_server, history, at: None, is_announced: false, gap: None, awaited: None }
    }

    /// Whether it was sent a part of another epoch than this, which makes what was read for it useless.
    pub(super) fn is_of_another_epoch(&self, live: Position) -> bool {
        self.at.is_some_and(|at| at.epoch != live.epoch)
    }

    /// Whether it has been told `joined`.
    pub(super) fn is_announced(&self) -> bool {
        self.is_announced
    }

    /// The next step. `after` says what follows a `seq`, up to [`View::live`], as far as that is known.
    pub(super) fn step(&mut self, view: &View, mut after: impl FnMut(u64) -> Next, tally: &mut Tally) -> Decision {
        let live = view.live;
        if self.is_of_another_epoch(live) {
            // Numbering began anew while it got what it had missed.
            self.at = self.is_announced.then_some(Position::new(live.epoch, 0));
            self.gap = self.is_announced.then_some(ResetReason::NewEpoch);
        }
        let mut at = match self.at.map_or_else(|| self.beginning(view), Ok) {
            Ok(at) => at,
            Err(decision) => return decision,
        };
        loop {
            self.at = Some(at);
            if at.seq >= live.seq {
                return Decision::Enter(self.announce(at, view, tally));
            }
            match after(at.seq) {
                Next::Messages { frames, to } => {
                    let mut items = self.announce(at, view, tally);
                    items.extend(frames.into_iter().map(Item::Past));
                    self.at = Some(Position::new(live.epoch, to));
                    return if to >= live.seq { Decision::Enter(items) } else { Decision::Send(items) };
                }
                Next::Gone { to } => {
                    at = Position::new(live.epoch, to);
                    // A client that asks for the last messages takes whatever exists.
                    if self.is_announced || matches!(self.history, History::After(_)) {
                        self.gap.get_or_insert(ResetReason::Trimmed);
                    }
                }
                Next::Unknown => return Decision::Read(at.seq),
            }
        }
    }

    /// The next step if no history is kept, so that there are no positions.
    pub(super) fn enter_without_history(&mut self, members: usize) -> Vec<Item> {
        self.is_announced = true;
        let resumed = matches!(self.history, History::After(_)).then_some(false);
        vec![self.joined(None, None, members, resumed)]
    }

    /// Where the requested history begins.
    fn beginning(&mut self, view: &View) -> Result<Position, Decision> {
        let View { live, known, .. } = *view;
        let seq = match self.history {
            History::None => live.seq,
            History::Last(count) => live.seq.saturating_sub(count),
            History::After(Position { epoch, seq }) if epoch == live.epoch && seq <= live.seq => seq,
            // This server, or its members, are behind what the client got from another server.
            History::After(Position { epoch, seq }) if epoch == known.epoch && seq <= known.seq => {
                return Err(Decision::Wait);
            }
            History::After(_) => {
                let awaited = *self.awaited.get_or_insert(view.next_reading);
                if view.last_read < awaited {
                    return Err(Decision::Await(awaited));
                }
                self.gap = Some(ResetReason::UnknownPosition);
                live.seq
            }
        };
        Ok(Position::new(live.epoch, seq))
    }

    /// What to tell it before it gets what comes after `at`: `joined`, the first time, and a gap before that, if there
    /// is one.
    fn announce(&mut self, at: Position, view: &View, tally: &mut Tally) -> Vec<Item> {
        let mut items = Vec::new();
        if !self.is_announced {
            self.is_announced = true;
            // The position is always the one before the next message, so that a client that is cut off now and resumes
            // from it misses nothing.
            let (position, resumed) = match self.history {
                History::After(position) => (position, Some(self.gap.is_none())),
                History::None | History::Last(_) => (at, None),
            };
            let until = (at.seq < view.live.seq).then_some(view.live.seq);
            items.push(self.joined(Some(position), until, view.members, resumed));
        }
        if let Some(reason) = self.gap.take() {
            tally.reset(reason);
            let room = Some(self.room.clone());
            items.push(Item::Event(Event::Reset { room, position: Some(at), reason }));
        }
        items
    }

    fn joined(&self, position: Option<Position>, until: Option<u64>, members: usize, resumed: Option<bool>) -> Item {
        let (room, origin_server) = (self.room.clone(), self.origin_server.clone());
        Item::Event(Event::Joined { room, position, until, members, origin_server, resumed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hub::{
            recipient::tests::text,
            stretch::{Stretch, tests::entry},
        },
        protocol::Epoch,
    };

    const EPOCH: Epoch = Epoch(7);
    const BEFORE: Epoch = Epoch(6);

    fn arrival(history: History) -> Arrival {
        Arrival::new(RoomId::parse("lobby", 9).unwrap(), "a:1".into(), history)
    }

    fn after(epoch: Epoch, seq: u64) -> History {
        History::After(Position::new(epoch, seq))
    }

    fn view(live: u64, known: u64) -> View {
        let [live, known] = [live, known].map(|seq| Position::new(EPOCH, seq));
        View { live, known, members: 1, next_reading: 2, last_read: 1 }
    }

    /// What one step sends to a client, if the log has these messages and all of them are known.
    fn enter(arrival: &mut Arrival, view: &View, log: impl IntoIterator<Item = u64>) -> (Vec<String>, Option<bool>) {
        let stretch = Stretch::of_reading(0, view.live.seq, log.into_iter().map(|seq| entry(seq, 1)));
        let after = |seq| stretch.after(seq, view.live.seq, 100);
        let Decision::Enter(items) = arrival.step(view, after, &mut Tally::default()) else { panic!("no entry") };
        let Some(Item::Event(Event::Joined { resumed, .. })) = items.first() else { panic!("not announced") };
        (items.iter().map(text).collect(), *resumed)
    }

    #[test]
    fn who_asks_for_nothing_begins_with_what_comes_next() {
        assert_eq!(enter(&mut arrival(History::None), &view(5, 9), 1..=5), (vec!["joined 5".into()], None));
    }

    #[test]
    fn who_comes_back_gets_what_it_missed() {
        let got = enter(&mut arrival(after(EPOCH, 3)), &view(5, 5), 1..=5);
        assert_eq!(got, (vec!["joined 3".into(), "x".into(), "x".into()], Some(true)));
        let got = enter(&mut arrival(after(EPOCH, 1)), &view(5, 5), 4..=5);
        let expected = ["joined 1", "reset 3", "x", "x"].map(String::from).to_vec();
        assert_eq!(got, (expected, Some(false)), "the log no longer reaches back");
    }

    #[test]
    fn who_asks_for_the_last_ones_takes_what_there_is() {
        let got = enter(&mut arrival(History::Last(4)), &view(5, 5), 4..=5);
        assert_eq!(got, (vec!["joined 3".into(), "x".into(), "x".into()], None));
        assert_eq!(enter(&mut arrival(History::Last(4)), &view(0, 0), []).0, ["joined 0"]);
    }

    #[test]
    fn a_position_ahead_of_this_server_waits_and_one_that_nobody_knows_is_checked_first() {
        let nothing = |_| panic!("it is not known yet from where");
        let tally = &mut Tally::default();
        assert!(matches!(arrival(after(EPOCH, 7)).step(&view(5, 9), nothing, tally), Decision::Wait));
        for history in [after(EPOCH, 12), after(BEFORE, 1)] {
            let mut arrival = arrival(history);
            for _ in 0..2 {
                assert!(matches!(arrival.step(&view(5, 9), nothing, tally), Decision::Await(2)));
            }
            let read = View { last_read: 2, next_reading: 3, ..view(5, 9) };
            let (texts, resumed) = enter(&mut arrival, &read, 1..=5);
            assert_eq!((&texts[1..], resumed), (&["reset 5".to_owned()][..], Some(false)));
        }
        assert_eq!(tally.resets(ResetReason::UnknownPosition), 0, "counted by those who were told");
    }

    #[test]
    fn an_epoch_that_begins_while_a_client_is_sent_what_it_missed_is_told() {
        let (mut arrival, tally) = (arrival(after(BEFORE, 1)), &mut Tally::default());
        let old = View { live: Position::new(BEFORE, 5), known: Position::new(BEFORE, 5), ..view(0, 0) };
        let some = |seq| Next::Messages { frames: vec![entry(seq, 1).item], to: seq + 1 };
        assert!(matches!(arrival.step(&old, some, tally), Decision::Send(_)));
        let stretch = Stretch::of_reading(0, 2, (1..=2).map(|seq| entry(seq, 1)));
        let decision = arrival.step(&view(2, 2), |seq| stretch.after(seq, 2, 100), tally);
        let Decision::Enter(items) = decision else { panic!("{decision:?}") };
        assert_eq!(items.iter().map(text).collect::<Vec<_>>(), ["reset 0", "x", "x"]);
        assert_eq!(tally.resets(ResetReason::NewEpoch), 1);
    }

    #[test]
    fn what_is_not_at_hand_is_read_first() {
        let mut arrival = arrival(History::Last(3));
        let decision = arrival.step(&view(5, 5), |_| Next::Unknown, &mut Tally::default());
        assert!(matches!(decision, Decision::Read(2)) && !arrival.is_announced());
    }
}
