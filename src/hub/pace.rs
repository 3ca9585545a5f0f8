use std::time::Duration;

use tokio::time::Instant;

use super::stretch::CALL;
use crate::access::{Bucket, Rate};

/// How many members of a room to write to under its lock before another room gets its turn, and how many of all rooms
/// before other tasks get theirs. A write takes some microseconds.
pub(super) const TURN: usize = 32;

/// A room with at most this many turns left gets them in a row, so that a room of a hundred does not wait behind one of
/// thousands for each of its turns.
const TURNS: usize = 4;

/// If messages come faster than rounds, the room rests for this many times as long as the round took. What comes
/// meanwhile goes out together, so the busier a room or its server is, the fewer calls a message costs.
const REST: u32 = 4;

/// The least time of a round, multiplied by its messages and those that came meanwhile, after which a room rests: a round
/// of 1 ms with 2 messages, or of 0.1 ms with 20. After less, the next round follows at once.
const WORTH: Duration = Duration::from_millis(2);

/// No rest is longer than this.
const LONGEST_REST: Duration = Duration::from_millis(10);

/// A flooded room goes at the pace of most of its members: while most of them have not accepted the last round yet, it
/// rests for this long, again and again, up to a longest time for one round. So messages pile up only for members that
/// are slower than most. What comes meanwhile is not lost: members get it from memory or from the log later.
const LAG_REST: Duration = Duration::from_millis(5);
const LONGEST_LAG: Duration = Duration::from_millis(500);

/// A room is flooded if more messages than this are left after a round, or more bytes than go out with one call.
const FLOOD: usize = 64;

/// A round through very many members pauses for this long after this many of them, so that a room of thousands takes
/// about half a core and leaves the rest to other rooms.
const STRETCH: usize = 128;
const PAUSE: Duration = Duration::from_millis(1);

/// How much is in line in a room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

/// When to serve a room's members: how long a busy room rests, and when a flooded one waits for its members. No room is
/// sent more bytes, to all members together, than its rate allows, so that one room cannot take a server.
#[derive(Debug, Default)]
pub(super) struct Pace {
    rate: Option<Rate>,
    sent: Bucket,
    /// Whether the last round was more than the rate allows.
    owes: bool,
    rests_until: Option<Instant>,
    /// Since when the next round waits for most members to accept the last one.
    lags_since: Option<Instant>,
    /// How many members this round has served since its last pause.
    stretch: usize,
}

/// What happened in a round through all members.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    pub(super) took: Duration,
    /// How many messages each member got.
    pub(super) messages: usize,
    /// How many bytes all members got together.
    pub(super) sent: usize,
    /// What came meanwhile.
    pub(super) left: Load,
}

impl Pace {
    /// With this rate of bytes, to all members together.
    pub(super) fn new(rate: Option<Rate>) -> Self {
        Self { rate, ..Self::default() }
    }

    /// When the next turn comes, if there is something to send.
    pub(super) fn next_turn(&self, now: Instant) -> Instant {
        self.rests_until.map_or(now, |until| until.max(now))
    }

    /// Whether the room rests.
    pub(super) fn rests(&self, now: Instant) -> bool {
        self.rests_until.is_some_and(|until| until > now)
    }

    /// Whether a new round may begin; if not, the room rests a little longer. `most_lag` says whether most members have
    /// not accepted the last round yet.
    pub(super) fn may_begin(&mut self, now: Instant, most_lag: impl FnOnce() -> bool) -> bool {
        let is_patient = |since: Instant| now.saturating_duration_since(since) < LONGEST_LAG;
        let lags = self.lags_since.is_some_and(is_patient) && most_lag();
        if lags {
            self.rests_until = Some(now + LAG_REST);
        } else {
            self.lags_since = None;
        }
        !lags
    }

    /// A part of a round is over: `served` more members, and `left` to go.
    pub(super) fn stretched(&mut self, served: usize, left: usize, now: Instant) {
        self.stretch += served;
        self.rests_until = (self.stretch >= STRETCH && !goes_on(left)).then(|| now + PAUSE);
        self.stretch %= STRETCH;
    }

