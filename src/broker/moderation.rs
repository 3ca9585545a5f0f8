use std::time::Duration;

use crate::protocol::Username;

/// A time that never comes: the year 9999, in Unix milliseconds.
pub const FOR_EVER: u64 = 253_402_300_799_000;

/// Most mutes and bans of one room.
pub const MOST_RULES: usize = 10_000;

/// What holds for the speakers of a room. Times are Unix milliseconds; without one, it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// This user may not speak until then.
    Muted(Username, Option<u64>),
    /// This user may neither enter nor speak until then.
    Banned(Username, Option<u64>),
    /// Each user may say one message in each pause.
    Slow(Option<Duration>),
}
