use std::time::Duration;

use hdrhistogram::Histogram;

use super::{Body, Dialect, Flow, Layout, Plan, latency::latencies, swarm::Swarm, tally::Tally};

/// How many due messages to publish before sockets are read again.
const BURST: usize = 256;

/// A message written this long after it was due is late: this program or its machine was too slow.
const LATE: Duration = Duration::from_millis(5);

/// The flow of messages: which is due when, and what became of them.
pub(super) struct Messages<'a> {
    dialect: &'a dyn Dialect,
    layout: Layout,
    rooms: &'a [String],
    flow: Flow,
    text_bytes: usize,
    /// The publishers that have joined.
    publishers: Vec<usize>,
    begin: Duration,
    /// Messages due within this window are measured.
    window: (Duration, Duration),
    /// The number of the next message, at a steady rate.
    next: u64,
    /// Publishers that must publish one more, in a closed loop.
    owing: Vec<usize>,
    body: String,
    text: String,
    pub(super) tally: Tally,
    /// The time from when a message was due to each delivery.
    pub(super) latency: Histogram<u64>,
    /// The time from when a message was due until it was written.
    pub(super) lateness: Histogram<u64>,
    pub(super) late: u64,
    /// How many messages due within the window were published.
    pub(super) published: u64,
    /// When an awaited delivery last came.
    pub(super) last_heard: Duration,
}

impl<'a> Messages<'a> {
    /// A flow that begins at this time, among the members that have joined.
    pub(super) fn new(
        plan: &Plan,
        dialect: &'a dyn Dialect,
        layout: Layout,
        rooms: &'a [String],
        swarm: &Swarm<'_>,
    ) -> Self {
        let begin = swarm.now();
        let mut tally = Tally::new(layout);
        (0..layout.clients).filter(|client| swarm.is_joined(*client)).for_each(|client| tally.joined(client));
        let publishers: Vec<usize> = (0..layout.publishers).filter(|publisher| swarm.is_joined(*publisher)).collect();
        let owing = match plan.flow {
            Flow::Saturate(under_way) => publishers.iter().flat_map(|one| vec![*one; under_way]).collect(),
            Flow::Rate(_) | Flow::Idle => Vec::new(),
        };
        let warm_up = if plan.flow == Flow::Idle { Duration::ZERO } else { plan.warm_up };
        let window = (begin + warm_up, begin + warm_up + plan.duration);
        Self {
            dialect,
            layout,
            rooms,
            flow: plan.flow,
            text_bytes: plan.text_bytes,
            publishers,
            begin,
            window,
            next: 0,
            owing,
            body: String::new(),
            text: String::new(),
            tally,
            latency: latencies(),
            lateness: latencies(),
            late: 0,
            published: 0,
            last_heard: begin,
        }
    }

    /// When measuring begins and when it ends.
    pub(super) fn window(&self) -> (Duration, Duration) {
        self.window
    }

    /// When the next message is due; `None` if none will be before something is heard.
    pub(super) fn next_due(&self) -> Option<Duration> {
        match self.flow {
            Flow::Rate(rate) if !self.publishers.is_empty() => {
                Some(self.due(self.next, rate)).filter(|due| *due < self.window.1)
            }
            Flow::Saturate(_) if !self.owing.is_empty() => Some(self.begin),
            _ => None,
        }
    }

    /// Publishes what is due by now.
    pub(super) fn publish_due(&mut self, swarm: &mut Swarm<'_>) {
        if let Flow::Saturate(_) = self.flow {
            while let Some(publisher) = self.owing.pop() {
                let due = swarm.now();
                self.publish(publisher, due, swarm);
            }
            return;
        }
        for _ in 0..BURST {
            let Some(due) = self.next_due().filter(|due| *due <= swarm.now()) else { return };
            let publisher = self.publishers[(self.next % self.publishers.len() as u64) as usize];
            self.next += 1;
            self.publish(publisher, due, swarm);
        }
    }

    fn publish(&mut self, publisher: usize, due: Duration, swarm: &mut Swarm<'_>) {
        if !swarm.is_joined(publisher) {
            return;
        }
        let count = self.tally.published(publisher);
        let body = Body { publisher: publisher as u32, count, due: due.as_nanos() as u64 };
        body.write(self.text_bytes, &mut self.body);
        self.text.clear();
        self.dialect.say(&self.rooms[self.layout.room(publisher)], &self.body, &mut self.text);
        swarm.send(publisher, &self.text);
        if self.measures(due) {
            let lateness = swarm.now().saturating_sub(due);
            self.published += 1;
            self.late += u64::from(lateness > LATE);
            self.lateness.saturating_record(lateness.as_micros() as u64);
        }
    }

    /// Takes a delivery to a member.
    pub(super) fn delivered(&mut self, client: usize, body: &[u8], at: Duration) {
        let Some(body) = Body::read(body) else { return };
        self.tally.delivered(client, &body);
        self.last_heard = at;
        let due = Duration::from_nanos(body.due);
        if self.measures(due) {
            self.latency.saturating_record(at.saturating_sub(due).as_micros() as u64);
        }
        if matches!(self.flow, Flow::Saturate(_)) && body.publisher as usize == client && at < self.window.1 {
            self.owing.push(client);
        }
    }

    /// Ends the flow now, before its time.
    pub(super) fn stop(&mut self, now: Duration) {
        self.window.1 = self.window.1.min(now);
        self.owing.clear();
    }

    /// How many messages should have been published within the window by now; a closed loop has no such number.
    pub(super) fn due_by(&self, end: Duration) -> Option<u64> {
        let Flow::Rate(rate) = self.flow else { return None };
        let before = |time: Duration| {
            let about = (time.saturating_sub(self.begin).as_secs_f64() * rate) as u64;
            (about.saturating_sub(1)..).find(|number| self.due(*number, rate) >= time).unwrap_or(about)
        };
        Some(before(end.min(self.window.1)).saturating_sub(before(self.window.0)))
    }

    fn due(&self, number: u64, rate: f64) -> Duration {
        self.begin + Duration::from_secs_f64(number as f64 / rate)
    }

    fn measures(&self, due: Duration) -> bool {
        (self.window.0..self.window.1).contains(&due)
    }
}
