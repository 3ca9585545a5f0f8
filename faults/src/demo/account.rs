//! The result of the talk, in the few numbers that a person wants to know.

use std::{
    collections::{BTreeMap, HashSet},
    time::Duration,
};

use crate::{
    judge::judge,
    record::{Client, Event, What},
    run::resets,
    verdict::{Kind, Violation},
};

/// The numbers, of all of a record or of what happened after an earlier account of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Messages that came to anybody.
    pub messages: usize,
    /// Messages that a member never got; per member and message, as the others here.
    pub lost: usize,
    /// Messages that a member got twice.
    pub doubled: usize,
    /// Messages that a member got in another order than others.
    pub misordered: usize,
    /// Everything that was wrong, in words.
    pub wrong: Vec<String>,
}

impl Account {
    /// The account of a record in which everybody had time to get everything.
    pub fn of(record: &[Event]) -> Self {
        let verdict = judge(record, Duration::ZERO);
        let told: Vec<Violation> = resets(record).collect();
        let positions = record.iter().filter_map(|event| match event.what {
            What::Delivered { position, .. } => Some(position),
            _ => None,
        });
        Self {
            messages: positions.collect::<HashSet<_>>().len(),
            // A member that is told about a loss has still lost something.
            lost: verdict.count(Kind::SilentlyLost) + verdict.reported_lost,
            doubled: verdict.count(Kind::Doubled),
            misordered: verdict.count(Kind::OutOfOrder),
            wrong: verdict.violations.iter().chain(&told).map(Violation::to_string).collect(),
        }
    }

    /// What is in this one and not in an earlier one of the same record.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            messages: self.messages.saturating_sub(earlier.messages),
            lost: self.lost.saturating_sub(earlier.lost),
            doubled: self.doubled.saturating_sub(earlier.doubled),
            misordered: self.misordered.saturating_sub(earlier.misordered),
            wrong: self.wrong.iter().filter(|wrong| !earlier.wrong.contains(wrong)).cloned().collect(),
        }
    }

    /// Whether nothing was wrong.
    pub fn is_clean(&self) -> bool {
        self.lost + self.doubled + self.misordered == 0 && self.wrong.is_empty()
    }

    /// The three numbers.
    pub fn numbers(&self) -> String {
        format!("lost {}, doubled {}, misordered {}", self.lost, self.doubled, self.misordered)
    }
}

/// The longest time between `from` and `to` in which somebody who is in the room got no message. A silence that had begun
/// before counts from its beginning.
pub fn longest_silence(record: &[Event], from: Duration, to: Duration) -> Duration {
    let (mut heard, mut longest) = (BTreeMap::<Client, Duration>::new(), Duration::ZERO);
    for event in record.iter().filter(|event| event.at <= to) {
        match event.what {
            What::Joined { .. } => drop(heard.entry(event.client).or_insert(event.at)),
            What::Delivered { .. } => {
                let before = heard.insert(event.client, event.at).unwrap_or(event.at);
                if event.at >= from {
                    longest = longest.max(event.at - before);
                }
            }
            _ => {}
        }
    }
    heard.values().map(|last| to.saturating_sub(*last)).fold(longest, Duration::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{MessageId, Position, Room};

    const ROOM: Room = 0;

    fn at(millis: u64, client: Client, what: What) -> Event {
        Event { at: Duration::from_millis(millis), client, what }
    }

    fn joined(millis: u64, client: Client) -> Event {
        let position = Position { epoch: 1, seq: 0 };
        at(millis, client, What::Joined { room: ROOM, position, until: None, resumed: None })
    }

    fn got(millis: u64, client: Client, seq: u64) -> Event {
        let id = MessageId::of_stranger(&seq.to_string());
        at(millis, client, What::Delivered { room: ROOM, position: Position { epoch: 1, seq }, id })
    }

    #[test]
    fn an_account_counts_what_is_wrong_and_what_came_since_an_earlier_one() {
        let mut record = vec![joined(0, 1), joined(0, 2), got(1, 1, 1), got(1, 2, 1)];
        let first = Account::of(&record);
        assert_eq!((first.messages, first.is_clean()), (1, true), "{first:?}");

        // One member gets a message twice, and the other never gets the next one.
        record.extend([got(2, 1, 2), got(3, 1, 2), got(3, 2, 2), got(4, 1, 3), got(4, 1, 4), got(4, 2, 4)]);
        let second = Account::of(&record).since(&first);
        assert_eq!((second.messages, second.lost, second.doubled), (3, 1, 1), "{second:?}");
        assert!(!second.is_clean() && !second.wrong.is_empty());

        let third = Account::of(&record).since(&Account::of(&record));
        assert_eq!(third, Account::default());
    }

    #[test]
    fn whoever_is_told_of_a_loss_has_lost_something() {
        let reset = What::Reset { room: ROOM, position: Position { epoch: 1, seq: 2 } };
        let record = [joined(0, 1), joined(0, 2), got(1, 1, 1), got(1, 1, 2), at(2, 2, reset)];
        let account = Account::of(&record);
        assert_eq!((account.lost, account.is_clean()), (2, false), "{account:?}");
    }

    #[test]
    fn the_longest_silence_is_that_of_one_member_and_may_have_begun_before_or_not_be_over() {
        let millis = Duration::from_millis;
        let record =
            [joined(0, 1), joined(0, 2), got(10, 1, 1), got(10, 2, 1), got(30, 1, 2), got(90, 2, 2), got(95, 1, 3)];
        let silence = |from, to| longest_silence(&record, millis(from), millis(to));
        assert_eq!(silence(50, 95), millis(80), "member 2, from 10 to 90");
        assert_eq!(silence(0, 40), millis(30), "member 2 has heard nothing since 10");
        assert_eq!(silence(91, 300), millis(210), "and nothing more comes");
    }
}
