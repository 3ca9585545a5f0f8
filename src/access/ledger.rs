use std::{
    collections::HashMap,
    hash::Hash,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{Bucket, Rate};

/// What all connections of one user, or from one address, may do together.
#[derive(Clone, Copy, Debug, Default)]
pub struct Together {
    /// Most connections.
    pub connections: Option<usize>,
    /// Upgrades.
    pub upgrades: Option<Rate>,
    /// Messages and broadcasts.
    pub messages: Option<Rate>,
    /// Bytes of their frames.
    pub bytes: Option<Rate>,
}

/// The accounts of all users, or of all addresses. One without connections is forgotten once it owes nothing.
#[derive(Debug)]
pub struct Ledger<K> {
    limits: Together,
    accounts: Mutex<Accounts<K>>,
}

#[derive(Debug)]
struct Accounts<K> {
    by_key: HashMap<K, Arc<Account>>,
    /// How many there may be before those that owe nothing are looked for.
    tidy_at: usize,
}

#[derive(Debug)]
struct Account {
    limits: Together,
    connections: AtomicUsize,
    buckets: Mutex<Buckets>,
}

#[derive(Debug, Default)]
struct Buckets {
    upgrades: Bucket,
    messages: Bucket,
    bytes: Bucket,
}

/// One connection's place in an account. Dropping it gives the place back.
#[derive(Debug)]
pub struct Seat(Arc<Account>);

/// Why there is no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSeat {
    /// There are as many connections as there may be.
    Connections,
    /// Connections come too fast; there is a place again after this time.
    Upgrades(Duration),
}

/// Accounts to have before the first tidying.
const FEW: usize = 1024;

impl<K: Eq + Hash> Ledger<K> {
    /// Nobody has an account yet.
    pub fn new(limits: Together) -> Self {
        Self { limits, accounts: Mutex::new(Accounts { by_key: HashMap::new(), tidy_at: FEW }) }
    }

    /// A seat for one more connection.
    ///
    /// # Errors
    /// If it has as many as it may, or they come too fast.
    pub fn seat(&self, key: K, now: Instant) -> Result<Seat, NoSeat> {
        let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
        let account = accounts.of(key, self.limits, now);
        if let Some(rate) = self.limits.upgrades {
            account.buckets().upgrades.take(rate, 1.0, now).map_err(NoSeat::Upgrades)?;
        }
        // Only this method adds, under the lock of all accounts.
        if self.limits.connections.is_some_and(|most| account.connections.load(Ordering::Relaxed) >= most) {
            return Err(NoSeat::Connections);
        }
        account.connections.fetch_add(1, Ordering::Relaxed);
        Ok(Seat(account.clone()))
    }
}

impl<K: Eq + Hash> Ledger<K> {
    /// One message of this many bytes outside a connection, which must fit into what is left.
    ///
    /// # Errors
    /// Which is used up, messages (0) or bytes (1), and for how long.
    pub(super) fn spend(&self, key: K, bytes: usize, now: Instant) -> Result<(), (usize, Duration)> {
        let account = self.accounts.lock().unwrap_or_else(PoisonError::into_inner).of(key, self.limits, now).clone();
        let mut buckets = account.buckets();
        if let Some(rate) = self.limits.messages {
            buckets.messages.take(rate, 1.0, now).map_err(|wait| (0, wait))?;
        }
        if let Some(rate) = self.limits.bytes {
            buckets.bytes.take(rate, bytes as f64, now).map_err(|wait| (1, wait))?;
        }
        Ok(())
    }
}

impl<K: Eq + Hash> Accounts<K> {
    /// The account of somebody; forgets others that owe nothing when there are many.
    fn of(&mut self, key: K, limits: Together, now: Instant) -> &Arc<Account> {
        if self.by_key.len() >= self.tidy_at {
            self.by_key.retain(|_, account| !account.is_settled(now));
            self.tidy_at = FEW + 2 * self.by_key.len();
        }
        self.by_key.entry(key).or_insert_with(|| Arc::new(Account::new(limits)))
    }
}

impl Account {
    fn new(limits: Together) -> Self {
        Self { limits, connections: AtomicUsize::new(0), buckets: Mutex::default() }
    }

