use std::collections::BTreeMap;

use crate::{order::Publication, protocol::Frame};

/// Most bytes of messages to return at a time.
pub(super) const CALL: usize = 64 * 1024;

/// What follows a position.
#[derive(Debug)]
pub(super) enum Next {
    /// These messages, up to and with this `seq`.
    Messages { frames: Vec<Frame>, to: u64 },
    /// Nothing up to this `seq`: the log no longer reaches back that far.
    Gone { to: u64 },
    /// Unknown: only the log can tell.
    Unknown,
}

/// A part of one epoch of a channel's log, perhaps with unknown holes.
#[derive(Debug, Default)]
pub(super) struct Stretch {
    pub(super) entries: BTreeMap<u64, Publication<Frame>>,
    /// Up to this `seq`, what is not in `entries` is not in the log either.
    pub(super) gone: u64,
    /// After which `seq` it was read, and up to which; `None` if it was not read at once.
    read: Option<(u64, u64)>,
}

impl Stretch {
    /// A page that was read after `asked`, with `top` as the last `seq` assigned by then.
    pub(super) fn of_reading(asked: u64, top: u64, entries: impl IntoIterator<Item = Publication<Frame>>) -> Self {
        let entries = entries.into_iter().filter(|entry| entry.position.seq > asked);
        let entries = entries.map(|entry| (entry.position.seq, entry));
        let entries: BTreeMap<u64, Publication<Frame>> = entries.collect();
        // The log keeps the last messages without a hole, so what is missing before its first one is gone.
        let first = entries.first_key_value().map_or(top.saturating_add(1), |(first, _)| *first);
        let gone = if first > asked + 1 { first - 1 } else { 0 };
        let to = entries.last_key_value().map_or(top, |(last, _)| *last);
        Self { entries, gone, read: Some((asked, to)) }
    }

    /// Whether it says what comes after `seq`, even if that is nothing.
    pub(super) fn answers(&self, seq: u64) -> bool {
        self.read.is_some_and(|(asked, to)| seq == asked || (asked..to).contains(&seq))
    }

    /// What follows `seq`, up to `end`: at most `most` messages and [`CALL`] bytes, but at least one message.
    pub(super) fn after(&self, seq: u64, end: u64, most: usize) -> Next {
        let (mut found, mut bytes, mut to) = (Vec::new(), 0, seq);
        for (next, entry) in self.entries.range(seq + 1..=end.max(seq + 1)) {
            bytes += entry.item.len();
            let is_enough = !found.is_empty() && (bytes > CALL || found.len() >= most);
            if *next != to + 1 || is_enough || *next > end {
                break;
            }
            found.push(entry.item.clone());
            to = *next;
        }
        if !found.is_empty() {
            return Next::Messages { frames: found, to };
        }
        if seq >= self.gone {
            return Next::Unknown;
        }
        let first = self.entries.range(seq + 1..).next().map_or(u64::MAX, |(first, _)| *first);
        Next::Gone { to: self.gone.min(first - 1).min(end) }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Publication<Frame>> {
        self.entries.values()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::protocol::{Epoch, Position};

    pub(crate) fn entry(seq: u64, bytes: usize) -> Publication<Frame> {
        let position = Position::new(Epoch(7), seq);
        Publication { position, ts: seq, item: Frame::from("x".repeat(bytes)) }
    }

    /// The answer of `after` as a pair: how many messages, up to where; a gap has none.
    pub(crate) fn after(stretch: &Stretch, seq: u64, end: u64) -> Option<(usize, u64)> {
        match stretch.after(seq, end, 100) {
            Next::Messages { frames, to } => Some((frames.len(), to)),
            Next::Gone { to } => Some((0, to)),
            Next::Unknown => None,
        }
    }

    #[test]
    fn a_reading_tells_what_is_there_what_is_gone_and_what_only_the_log_knows() {
        let read = Stretch::of_reading(5, 20, [5, 9, 10, 11].map(|seq| entry(seq, 10)));
        assert_eq!(after(&read, 5, 20), Some((0, 8)));
        assert_eq!(after(&read, 8, 20), Some((3, 11)));
        assert_eq!(after(&read, 8, 10), Some((2, 10)), "no further than asked");
        assert_eq!(after(&read, 11, 20), None, "there may be more after a reading's end");
        let nothing = Stretch::of_reading(5, 20, []);
        assert_eq!(after(&nothing, 5, 20), Some((0, 20)), "the log has nothing, and 20 was given out");
        assert_eq!(after(&nothing, 20, 30), None);
        let the_end = Stretch::of_reading(20, 20, [entry(20, 10)]);
        assert_eq!(after(&the_end, 10, 20), None, "nothing was asked about what comes before");
    }

    #[test]
    fn what_is_handed_out_at_a_time_is_bounded_but_never_nothing() {
        let large = Stretch::of_reading(0, 4, (1..=4).map(|seq| entry(seq, CALL / 2 + 1)));
        assert_eq!(after(&large, 0, 4), Some((1, 1)));
        let short = Stretch::of_reading(0, 9, (1..=9).map(|seq| entry(seq, 10)));
        assert!(matches!(short.after(0, 9, 4), Next::Messages { to: 4, .. }));
        let larger = Stretch::of_reading(0, 1, [entry(1, 2 * CALL)]);
        assert_eq!(after(&larger, 0, 1), Some((1, 1)));
    }
}
