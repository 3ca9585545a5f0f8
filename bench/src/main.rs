//! Measures roomcast beside other servers, and beside the least that the work can cost.

#![allow(unreachable_pub, reason = "a program has no outside")]

mod arguments;
mod calls;
mod children;
mod cluster;
mod dialect;
mod document;
mod floor;
mod machine;
mod network;
mod peers;
mod plain;
mod redis;
mod results;
mod run;
mod scenario;
mod stage;
mod subject;
mod table;
mod targets;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use roomcast_load::raise_file_limit;
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
};

use self::{
    arguments::{Arguments, HELP},
    children::Children,
    document::About,
    peers::Peers,
    scenario::SCENARIOS,
    stage::Stage,
    subject::SUBJECTS,
};

/// Errors of a run are only text for a person.
type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let ended = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["floor", port] => run_floor(port, None),
        ["floor", port, peer] => run_floor(port, Some(peer)),
        _ => Arguments::parse(arguments).and_then(|arguments| bench(&arguments)),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("roomcast-bench: {error}");
            ExitCode::from(2)
        }
    }
}

fn run_floor(port: &str, peer: Option<&str>) -> Result<bool> {
    floor::run(port.parse()?, peer.map(str::parse).transpose()?)?;
    Ok(true)
}

/// Runs everything. Returns whether everything available could be measured.
fn bench(arguments: &Arguments) -> Result<bool> {
    if arguments.help {
        print!("{HELP}");
        return Ok(true);
    }
    if arguments.list {
        SCENARIOS.iter().for_each(|scenario| println!("{:<20} {}", scenario.name, scenario.about));
        println!();
        for subject in SUBJECTS {
            let choice = subject.choice().map(|choice| format!(" (--peers {choice})")).unwrap_or_default();
            println!("{:<20} {}{choice}", subject.name, subject.about);
        }
        return Ok(true);
    }
    let files = raise_file_limit();
    let directory = tempfile::tempdir()?;
    let children = Children::new(directory.path());
    end_on_signals(children.clone())?;
    let stage = Stage { children, peers: Peers::new(), quick: arguments.quick, measuring: arguments.measuring, files };
    let results = run::run(arguments, &stage);

    print!("{}", document::text(&results, arguments.quick));
    if let Some(path) = &arguments.json {
        std::fs::write(path, format!("{:#}\n", results.json()))?;
    }
    let page = arguments.markdown.clone().or_else(|| arguments.is_complete().then(own_page));
    if let Some(path) = page {
        document::write(&path, &results, &about(arguments))?;
    }
    Ok(results.failures.is_empty())
}

/// Ctrl-C ends all processes and removes their files at once.
fn end_on_signals(children: Children) -> Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        if let Some(signal) = signals.forever().next() {
            children.end();
            // What cannot be removed is in the directory for temporary files.
            let _ = std::fs::remove_dir_all(children.directory());
            std::process::exit(128 + signal);
        }
    });
    Ok(())
}

fn about(arguments: &Arguments) -> About {
    let options = if arguments.line.is_empty() { String::new() } else { format!(" BENCH=\"{}\"", arguments.line) };
    let times = match arguments.runs {
        1 => "One run".to_owned(),
        runs => format!("Medians of {runs} runs"),
    };
    About {
        date: machine::today(),
        command: format!("make bench{options}"),
        machine: machine::describe(),
        method: format!(
            "{times} of {} seconds each, or half of that where a scenario has several loads, in turns; peers once where no \
             target compares them. Load, servers and Redis share one machine and talk over its loopback; \
             nothing is pinned to a core. CPU is that of the servers alone, as the system counts it.",
            arguments.measuring.as_secs_f64()
        ),
        quick: arguments.quick,
    }
}

fn own_page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("docs").join("benchmarks.md")
}
