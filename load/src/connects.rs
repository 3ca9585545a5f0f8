use std::{collections::BTreeMap, time::Duration};

/// How many different reasons of failures are told apart.
const REASONS: usize = 16;

/// What has become of the connects.
#[derive(Clone, Debug, Default)]
pub(super) struct Connects {
    pub(super) upgraded: usize,
    pub(super) joined: usize,
    /// Those that never joined.
    pub(super) failed: usize,
    /// Those that had joined.
    pub(super) lost: usize,
    pub(super) last_upgrade: Duration,
    pub(super) last_join: Duration,
    /// What was refused after joining.
    pub(super) refused: u64,
    /// Why, and how often.
    pub(super) reasons: BTreeMap<String, usize>,
}

impl Connects {
    /// Notes why something went wrong.
    pub(super) fn note(&mut self, why: String) {
        let why =
            if self.reasons.len() < REASONS || self.reasons.contains_key(&why) { why } else { "others".to_owned() };
        *self.reasons.entry(why).or_default() += 1;
    }
}
