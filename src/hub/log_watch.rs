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
    /// How many readings have been begun, and the number of the last one that succeeded.
    begun: u64,
    done: u64,
    interval: Duration,
    /// How long after the last look-up the next one is, and when that is.
    gap: Duration,
    look_up: Option<Instant>,
}

impl LogWatch {
    /// A channel that is not subscribed yet. `interval` is how soon after something was said its log is looked up.
    pub(super) fn new(interval: Duration) -> Self {
        Self { is_unchecked: false, has_failed: false, begun: 0, done: 0, interval, gap: interval, look_up: None }
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

    /// The next reading that would be begun from now on. Readings are counted from 1.
    pub(super) fn next_number(&self) -> u64 {
        self.begun + 1
    }

    /// The last reading that has succeeded; 0 if none has.
    pub(super) fn last_read(&self) -> u64 {
        self.done
    }

    /// Has this reading made, if it has not been begun yet.
    pub(super) fn need(&mut self, number: u64) {
        self.is_unchecked |= self.begun < number;
    }

    /// Something was said in the channel.
    pub(super) fn spoke(&mut self, now: Instant) {
        self.gap = self.interval;
        if self.look_up.is_some_and(|due| due > now + self.interval) {
            self.plan_look_up(now);
        }
    }

    /// When to read the log next, given whether something is known to be missing.
    pub(super) fn next_reading(&self, has_hole: bool, now: Instant) -> Option<Instant> {
        match (self.is_unchecked, has_hole) {
            (true, _) if self.has_failed => Some(now + RETRY),
            (true, _) => Some(now),
            (false, true) => Some(now + GRACE),
            (false, false) => None,
        }
    }

    /// Begins a reading if it is still needed. Returns whether it is, and if so, whether it is for a hole alone.
    pub(super) fn begin_reading(&mut self, has_hole: bool) -> Option<bool> {
        if !has_hole && !self.is_unchecked {
            return None;
        }
        self.begun += 1;
        Some(!std::mem::take(&mut self.is_unchecked))
    }

    /// The reading failed and has to be made again.
    pub(super) fn reading_failed(&mut self) {
        (self.is_unchecked, self.has_failed) = (true, true);
    }

    /// The reading succeeded; `goes_on` if there is more to be read at once.
    pub(super) fn reading_done(&mut self, goes_on: bool) {
        self.has_failed = false;
        self.done = self.begun;
        self.is_unchecked |= goes_on;
    }

    /// When to look up the top of the log next.
    pub(super) fn next_look_up(&self) -> Option<Instant> {
        self.look_up
    }

    /// The look-up has been made; or, if it did not succeed, has to be made again.
    pub(super) fn looked_up(&mut self, succeeded: bool, now: Instant) {
        self.plan_look_up(now);
        if succeeded {
            self.gap = (2 * self.gap).min(FARTHEST.max(self.interval));
        }
    }

    fn plan_look_up(&mut self, now: Instant) {
        self.look_up = Some(now + self.gap);
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
    fn a_reading_that_fails_is_made_again_after_a_while() {
        let (mut watch, now) = watch();
        assert_eq!(watch.next_reading(false, now), Some(now));
        assert_eq!(watch.begin_reading(false), Some(false));
        assert_eq!(watch.next_reading(false, now), None);
        watch.reading_failed();
        assert_eq!(watch.next_reading(false, now), Some(now + RETRY));
        assert_eq!(watch.begin_reading(false), Some(false));
        watch.reading_done(false);
        assert_eq!(watch.next_reading(false, now), None);
        watch.doubt();
        assert_eq!(watch.next_reading(false, now), Some(now), "an earlier failure no longer counts");
    }

    #[test]
    fn a_hole_has_some_time_to_close_by_itself() {
        let (mut watch, now) = watch();
        watch.begin_reading(false);
        watch.reading_done(false);
        assert_eq!(watch.next_reading(true, now), Some(now + GRACE));
        assert_eq!(watch.begin_reading(false), None, "it has closed");
        assert_eq!(watch.begin_reading(true), Some(true));
    }

    #[test]
    fn only_a_reading_that_was_begun_later_is_a_check() {
        let (mut watch, now) = watch();
        watch.begin_reading(false);
        let awaited = watch.next_number();
        watch.need(awaited);
        watch.reading_done(false);
        assert!(watch.last_read() < awaited, "the one that has ended was under way already");
        assert_eq!(watch.next_reading(false, now), Some(now));
        watch.begin_reading(false);
        watch.need(awaited);
        assert!(watch.last_read() < awaited);
        watch.reading_done(false);
        assert_eq!(watch.last_read(), awaited);
        assert_eq!(watch.next_reading(false, now), None, "one reading serves all who wait");
    }

    /// What silence costs: in a day, a channel in which something was said once is looked up about sixty times, however
    /// short the interval is.
    #[test]
    fn look_ups_become_rare_in_silence_and_frequent_when_something_is_said() {
        let (mut watch, start) = watch();
        let mut now = start;
        let look_up = |watch: &mut LogWatch| {
            let due = watch.next_look_up().expect("one is planned");
            watch.looked_up(true, due);
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
        assert!(sooner < due);
        watch.spoke(now + 2 * SECOND);
        assert_eq!(watch.next_look_up(), Some(sooner));
    }
}