    /// A round is over. Returns whether the room begins to be over its rate.
    pub(super) fn round_over(&mut self, round: Round, now: Instant) -> bool {
        let messages = round.messages + round.left.messages;
        let is_busy = messages > 1 && round.took.saturating_mul(u32::try_from(messages).unwrap_or(u32::MAX)) >= WORTH;
        let rest = round.took.saturating_mul(REST).min(LONGEST_REST);
        let owed = self.rate.map_or(Duration::ZERO, |rate| self.sent.owe(rate, round.sent as f64, now));
        let rest = if is_busy { rest.max(owed) } else { owed };
        self.rests_until = (!rest.is_zero()).then(|| now + rest);
        let is_flooded = round.left.messages > FLOOD || round.left.bytes > CALL;
        self.lags_since = is_flooded.then_some(now);
        self.stretch = 0;
        !std::mem::replace(&mut self.owes, !owed.is_zero()) && self.owes
    }
}

/// Whether a room with `left` members to go in its round gets another turn at once.
pub(super) fn goes_on(left: usize) -> bool {
    (1..=TURN * TURNS).contains(&left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(took: Duration, messages: usize, left: usize) -> Round {
        Round { took, messages, sent: 0, left: Load { messages: left, bytes: left } }
    }

    #[test]
    fn only_a_busy_room_rests_and_the_longer_its_rounds_the_longer() {
        let now = Instant::now();
        let rest = |round| {
            let mut pace = Pace::default();
            pace.round_over(round, now);
            pace.next_turn(now) - now
        };
        assert_eq!(rest(round(WORTH, 1, 0)), Duration::ZERO, "nothing came meanwhile");
        assert_eq!(rest(round(WORTH / 2, 1, 1)), WORTH / 2 * REST);
        assert_eq!(rest(round(WORTH / 2, 2, 0)), WORTH / 2 * REST);
        assert_eq!(rest(round(WORTH / 20, 10, 10)), WORTH / 20 * REST, "a short round of many messages");
        assert_eq!(rest(round(WORTH / 20, 9, 10)), Duration::ZERO, "what a rest would save is not worth it");
        assert_eq!(rest(round(WORTH * 100, 2, 0)), LONGEST_REST);
    }

    #[test]
    fn a_room_is_sent_no_more_than_its_rate_allows() {
        let (mut pace, start) = (Pace::new(Some(Rate { per_second: 1000.0, burst: 5000.0 })), Instant::now());
        let sent = |sent| Round { sent, ..round(Duration::ZERO, 1, 0) };
        assert!(!pace.round_over(sent(5000), start) && !pace.rests(start));
        assert!(pace.round_over(sent(2000), start), "it begins");
        assert_eq!(pace.next_turn(start), start + Duration::from_secs(2));
        let later = start + Duration::from_secs(2);
        assert!(!pace.round_over(sent(1000), later), "it goes on");
        assert_eq!(pace.next_turn(later), later + Duration::from_secs(1));
    }

    #[test]
    fn a_round_through_very_many_pauses_after_each_stretch() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        let mut paused = 0;
        for _ in 0..3 * STRETCH / TURN {
            pace.stretched(TURN, 1000, now);
            paused += usize::from(pace.rests(now));
            assert_eq!(pace.next_turn(now) - now, if pace.rests(now) { PAUSE } else { Duration::ZERO });
        }
        assert_eq!(paused, 3);
        pace.stretched(TURN, 1000, now);
        pace.round_over(round(WORTH / 4, 1, 0), now);
        for _ in 1..STRETCH / TURN {
            pace.stretched(TURN, 1000, now);
            assert!(!pace.rests(now), "each round has stretches of its own");
        }
        pace.stretched(STRETCH, 1, now);
        assert!(!pace.rests(now), "the few that are left have their turn at once");
    }

    #[test]
    fn a_flooded_room_waits_for_most_of_its_members_but_not_for_ever() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        assert!(pace.may_begin(start, || true), "it is not flooded");
        pace.round_over(round(Duration::ZERO, 1, FLOOD + 1), start);
        let mut now = start;
        while now < start + LONGEST_LAG {
            assert!(!pace.may_begin(now, || true));
            assert_eq!(pace.next_turn(now), now + LAG_REST);
            now += LAG_REST;
        }
        assert!(pace.may_begin(now, || true));
        pace.round_over(round(Duration::ZERO, 1, FLOOD + 1), now);
        assert!(pace.may_begin(now, || false), "they keep up");
        pace.round_over(round(Duration::ZERO, 1, FLOOD), now);
        assert!(pace.may_begin(now, || true), "what is left is no flood");
    }

    #[test]
    fn a_room_with_few_left_goes_on_and_one_with_many_lets_others_have_their_turn() {
        assert!(!goes_on(0) && goes_on(1) && goes_on(TURN * TURNS) && !goes_on(TURN * TURNS + 1));
    }
}
