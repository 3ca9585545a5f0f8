use std::{collections::HashSet, time::Duration};

use tokio::time::{Instant, sleep_until};

use crate::{
    hub::{Client, Hub},
    protocol::{Batch, CloseCode, Event},
};

/// How a server lets its clients go: none for `delay`, in which load balancers notice that it is unready and send it no
/// more clients, then one after another over `time`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drain {
    pub(super) delay: Duration,
    pub(super) time: Duration,
}

impl Drain {
    /// Tells every client when it will be closed, and closes it then. Calls `delay_over` after the delay: from then on,
    /// nobody may come. Returns when all have been told to close; they may take a moment to do so.
    pub(super) async fn run(self, hub: &Hub, delay_over: impl FnOnce()) {
        let start = Instant::now();
        let early = hub.clients();
        let told: HashSet<_> = early.iter().map(Client::id).collect();
        let mut closes = self.tell(early, Duration::ZERO);
        if !self.delay.is_zero() {
            sleep_until(start + self.delay).await;
        }
        delay_over();
        // Clients may have come during the delay.
        let late = hub.clients().into_iter().filter(|client| !told.contains(&client.id())).collect();
        closes.extend(self.tell(late, self.delay));
        closes.sort_by_key(|(at, _)| *at);
        for (at, client) in closes {
            sleep_until(start + at).await;
            client.close(CloseCode::ServiceRestart);
        }
        // Whoever was just coming in when the delay was over.
        hub.close_all(CloseCode::ServiceRestart);
    }

    /// Tells clients, `after` the start, when they will be closed. Returns the times, counted from the start.
    fn tell(self, clients: Vec<Client>, after: Duration) -> Vec<(Duration, Client)> {
        let plan = DrainPlan::new(clients.len(), self.time);
        let tell = |(index, client): (usize, Client)| {
            let at = self.delay + plan.delay(index);
            let after_ms = u64::try_from((at - after).as_millis()).unwrap_or(u64::MAX);
            client.deliver(&Batch::from(Event::Reconnect { after_ms, reason: "shutting_down" }));
            (at, client)
        };
        clients.into_iter().enumerate().map(tell).collect()
    }
}

/// The longest time between two closes, so that a few clients do not keep a server for the whole time.
const LONGEST_GAP: Duration = Duration::from_secs(1);

/// When to close each connection of a server that stops: one after another, spread evenly over the time.
#[derive(Clone, Copy, Debug)]
pub(super) struct DrainPlan {
    gap: Duration,
}

impl DrainPlan {
    /// A plan for `count` connections within `time`.
    pub(super) fn new(count: usize, time: Duration) -> Self {
        Self { gap: (time / u32::try_from(count.max(1)).unwrap_or(u32::MAX)).min(LONGEST_GAP) }
    }

    /// How long after the start to close this connection.
    pub(super) fn delay(self, index: usize) -> Duration {
        self.gap * u32::try_from(index).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn closes_are_spread_over_the_time_whatever_their_number() {
        for count in [20, 200, 60_000] {
            let plan = DrainPlan::new(count, SECOND * 20);
            assert_eq!(plan.delay(0), Duration::ZERO);
            let end = plan.delay(count);
            assert!(end <= SECOND * 20 && end > SECOND * 19, "{count} clients take {end:?}");
        }
        assert_eq!(DrainPlan::new(3, SECOND * 60).delay(2), SECOND * 2, "a few are gone soon");
        assert_eq!(DrainPlan::new(10, Duration::ZERO).delay(9), Duration::ZERO);
        assert_eq!(DrainPlan::new(0, SECOND).delay(0), Duration::ZERO);
    }
}
