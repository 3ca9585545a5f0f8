use std::time::Duration;

use tokio::time::Instant;

/// How long a hole may stay open before the log is read. Answers to this server's publishes and pushes of others' come
/// over two connections, so most holes close by themselves in less than a millisecond.
const GRACE: Duration = Duration::from_millis(50);

/// How long to wait after a failed reading.
const RETRY: Duration = Duration::from_secs(1);

/// After how many intervals to look up a channel without messages for the first time, if that is not beyond the
/// longest: until then, Redis keeps its epoch for ten minutes.
const FIRST: u32 = 12;
const LONGEST_FIRST: Duration = Duration::from_secs(5 * 60);

/// The longest time between look-ups: each prolongs the life of a silent channel in Redis, which is at least an hour.
const FARTHEST: Duration = Duration::from_secs(30 * 60);

/// When to read the log of a channel, and when to look up its top.
///
/// A reading is due when the channel was subscribed, when something is missing, or when somebody asks. A look-up finds
/// a lost last message, which no later one shows. It is due an interval after a message, and then each time after twice
/// as long: so look-ups cost in proportion to messages, not to the number of channels.
#[derive(Debug)]
pub(super) struct LogWatch {
    /// The log must be read, whether or not anything is missing.
    is_unchecked: bool,
    /// The last reading failed, so the next one must wait.
    has_failed: bool,
    /// How many readings have begun, and the number of the last successful one.
    begun: u64,
    done: u64,
    interval: Duration,
    /// The time between the last look-up and the next, and when that is.
    gap: Duration,
    look_up: Option<Instant>,
}

impl LogWatch {
    /// A channel that is not subscribed yet. `interval` is how soon after a message its top is looked up.
    pub(super) fn new(interval: Duration) -> Self {
        Self { is_unchecked: false, has_failed: false, begun: 0, done: 0, interval, gap: interval, look_up: None }
    }

    /// The channel is subscribed; what was published before may have been missed.
    pub(super) fn subscribed(&mut self, now: Instant) {
        (self.is_unchecked, self.has_failed) = (true, false);
        if self.look_up.is_none() {
            self.gap = (self.interval * FIRST).min(LONGEST_FIRST);
            self.plan_look_up(now);
        }
    }

    /// Asks for a reading.
    pub(super) fn doubt(&mut self) {
        self.is_unchecked = true;
    }

    /// The number of the next reading, counted from 1.
    pub(super) fn next_number(&self) -> u64 {
        self.begun + 1
    }

    /// The number of the last successful reading; 0 if there is none.
    pub(super) fn last_read(&self) -> u64 {
        self.done
    }

    /// Asks for this reading, if it has not begun yet.
    pub(super) fn need(&mut self, number: u64) {
        self.is_unchecked |= self.begun < number;
    }

    /// A message came in the channel.
    pub(super) fn spoke(&mut self, now: Instant) {
        self.gap = self.interval;
        if self.look_up.is_some_and(|due| due > now + self.interval) {
            self.plan_look_up(now);
        }
    }

    /// When to read the log next, given whether something is missing.
    pub(super) fn next_reading(&self, has_hole: bool, now: Instant) -> Option<Instant> {
        match (self.is_unchecked, has_hole) {
            (true, _) if self.has_failed => Some(now + RETRY),
            (true, _) => Some(now),
            (false, true) => Some(now + GRACE),
            (false, false) => None,
        }
    }

    /// Begins a reading if it is still needed. Returns whether it is, and whether only a hole needs it.
    pub(super) fn begin_reading(&mut self, has_hole: bool) -> Option<bool> {
        if !has_hole && !self.is_unchecked {
            return None;
        }
        self.begun += 1;
        Some(!std::mem::take(&mut self.is_unchecked))
    }

    /// The reading failed; another follows.
    pub(super) fn reading_failed(&mut self) {
        (self.is_unchecked, self.has_failed) = (true, true);
    }

    /// The reading succeeded; `goes_on` says that there is more to read at once.
    pub(super) fn reading_done(&mut self, goes_on: bool) {
        self.has_failed = false;
        self.done = self.begun;
        self.is_unchecked |= goes_on;
    }

    /// When to look up the log's top next.
    pub(super) fn next_look_up(&self) -> Option<Instant> {
        self.look_up
    }

    /// The look-up succeeded, or must be made again.
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

    /// The cost of silence: in a day, a channel with one message is looked up about sixty times, however short the
    /// interval is.
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
        // A channel that is never silent is looked up once in each interval.
        let due = watch.next_look_up().unwrap();
        // A failed one is repeated no later than the next one would have come.
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
