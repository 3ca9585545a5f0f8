use std::time::Duration;

use super::{
    ChurnReport, Connections, Deliveries, Flow, Latency, LoadError, Plan, ProcessReport, Report, churning::Churning,
    latency::per_second, messages::Messages, process::Process, report, swarm::Swarm,
};

/// The processes' memory before the first client.
pub(super) struct Before {
    pub(super) resident: Vec<u64>,
    pub(super) files: Vec<usize>,
}

impl Before {
    pub(super) fn read(processes: &[Process]) -> Result<Self, LoadError> {
        Ok(Self {
            resident: processes.iter().map(Process::resident).collect::<Result<_, _>>()?,
            files: processes.iter().map(Process::open_files).collect::<Result<_, _>>()?,
        })
    }
}

/// What was measured from outside.
pub(super) struct Measured {
    pub(super) time: Duration,
    pub(super) deliveries: u64,
    pub(super) answers: u64,
    pub(super) cpu: Vec<Duration>,
    pub(super) resident: Vec<u64>,
    pub(super) end: Duration,
}

/// Everything that goes into a report.
pub(super) struct Outcome<'a> {
    pub(super) plan: &'a Plan,
    pub(super) interrupted: bool,
    pub(super) swarm: &'a Swarm<'a>,
    pub(super) messages: &'a Messages<'a>,
    pub(super) churning: Option<&'a Churning<'a>>,
    pub(super) before: Before,
    pub(super) measured: Measured,
    pub(super) after: Option<Vec<u64>>,
}

impl Outcome<'_> {
    pub(super) fn report(&self) -> Report {
        let Self { plan, measured, .. } = self;
        let idle = plan.flow == Flow::Idle;
        let clients = self.swarm.connects.joined.max(1) as f64;
        let per_delivery =
            |cpu: Duration| (measured.deliveries > 0).then(|| cpu.as_secs_f64() * 1e6 / measured.deliveries as f64);
        let share = |cpu: Duration| cpu.as_secs_f64() * 100.0 / measured.time.as_secs_f64().max(f64::MIN_POSITIVE);
        let mut cpu = measured.cpu.clone();
        let own = cpu.pop().unwrap_or_default();
        let processes = plan.pids.iter().enumerate().map(|(place, &pid)| ProcessReport {
            pid,
            cpu_seconds: cpu[place].as_secs_f64(),
            cpu_percent: share(cpu[place]),
            cpu_us_per_delivery: per_delivery(cpu[place]),
            rss_kib_before: self.before.resident[place],
            rss_kib: measured.resident[place],
            rss_kib_after: self.after.as_ref().map(|after| after[place]),
        });
        let grown = measured.resident.iter().sum::<u64>() as f64 - self.before.resident.iter().sum::<u64>() as f64;
        let measures = !plan.pids.is_empty();
        let mut report = Report {
            mode: match plan.flow {
                Flow::Rate(_) => "rate",
                Flow::Saturate(_) => "saturate",
                Flow::Idle => "idle",
            },
            interrupted: self.interrupted,
            clean: false,
            clients: plan.clients,
            rooms: plan.rooms,
            urls: plan.urls.len(),
            text_bytes: plan.text_bytes,
            measured_seconds: measured.time.as_secs_f64(),
            connections: self.connections(),
            messages: (!idle).then(|| self.published()),
            deliveries: (!idle).then(|| self.deliveries()),
            latency_ms: (!idle).then(|| Latency::of(&self.messages.latency)),
            churn: self.churning.map(|churning| ChurnReport {
                sent: churning.sent,
                answered: churning.answered,
                per_second: per_second(measured.answers, measured.time),
                latency_ms: Latency::of(&churning.latency),
            }),
            processes: processes.collect(),
            cpu_us_per_delivery: per_delivery(cpu.iter().sum()).filter(|_| measures),
            rss_kib_per_connection: measures.then_some(grown / clients),
            generator_cpu_percent: share(own),
        };
        report.clean = report.judge();
        report
    }

    fn connections(&self) -> Connections {
        let connects = self.swarm.connects.clone();
        Connections {
            joined: connects.joined,
            failed: connects.failed,
            lost: connects.lost,
            per_second: per_second(connects.upgraded as u64, connects.last_upgrade),
            all_joined_seconds: connects.last_join.as_secs_f64(),
            refused: connects.refused,
            reasons: connects.reasons,
        }
    }

    fn published(&self) -> report::Messages {
        report::Messages {
            due: self.messages.due_by(self.measured.end),
            published: self.messages.published,
            late: self.messages.late,
            lateness_ms: Latency::of(&self.messages.lateness),
        }
    }

    fn deliveries(&self) -> Deliveries {
        let verdict = self.messages.tally.verdict();
        Deliveries {
            expected: verdict.expected,
            received: verdict.received,
            measured: self.measured.deliveries,
            per_second: per_second(self.measured.deliveries, self.measured.time),
            missing: verdict.missing,
            doubled: verdict.doubled,
            misordered: verdict.misordered,
            strays: verdict.strays,
            members_in_another_order: verdict.other_order,
            unjudged: verdict.unjudged,
        }
    }
}
