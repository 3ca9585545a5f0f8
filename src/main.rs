//! The `roomcast` program: reads the settings, starts the server, and turns signals into an orderly end.

mod chat;
mod check;
mod client;
mod health;

use std::{
    io::Write,
    process::{ExitCode, Termination},
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant},
};

use roomcast::{
    config::{Config, LogFormat, SETTINGS, reference},
    load::{self, Arguments, LoadError, Roomcast},
    server::{Server, raise_file_limit},
    telemetry::log,
};
use signal_hook::{
    consts::{SIGHUP, SIGINT},
    flag,
};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;

use crate::{
    check::patiently,
    client::{Failure, plain},
};

#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The exit code for a wrong setting or argument, after `EX_USAGE` of BSD's sysexits.
const USAGE: u8 = 64;

/// The exit code of a server that a fault of its own has ended, after `EX_SOFTWARE`.
const FAULT: u8 = 70;

/// How long the end waits for threads of the runtime. Tasks that are cut short end at once; a thread that waits for a
/// name server cannot be stopped, and nobody needs what it would find.
const LAST_THREADS: Duration = Duration::from_secs(1);

const HELP: &str = "\
roomcast: a WebSocket chat and room-messaging server

Usage: roomcast [COMMAND]

Commands:
  serve                      Serve clients; this is what it does without a command
  chat ROOM USERNAME [URL]   Talk in a room from the terminal, or from a script; `chat --help` lists the options
  health [URL]               Exit with 0 if the server on this machine, or at the URL, is alive
  load [OPTIONS] URL...      Put a load on servers and measure what comes of it; `load --help` lists the options
  check http URL             Check that a server is alive and ready, and that its metrics can be read
  check upgrade URL          Check that a WebSocket can be opened, and a message said over it
  check across URL [--connections N]
                             Check that a message reaches another server, with two that one URL leads to
  check across URL URL       The same, with a URL for each server
  check redis-refuses HOST:PORT
                             Check that a Redis takes no commands without a password
  check --within SECONDS ... Any of these; again and again, until it passes or so much time is over
  settings                   Print the reference of all settings, as in docs/configuration.md
  help                       Print this text
  version                    Print the version

Settings of the server come from the environment, under names that start with ROOMCAST_.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] | ["serve"] => serve(),
        ["chat", ref arguments @ ..] => chat(arguments),
        ["help" | "--help" | "-h"] | ["check" | "health", "--help" | "-h"] => print(HELP),
        ["health"] => own_health(),
        ["health", url] => run("health", health::run(url)),
        ["check", "--within", seconds, ref rest @ ..] => match seconds.parse() {
            Ok(seconds) => check(Duration::from_secs(seconds), rest),
            Err(_) => wrong(&format!("--within takes a number of seconds, not {seconds:?}")),
        },
        ["check", ref rest @ ..] => check(Duration::ZERO, rest),
        ["load", ref arguments @ ..] => load(arguments),
        ["settings"] => print(&reference(SETTINGS)),
        ["version" | "--version" | "-V"] => print(concat!("roomcast ", env!("CARGO_PKG_VERSION"), "\n")),
        _ => wrong(&format!("{:?} is not a command", arguments.join(" "))),
    }
}

fn check(patience: Duration, arguments: &[&str]) -> ExitCode {
    match arguments {
        ["http", url] => run("check http", patiently(patience, async || check::http(url).await)),
        ["upgrade", url] => run("check upgrade", patiently(patience, async || check::upgrade(url).await)),
        ["across", url] => {
            run("check across", patiently(patience, async || check::across(url, check::CONNECTIONS).await))
        }
        ["across", url, "--connections", number] => match number.parse() {
            Ok(number) => run("check across", patiently(patience, async || check::across(url, number).await)),
            Err(_) => wrong(&format!("--connections takes a number, not {number:?}")),
        },
        ["across", one, other] => run("check across", patiently(patience, async || check::between(one, other).await)),
        ["redis-refuses", address] => {
            run("check redis-refuses", patiently(patience, async || check::redis_refuses(address).await))
        }
        _ => wrong(&format!("{:?} is not a check", arguments.join(" "))),
    }
}

