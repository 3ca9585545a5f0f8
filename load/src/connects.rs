use std::{collections::BTreeMap, time::Duration};

/// How many different reasons of failures to distinguish.
const REASONS: usize = 16;

/// What became of the connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Connects {
    pub(super) upgraded: usize,
    pub(super) joined: usize,
    /// How many never joined.
    pub(super) failed: usize,
    /// How many were lost after joining.
    pub(super) lost: usize,
    pub(super) last_upgrade: Duration,
    pub(super) last_join: Duration,
    /// How many commands were refused after joining.
    pub(super) refused: u64,
    /// The reasons, and how often each occurred.
    pub(super) reasons: BTreeMap<String, usize>,
}

impl Connects {
    /// Notes a reason.
    pub(super) fn note(&mut self, why: String) {
        let why =
            if self.reasons.len() < REASONS || self.reasons.contains_key(&why) { why } else { "others".to_owned() };
        *self.reasons.entry(why).or_default() += 1;
    }
}
