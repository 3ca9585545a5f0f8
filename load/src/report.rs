use std::{collections::BTreeMap, fmt, time::Duration};

use serde::Serialize;

use super::Latency;

/// The report mentions lateness of this share of the messages.
const MANY_LATE: f64 = 0.01;

/// The result of a run. The fields' names are those of the JSON, and do not change; `docs/load.md` lists them.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `rate`, `saturate` or `idle`.
    pub mode: &'static str,
    /// Whether it was ended early.
    pub interrupted: bool,
    /// Whether nothing failed, and every delivery came once and in order.
    pub clean: bool,
    /// How many clients were planned.
    pub clients: usize,
    /// In how many rooms they were.
    pub rooms: usize,
    /// On how many URLs they were.
    pub urls: usize,
    /// The size of each text.
    pub text_bytes: usize,
    /// How long the measurement lasted.
    pub measured_seconds: f64,
    /// How the clients connected.
    pub connections: Connections,
    /// What was published during the measurement; absent in idle mode.
    pub messages: Option<Messages>,
    /// What became of them; `None` in idle mode.
    pub deliveries: Option<Deliveries>,
    /// The time from when a message was due to its delivery.
    pub latency_ms: Option<Latency>,
    /// Joins and leaves.
    pub churn: Option<ChurnReport>,
    /// The measured processes.
    pub processes: Vec<ProcessReport>,
    /// CPU time of all measured processes per delivery.
    pub cpu_us_per_delivery: Option<f64>,
    /// Resident memory that each client added, in all measured processes together.
    pub rss_kib_per_connection: Option<f64>,
    /// The share of one core that this program used during the measurement, in percent.
    pub generator_cpu_percent: f64,
}

/// How the clients connected and stayed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Connections {
    /// How many joined, including the extra connections for joins and leaves.
    pub joined: usize,
    /// How many never did.
    pub failed: usize,
    /// How many were closed or lost after joining.
    pub lost: usize,
    /// Upgrades a second.
    pub per_second: f64,
    /// From the first connect until all were members.
    pub all_joined_seconds: f64,
    /// How many commands were refused after joining.
    pub refused: u64,
    /// Why connections failed or were lost and why commands were refused, and how often.
    pub reasons: BTreeMap<String, usize>,
}

/// What was published during the measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Messages {
    /// How many were due; absent without a rate.
    pub due: Option<u64>,
    /// How many were published.
    pub published: u64,
    /// How many of them went out more than 5 ms late.
    pub late: u64,
    /// The time from when a message was due until it was written.
    pub lateness_ms: Latency,
}

/// What became of all messages, including those before and after the measurement.
#[derive(Clone, Debug, Serialize)]
pub struct Deliveries {
    /// How many there should have been: for each message one for each member of its room.
    pub expected: u64,
    /// How many there were.
    pub received: u64,
    /// How many came during the measurement.
    pub measured: u64,
    /// The same per second.
    pub per_second: f64,
    /// How many never came.
    pub missing: u64,
    /// How many came more than once.
    pub doubled: u64,
    /// How many came after a later one of the same publisher.
    pub misordered: u64,
    /// How many were of a message that nobody published in that room.
    pub strays: u64,
    /// How many members saw a different order than most of their room.
    pub members_in_another_order: u64,
    /// How many could not be kept, so that order and doubles were judged without them.
    pub unjudged: u64,
}

/// What became of joins and leaves.
#[derive(Clone, Debug, Serialize)]
pub struct ChurnReport {
    /// How many were sent.
    pub sent: u64,
    /// How many were answered.
    pub answered: u64,
    /// How many were answered per second during the measurement.
    pub per_second: f64,
    /// The time from when one was due to its answer.
    pub latency_ms: Latency,
}

/// What a process used.
#[derive(Clone, Debug, Serialize)]
pub struct ProcessReport {
    /// Its id.
    pub pid: u32,
    /// CPU time during the measurement.
    pub cpu_seconds: f64,
    /// The same as a share of one core, in percent.
    pub cpu_percent: f64,
    /// The same per delivery, of all processes' deliveries.
    pub cpu_us_per_delivery: Option<f64>,
    /// Resident memory before the first client.
    pub rss_kib_before: u64,
    /// Resident memory at the end of the measurement, with all clients.
    pub rss_kib: u64,
    /// Resident memory when all clients had gone; only in idle mode.
    pub rss_kib_after: Option<u64>,
}

/// The progress of a run.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Since the start.
    pub elapsed: Duration,
    /// The current phase.
    pub doing: &'static str,
    /// How many clients have joined.
    pub joined: usize,
    /// How many failed or were lost.
    pub failed: usize,
    /// Recent deliveries per second.
    pub deliveries_per_second: f64,
    /// The 99th percentile of latency so far, in milliseconds; `None` during the warm-up.
    pub p99_ms: Option<f64>,
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:4.0} s  {}: {} joined", self.elapsed.as_secs_f64(), self.doing, self.joined)?;
        if self.failed > 0 {
            write!(f, ", {} failed", self.failed)?;
        }
        if self.deliveries_per_second > 0.0 {
            write!(f, ", {:.0} deliveries/s", self.deliveries_per_second)?;
        }
        match self.p99_ms {
            Some(p99) => write!(f, ", p99 {p99:.2} ms"),
            None => Ok(()),
        }
    }
}

