use std::time::Duration;

use tokio::time::Instant;

/// How long a hole may be open before the log is read. Own publishes are answered on another connection than the
/// one on which others' are heard, so most holes close by themselves in less than a millisecond.
const GRACE: Duration = Duration::from_millis(50);

/// How long to wait after a failed reading before the next one.
const RETRY: Duration = Duration::from_secs(1);

/// A channel in which nothing was said since it was opened is looked up first after this many intervals, or after the
/// longest: until then what Redis knows of it lives for ten minutes.
const FIRST: u32 = 12;
const LONGEST_FIRST: Duration = Duration::from_secs(5 * 60);

/// No look-up is farther away: each prolongs the life of what Redis knows of a silent channel, which is an hour at least.
const FARTHEST: Duration = Duration::from_secs(30 * 60);

/// When the log of a channel has to be read, and when its top is looked up.
///
/// A reading is due when the channel has been subscribed, when something is missing, or when somebody says so. A look-up
/// finds a last message that was missed, which has no successor to show it. It is due an interval after something was
/// said, and then each time twice as much later: what look-ups cost goes with what is said, and not with how many channels
/// there are.
#[derive(Debug)]
pub(super) struct LogWatch {
    /// The log has to be read whether or not anything is known to be missing.
    is_unchecked: bool,
    /// The last reading failed, so that the next one is not made at once.
    has_failed: bool,
    reading: Reading,
    /// How many readings have been begun, and the number of the last one that succeeded.
    begun: u64,
    done: u64,
    interval: Duration,
    /// How long after the last look-up the next one is, and when that is.
    gap: Duration,
    look_up: Option<Instant>,
    is_announced: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    None,
    /// Due at that moment, and whoever reads has been told.
    Planned(Instant),
    Running,
}

impl LogWatch {
    /// A channel that is not subscribed yet. `interval` is how soon after something was said its log is looked up.
    pub(super) fn new(interval: Duration) -> Self {
        Self {
            is_unchecked: false,
            has_failed: false,
            reading: Reading::None,
            begun: 0,
            done: 0,
            interval,
            gap: interval,
            look_up: None,
            is_announced: false,
        }
    }

    /// The channel has been subscribed: what was published until now may have been missed.
    pub(super) fn subscribed(&mut self, now: Instant) {
        (self.is_unchecked, self.has_failed) = (true, false);
        if self.look_up.is_none() {
            self.gap = (self.interval * FIRST).min(LONGEST_FIRST);
            self.plan_look_up(now);
        }
    }

    /// The log has to be read.
    pub(super) fn doubt(&mut self) {
        self.is_unchecked = true;
    }

    /// Has a reading made, unless one that was begun after the first call has succeeded: then returns true. The caller
    /// keeps `awaited` between calls.
    pub(super) fn is_checked(&mut self, awaited: &mut Option<u64>) -> bool {
        let number = *awaited.get_or_insert(self.begun + 1);
        let is_checked = self.done >= number;
        self.is_unchecked |= !is_checked && self.begun < number;
        is_checked
    }

    /// Something was said in the channel.
    pub(super) fn spoke(&mut self, now: Instant) {
        self.gap = self.interval;
        if self.look_up.is_some_and(|due| due > now + self.interval) {
            self.plan_look_up(now);
        }
    }

    /// When the log has to be read next, given whether something is known to be missing; each time is named once.
    pub(super) fn next_reading(&mut self, has_hole: bool, now: Instant) -> Option<Instant> {
        let due = match (self.is_unchecked, has_hole) {
            (true, _) if self.has_failed => now + RETRY,
            (true, _) => now,
            (false, true) => now + GRACE,
            (false, false) => return None,
        };
        match self.reading {
            Reading::Running => return None,
            Reading::Planned(planned) if planned <= due => return None,
            Reading::Planned(_) | Reading::None => self.reading = Reading::Planned(due),
        }
        Some(due)
    }

    /// Begins a reading if it is still needed. Returns whether it is, and if so, whether it is for a hole alone.
    pub(super) fn begin_reading(&mut self, has_hole: bool) -> Option<bool> {
        if self.reading == Reading::Running {
            return None;
        }
        self.reading = Reading::None;
        if !has_hole && !self.is_unchecked {
            return None;
        }
        let is_for_hole = !self.is_unchecked;
        self.reading = Reading::Running;
        self.is_unchecked = false;
        self.begun += 1;
        Some(is_for_hole)
    }

    /// The reading failed and has to be made again.
    pub(super) fn reading_failed(&mut self) {
        self.reading = Reading::None;
        (self.is_unchecked, self.has_failed) = (true, true);
    }

    /// The reading succeeded; `goes_on` if there is more to be read at once.
    pub(super) fn reading_done(&mut self, goes_on: bool) {
        (self.reading, self.has_failed) = (Reading::None, false);
        self.done = self.begun;
        self.is_unchecked |= goes_on;
    }

