use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use super::{
    Dialect, Flow, Heard, Latency, Layout, LoadError, Plan, Progress, Report,
    churning::Churning,
    latency::per_second,
    messages::Messages,
    outcome::{Before, Measured, Outcome},
    process::{Process, own_cpu},
    swarm::Swarm,
};

/// Time between two reports of progress, and the longest time between two checks of `stop`.
const TICK: Duration = Duration::from_secs(1);

/// How long to wait if no client makes progress, before the remaining ones are given up.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long to wait for the next delivery after the last message.
const QUIET: Duration = Duration::from_secs(3);

/// How long to listen for more once the expected number has come.
const LISTENING: Duration = Duration::from_millis(250);

/// How long servers may take to notice that all clients have gone.
const LEAVING: Duration = Duration::from_secs(20);

/// How often to read memory until it settles, and how many equal readings count as settled.
const SETTLING: Duration = Duration::from_millis(200);
const SETTLED: usize = 10;

/// Files that a server may have opened meanwhile for other purposes than clients.
const OTHER_FILES: usize = 8;

/// Carries out a plan. When `stop` becomes true, it ends early with the report so far; a signal whose handler sets
/// `stop` is noticed at once.
///
/// # Errors
/// If the plan contradicts itself, nobody could join, or a process cannot be measured.
pub fn run(
    plan: &Plan,
    dialect: &dyn Dialect,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(&Progress),
) -> Result<Report, LoadError> {
    let targets = plan.targets(dialect.path())?;
    let layout = Layout {
        clients: plan.clients,
        rooms: plan.rooms,
        urls: targets.len(),
        publishers: plan.publishers.unwrap_or(plan.clients),
    };
    let prefix = format!("load-{:08x}-", rand::random::<u32>());
    let rooms: Vec<String> = (0..plan.rooms).map(|room| format!("{prefix}{room}")).collect();
    let churn_prefix = format!("{prefix}churn-");
    let clients = (0..plan.clients).map(|client| (layout.url(client), rooms[layout.room(client)].clone()));
    let churners = (0..plan.churners()).map(|place| (place % targets.len(), format!("{prefix}churner-{place}")));

    let processes: Vec<Process> = plan.pids.iter().map(|pid| Process::of(*pid)).collect();
    let before = Before::read(&processes)?;
    let mut run = Run {
        plan,
        stop,
        swarm: Swarm::new(dialect, &targets, clients.chain(churners))?,
        progress,
        ticked: (Duration::ZERO, 0),
    };
    run.connect()?;

    let mut messages = Messages::new(plan, dialect, layout, &rooms, &run.swarm);
    let window = messages.window();
    let urls = targets.len();
    let mut churning =
        plan.churn.map(|churn| Churning::new(churn, dialect, (&rooms, &churn_prefix), (plan.clients, urls), window));
    let measured = run.measure(&mut messages, &mut churning, &processes)?;
    let interrupted = run.stopped();
    run.drain(&mut messages, &mut churning)?;
    let after = match plan.flow {
        Flow::Idle => Some(run.leave(&processes, &before)?),
        Flow::Rate(_) | Flow::Saturate(_) => {
            run.swarm.close();
            None
        }
    };
    Ok(Outcome {
        plan,
        interrupted,
        swarm: &run.swarm,
        messages: &messages,
        churning: churning.as_ref(),
        before,
        measured,
        after,
    }
    .report())
}

struct Run<'a> {
    plan: &'a Plan,
    stop: &'a AtomicBool,
    swarm: Swarm<'a>,
    progress: &'a mut dyn FnMut(&Progress),
    /// When progress was last reported, and how many deliveries there were by then.
    ticked: (Duration, u64),
}

/// CPU times of the processes in order, then this program's own.
fn cpu(processes: &[Process]) -> Result<Vec<Duration>, LoadError> {
    processes.iter().map(Process::cpu).chain([Ok(own_cpu())]).collect()
}

