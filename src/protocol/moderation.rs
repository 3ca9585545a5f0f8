use std::time::Duration;

use serde::Serialize;

use super::Username;

/// What a moderator does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Measure {
    /// What it is.
    pub action: Action,
    /// Whom it concerns; nobody in particular for slow mode.
    pub username: Option<Username>,
    /// How long it lasts; for slow mode, the pause. `None`: until it is taken back.
    pub time: Option<Duration>,
}

/// The kinds of measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The user may not speak.
    Mute,
    /// It may again.
    Unmute,
    /// The user leaves the room and may not come back.
    Ban,
    /// It may again.
    Unban,
    /// The user leaves the room.
    Kick,
    /// Each user may say one message in each pause.
    SlowMode,
}

impl Action {
    /// Every kind there is.
    pub const ALL: [Self; 6] = [Self::Mute, Self::Unmute, Self::Ban, Self::Unban, Self::Kick, Self::SlowMode];

    /// The kind as it stands in a command.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mute => "mute",
            Self::Unmute => "unmute",
            Self::Ban => "ban",
            Self::Unban => "unban",
            Self::Kick => "kick",
            Self::SlowMode => "slow_mode",
        }
    }

    /// Reads what [`as_str`](Self::as_str) gives.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == name)
    }
}