    /// Returns when to look up the top of the log next. Each time is returned only once.
    pub(super) fn next_look_up(&mut self) -> Option<Instant> {
        if std::mem::replace(&mut self.is_announced, true) { None } else { self.look_up }
    }

    /// Whether a look-up that was named for this moment is still the one that is due.
    pub(super) fn is_look_up(&self, due: Instant) -> bool {
        self.look_up == Some(due)
    }

    /// The look-up has been made; or, if it did not succeed, has to be made again.
    pub(super) fn looked_up(&mut self, succeeded: bool, now: Instant) {
        self.plan_look_up(now);
        if succeeded {
            self.gap = (2 * self.gap).min(FARTHEST.max(self.interval));
        }
    }

    fn plan_look_up(&mut self, now: Instant) {
        (self.look_up, self.is_announced) = (Some(now + self.gap), false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn watch() -> (LogWatch, Instant) {
        let (mut watch, now) = (LogWatch::new(5 * SECOND), Instant::now());
        watch.subscribed(now);
        (watch, now)
    }

    #[test]
    fn a_reading_is_named_once_begun_once_and_made_again_if_it_fails() {
        let (mut watch, now) = watch();
        assert_eq!(watch.next_reading(false, now), Some(now));
        assert_eq!(watch.next_reading(true, now), None);
        assert_eq!(watch.begin_reading(false), Some(false));
        assert_eq!((watch.begin_reading(true), watch.next_reading(true, now)), (None, None));
        watch.reading_failed();
        assert_eq!(watch.next_reading(false, now), Some(now + RETRY));
        assert_eq!(watch.begin_reading(false), Some(false));
        watch.reading_done(false);
        assert_eq!(watch.next_reading(false, now), None);
    }

    #[test]
    fn a_hole_has_some_time_to_close_by_itself() {
        let (mut watch, now) = watch();
        watch.begin_reading(false);
        watch.reading_done(false);
        assert_eq!(watch.next_reading(true, now), Some(now + GRACE));
        assert_eq!(watch.begin_reading(false), None, "it has closed");
        assert_eq!(watch.next_reading(true, now), Some(now + GRACE));
        assert_eq!(watch.begin_reading(true), Some(true));
    }

    #[test]
    fn only_a_reading_that_was_begun_later_is_a_check() {
        let (mut watch, now) = watch();
        watch.begin_reading(false);
        let mut awaited = None;
        assert!(!watch.is_checked(&mut awaited));
        watch.reading_done(false);
        assert!(!watch.is_checked(&mut awaited), "it was under way already");
        assert_eq!(watch.next_reading(false, now), Some(now));
        watch.begin_reading(false);
        assert!(!watch.is_checked(&mut awaited));
        watch.reading_done(false);
        assert!(watch.is_checked(&mut awaited));
        assert_eq!(watch.next_reading(false, now), None, "one reading serves all who wait");
    }

    /// What silence costs: in a day, a channel in which something was said once is looked up about sixty times, however
    /// short the interval is.
    #[test]
    fn look_ups_become_rare_in_silence_and_frequent_when_something_is_said() {
        let (mut watch, start) = watch();
        let mut now = start;
        let look_up = |watch: &mut LogWatch| {
            let due = watch.next_look_up().expect("named");
            assert_eq!(watch.next_look_up(), None, "once");
            assert!(watch.is_look_up(due));
            watch.looked_up(true, due);
            assert!(!watch.is_look_up(due));
            due
        };
        assert_eq!(look_up(&mut watch), start + 60 * SECOND, "nobody has said anything yet");
        let mut count = 0;
        while now < start + 24 * 3600 * SECOND {
            now = look_up(&mut watch);
            count += 1;
        }
        assert!((48..60).contains(&count), "{count}");
        watch.spoke(now);
        let mut gaps = Vec::new();
        for _ in 0..4 {
            let due = look_up(&mut watch);
            gaps.push((due - now).as_secs());
            now = due;
        }
        assert_eq!(gaps, [5, 5, 10, 20]);
        // In a channel that never falls silent there is one in each interval.
        let due = watch.next_look_up().unwrap();
        // One that fails is made again no later than it would have been.
        for _ in 0..2 {
            watch.looked_up(false, due);
            assert_eq!(watch.next_look_up(), Some(due + 80 * SECOND));
        }
        watch.looked_up(false, now);
        let due = watch.next_look_up().unwrap();
        for step in 0..10 {
            watch.spoke(now + SECOND * step);
        }
        let sooner = watch.next_look_up().unwrap();
        assert!(sooner < due && !watch.is_look_up(due) && watch.is_look_up(sooner));
        watch.spoke(now + 2 * SECOND);
        assert_eq!(watch.next_look_up(), None);
    }
}
