//! How far a client that comes back is being brought up to date.

use crate::record::Position;

/// The part of a room's stream that `joined` announced with `until`: what the client had missed.
///
/// `until` is of the epoch of the first `message` or `reset` that follows `joined`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replay {
    until: u64,
    epoch: Option<u64>,
}

impl Replay {
    /// A replay that goes up to this number.
    pub fn up_to(until: u64) -> Self {
        Self { until, epoch: None }
    }

    /// Whether a `message` or a `reset` with this position belongs to it.
    pub fn includes(self, position: Position) -> bool {
        self.epoch.is_none_or(|epoch| epoch == position.epoch) && position.seq <= self.until
    }

    /// What is left of it when a `message` or a `reset` with this position has come.
    pub fn after(self, position: Position) -> Option<Self> {
        let goes_on = self.includes(position) && position.seq < self.until;
        goes_on.then_some(Self { epoch: Some(position.epoch), ..self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_ends_at_its_number_or_with_its_epoch() {
        let at = |epoch, seq| Position { epoch, seq };
        let replay = Replay::up_to(7).after(at(1, 5)).expect("two are left");
        assert!(replay.includes(at(1, 7)) && !replay.includes(at(1, 8)) && !replay.includes(at(2, 1)));
        for end in [at(1, 7), at(1, 8), at(2, 1)] {
            assert_eq!(replay.after(end), None, "{end}");
        }
    }
}