/// Tells how the program is used.
fn wrong(why: &str) -> ExitCode {
    eprintln!("roomcast: {why}\n\n{HELP}");
    ExitCode::from(USAGE)
}

fn print(text: &str) -> ExitCode {
    // Whoever reads this may have seen enough, as `head` does.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

fn serve() -> ExitCode {
    let (config, warnings) = match Config::from_env(std::env::vars_os()) {
        Ok(read) => read,
        Err(error) => {
            eprintln!("roomcast cannot start with these settings:\n{error}");
            return ExitCode::from(USAGE);
        }
    };
    let files = raise_file_limit();
    let Some(runtime) = runtime() else { return ExitCode::FAILURE };
    let server = match runtime.block_on(async { Server::bind(&config, files) }) {
        Ok(server) => server,
        Err(error) => {
            // There is no log yet, and a slip in a setting's name may be the cause.
            warnings.iter().for_each(|warning| eprintln!("{warning}"));
            eprintln!("roomcast cannot start: {error}");
            return ExitCode::from(USAGE);
        }
    };
    // Traces carry the server's name, which may depend on the port that it got.
    let traces = match log::start(&(&config).into(), server.origin_server()) {
        Ok(traces) => traces,
        Err(error) => {
            eprintln!("roomcast cannot start: ROOMCAST_OTLP_ENDPOINT cannot be put to use: {error}");
            return ExitCode::from(USAGE);
        }
    };
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    if let (Some(files), Some(asked)) = (files, config.max_connections)
        && server.max_clients() < asked
    {
        tracing::warn!(
            "ROOMCAST_MAX_CONNECTIONS is {asked}, but this process may open only {files} files, which is enough for {} \
             clients; more are refused. Raise the hard limit of open files (nofile), or lower the setting",
            server.max_clients(),
        );
    }
    let Some((code, stopped)) = runtime.block_on(run_server(&config, server)) else {
        runtime.shutdown_background();
        return ExitCode::FAILURE;
    };
    let left = || config.shutdown_timeout.saturating_sub(stopped.elapsed());
    // Tasks that were cut short end with the runtime, and their spans with them.
    runtime.shutdown_timeout(left().min(LAST_THREADS));
    traces.end(left());
    code
}

/// Talks in a room.
fn chat(arguments: &[&str]) -> ExitCode {
    match chat::Options::parse(arguments) {
        Ok(Some(options)) => run("chat", async { Ok(ExitCode::from(chat::run(options).await?)) }),
        Ok(None) => print(chat::HELP),
        Err(why) => {
            eprintln!("roomcast chat: {}\n`roomcast chat --help` says how it is used", plain(&why));
            ExitCode::from(USAGE)
        }
    }
}

/// Runs one of the program's clients to its end.
fn run(name: &str, client: impl Future<Output = Result<impl Termination, Failure>>) -> ExitCode {
    let Some(runtime) = runtime() else { return ExitCode::FAILURE };
    let outcome = runtime.block_on(client);
    runtime.shutdown_background();
    match outcome {
        Ok(code) => code.report(),
        Err(error) => {
            // A server may have said what is in it.
            eprintln!("roomcast {name}: {}", plain(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}

/// Puts a load on servers, tells how it goes on standard error, and prints the report.
fn load(arguments: &[&str]) -> ExitCode {
    let wrong = |why: LoadError| {
        eprintln!("roomcast load: {why}\n`roomcast load --help` lists the options");
        ExitCode::from(USAGE)
    };
    let Arguments { plan, json, help } = match Arguments::parse(arguments.iter().copied()) {
        Ok(arguments) => arguments,
        Err(why) => return wrong(why),
    };
    if help {
        return print(Arguments::HELP);
    }
    // The first signal asks for the report so far, the second one ends the program at once.
    let stop = Arc::new(AtomicBool::new(false));
    let signals =
        flag::register_conditional_shutdown(SIGINT, 1, stop.clone()).and_then(|_| flag::register(SIGINT, stop.clone()));
    if let Err(why) = signals {
        eprintln!("roomcast cannot listen for signals: {why}");
        return ExitCode::FAILURE;
    }
    let report = match load::run(&plan, &Roomcast, &stop, &mut |progress| eprintln!("{progress}")) {
        Ok(report) => report,
        Err(why @ (LoadError::Plan(_) | LoadError::Url { .. })) => return wrong(why),
        Err(why) => {
            eprintln!("roomcast load: {why}");
            return ExitCode::FAILURE;
        }
    };
    print(&if json { report.to_json() } else { report.to_string() });
    if report.clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Asks the server that was started with the same settings.
fn own_health() -> ExitCode {
    run("health", async {
        let (config, _) = Config::from_env(std::env::vars_os())?;
        health::run(&health::url_of(config.probe_listen.unwrap_or(config.listen))?).await
    })
}

/// The async runtime; `None`, and a line for the user, if the system gives no threads for it.
fn runtime() -> Option<Runtime> {
    let started = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    started.map_err(|error| eprintln!("roomcast cannot start its threads: {error}")).ok()
}

/// Runs the server to its orderly end. Returns the exit code, and when it was asked to end or began to by itself; `None`
/// if it did not end in order.
async fn run_server(config: &Config, server: Server) -> Option<(ExitCode, Instant)> {
    // Whoever starts a program so that it outlives the terminal (`nohup`) has it ignore this signal.
    let hangup = if is_ignored(SIGHUP) { Ok(None) } else { signal(SignalKind::hangup()).map(Some) };
    let signals = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()), hangup);
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) = signals else {
        eprintln!("roomcast cannot listen for signals");
        return None;
    };
    announce(config, &server);

    let stop = CancellationToken::new();
    let signals = async {
        // The first signal asks for an orderly end, the second one for an end at once.
        for _ in 0..2 {
            tokio::select! {
                _ = interrupt.recv() => stop.cancel(),
                _ = terminate.recv() => stop.cancel(),
                Some(_) = async { hangup.as_mut()?.recv().await } => stop.cancel(),
            }
        }
    };
    let mut stopped = None;
    let asked = async {
        stop.cancelled().await;
        stopped = Some(Instant::now());
    };
    let result = tokio::select! {
        result = server.run(asked) => result,
        () = signals => {
            tracing::warn!("a second signal: ending at once");
            return None;
        }
    };
    let code = result.map_or(ExitCode::from(FAULT), |()| ExitCode::SUCCESS);
    Some((code, stopped.unwrap_or_else(Instant::now)))
}

/// Whether this process was started with a signal ignored; where the system does not say, it was not.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

fn announce(config: &Config, server: &Server) {
    let (address, probes, name) = (server.address(), server.probe_address(), server.origin_server());
    let broker = if config.redis_url.is_some() { "Redis" } else { "embedded" };
    if config.log_format == LogFormat::Pretty {
        let version = env!("CARGO_PKG_VERSION");
        // A server that listens on all addresses is reached on this machine's own.
        let here = |address| health::url_of(address).unwrap_or_else(|_| format!("http://{address}"));
        let (door, probes) = (here(address), here(probes));
        // First what a person wants first: the page to open.
        let page = if config.page { format!("{door}/\n\n") } else { String::new() };
        print(&format!(
            "{page}roomcast {version} is listening, with the {broker} broker, as {name}\n  \
             chat      ws{}/ws\n  \
             ready     {probes}/readyz\n  \
             metrics   {probes}/metrics\n",
            door.trim_start_matches("http"),
        ));
    }
    tracing::info!(%address, %probes, origin_server = name, broker, "listening");
}
