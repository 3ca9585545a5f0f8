use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

use super::{
    super::{Answers, Listener, Unavailable, unix_millis},
    failure::Failure,
    keys::Keys,
    publisher::Publisher,
};

/// How long to wait for the answers of all servers.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long Redis keeps answers.
const KEPT: Duration = Duration::from_secs(10);

/// How old the sign of life of a server may be that must answer, in milliseconds: several are missing, or its clock differs.
const FRESH: u64 = 10_000;

/// How old one may be that is kept at all.
const OLD: u64 = 3_600_000;

/// Most questions that wait here for an answer. What comes beyond is dropped, and this server counts as missing.
const WAITING: usize = 16;

/// Longest question in bytes.
const LONGEST: usize = 4096;

/// How long to wait between two looks whether all have answered, at first and at most.
const LOOK: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));

/// What servers ask each other, in Redis: a question goes over the channel that all hear, and each pushes its answer on a
/// list. Who must answer is known from a hash to which each server writes its sign of life.
pub(super) struct RollCall {
    publisher: Arc<Publisher>,
    keys: Keys,
    origin_server: String,
    asked: Arc<Asked>,
}

/// The questions that this server has heard and not answered yet.
#[derive(Debug, Default)]
pub(super) struct Asked {
    waiting: Mutex<VecDeque<Heard>>,
    changed: Notify,
}

#[derive(Debug)]
struct Heard {
    answers: String,
    question: String,
}

/// A question as it goes over the channel.
#[derive(Serialize, Deserialize)]
struct Asking<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(rename = "originServer")]
    origin_server: &'a str,
    /// Which list takes the answers.
    id: u64,
    question: String,
}

/// The `type` of a question on the channel.
const QUESTION: &str = "question";

impl Asked {
    /// Takes in what was heard on the channel, if it is a question. Never blocks.
    pub(super) fn hear(&self, payload: &[u8], keys: &Keys) -> bool {
        let asking: Option<Asking<'_>> =
            if payload.len() <= LONGEST { serde_json::from_slice(payload).ok() } else { None };
        let Some(Asking { question, id, .. }) = asking.filter(|asking| asking.kind == QUESTION) else { return false };
        let mut waiting = self.waiting();
        if waiting.len() < WAITING {
            waiting.push_back(Heard { answers: keys.answers(id), question });
            self.changed.notify_one();
        }
        true
    }

    fn waiting(&self) -> MutexGuard<'_, VecDeque<Heard>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl RollCall {
    pub(super) fn new(publisher: Arc<Publisher>, keys: Keys, origin_server: &str, asked: Arc<Asked>) -> Self {
        Self { publisher, keys, origin_server: origin_server.to_owned(), asked }
    }

    /// Answers what this server is asked, for ever.
    pub(super) async fn answer(&self, listener: &Arc<dyn Listener>) {
        loop {
            let heard = self.asked.waiting().pop_front();
            let Some(Heard { answers, question }) = heard else {
                self.asked.changed.notified().await;
                continue;
            };
            let Some(answer) = listener.asked(&question) else { continue };
            let answer = serde_json::json!([self.origin_server, answer]).to_string();
            let mut calls = redis::pipe();
            calls.cmd("RPUSH").arg(&answers).arg(answer);
            calls.cmd("PEXPIRE").arg(&answers).arg(super::millis(KEPT));
            let pushed: Result<((),), Failure> =
                self.publisher.run(async |connection| calls.query_async(connection).await).await;
            if let Err(failure) = pushed {
                tracing::debug!(error = %failure, "cannot answer another server");
            }
        }
    }

    /// Asks all servers, this one too, and waits until all have answered, but no longer than two seconds.
    pub(super) async fn ask(&self, question: &str) -> Result<Answers, Unavailable> {
        let (id, deadline) = (rand::random(), Instant::now() + PATIENCE);
        let asking = Asking { kind: QUESTION, origin_server: &self.origin_server, id, question: question.to_owned() };
        let asking = serde_json::to_string(&asking).map_err(|error| Unavailable(error.to_string()))?;
        let mut calls = redis::pipe();
        calls.cmd("HGETALL").arg(self.keys.servers());
        calls.cmd("PUBLISH").arg(self.keys.sanctions_channel()).arg(asking).ignore();
        let (servers,): (HashMap<String, String>,) =
            self.publisher.run(async |connection| calls.query_async(connection).await).await?;
        let mut expected = self.expected(servers).await;
        let (mut answers, mut seen) = (HashMap::new(), 0);
        let mut pause = LOOK.0;
        loop {
            let mut look = redis::cmd("LRANGE");
            look.arg(self.keys.answers(id)).arg(seen).arg(-1);
            let new: Vec<String> = self.publisher.run(async |connection| look.query_async(connection).await).await?;
            seen += new.len();
            let read = |answer: String| serde_json::from_str::<(String, String)>(&answer).ok();
            for (server, answer) in new.into_iter().filter_map(read) {
                expected.retain(|name| *name != server);
                answers.insert(server, answer);
            }
            if expected.is_empty() || Instant::now() >= deadline {
                break;
            }
            sleep(pause).await;
            pause = (2 * pause).min(LOOK.1);
        }
        expected.sort();
        Ok(Answers { answers: answers.into_iter().collect(), missing: expected })
    }

    /// Who must answer. Forgets those that have given no sign of life for long.
    async fn expected(&self, servers: HashMap<String, String>) -> Vec<String> {
        let now = unix_millis();
        let age = |at: &str| now.saturating_sub(at.parse().unwrap_or(0));
        let old: Vec<&String> = servers.iter().filter(|(_, at)| age(at) > OLD).map(|(name, _)| name).collect();
        if !old.is_empty() {
            self.forget(&old).await;
        }
        let mut expected: Vec<String> =
            servers.into_iter().filter(|(_, at)| age(at) < FRESH).map(|(name, _)| name).collect();
        if !expected.contains(&self.origin_server) {
            expected.push(self.origin_server.clone());
        }
        expected
    }

    /// This server stops, so that it need not answer any more.
    pub(super) async fn leave(&self) {
        self.forget(&[&self.origin_server]).await;
    }

    async fn forget(&self, servers: &[&String]) {
        let mut call = redis::cmd("HDEL");
        call.arg(self.keys.servers()).arg(servers);
        let forgotten: Result<u64, Failure> =
            self.publisher.run(async |connection| call.query_async(connection).await).await;
        if let Err(failure) = forgotten {
            tracing::debug!(error = %failure, "cannot remove servers that are gone");
        }
    }
}

impl std::fmt::Debug for RollCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RollCall").field("asked", &self.asked).finish_non_exhaustive()
    }
}
