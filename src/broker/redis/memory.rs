use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::telemetry::Level;

use crate::protocol::Channel;

/// The part of their length and bytes that logs keep at the watermark. Above, it falls to nothing.
const SHORTENED: f64 = 0.25;

/// How full Redis is, and what follows: above the watermark there are no new rooms, and logs get the shorter the fuller
/// Redis is, so that existing rooms go on.
#[derive(Debug)]
pub(super) struct Memory {
    watermark: f64,
    /// The share of `maxmemory` that is in use, as the bits of a number; 0 where there is no limit.
    ratio: AtomicU64,
    was_refused: AtomicBool,
    gauge: Level,
}

impl Memory {
    pub(super) fn new(watermark: f64, gauge: Level) -> Self {
        Self { watermark, ratio: AtomicU64::new(0), was_refused: AtomicBool::new(false), gauge }
    }

    /// Takes in what `INFO` says about memory. Without it, `is_full` says whether Redis refused a write for want of
    /// memory.
    pub(super) fn observed(&self, info: Option<&str>, is_full: bool) {
        let full = if is_full { 1.0 } else { 0.0 };
        let ratio = info.and_then(ratio).unwrap_or(0.0).max(full);
        self.gauge.set(ratio);
        let was_short = self.is_short();
        self.ratio.store(ratio.to_bits(), Ordering::Relaxed);
        if self.is_short() != was_short {
            let percent = (100.0 * ratio).round();
            if was_short {
                tracing::info!(percent, "Redis has memory again; accepting new rooms");
            } else {
                tracing::warn!(
                    percent,
                    "Redis is nearly full; refusing new rooms and shortening logs. See ROOMCAST_REDIS_MEMORY_WATERMARK"
                );
            }
        }
    }

    /// Redis does not say how full it is; perhaps this user must not ask.
    pub(super) fn not_told(&self, why: &redis::RedisError) {
        if !self.was_refused.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                error = %why,
                "Redis does not say how full it is, so roomcast accepts new rooms until Redis is full; allow the command INFO"
            );
        }
    }

    fn is_short(&self) -> bool {
        self.share() < 1.0
    }

    /// What an operator should know while Redis is nearly full.
    pub(super) fn shortage(&self) -> Option<String> {
        let percent = (100.0 * f64::from_bits(self.ratio.load(Ordering::Relaxed))).round();
        self.is_short()
            .then(|| format!("{percent} % of maxmemory is in use; new rooms are refused, and logs are shortened"))
    }

    /// Whether a new channel may be made. The broadcast channel always may, because everybody is on it.
    pub(super) fn takes(&self, channel: &Channel) -> bool {
        channel.room().is_none() || !self.is_short()
    }

    /// The part of their length and bytes that logs keep now.
    pub(super) fn share(&self) -> f64 {
        share(f64::from_bits(self.ratio.load(Ordering::Relaxed)), self.watermark)
    }
}

fn share(ratio: f64, watermark: f64) -> f64 {
    if ratio == 0.0 || ratio < watermark {
        return 1.0;
    }
    let left = (1.0 - ratio).max(0.0);
    // With a watermark of 1, nothing is between it and full.
    if left == 0.0 { 0.0 } else { SHORTENED * left / (1.0 - watermark) }
}

/// The share of `maxmemory` in use, from `INFO memory`; `None` without a limit.
fn ratio(info: &str) -> Option<f64> {
    let number = |name: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|number| number.trim().parse::<f64>().ok())
    };
    let limit = number("maxmemory").filter(|limit| *limit > 0.0)?;
    // Buffers for replicas and the append-only file do not count.
    let used = number("used_memory")? - number("mem_not_counted_for_evict").unwrap_or(0.0);
    Some(used.max(0.0) / limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_memory_is_read_from_info() {
        let info = "# Memory\r\nused_memory:900\r\nused_memory_human:900B\r\nmaxmemory:1000\r\nmaxmemory_policy:x\r\n\
                    mem_not_counted_for_evict:100\r\n";
        assert_eq!(ratio(info), Some(0.8));
        assert_eq!(ratio("used_memory:900\r\nmaxmemory:0\r\n"), None);
        assert_eq!(ratio(""), None);
    }

    #[test]
    fn logs_are_shortened_from_the_watermark_on_until_nothing_is_left() {
        for (ratio, watermark, expected) in
            [(0.0, 0.0, 1.0), (0.79, 0.8, 1.0), (0.8, 0.8, 0.25), (1.0, 0.8, 0.0), (1.2, 0.8, 0.0), (1.0, 1.0, 0.0)]
        {
            assert_eq!(share(ratio, watermark), expected, "{ratio} {watermark}");
        }
        let middle = share(0.9, 0.8);
        assert!((0.12..0.13).contains(&middle), "{middle}");
    }

    #[test]
    fn a_redis_that_refuses_writes_for_want_of_memory_is_full_whatever_it_says() {
        let memory = Memory::new(0.8, Level::default());
        memory.observed(None, true);
        assert_eq!(memory.share(), 0.0);
        memory.observed(None, false);
        assert_eq!(memory.share(), 1.0);
        memory.observed(Some("used_memory:9\r\nmaxmemory:10\r\n"), false);
        assert!(memory.is_short());
    }
}
