//! Breaks a roomcast cluster in every way it must survive, and judges what its clients saw.

#![allow(unreachable_pub, reason = "a program has no outside")]

mod answers;
mod arguments;
mod client;
mod cluster;
mod demo;
mod herd;
mod inject;
mod judge;
mod member;
mod record;
mod recorder;
mod replay;
mod report;
mod run;
mod scenario;
mod seed;
mod swarm;
mod verdict;
mod wait;

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, SystemTime},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};

use self::{
    arguments::{Arguments, HELP},
    run::{Options, Outcome, run},
    scenario::SCENARIOS,
    seed::Seed,
};

/// Errors of the run itself are only text for a person.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    let (name, ended) = match arguments.next_if(|first| first == "demo") {
        Some(_) => ("roomcast-faults demo", runtime().and_then(|runtime| runtime.block_on(demo::run(arguments)))),
        None => ("roomcast-faults", faults(arguments)),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::from(2)
        }
    }
}

/// Runs what the arguments ask for. Returns whether all promises were kept.
fn faults(arguments: impl IntoIterator<Item = String>) -> Result<bool> {
    Arguments::parse(arguments).and_then(|arguments| {
        if arguments.help {
            print!("{HELP}");
            return Ok(true);
        }
        if arguments.list {
            for scenario in SCENARIOS {
                let short = if scenario.short { " (short form too)" } else { "" };
                println!("{:<20} {}{short}", scenario.name, scenario.about);
            }
            return Ok(true);
        }
        take_all_files();
        runtime()?.block_on(until_interrupted(run_all(&arguments)))
    })
}

fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

/// Runs the scenarios. Returns whether all promises were kept.
async fn run_all(arguments: &Arguments) -> Result<bool> {
    let program = match &arguments.server {
        Some(path) => path.clone(),
        None => beside_this_program()?,
    };
    if !program.is_file() {
        return Err(format!("{} is not there; `cargo build` makes it", program.display()).into());
    }
    let seed = arguments.seed.unwrap_or_else(|| since_1970().subsec_nanos().into());
    let (short, settings) = (arguments.short, arguments.settings.clone());
    let options = Options { program, seed: Seed(seed), short, settings };
    println!("seed {seed}; the same choices again: --seed {seed}\n\n{}", report::heading());

    let mut outcomes: Vec<Outcome> = Vec::new();
    for scenario in arguments.scenarios() {
        let outcome = run(scenario, &options).await?;
        println!("{}", report::line(&outcome));
        print!("{}", report::explanation(&outcome));
        outcomes.push(outcome);
    }

    if let Some(path) = &arguments.json {
        tokio::fs::write(path, format!("{:#}\n", report::json(&outcomes, seed))).await?;
    }
    if let Some(path) = &arguments.markdown {
        let form = if arguments.short { " --short" } else { "" };
        let command = format!("make faults FAULTS=\"--seed {seed}{form}\"");
        tokio::fs::write(path, report::markdown(&outcomes, seed, &today(), &command)).await?;
    }
    let broken = outcomes.iter().filter(|outcome| !outcome.verdict.is_clean()).count();
    println!("\n{} scenarios, {broken} of them with something wrong", outcomes.len());
    Ok(broken == 0)
}

/// Ends early, and so ends all processes, when the run is interrupted.
async fn until_interrupted(work: impl Future<Output = Result<bool>>) -> Result<bool> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        result = work => result,
        _ = interrupt.recv() => Err("interrupted".into()),
        _ = terminate.recv() => Err("terminated".into()),
    }
}

/// Lets this process open as many files as it may: every client is one.
fn take_all_files() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // If it cannot be raised, the scenarios with many clients say what they lack.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

fn beside_this_program() -> Result<PathBuf> {
    Ok(std::env::current_exe()?.with_file_name("roomcast"))
}

fn since_1970() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// The date in UTC.
fn today() -> String {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    now.split('T').next().unwrap_or_default().to_owned()
}
