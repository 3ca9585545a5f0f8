use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Bucket, Rate, Seat};
use crate::telemetry::Limit;

/// The longest time for which a client is not read from. What it owes beyond is not forgotten.
const LONGEST: Duration = Duration::from_secs(5);

/// How long a client may be too fast before it is told, and then again how often.
const TOLD_AFTER: Duration = Duration::from_secs(5);

/// How long a client may be too fast before it is closed.
const CLOSED_AFTER: Duration = Duration::from_secs(30);

/// What one connection may do.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone {
    /// Frames of every kind: control frames, parts of messages and refused commands too.
    pub frames: Option<Rate>,
    /// Messages and broadcasts.
    pub messages: Option<Rate>,
    /// Bytes of their frames.
    pub bytes: Option<Rate>,
    /// Joins that ask for earlier messages, and readings of those.
    pub histories: Option<Rate>,
    /// Signals.
    pub signals: Option<Rate>,
}

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// It sent a frame, of whatever kind.
    Frame,
    /// It says something, in a frame of this many bytes.
    Message(usize),
    /// It signals, in a frame of this many bytes.
    Signal(usize),
    /// It wants earlier messages.
    History,
}

/// Why a signal is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// After which time the next one may pass.
    pub wait: Duration,
    /// Whether to tell the client.
    pub tell: bool,
}

/// What follows from what a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Fine,
    /// It is too fast for this limit: do not read from it for so long.
    Slow {
        /// The limit.
        limit: Limit,
        /// How long.
        wait: Duration,
        /// Whether this begins a time of being too fast.
        begins: bool,
        /// Whether to tell the client.
        tell: bool,
    },
    /// It does not slow down: close it.
    Close(Limit),
}

/// What is left to one connection of its own limits, and of those that it shares with the other connections of its user
/// and from its address. A client that is too fast is first not read from, then told, and at last closed. Nothing that
/// it has sent is dropped.
#[derive(Debug)]
pub struct Allowance {
    limits: Arc<Alone>,
    frames: Bucket,
    messages: Bucket,
    bytes: Bucket,
    histories: Bucket,
    signals: Bucket,
    /// When the client was last told that its signals are dropped.
    dropping_told_at: Option<Instant>,
    /// Its places in the accounts that it shares; none where there are no limits for it.
    user: Option<Seat>,
    address: Option<Seat>,
    too_fast_since: Option<Instant>,
    told_at: Option<Instant>,
}

impl Allowance {
    /// For a connection with a seat in the account of its address.
    pub fn new(limits: Arc<Alone>, address: Option<Seat>) -> Self {
        let [frames, messages, bytes, histories, signals] = Default::default();
        Self {
            limits,
            frames,
            messages,
            bytes,
            histories,
            signals,
            dropping_told_at: None,
            user: None,
            address,
            too_fast_since: None,
            told_at: None,
        }
    }

    /// From now on it also shares the account of its user.
    pub fn belongs_to(&mut self, user: Option<Seat>) {
        self.user = user;
    }

    /// Whether it shares the account of a user.
    pub fn has_user(&self) -> bool {
        self.user.is_some()
    }

    /// The client does something. Returns what follows.
    pub fn spend(&mut self, act: Act, now: Instant) -> Verdict {
        let limits = *self.limits;
        let mut worst = Worst::default();
        match act {
            Act::Frame => worst.own(Limit::FramesPerConnection, owed(&mut self.frames, limits.frames, 1.0, now)),
            Act::History => {
                worst.own(Limit::HistoriesPerConnection, owed(&mut self.histories, limits.histories, 1.0, now))
            }
            Act::Message(bytes) | Act::Signal(bytes) => {
                let count = u32::from(matches!(act, Act::Message(_)));
                worst.own(Limit::MessagesPerConnection, owed(&mut self.messages, limits.messages, count.into(), now));
                worst.own(Limit::BytesPerConnection, owed(&mut self.bytes, limits.bytes, bytes as f64, now));
                if let Some(user) = &self.user {
                    let [messages, bytes] = user.owe(count, bytes, now);
                    worst.own(Limit::MessagesPerUser, messages);
                    worst.own(Limit::BytesPerUser, bytes);
                }
                if let Some(address) = &self.address {
                    let [messages, bytes] = address.owe(count, bytes, now);
                    worst.of_neighbours(Limit::MessagesPerAddress, messages);
                    worst.of_neighbours(Limit::BytesPerAddress, bytes);
                }
            }
        }
        match worst.limit {
            Some(limit) => self.too_fast(limit, worst.wait.min(LONGEST), worst.is_own_fault, now),
            None => {
                if self.is_calm(now) {
                    (self.too_fast_since, self.told_at) = (None, None);
                }
                Verdict::Fine
            }
        }
    }

