use std::{convert::Infallible, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use super::Hub;
use crate::broker::unix_millis;

/// How often the server frees the memory of the least recently used messages, if memory is short; and after how many of
/// these times it also frees messages that are too old.
const INTERVAL: Duration = Duration::from_secs(1);
const EXPIRE_EVERY: u32 = 30;

impl Hub {
    /// Frees the memory of messages that are too old and, when memory is short, of the least recently used channels, so
    /// that active ones find some.
    pub(super) async fn tidy(&self) -> Infallible {
        let mut interval = interval(INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut rounds = 0_u32;
        loop {
            interval.tick().await;
            rounds = rounds.wrapping_add(1);
            self.metrics.recent_bytes.set(self.rules.budget.used());
            let mut excess = self.rules.budget.excess();
            if excess == 0 && !rounds.is_multiple_of(EXPIRE_EVERY) {
                continue;
            }
            let oldest = unix_millis().saturating_sub(self.rules.recent.age);
            let mut kept = Vec::new();
            self.channels.for_each(|channel, local| {
                local.expire(oldest);
                let (bytes, used) = local.kept();
                if bytes > 0 && excess > 0 {
                    kept.push((used, bytes, channel.clone()));
                }
            });
            kept.sort_unstable_by_key(|(used, ..)| *used);
            for (_, bytes, channel) in kept {
                if excess == 0 {
                    break;
                }
                self.channels.act(&channel, |local, _| local.forget());
                excess = excess.saturating_sub(bytes);
            }
        }
    }
}
