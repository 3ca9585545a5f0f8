use crate::{
    protocol::ResetReason,
    telemetry::{Limit, Metrics},
};

/// What happened in a channel, to be counted. The channel only notes it; others count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Holes that did not close by themselves.
    pub(super) holes: u64,
    /// Messages that came from a reading of the log.
    pub(super) recovered: u64,
    /// Messages without a place that nobody got.
    pub(super) dropped: u64,
    /// Times that a room began to be over its rate.
    pub(super) slowed: u64,
    resets: [u64; ResetReason::ALL.len()],
}

impl Tally {
    /// A gap was announced.
    pub(super) fn reset(&mut self, reason: ResetReason) {
        self.resets[reason as usize] += 1;
    }

    /// How many gaps were announced for this reason.
    pub(super) fn resets(&self, reason: ResetReason) -> u64 {
        self.resets[reason as usize]
    }

    /// Adds it to the metrics.
    pub(super) fn count(&self, metrics: &Metrics) {
        if *self == Self::default() {
            return;
        }
        metrics.holes.inc_by(self.holes);
        metrics.messages_recovered.inc_by(self.recovered);
        metrics.unplaced_dropped.inc_by(self.dropped);
        metrics.limited_times(Limit::BytesPerRoom, self.slowed);
        for reason in ResetReason::ALL {
            metrics.resets(reason, self.resets(reason));
        }
    }
}