    /// The client signals. Nobody waits for signals, so those that are too many are dropped, and nothing is slowed.
    ///
    /// # Errors
    /// If this one is dropped.
    pub fn signal(&mut self, now: Instant) -> Result<(), Dropped> {
        let Some(rate) = self.limits.signals else { return Ok(()) };
        self.signals.take(rate, 1.0, now).map_err(|wait| {
            let tell = self.dropping_told_at.is_none_or(|at| now >= at + TOLD_AFTER);
            if tell {
                self.dropping_told_at = Some(now);
            }
            Dropped { wait, tell }
        })
    }

    fn too_fast(&mut self, limit: Limit, wait: Duration, is_own_fault: bool, now: Instant) -> Verdict {
        let begins = self.too_fast_since.is_none();
        let since = *self.too_fast_since.get_or_insert(now);
        if is_own_fault && now.saturating_duration_since(since) >= CLOSED_AFTER {
            return Verdict::Close(limit);
        }
        let tell = self.told_at.unwrap_or(since) + TOLD_AFTER <= now;
        if tell {
            self.told_at = Some(now);
        }
        Verdict::Slow { limit, wait, begins, tell }
    }

    fn is_calm(&self, now: Instant) -> bool {
        let Alone { frames, messages, bytes, .. } = *self.limits;
        let buckets = [(&self.frames, frames), (&self.messages, messages), (&self.bytes, bytes)];
        buckets.into_iter().all(|(bucket, rate)| rate.is_none_or(|rate| bucket.is_calm(rate, now)))
    }
}

fn owed(bucket: &mut Bucket, rate: Option<Rate>, cost: f64, now: Instant) -> Duration {
    rate.map_or(Duration::ZERO, |rate| bucket.owe(rate, cost, now))
}

/// The limit for which a client has to wait longest.
#[derive(Default)]
struct Worst {
    limit: Option<Limit>,
    wait: Duration,
    is_own_fault: bool,
}

impl Worst {
    fn own(&mut self, limit: Limit, wait: Duration) {
        self.is_own_fault |= !wait.is_zero();
        self.of_neighbours(limit, wait);
    }

