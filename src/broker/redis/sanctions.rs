use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use redis::Script;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    super::{FOR_EVER, Listener, MOST_RULES, ModerateError, Proclaimed, Rule, Unavailable, unix_millis},
    failure::Failure,
    keys::Keys,
    publisher::Publisher,
};
use crate::protocol::{Channel, RoomId, Username};

/// How often to see whether what holds on all servers has changed, in case that nothing was heard of it.
const LOOK: Duration = Duration::from_secs(1);

/// How soon to look again if the first look failed.
const FIRST_LOOK: Duration = Duration::from_millis(20);

/// What holds for the speakers of rooms, and what holds on all servers, in Redis.
///
/// A change is told on a channel, so that all servers look at once. A server that was cut off finds it when it looks
/// again. What a Redis forgets is put back by the servers that know it, if nobody can have taken it back.
pub(super) struct Sanctions {
    publisher: Arc<Publisher>,
    keys: Keys,
    moderating: Script,
    proclaiming: Script,
    origin_server: String,
    /// Who is told; there once it follows.
    listener: OnceLock<Arc<dyn Listener>>,
    known: Mutex<Known>,
    /// Something was heard of a change.
    changed: Arc<Notify>,
}

#[derive(Default)]
struct Known {
    /// Whether the listener has been told.
    is_told: bool,
    version: u64,
    entries: HashMap<String, u64>,
}

impl Sanctions {
    pub(super) fn new(publisher: Arc<Publisher>, keys: Keys, origin_server: &str, changed: Arc<Notify>) -> Self {
        Self {
            publisher,
            keys,
            moderating: Script::new(include_str!("moderate.lua")),
            proclaiming: Script::new(include_str!("proclaim.lua")),
            origin_server: origin_server.to_owned(),
            listener: OnceLock::new(),
            known: Mutex::default(),
            changed,
        }
    }

    pub(super) async fn moderate(&self, room: &RoomId, rule: &Rule) -> Result<(), ModerateError> {
        let name = self.keys.channel(&Channel::Room(room.clone()));
        let (field, value) = match rule {
            Rule::Muted(user, until) => (format!("m:{}", user.as_str()), *until),
            Rule::Banned(user, until) => (format!("b:{}", user.as_str()), *until),
            Rule::Slow(pause) => ("slow".to_owned(), pause.map(super::millis)),
        };
        let mut call = self.moderating.key(self.keys.moderation(&name));
        call.key(self.keys.meta(&name)).arg(field).arg(value.map_or(String::new(), |value| value.to_string()));
        call.arg(MOST_RULES);
        let done: Result<String, Failure> =
            self.publisher.run(async |connection| call.invoke_async(connection).await).await;
        match done.map_err(Unavailable::from)?.as_str() {
            "full" => Err(ModerateError::Full),
            _ => Ok(()),
        }
    }

    pub(super) async fn banned(&self, room: &RoomId, user: &Username) -> Result<Option<u64>, Unavailable> {
        let key = self.keys.moderation(&self.keys.channel(&Channel::Room(room.clone())));
        let mut call = redis::cmd("HGET");
        call.arg(key).arg(format!("b:{}", user.as_str()));
        let until: Result<Option<u64>, Failure> =
            self.publisher.run(async |connection| call.query_async(connection).await).await;
        Ok(until?.filter(|until| *until > unix_millis()))
    }

    /// Changes what holds on all servers, and applies it on this one. When this returns, Redis has it.
    pub(super) async fn proclaim(&self, changes: &[Proclaimed]) -> Result<(), Unavailable> {
        self.write(changes).await?;
        if let Some(listener) = self.listener.get() {
            self.look(&**listener).await?;
        }
        Ok(())
    }

    async fn write(&self, changes: &[Proclaimed]) -> Result<(), Failure> {
        let (entries, version) = self.keys.sanctions();
        let told = serde_json::json!({"type": "sanctions", "originServer": self.origin_server}).to_string();
        let mut call = self.proclaiming.key(entries);
        call.key(version).arg(self.keys.sanctions_channel()).arg(told).arg(self.known().version);
        for (text, until) in changes {
            call.arg(until.map_or(String::new(), |until| until.min(FOR_EVER).to_string())).arg(text);
        }
        let written: Result<u64, Failure> =
            self.publisher.run(async |connection| call.invoke_async(connection).await).await;
        written.map(drop)
    }

    /// Keeps the listener up to date, for ever.
    pub(super) async fn follow(&self, listener: &Arc<dyn Listener>) {
        let listener = self.listener.get_or_init(|| listener.clone());
        loop {
            if let Err(failure) = self.look(&**listener).await {
                tracing::debug!(error = %failure, "cannot look what holds on all servers");
            }
            // Nobody comes in before it is known what holds.
            let pause = if self.known().is_told { LOOK } else { FIRST_LOOK };
            let _ = timeout(pause, self.changed.notified()).await;
            // Many changes at once are one.
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Reads what holds, if it has changed, and tells the listener.
    async fn look(&self, listener: &dyn Listener) -> Result<(), Failure> {
        let (entries_key, version_key) = self.keys.sanctions();
        let (known_version, is_told) = {
            let known = self.known();
            (known.version, known.is_told)
        };
        let mut asking = redis::cmd("GET");
        asking.arg(&version_key);
        let version: Option<u64> = self.publisher.run(async |connection| asking.query_async(connection).await).await?;
        let version = version.unwrap_or(0);
        if is_told && version == known_version {
            return Ok(());
        }
        let mut reading = redis::pipe();
        reading.cmd("GET").arg(&version_key);
        reading.cmd("ZRANGE").arg(&entries_key).arg(0).arg(-1).arg("WITHSCORES");
        let (version, entries): (Option<u64>, Vec<(String, f64)>) =
            self.publisher.run(async |connection| reading.query_async(connection).await).await?;
        let version = version.unwrap_or(0);
        let mut entries: HashMap<String, u64> = entries.into_iter().map(|(text, until)| (text, until as u64)).collect();
        // Redis fell back to an earlier time, or was emptied.
        if version < known_version {
            let known = self.known().entries.clone();
            let (now, is_lost) = (unix_millis(), |text: &str| !entries.contains_key(text) && listener.outlives(text));
            let lost: Vec<Proclaimed> = known
                .iter()
                .filter(|(text, until)| **until > now && is_lost(text))
                .map(|(text, until)| (text.clone(), Some(*until)))
                .collect();
            tracing::warn!(count = lost.len(), "Redis forgot what holds on all servers; putting back revocations");
            self.write(&lost).await?;
            entries.extend(lost.into_iter().filter_map(|(text, until)| Some((text, until?))));
        }
        let all: Vec<(String, u64)> = entries.iter().map(|(text, until)| (text.clone(), *until)).collect();
        *self.known() = Known { is_told: true, version, entries };
        listener.sanctioned(&all);
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Sanctions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sanctions").field("version", &self.known().version).finish_non_exhaustive()
    }
}
