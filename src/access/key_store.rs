use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};

use super::{KeySet, KeySource, SourceError};
use crate::telemetry::Metrics;

/// How often to read files again. Kubernetes itself takes up to a minute to bring a changed Secret to a pod.
const FILES: Duration = Duration::from_secs(5);

/// How often to fetch keys that are there already.
const FETCH: Duration = Duration::from_secs(600);

/// How long to wait for a fetch that others began.
const LATE: Duration = Duration::from_secs(10);

/// The shortest time between two fetches, whoever asks.
const PAUSE: Duration = Duration::from_secs(10);

/// The first and the longest time after a fetch that failed while there are no keys yet.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(10));

/// The keys of all sources, kept fresh. A source that is away keeps the keys that it gave last.
#[derive(Debug)]
pub struct KeyStore {
    sources: Vec<KeySource>,
    keys: Mutex<Kept>,
    /// When a fetch was last tried. Only [`run`](Self::run) fetches, so there is one at a time, and nobody who goes away can
    /// keep the others from it.
    fetched: watch::Sender<Option<Instant>>,
    /// Somebody has a token with a key that is not here.
    wanted: Notify,
    metrics: Arc<Metrics>,
}

#[derive(Debug)]
struct Kept {
    /// What each source gave last.
    by_source: Vec<Option<KeySet>>,
    /// For each source, what was last said of it in the log.
    troubles: Vec<Option<String>>,
    all: Arc<KeySet>,
}

impl KeyStore {
    /// Reads what is on this machine; what is not comes with [`run`](Self::run).
    ///
    /// # Errors
    /// The first source on this machine that gives no keys.
    pub fn new(sources: Vec<KeySource>, metrics: Arc<Metrics>) -> Result<Self, (&'static str, SourceError)> {
        let mut by_source = Vec::new();
        for source in &sources {
            by_source.push(source.read().map_err(|error| (source.setting(), error))?);
        }
        let troubles = vec![None; sources.len()];
        let keys = Mutex::new(Kept { all: Arc::new(merged(&by_source)), by_source, troubles });
        Ok(Self { sources, keys, fetched: watch::Sender::new(None), wanted: Notify::new(), metrics })
    }

    /// All keys there are now.
    pub fn current(&self) -> Arc<KeySet> {
        self.lock().all.clone()
    }

    /// Whether every source has given keys at least once.
    pub fn is_complete(&self) -> bool {
        self.lock().by_source.iter().all(Option::is_some)
    }

    /// Whether some keys come over the network.
    pub fn can_fetch(&self) -> bool {
        self.sources.iter().any(|source| matches!(source, KeySource::JwksUrl(_)))
    }

    /// Reads files again and fetches what is far away, for ever.
    pub async fn run(&self) {
        let (mut retry, mut due) = (RETRY.0, Instant::now());
        loop {
            if Instant::now() >= due {
                let is_fresh = self.fetch().await;
                self.fetched.send_replace(Some(Instant::now()));
                let pause = if is_fresh {
                    FETCH
                } else if self.is_complete() {
                    PAUSE
                } else {
                    retry
                };
                retry = if is_fresh { RETRY.0 } else { (retry * 2).min(RETRY.1) };
                due = Instant::now() + pause;
            }
            tokio::select! {
                () = sleep(FILES.min(due.saturating_duration_since(Instant::now()))) => {}
                () = self.wanted.notified() => {
                    if self.may_fetch() {
                        self.metrics.unknown_keys.inc();
                        due = Instant::now();
                    }
                    continue;
                }
            }
            for (index, source) in self.sources.iter().enumerate() {
                if let Some(keys) = source.read().transpose() {
                    self.keep(index, keys);
                }
            }
        }
    }

    /// A token names a key that is not here: has the keys fetched again, unless that was done within the last 10 s, and waits
    /// for that. Returns whether it was done now. All who wait share one fetch. Cancel-safe.
    pub async fn refresh(&self) -> bool {
        let mut fetched = self.fetched.subscribe();
        if !self.may_fetch() {
            return false;
        }
        fetched.mark_unchanged();
        self.wanted.notify_one();
        matches!(timeout(LATE, fetched.changed()).await, Ok(Ok(())))
    }

    /// Whether the last fetch is long enough ago.
    fn may_fetch(&self) -> bool {
        self.fetched.borrow().is_none_or(|at| at.elapsed() >= PAUSE)
    }

    /// Reads every source. Returns whether all gave keys.
    async fn fetch(&self) -> bool {
        let mut is_fresh = true;
        for (index, source) in self.sources.iter().enumerate() {
            let keys = source.keys().await;
            if keys.is_err() {
                self.metrics.key_fetches_failed.inc();
            }
            is_fresh &= keys.is_ok();
            self.keep(index, keys);
        }
        if is_fresh {
            self.metrics.keys_fetched.set(since_1970());
        }
        is_fresh
    }

    fn keep(&self, index: usize, keys: Result<KeySet, SourceError>) {
        let setting = self.sources[index].setting();
        let mut kept = self.lock();
        match keys {
            Ok(keys) => {
                kept.by_source[index] = Some(keys);
                kept.all = Arc::new(merged(&kept.by_source));
                if kept.troubles[index].take().is_some() {
                    tracing::info!(setting, "the keys for tokens can be had again");
                }
            }
            Err(error) => {
                let text = error.to_string();
                if kept.troubles[index].as_ref() != Some(&text) {
                    let has_keys = kept.by_source[index].is_some();
                    tracing::warn!(
                        "{setting} {text}; {}",
                        if has_keys { "using the keys from before" } else { "retrying" }
                    );
                    kept.troubles[index] = Some(text);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn merged(by_source: &[Option<KeySet>]) -> KeySet {
    let mut all = KeySet::default();
    by_source.iter().flatten().for_each(|keys| all.extend(keys.clone()));
    all
}

fn since_1970() -> f64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