    fn is_settled(&self, now: Instant) -> bool {
        let buckets = self.buckets();
        self.connections.load(Ordering::Relaxed) == 0
            && [buckets.upgrades, buckets.messages, buckets.bytes].iter().all(|bucket| bucket.is_full(now))
    }

    fn buckets(&self) -> MutexGuard<'_, Buckets> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// So many messages, or none, of this many bytes go on the account. Returns how long it takes until nothing is owed for
    /// messages, and for bytes.
    pub(super) fn owe(&self, messages: u32, bytes: usize, now: Instant) -> [Duration; 2] {
        let (limits, mut buckets) = (self.0.limits, self.0.buckets());
        let messages = limits.messages.map(|rate| buckets.messages.owe(rate, messages.into(), now));
        let bytes = limits.bytes.map(|rate| buckets.bytes.owe(rate, bytes as f64, now));
        [messages, bytes].map(Option::unwrap_or_default)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_second: f64, burst: f64) -> Option<Rate> {
        Some(Rate { per_second, burst })
    }

    #[test]
    fn each_has_its_own_account_and_places_are_given_back() {
        let ledger = Ledger::new(Together { connections: Some(2), ..Together::default() });
        let now = Instant::now();
        let (first, _second) = (ledger.seat("a", now).unwrap(), ledger.seat("a", now).unwrap());
        assert_eq!(ledger.seat("a", now).unwrap_err(), NoSeat::Connections);
        assert!(ledger.seat("b", now).is_ok());
        drop(first);
        assert!(ledger.seat("a", now).is_ok());
    }

    #[test]
    fn upgrades_have_a_rate_of_their_own() {
        let ledger = Ledger::new(Together { upgrades: rate(2.0, 3.0), ..Together::default() });
        let now = Instant::now();
        assert!((0..3).all(|_| ledger.seat("a", now).is_ok()));
        assert_eq!(ledger.seat("a", now).unwrap_err(), NoSeat::Upgrades(Duration::from_millis(500)));
        assert!(ledger.seat("a", now + Duration::from_millis(500)).is_ok());
    }

    #[test]
    fn what_one_connection_says_another_one_owes_too_also_after_it_is_gone() {
        let ledger =
            Ledger::new(Together { messages: rate(1.0, 2.0), bytes: rate(100.0, 1000.0), ..Together::default() });
        let now = Instant::now();
        let seat = ledger.seat("a", now).unwrap();
        assert_eq!(seat.owe(1, 500, now), [Duration::ZERO; 2]);
        assert_eq!(seat.owe(1, 600, now), [Duration::ZERO, Duration::from_secs(1)]);
        drop(seat);
        let other = ledger.seat("a", now).unwrap();
        assert_eq!(other.owe(1, 0, now), [Duration::from_secs(1); 2]);
    }

    #[test]
    fn what_is_said_outside_a_connection_goes_on_the_same_account() {
        let ledger =
            Ledger::new(Together { messages: rate(1.0, 3.0), bytes: rate(100.0, 100.0), ..Together::default() });
        let now = Instant::now();
        assert_eq!(ledger.spend("a", 90, now), Ok(()));
        assert_eq!(ledger.spend("a", 20, now), Err((1, Duration::from_millis(100))));
        assert_eq!(ledger.seat("a", now).unwrap().owe(1, 0, now)[0], Duration::ZERO);
        assert_eq!(ledger.spend("a", 0, now), Err((0, Duration::from_secs(1))));
        assert_eq!(ledger.spend("b", 0, now), Ok(()));
    }

    #[test]
    fn accounts_that_owe_nothing_are_forgotten() {
        let ledger = Ledger::new(Together { messages: rate(1.0, 1.0), ..Together::default() });
        let now = Instant::now();
        let (_seat, busy) = (ledger.seat(0, now).unwrap(), ledger.seat(1, now).unwrap());
        busy.owe(1, 0, now);
        drop(busy);
        (2..FEW).for_each(|key| drop(ledger.seat(key, now).unwrap()));
        drop(ledger.seat(FEW, now).unwrap());
        let left: Vec<usize> = ledger.accounts.lock().unwrap().by_key.keys().copied().collect();
        assert_eq!(left.len(), 3, "{left:?}");
        assert!([0, 1, FEW].iter().all(|key| left.contains(key)), "{left:?}");
    }
}