impl Report {
    /// Whether nothing failed, and every delivery came once and in order.
    pub(super) fn judge(&self) -> bool {
        let connected = self.connections.failed == 0 && self.connections.lost == 0 && self.connections.refused == 0;
        let delivered = self.deliveries.as_ref().is_none_or(|seen| {
            seen.missing + seen.doubled + seen.misordered + seen.strays + seen.members_in_another_order == 0
        });
        connected && delivered && self.churn.as_ref().is_none_or(|churn| churn.answered == churn.sent)
    }

    /// The report for programs.
    pub fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).expect("a report has only texts and numbers");
        json.push('\n');
        json
    }

    /// Warnings that a reader needs before believing the figures.
    fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.interrupted {
            warnings.push("It was ended before its time.".to_owned());
        }
        if self.mode == "saturate" {
            warnings.push(
                "A closed loop: each publisher waits for its own messages, so latency is not that of a steady rate."
                    .to_owned(),
            );
        }
        if let Some(messages) = &self.messages {
            let due = messages.due.unwrap_or(messages.published);
            let late = messages.late + due.saturating_sub(messages.published);
            if messages.due.is_some() && late as f64 > due as f64 * MANY_LATE {
                warnings.push(format!(
                    "The rate was not kept: {late} of {due} messages were written more than 5 ms late or not at all, and \
                     the latency has that in it. This machine, or this program, was the limit."
                ));
            }
        }
        if self.generator_cpu_percent > 90.0 {
            warnings.push("This program used a whole core, so it may have been the limit.".to_owned());
        }
        if self.deliveries.as_ref().is_some_and(|seen| seen.unjudged > 0) {
            warnings.push("Order and doubles were judged on the first deliveries of each member only.".to_owned());
        }
        warnings
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { clients, rooms, urls, connections, .. } = self;
        writeln!(f, "clients       {clients} in {rooms} rooms on {urls} URLs")?;
        write!(f, "connected     {} joined in {:.2} s", connections.joined, connections.all_joined_seconds)?;
        writeln!(f, ", {:.0} upgrades/s", connections.per_second)?;
        if connections.failed + connections.lost > 0 || connections.refused > 0 {
            let Connections { failed, lost, refused, .. } = connections;
            writeln!(
                f,
                "failures      {failed} never joined, {lost} were lost later, {refused} commands were refused"
            )?;
        }
        for (why, times) in &connections.reasons {
            writeln!(f, "              {times} × {why}")?;
        }
        if let Some(messages) = &self.messages {
            let (published, seconds, bytes) = (messages.published, self.measured_seconds, self.text_bytes);
            write!(f, "messages      {published} of {bytes} bytes in {seconds:.1} s")?;
            match messages.due {
                Some(_) => writeln!(f, "; {} late, the latest by {:.1} ms", messages.late, messages.lateness_ms.max)?,
                None => writeln!(f)?,
            }
        }
        if let Some(seen) = &self.deliveries {
            writeln!(f, "deliveries    {:.0}/s; {} of {} in all", seen.per_second, seen.received, seen.expected)?;
            let Deliveries { missing, doubled, misordered, strays, .. } = seen;
            writeln!(
                f,
                "wrong         {missing} missing, {doubled} doubled, {misordered} misordered, {strays} strays"
            )?;
            writeln!(f, "order         {} members saw another one", seen.members_in_another_order)?;
        }
        if let Some(latency) = &self.latency_ms {
            writeln!(f, "latency       {latency}")?;
        }
        if let Some(churn) = &self.churn {
            let ChurnReport { sent, answered, per_second, latency_ms } = churn;
            writeln!(f, "joins, leaves {per_second:.0}/s; {answered} of {sent} answered; {latency_ms}")?;
        }
        for process in &self.processes {
            let ProcessReport { pid, cpu_percent, rss_kib_before, rss_kib, .. } = process;
            write!(f, "process {pid:<6}CPU {cpu_percent:.0} %")?;
            if let Some(cpu) = process.cpu_us_per_delivery {
                write!(f, ", {cpu:.2} µs a delivery")?;
            }
            write!(f, "; resident {rss_kib} KiB, {rss_kib_before} before")?;
            match process.rss_kib_after {
                Some(after) => writeln!(f, ", {after} after")?,
                None => writeln!(f)?,
            }
        }
        if let Some(cpu) = self.cpu_us_per_delivery {
            writeln!(f, "CPU           {cpu:.2} µs a delivery, in all measured processes together")?;
        }
        if let Some(resident) = self.rss_kib_per_connection {
            writeln!(f, "memory        {resident:.2} KiB a connection")?;
        }
        writeln!(f, "generator     CPU {:.0} % of one core", self.generator_cpu_percent)?;
        self.warnings().iter().try_for_each(|warning| writeln!(f, "{warning}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_says_a_latency_when_there_is_one() {
        let elapsed = Duration::from_secs(2);
        let line = |p99_ms| {
            let (doing, joined, failed, deliveries_per_second) = ("warming up", 3, 0, 40.0);
            Progress { elapsed, doing, joined, failed, deliveries_per_second, p99_ms }.to_string()
        };
        assert_eq!(line(None), "   2 s  warming up: 3 joined, 40 deliveries/s");
        assert_eq!(line(Some(1.5)), "   2 s  warming up: 3 joined, 40 deliveries/s, p99 1.50 ms");
    }
}
