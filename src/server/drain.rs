use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::{
    hub::Hub,
    protocol::{Batch, CloseCode, Event},
};

/// How a server lets its clients go.
#[derive(Clone, Copy, Debug)]
pub(super) struct Drain {
    rate: usize,
    time: Duration,
}

impl Drain {
    /// Closes at most `rate` clients a second, as long as all fit into `time`.
    pub(super) fn new(rate: usize, time: Duration) -> Self {
        Self { rate, time }
    }

    /// Tells every client when it will be closed, and closes it then. Returns when all have been told to close; they
    /// may take a moment to do so.
    pub(super) async fn run(self, hub: &Hub) {
        let clients = hub.recipients();
        let plan = DrainPlan::new(clients.len(), self.rate, self.time);
        for (index, client) in clients.iter().enumerate() {
            let after_ms = u64::try_from(plan.delay(index).as_millis()).unwrap_or(u64::MAX);
            client.deliver(&Batch::from(Event::Reconnect { after_ms, reason: "shutting_down" }));
        }
        let (start, mut closed) = (Instant::now(), 0);
        while closed < clients.len() {
            sleep_until(start + plan.delay(closed)).await;
            let due = plan.due(start.elapsed());
            clients[closed..due].iter().for_each(|client| client.close(CloseCode::ServiceRestart));
            closed = due;
        }
        // This includes clients that were on their way in when the plan was made.
        hub.close_all(CloseCode::ServiceRestart);
    }
}

/// When to close each connection of a server that stops: one after another, at a steady pace.
///
/// The pace is the requested rate, or just fast enough for all connections to fit into the time.
#[derive(Clone, Copy, Debug)]
pub(super) struct DrainPlan {
    count: usize,
    gap: Duration,
}

impl DrainPlan {
    /// A plan for `count` connections, at most `rate` a second, within `time`.
    pub(super) fn new(count: usize, rate: usize, time: Duration) -> Self {
        let at_rate = Duration::from_secs(1) / u32::try_from(rate.max(1)).unwrap_or(u32::MAX);
        let in_time = time / u32::try_from(count.max(1)).unwrap_or(u32::MAX);
        Self { count, gap: at_rate.min(in_time) }
    }

    /// How long after the start to close this connection.
    pub(super) fn delay(self, index: usize) -> Duration {
        self.gap * u32::try_from(index).unwrap_or(u32::MAX)
    }

    /// How many connections are closed by `elapsed`.
    pub(super) fn due(self, elapsed: Duration) -> usize {
        if self.gap.is_zero() {
            return self.count;
        }
        let passed = usize::try_from(elapsed.as_nanos() / self.gap.as_nanos()).unwrap_or(usize::MAX);
        passed.saturating_add(1).min(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn few_connections_go_at_the_rate_and_many_within_the_time() {
        let few = DrainPlan::new(10, 5, SECOND * 60);
        assert_eq!((few.delay(0), few.delay(9)), (Duration::ZERO, SECOND * 9 / 5));
        let many = DrainPlan::new(60_000, 5, SECOND * 60);
        assert_eq!(many.delay(59_999), SECOND * 60 - SECOND / 1000);
        let at_once = DrainPlan::new(10, 5, Duration::ZERO);
        assert_eq!((at_once.delay(9), at_once.due(Duration::ZERO)), (Duration::ZERO, 10));
        assert_eq!(DrainPlan::new(0, 5, SECOND).due(SECOND), 0);
    }

    #[test]
    fn each_is_due_when_its_delay_has_passed_and_no_second_has_more_than_the_rate() {
        let plan = DrainPlan::new(100, 7, SECOND * 60);
        for index in 0..100 {
            assert_eq!(plan.due(plan.delay(index)), index + 1);
        }
        for second in 0..20 {
            assert!(plan.due(SECOND * (second + 1)) - plan.due(SECOND * second) <= 7 + 1);
        }
        assert_eq!(plan.due(SECOND * 1000), 100);
    }
}
