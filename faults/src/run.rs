//! One scenario from its start to its verdict.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use rand::Rng;
use tokio::time::sleep;

use crate::{
    Result,
    client::{Plan, Voice},
    cluster::{Cluster, Ports},
    herd::Herd,
    inject::World,
    judge::judge,
    record::{Event, Room, What},
    scenario::{Fault, Load, SETTINGS, Scenario},
    seed::Seed,
    swarm::Swarm,
    verdict::{Kind, Verdict, Violation},
    wait::within,
};

/// Nothing takes so long; a scenario that does has failed.
const LONGEST: Duration = Duration::from_secs(600);
const JOINED: Duration = Duration::from_secs(60);
const CONVERGED: Duration = Duration::from_secs(30);

/// What holds for all scenarios of a run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The server's program.
    pub program: PathBuf,
    pub seed: Seed,
    /// Shorter, for a test.
    pub short: bool,
    /// More settings of the servers, without their prefix.
    pub settings: Vec<(String, String)>,
}

/// What a scenario came to.
#[derive(Debug)]
pub struct Outcome {
    pub scenario: &'static Scenario,
    pub verdict: Verdict,
    /// Where the record and the servers' logs are kept, if anything was wrong.
    pub kept: Option<PathBuf>,
}

/// Runs one scenario and judges it.
pub async fn run(scenario: &'static Scenario, options: &Options) -> Result<Outcome> {
    let directory = tempfile::Builder::new().prefix(&format!("roomcast-faults-{}-", scenario.name)).tempdir()?;
    let finished = within(scenario.name, LONGEST, play(scenario, options, directory.path())).await;
    let (record, verdict) = match finished {
        Ok(Ok(finished)) => finished,
        Ok(Err(error)) | Err(error) => {
            let kept = directory.keep();
            return Err(format!("{}: {error}; logs are in {}", scenario.name, kept.display()).into());
        }
    };
    let kept = if verdict.is_clean() { None } else { Some(keep(directory, &record)?) };
    Ok(Outcome { scenario, verdict, kept })
}

async fn play(scenario: &Scenario, options: &Options, directory: &Path) -> Result<(Vec<Event>, Verdict)> {
    let (seed, short) = (options.seed.of(scenario.name), options.short);
    let usual = [SETTINGS, scenario.settings].concat().into_iter().map(|(name, value)| (name.into(), value.into()));
    let settings: Vec<(String, String)> = usual.chain(options.settings.iter().cloned()).collect();
    let (ports, network) = (Ports::default(), seed.of("cluster"));
    let started = Cluster::start(scenario.topology, &options.program, directory, &settings, ports, network);
    let cluster = started.await?;
    let mut swarm = Swarm::new(cluster.addresses.clone(), seed.of("clients"));
    for plan in plans(scenario.load, seed) {
        swarm.add(plan);
    }
    swarm.all_in(JOINED).await?;
    swarm.send(true);
    sleep(Duration::from_secs_f64(if short { 1.0 } else { 3.0 })).await;

    let (load, rng, violations) = (scenario.load, seed.rng("fault"), Vec::new());
    let mut world = World { cluster, swarm, load, rng, short, violations, herd: None };
    let healed = world.inject(scenario.fault).await?;
    sleep(Duration::from_secs_f64(if short { 2.0 } else { 5.0 })).await;

    let World { cluster, swarm, mut violations, herd, .. } = world;
    swarm.send(false);
    swarm.converge(CONVERGED).await;
    // What comes after all have everything would come twice.
    sleep(Duration::from_millis(500)).await;
    let record = swarm.stop().await?;
    cluster.stop().await?;
    let mut verdict = judge(&record, healed);
    verdict.violations.append(&mut violations);
    verdict.herd = herd.map(|marks| Herd::of(&record, &marks));
    verdict.violations.extend(shortfall(scenario.fault, &verdict));
    verdict.violations.extend(strangers(&record));
    if !scenario.loses {
        verdict.violations.extend(resets(&record));
    }
    Ok((record, verdict))
}

/// What a scenario about coming back must show besides the promises. It is judged by counts, never by times.
fn shortfall(fault: Fault, verdict: &Verdict) -> Option<Violation> {
    let text = match (fault, &verdict.herd) {
        (Fault::CutInReplay | Fault::StopRedisInReplay, _) if verdict.replayed == 0 => {
            "nothing was replayed".to_owned()
        }
        (Fault::CutInReplay, _) if verdict.interrupted == 0 => "no replay was interrupted".to_owned(),
        (_, Some(herd)) if herd.caught_up < herd.returned || herd.refused > 0 => herd.to_string(),
        _ => return None,
    };
    Some(Violation { kind: Kind::Unexpected, client: None, room: None, text })
}

/// Messages that no client of the run has sent.
fn strangers(record: &[Event]) -> impl Iterator<Item = Violation> {
    record.iter().filter_map(|event| match event.what {
        What::Delivered { room, position, id } if id.is_of_stranger() => {
            let text = format!("got something at {position} that nobody had sent");
            Some(Violation::of(Kind::Unexpected, event.client, room, text))
        }
        _ => None,
    })
}

/// Members that were told of a loss where there was none.
pub fn resets(record: &[Event]) -> impl Iterator<Item = Violation> {
    record.iter().filter_map(|event| match event.what {
        What::Reset { room, position } => {
            let text = format!("was reset to {position}, though nothing was lost for good");
            Some(Violation::of(Kind::Unexpected, event.client, room, text))
        }
        _ => None,
    })
}

/// Who is in which rooms, and how much each sends.
fn plans(load: Load, seed: Seed) -> Vec<Plan> {
    let mut rng = seed.rng("plans");
    let pace = Duration::from_secs_f64(f64::from(load.clients) / load.rate);
    let rooms = |number: u32, other: Room| match number % 5 {
        0 if other != number % load.rooms => vec![number % load.rooms, other],
        _ => vec![number % load.rooms],
    };
    let plan = |number| Plan {
        rooms: rooms(number, rng.random_range(0..load.rooms)),
        pace: Some(pace),
        voice: Voice::Filler(load.text),
        ..Plan::listener()
    };
    (0..load.clients).map(plan).collect()
}

/// Keeps a directory with the logs, and puts the record beside them.
pub fn keep(directory: tempfile::TempDir, record: &[Event]) -> Result<PathBuf> {
    let directory = directory.keep();
    let mut file = BufWriter::new(File::create(directory.join("record.jsonl"))?);
    for event in record {
        writeln!(file, "{}", event.to_json())?;
    }
    file.flush()?;
    Ok(directory)
}
