use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::sync::watch;

use super::Hub;
use crate::{
    access::{Sanction, Sanctions},
    broker::{FOR_EVER, ModerateError, Proclaimed, Rule, Unavailable, unix_millis},
    protocol::{Action, Measure, RoomId, Username},
};

/// How long a kick is kept for servers that were cut off meanwhile. As long as anything of a room is, by default.
const KICK: Duration = Duration::from_secs(3600);

impl Hub {
    /// What holds on all servers now.
    pub fn sanctions(&self) -> Arc<Sanctions> {
        self.sanctions.borrow().clone()
    }

    /// Whether it is known what holds. Until then nobody joins or speaks, as it might be somebody who may not.
    pub(super) fn knows_sanctions(&self) -> bool {
        self.sanctions.borrow().is_known()
    }

    /// Tells when what holds on all servers changes.
    pub fn sanction_changes(&self) -> watch::Receiver<Arc<Sanctions>> {
        self.sanctions.subscribe()
    }

    /// Has something hold on all servers until this time, or without one for ever.
    ///
    /// # Errors
    /// If the broker did not take it in time. It may hold all the same; trying again is safe.
    pub async fn impose(&self, sanction: &Sanction, until: Option<SystemTime>) -> Result<(), Unavailable> {
        self.proclaim(sanction, Some(until.map_or(FOR_EVER, millis))).await
    }

    /// Takes a measure in a room, or without one everywhere, and logs who took it. When this returns, it holds: a muted
    /// user's message is refused and a banned user does not come in, on whatever server, and those who must leave the room
    /// have been told to on this server, and are on the others as soon as these hear of it.
    ///
    /// # Errors
    /// If the room has as many rules as it may, or the broker did not take it in time. It may hold all the same; trying
    /// again is safe.
    pub async fn moderate(&self, room: Option<&RoomId>, measure: &Measure, by: &str) -> Result<(), ModerateError> {
        let taken = self.take(room, measure).await;
        let (action, user) = (measure.action.as_str(), measure.username.as_ref().map(Username::as_str));
        let (room, time) = (room.map(RoomId::as_str), measure.time);
        match &taken {
            Ok(()) => tracing::info!(action, room, user, ?time, by, "moderated"),
            Err(error) => tracing::warn!(action, room, user, ?time, by, %error, "not moderated"),
        }
        taken
    }

    /// Closes the connections that a user has now, or only this one of them, on all servers, and logs who did it. A server that is cut off does it
    /// when it is back, if that is within the hour.
    ///
    /// # Errors
    /// If the broker did not take it in time. It may hold all the same; trying again is safe.
    pub async fn disconnect(&self, user: &Username, connection: Option<String>, by: &str) -> Result<(), Unavailable> {
        let user = user.as_str();
        let only = connection.clone();
        let sanction = Sanction::Disconnect { user: user.to_owned(), at: unix_millis(), connection };
        let taken = self.proclaim(&sanction, Some(unix_millis() + whole_millis(KICK))).await;
        match &taken {
            Ok(()) => tracing::info!(user, only, by, "disconnected"),
            Err(error) => tracing::warn!(user, only, by, %error, "not disconnected"),
        }
        taken
    }

    async fn take(&self, room: Option<&RoomId>, measure: &Measure) -> Result<(), ModerateError> {
        let until =
            measure.time.map_or(FOR_EVER, |time| unix_millis().saturating_add(whole_millis(time)).min(FOR_EVER));
        let user =
            |until: fn(Username, Option<u64>) -> Rule, time| measure.username.clone().map(|user| until(user, time));
        let (rule, banned) = match measure.action {
            Action::Mute => (user(Rule::Muted, Some(until)), None),
            Action::Unmute => (user(Rule::Muted, None), None),
            Action::Ban => (user(Rule::Banned, Some(until)), Some(true)),
            Action::Unban => (user(Rule::Banned, None), None),
            Action::Kick => (None, Some(false)),
            Action::SlowMode => (Some(Rule::Slow(measure.time.filter(|pause| !pause.is_zero()))), None),
        };
        match room {
            Some(room) => {
                if let Some(rule) = rule {
                    self.broker.moderate(room, rule).await?;
                }
                if let (Some(banned), Some(user)) = (banned, &measure.username) {
                    let (room, user) = (room.as_str().to_owned(), user.as_str().to_owned());
                    let kick = Sanction::Kick { room, user, at: unix_millis(), banned };
                    self.proclaim(&kick, Some(unix_millis() + whole_millis(KICK))).await?;
                }
                Ok(())
            }
            None => match &measure.username {
                Some(user) => {
                    let mute = Sanction::Mute(user.as_str().to_owned());
                    Ok(self.proclaim(&mute, (measure.action == Action::Mute).then_some(until)).await?)
                }
                None => Ok(()),
            },
        }
    }

    /// Until when this user may not enter this room; `None` if it may.
    ///
    /// # Errors
    /// If the broker is away.
    pub async fn banned(&self, room: &RoomId, user: &Username) -> Result<Option<u64>, Unavailable> {
        self.broker.banned(room, user).await
    }

    async fn proclaim(&self, sanction: &Sanction, until: Option<u64>) -> Result<(), Unavailable> {
        let change: Proclaimed = (sanction.text(), until);
        self.broker.proclaim(&[change]).await
    }
}

fn millis(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, whole_millis)
}

fn whole_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
