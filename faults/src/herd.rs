//! What happened when many clients came back at once.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    time::Duration,
};

use serde::Serialize;

use crate::{
    record::{Client, Event, MessageId, What},
    replay::Replay,
};

/// Who came back, and when; the rest is in the record.
#[derive(Clone, Debug)]
pub struct Marks {
    /// Those that lost their server or had been away.
    pub returned: HashSet<Client>,
    /// From here until `killed` everything was normal.
    pub before: Duration,
    pub killed: Duration,
    pub caught_up: Duration,
    /// Seconds of CPU time that Redis took from `before` to `killed`, and from `killed` to `caught_up`.
    pub redis_cpu: [f64; 2],
}

/// The figures. Times are not a verdict: they depend on the machine, which clients, servers and Redis share, so each
/// stands beside the same figure from before.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Herd {
    /// Clients that came back.
    pub returned: usize,
    /// Those of them that got all that they had missed.
    pub caught_up: usize,
    /// Joins that were refused.
    pub refused: usize,
    /// From the kill until the last one was caught up.
    pub seconds: f64,
    /// From sending to delivery, for senders and members that stayed where they were: the 99th percentile before the
    /// kill, and from it until all were caught up.
    pub p99_ms: [Option<f64>; 2],
    /// CPU seconds of Redis a second, before and meanwhile.
    pub redis_cpu: [f64; 2],
}

impl Herd {
    /// Reads the figures out of a record.
    pub fn of(record: &[Event], marks: &Marks) -> Self {
        let mut behind: HashMap<Client, Option<Replay>> = HashMap::new();
        let (mut caught_up, mut refused, mut last) = (HashSet::new(), 0, marks.killed);
        for event in record.iter().filter(|event| event.at >= marks.killed && marks.returned.contains(&event.client)) {
            let is_new = match event.what {
                What::Refused { id: None, .. } => {
                    refused += 1;
                    false
                }
                What::Joined { until, .. } => {
                    behind.insert(event.client, until.map(Replay::up_to));
                    until.is_none() && caught_up.insert(event.client)
                }
                What::Delivered { position, .. } => match behind.get_mut(&event.client) {
                    Some(replay @ Some(_)) => {
                        *replay = replay.and_then(|replay| replay.after(position));
                        replay.is_none() && caught_up.insert(event.client)
                    }
                    _ => false,
                },
                _ => false,
            };
            if is_new {
                last = event.at;
            }
        }
        let [before, meanwhile] = [(marks.before, marks.killed), (marks.killed, marks.caught_up)];
        let rate = |cpu: f64, (from, to): (Duration, Duration)| cpu / (to - from).as_secs_f64().max(0.001);
        Self {
            returned: marks.returned.len(),
            caught_up: caught_up.len(),
            refused,
            seconds: (last - marks.killed).as_secs_f64(),
            p99_ms: [before, meanwhile].map(|window| p99(record, &marks.returned, window)),
            redis_cpu: [rate(marks.redis_cpu[0], before), rate(marks.redis_cpu[1], meanwhile)],
        }
    }
}

/// In milliseconds, of what was sent within a time by those that stayed, to those that stayed.
fn p99(record: &[Event], returned: &HashSet<Client>, (from, to): (Duration, Duration)) -> Option<f64> {
    let mut sent: HashMap<MessageId, Duration> = HashMap::new();
    let mut latencies: Vec<Duration> = Vec::new();
    for event in record.iter().filter(|event| event.at >= from && !returned.contains(&event.client)) {
        match event.what {
            What::Sent { id, .. } if event.at < to => drop(sent.entry(id).or_insert(event.at)),
            What::Delivered { id, .. } => latencies.extend(sent.get(&id).map(|sent| event.at - *sent)),
            _ => {}
        }
    }
    latencies.sort_unstable();
    let index = (latencies.len() * 99).div_ceil(100).checked_sub(1)?;
    Some(latencies[index].as_secs_f64() * 1000.0)
}

impl fmt::Display for Herd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { returned, caught_up, refused, seconds, p99_ms, redis_cpu } = self;
        let [before, meanwhile] = p99_ms.map(|p99| p99.map_or("no sample".into(), |p99| format!("{p99:.1} ms")));
        write!(
            f,
            "{caught_up} of {returned} that came back were caught up, the last after {seconds:.2} s; {refused} joins were \
             refused. p99 for those that stayed: {before} before, {meanwhile} meanwhile. Redis took {:.0} % of a core \
             before, {:.0} % meanwhile.",
            redis_cpu[0] * 100.0,
            redis_cpu[1] * 100.0,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Position;

    #[test]
    fn the_figures_are_those_of_the_record() {
        let at = |seq| Position { epoch: 1, seq };
        let (room, id) = (0, |number| MessageId { client: 9, number });
        let joined = |until| What::Joined { room, position: at(1), until, resumed: Some(true) };
        let delivered = |number, seq| What::Delivered { room, position: at(seq), id: id(number) };
        let refused = What::Refused { code: "unavailable".into(), id: None, room: Some(room) };
        let story = [
            // As usual: ten milliseconds.
            (1000, 9, What::Sent { room, id: id(1) }),
            (1010, 8, delivered(1, 2)),
            // Two come back; one is refused at first, one is never caught up.
            (2010, 1, refused),
            (2020, 2, joined(Some(3))),
            (2025, 2, delivered(1, 2)),
            (2030, 9, What::Sent { room, id: id(2) }),
            (2040, 1, joined(Some(2))),
            (2050, 1, delivered(1, 2)),
            (2070, 8, delivered(2, 3)),
        ];
        let event = |(at, client, what)| Event { at: Duration::from_millis(at), client, what };
        let record: Vec<Event> = story.into_iter().map(event).collect();
        let [before, killed, caught_up] = [0, 2, 4].map(Duration::from_secs);
        let marks = Marks { returned: [1, 2].into(), before, killed, caught_up, redis_cpu: [0.2, 1.0] };
        let expected = Herd {
            returned: 2,
            caught_up: 1,
            refused: 1,
            seconds: 0.05,
            p99_ms: [Some(10.0), Some(40.0)],
            redis_cpu: [0.1, 0.5],
        };
        let herd = Herd::of(&record, &marks);
        assert!((herd.seconds - expected.seconds).abs() < 1e-9);
        assert_eq!(Herd { seconds: expected.seconds, ..herd }, expected);
    }
}
