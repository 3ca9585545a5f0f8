use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use super::super::{MOST_RULES, ModerateError, PublishError, Rule, unix_millis};
use crate::protocol::Username;

/// What holds for the speakers of one room.
#[derive(Debug, Default)]
pub(super) struct Moderation {
    muted: HashMap<Username, u64>,
    banned: HashMap<Username, u64>,
    pause: Option<Duration>,
    /// When each user last spoke, while the room is slow.
    spoke: HashMap<Username, Instant>,
}

impl Moderation {
    pub(super) fn set(&mut self, rule: Rule) -> Result<(), ModerateError> {
        let count = |muted: &HashMap<_, _>, banned: &HashMap<_, _>| muted.len() + banned.len();
        if count(&self.muted, &self.banned) >= MOST_RULES {
            let now = unix_millis();
            self.muted.retain(|_, until| *until > now);
            self.banned.retain(|_, until| *until > now);
        }
        let is_full = count(&self.muted, &self.banned) >= MOST_RULES;
        let (users, user, until) = match rule {
            Rule::Muted(user, until) => (&mut self.muted, user, until),
            Rule::Banned(user, until) => (&mut self.banned, user, until),
            Rule::Slow(pause) => {
                self.pause = pause;
                self.spoke.clear();
                return Ok(());
            }
        };
        match until {
            Some(_) if is_full && !users.contains_key(&user) => return Err(ModerateError::Full),
            Some(until) => drop(users.insert(user, until)),
            None => drop(users.remove(&user)),
        }
        Ok(())
    }

    /// Until when this user may not enter.
    pub(super) fn banned(&self, user: &Username) -> Option<u64> {
        self.banned.get(user).copied().filter(|until| *until > unix_millis())
    }

    /// Whether a user is neither muted nor banned.
    pub(super) fn allows(&self, user: &Username) -> Result<(), PublishError> {
        if let Some(until) = self.banned(user) {
            return Err(PublishError::Banned(until));
        }
        match self.muted.get(user).copied().filter(|until| *until > unix_millis()) {
            Some(until) => Err(PublishError::Muted(until)),
            None => Ok(()),
        }
    }

    /// A user speaks now.
    ///
    /// # Errors
    /// If it may not.
    pub(super) fn speaks(&mut self, user: &Username, is_moderator: bool, now: Instant) -> Result<(), PublishError> {
        self.allows(user)?;
        let Some(pause) = self.pause.filter(|_| !is_moderator) else { return Ok(()) };
        self.spoke.retain(|_, at| now.saturating_duration_since(*at) < pause);
        match self.spoke.get(user) {
            Some(at) => Err(PublishError::SlowMode(pause - now.saturating_duration_since(*at))),
            None => {
                self.spoke.insert(user.clone(), now);
                Ok(())
            }
        }
    }

    /// Whether nothing holds any more.
    pub(super) fn is_over(&self) -> bool {
        let now = unix_millis();
        self.pause.is_none() && self.muted.values().chain(self.banned.values()).all(|until| *until <= now)
    }
}