impl Run<'_> {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Connects all clients as fast as the servers accept them, and waits until they have joined.
    fn connect(&mut self) -> Result<(), LoadError> {
        let mut further = (Duration::ZERO, 0);
        while !self.swarm.is_settled() {
            self.swarm.connect();
            let connects = &self.swarm.connects;
            let now = self.swarm.now();
            let steps = connects.upgraded + connects.joined + connects.failed;
            if steps > further.1 {
                further = (now, steps);
            }
            if self.stopped() {
                self.swarm.give_up("the run was ended before this client had joined");
            } else if now - further.0 > PATIENCE {
                self.swarm.give_up("the server has not answered for 10 s");
            } else {
                self.swarm.turn(now + TICK, &mut |_, _, _| {})?;
            }
            self.tick("connecting", None);
        }
        let connects = &self.swarm.connects;
        if connects.joined > 0 {
            return Ok(());
        }
        let most = connects.reasons.iter().max_by_key(|(_, times)| **times);
        Err(LoadError::Nobody { why: most.map(|(why, _)| why.clone()).unwrap_or_default() })
    }

    /// Lets messages flow until the measurement is over.
    fn measure(
        &mut self,
        messages: &mut Messages<'_>,
        churning: &mut Option<Churning<'_>>,
        processes: &[Process],
    ) -> Result<Measured, LoadError> {
        let (begin, end) = messages.window();
        while self.swarm.now() < begin && !self.stopped() {
            self.step("warming up", begin, messages, churning)?;
        }
        let answered = |churning: &Option<Churning<'_>>| churning.as_ref().map_or(0, |churning| churning.answered);
        let (from, cpu_before) = (self.swarm.now(), cpu(processes)?);
        let (deliveries, answers) = (messages.tally.received(), answered(churning));
        let doing = if self.plan.flow == Flow::Idle { "holding" } else { "measuring" };
        while self.swarm.now() < end && !self.stopped() {
            self.step(doing, end, messages, churning)?;
        }
        let to = self.swarm.now();
        let used = cpu(processes)?.into_iter().zip(cpu_before).map(|(after, before)| after.saturating_sub(before));
        Ok(Measured {
            time: to - from,
            deliveries: messages.tally.received() - deliveries,
            answers: answered(churning) - answers,
            cpu: used.collect(),
            resident: processes.iter().map(Process::resident).collect::<Result<_, _>>()?,
            end: to,
        })
    }

    /// Waits for deliveries that are still under way.
    fn drain(&mut self, messages: &mut Messages<'_>, churning: &mut Option<Churning<'_>>) -> Result<(), LoadError> {
        let begin = self.swarm.now();
        messages.stop(begin);
        if let Some(churning) = churning {
            churning.stop(begin);
        }
        // A double counts twice, so the right number does not yet mean that all are there.
        let mut missing = false;
        loop {
            let complete = messages.tally.received() >= messages.tally.expected()
                && churning.as_ref().is_none_or(|churning| !churning.is_waiting());
            let enough = complete && !missing;
            let end = messages.last_heard.max(begin) + if enough { LISTENING } else { QUIET };
            if self.swarm.now() < end {
                self.step("waiting for the last deliveries", end, messages, churning)?;
                continue;
            }
            missing = messages.tally.verdict().missing > 0;
            if !enough || !missing {
                return Ok(());
            }
        }
    }

    /// Publishes what is due, and serves the sockets until something is due again, or until this time.
    fn step(
        &mut self,
        doing: &'static str,
        until: Duration,
        messages: &mut Messages<'_>,
        churning: &mut Option<Churning<'_>>,
    ) -> Result<(), LoadError> {
        messages.publish_due(&mut self.swarm);
        if let Some(churning) = churning {
            churning.send_due(&mut self.swarm);
        }
        let dues = [messages.next_due(), churning.as_ref().and_then(Churning::next_due), Some(self.ticked.0 + TICK)];
        let until = dues.into_iter().flatten().fold(until, Duration::min);
        let clients = self.plan.clients;
        self.swarm.turn(until, &mut |index, heard, at| match (heard, &mut *churning) {
            (Heard::Delivery(body), _) if index < clients => messages.delivered(index, body, at),
            (Heard::Joined | Heard::Left, Some(churning)) if index >= clients => {
                churning.answered(index, at);
                messages.last_heard = at;
            }
            _ => {}
        })?;
        self.tick(doing, Some(messages));
        Ok(())
    }

    fn tick(&mut self, doing: &'static str, messages: Option<&Messages<'_>>) {
        let now = self.swarm.now();
        let (last, before) = self.ticked;
        if now < last + TICK {
            return;
        }
        let received = messages.map_or(0, |messages| messages.tally.received());
        self.ticked = (now, received);
        let connects = &self.swarm.connects;
        (self.progress)(&Progress {
            elapsed: now,
            doing,
            joined: connects.joined,
            failed: connects.failed + connects.lost,
            deliveries_per_second: per_second(received - before, now - last),
            p99_ms: messages
                .filter(|messages| !messages.latency.is_empty())
                .map(|messages| Latency::of(&messages.latency).p99),
        });
    }

    /// Ends all connections, waits until the processes have closed them too, and until their memory has settled.
    fn leave(&mut self, processes: &[Process], before: &Before) -> Result<Vec<u64>, LoadError> {
        self.swarm.close();
        let end = self.swarm.now() + LEAVING;
        let gone = || -> Result<bool, LoadError> {
            let files = processes.iter().map(Process::open_files).collect::<Result<Vec<_>, _>>()?;
            Ok(files.iter().zip(&before.files).all(|(now, before)| *now <= before + OTHER_FILES))
        };
        let resident = || processes.iter().map(Process::resident).collect::<Result<Vec<_>, _>>();
        while !gone()? && self.swarm.now() < end {
            self.pause()?;
        }
        let (mut last, mut times) = (resident()?, 0);
        while times < SETTLED && self.swarm.now() < end {
            self.pause()?;
            let now = resident()?;
            times = if now == last { times + 1 } else { 0 };
            last = now;
        }
        Ok(last)
    }

    fn pause(&mut self) -> Result<(), LoadError> {
        let until = self.swarm.now() + SETTLING;
        while self.swarm.now() < until {
            self.swarm.turn(until, &mut |_, _, _| {})?;
        }
        self.tick("waiting for the servers to see that all have gone", None);
        Ok(())
    }
}
