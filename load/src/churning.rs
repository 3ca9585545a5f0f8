use std::{collections::VecDeque, time::Duration};

use hdrhistogram::Histogram;

use super::{Churn, Client, Dialect, latency::latencies, swarm::Swarm};

/// How many due joins and leaves to send before sockets are read again.
const BURST: usize = 256;

/// Joins and leaves at a steady rate, without waiting for answers.
pub(super) struct Churning<'a> {
    dialect: &'a dyn Dialect,
    churn: Churn,
    /// The clients' rooms.
    rooms: &'a [String],
    /// The prefix of new rooms, before a number.
    prefix: &'a str,
    /// The index of its first connection in the swarm.
    first: usize,
    urls: usize,
    begin: Duration,
    end: Duration,
    next: u64,
    /// For each connection, when its unanswered command was due.
    waiting: Vec<VecDeque<Duration>>,
    /// The room that each connection joined last.
    last: Vec<String>,
    text: String,
    pub(super) sent: u64,
    pub(super) answered: u64,
    /// The time from when a command was due to its answer.
    pub(super) latency: Histogram<u64>,
}

impl<'a> Churning<'a> {
    pub(super) fn new(
        churn: Churn,
        dialect: &'a dyn Dialect,
        (rooms, prefix): (&'a [String], &'a str),
        (first, urls): (usize, usize),
        (begin, end): (Duration, Duration),
    ) -> Self {
        let connections = churn.connections * urls;
        Self {
            dialect,
            churn,
            rooms,
            prefix,
            first,
            urls,
            begin,
            end,
            next: 0,
            waiting: vec![VecDeque::new(); connections],
            last: vec![String::new(); connections],
            text: String::new(),
            sent: 0,
            answered: 0,
            latency: latencies(),
        }
    }

    /// When the next join or leave is due.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let rate = self.churn.rate * self.urls as f64;
        Some(self.begin + Duration::from_secs_f64(self.next as f64 / rate)).filter(|due| *due < self.end)
    }

    /// Sends what is due by now.
    pub(super) fn send_due(&mut self, swarm: &mut Swarm<'_>) {
        for _ in 0..BURST {
            let Some(due) = self.next_due().filter(|due| *due <= swarm.now()) else { return };
            let number = self.next;
            self.next += 1;
            self.send(number, due, swarm);
        }
    }

    /// Joins and leaves come in pairs; connections and URLs take turns.
    fn send(&mut self, number: u64, due: Duration, swarm: &mut Swarm<'_>) {
        let pair = (number / 2) as usize;
        let place = pair % self.waiting.len();
        let index = self.first + place;
        if !swarm.is_joined(index) {
            return;
        }
        self.text.clear();
        let client = Client { number: index, room: "" };
        if number.is_multiple_of(2) {
            self.last[place] = match self.churn.fresh {
                true => format!("{}{pair}", self.prefix),
                // Each connection goes from room to room.
                false => self.rooms[(pair / self.waiting.len() + place) % self.rooms.len()].clone(),
            };
            self.dialect.join(client, &self.last[place], &mut self.text);
        } else {
            self.dialect.leave(client, &self.last[place], &mut self.text);
        }
        swarm.send(index, &self.text);
        self.waiting[place].push_back(due);
        self.sent += 1;
    }

    /// Takes the answer to a join or a leave.
    pub(super) fn answered(&mut self, index: usize, at: Duration) {
        if let Some(due) = self.waiting[index - self.first].pop_front() {
            self.answered += 1;
            self.latency.saturating_record(at.saturating_sub(due).as_micros() as u64);
        }
    }

    /// Ends it now, before its time.
    pub(super) fn stop(&mut self, now: Duration) {
        self.end = self.end.min(now);
    }

    /// Whether an answer is still missing.
    pub(super) fn is_waiting(&self) -> bool {
        self.answered < self.sent
    }
}