    /// Its neighbours' haste slows a client too, but does not close it.
    fn of_neighbours(&mut self, limit: Limit, wait: Duration) {
        if wait > self.wait {
            (self.limit, self.wait) = (Some(limit), wait);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Ledger, Together},
        *,
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn rate(per_second: f64, burst: f64) -> Option<Rate> {
        Some(Rate { per_second, burst })
    }

    fn alone() -> Arc<Alone> {
        Arc::new(Alone {
            frames: rate(100.0, 200.0),
            messages: rate(10.0, 20.0),
            bytes: rate(1000.0, 10_000.0),
            histories: rate(1.0, 5.0),
            signals: rate(10.0, 20.0),
        })
    }

    #[test]
    fn a_burst_is_fine_and_more_is_slowed() {
        let (mut allowance, now) = (Allowance::new(alone(), None), Instant::now());
        assert!((0..20).all(|_| allowance.spend(Act::Message(10), now) == Verdict::Fine));
        let slow = |limit, wait, begins| Verdict::Slow { limit, wait, begins, tell: false };
        let tenth = SECOND / 10;
        assert_eq!(allowance.spend(Act::Message(10), now), slow(Limit::MessagesPerConnection, tenth, true));
        assert_eq!(allowance.spend(Act::Message(10), now), slow(Limit::MessagesPerConnection, tenth * 2, false));
        let large = allowance.spend(Act::Message(20_000), now);
        assert_eq!(large, slow(Limit::BytesPerConnection, LONGEST, false));
        assert!((0..5).all(|_| allowance.spend(Act::History, now) == Verdict::Fine));
        assert_eq!(allowance.spend(Act::History, now), slow(Limit::HistoriesPerConnection, SECOND, false));
        assert_eq!(Allowance::new(Arc::default(), None).spend(Act::Message(1 << 30), now), Verdict::Fine);
    }

    #[test]
    fn signals_beyond_their_rate_are_dropped_and_slow_nothing() {
        let (mut allowance, start) = (Allowance::new(alone(), None), Instant::now());
        assert!((0..20).all(|_| allowance.signal(start).is_ok()));
        let dropped = |tell| Err(Dropped { wait: SECOND / 10, tell });
        assert_eq!(allowance.signal(start), dropped(true));
        assert_eq!(allowance.signal(start), dropped(false));
        assert_eq!(allowance.spend(Act::Message(10), start), Verdict::Fine);
        assert_eq!(allowance.signal(start + SECOND / 10), Ok(()));
        let later = start + TOLD_AFTER;
        assert!((0..20).all(|_| allowance.signal(later).is_ok()));
        assert_eq!(allowance.signal(later), dropped(true), "it is told again after a while");
    }

    /// A client that sends as fast as it is read from.
    #[test]
    fn who_stays_too_fast_is_told_and_then_closed() {
        let (mut allowance, start) = (Allowance::new(alone(), None), Instant::now());
        let (mut now, mut told, mut begun) = (start, Vec::new(), 0);
        let closed = loop {
            match allowance.spend(Act::Message(10), now) {
                Verdict::Fine => {}
                Verdict::Slow { wait, tell, begins, .. } => {
                    begun += u32::from(begins);
                    if tell {
                        told.push((now - start).as_secs());
                    }
                    now += wait;
                }
                Verdict::Close(limit) => break limit,
            }
        };
        assert_eq!((closed, begun), (Limit::MessagesPerConnection, 1));
        assert_eq!((now - start).as_secs(), 30);
        assert_eq!(told, [5, 10, 15, 20, 25]);
    }

    #[test]
    fn who_calms_down_begins_anew() {
        let (mut allowance, mut now) = (Allowance::new(alone(), None), Instant::now());
        for _ in 0..100 {
            for _ in 0..21 {
                assert!(!matches!(allowance.spend(Act::Message(10), now), Verdict::Close(_)));
            }
            now += SECOND * 3;
        }
    }

    #[test]
    fn connections_of_one_user_share_and_neighbours_slow_but_do_not_close() {
        let now = Instant::now();
        let together = Together { messages: rate(1.0, 10.0), ..Together::default() };
        let (users, addresses) = (Ledger::new(together), Ledger::new(together));
        let allowance = |user, address| {
            let mut allowance = Allowance::new(Arc::default(), Some(addresses.seat(address, now).unwrap()));
            allowance.belongs_to(Some(users.seat(user, now).unwrap()));
            allowance
        };
        let (mut one, mut other, mut neighbour) = (allowance("ann", 1), allowance("ann", 2), allowance("bob", 1));
        assert!((0..10).all(|_| one.spend(Act::Message(1), now) == Verdict::Fine));
        let limit = |verdict| match verdict {
            Verdict::Slow { limit, .. } => Some(limit),
            Verdict::Close(_) | Verdict::Fine => None,
        };
        assert_eq!(limit(other.spend(Act::Message(1), now)), Some(Limit::MessagesPerUser));
        let mut later = now;
        for _ in 0..100 {
            later += SECOND;
            for _ in 0..2 {
                let _ = one.spend(Act::Message(1), later);
            }
            let verdict = neighbour.spend(Act::Message(1), later);
            assert_eq!(limit(verdict), Some(Limit::MessagesPerAddress), "{verdict:?}");
        }
    }
}
