//! `roomcast serve`: reads the settings, starts the server, and turns signals into an orderly end.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use roomcast::{
    config::{Config, LogFormat},
    server::Server,
    telemetry::log,
};
use signal_hook::consts::SIGHUP;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{USAGE, health, print, runtime};

/// The exit code of a server that ended by its own fault, after `EX_SOFTWARE`.
const FAULT: u8 = 70;

/// How long the end waits for the runtime's threads. Cancelled tasks end at once; a thread that waits for a name server
/// cannot be stopped, and nobody needs its answer.
const LAST_THREADS: Duration = Duration::from_secs(1);

/// Serves until a signal ends it. Returns the exit code.
pub(super) fn run() -> ExitCode {
    let (config, warnings) = match Config::from_env(std::env::vars_os()) {
        Ok(read) => read,
        Err(error) => {
            eprintln!("roomcast cannot start with these settings:\n{error}");
            return ExitCode::from(USAGE);
        }
    };
    let files = roomcast_load::raise_file_limit();
    let Some(runtime) = runtime() else { return ExitCode::FAILURE };
    let server = match runtime.block_on(async { Server::bind(&config, files) }) {
        Ok(server) => server,
        Err(error) => {
            // There is no log yet, and a misspelt setting may be the cause.
            warnings.iter().for_each(|warning| eprintln!("{warning}"));
            eprintln!("roomcast cannot start: {error}");
            return ExitCode::from(USAGE);
        }
    };
    // Traces carry the server's name, which may depend on the port that it got.
    let traces = match log::start(&(&config).into(), server.origin_server()) {
        Ok(traces) => traces,
        Err(error) => {
            eprintln!("roomcast cannot start: cannot use ROOMCAST_OTLP_ENDPOINT: {error}");
            return ExitCode::from(USAGE);
        }
    };
    for warning in &warnings {
        tracing::warn!("{warning}");
    }
    if !config.has_keys() && config.anonymous.is_none() && !server.address().ip().is_loopback() {
        tracing::warn!(
            "anybody who reaches {} may take any name, enter any room and speak to everybody; set ROOMCAST_JWT_SECRET, \
             ROOMCAST_JWT_PUBLIC_KEY_FILE or ROOMCAST_JWKS to have clients show tokens (docs/security.md), or \
             ROOMCAST_ANONYMOUS to say what they may do",
            server.address(),
        );
    }
    if config.jwks.as_ref().is_some_and(|jwks| jwks.starts_with("http://")) {
        tracing::warn!(
            "ROOMCAST_JWKS is fetched without TLS: whoever can change the answer on its way can make tokens"
        );
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
    // Cancelled tasks end with the runtime, and their spans with them.
    runtime.shutdown_timeout(left().min(LAST_THREADS));
    traces.end(left());
    code
}

/// Runs the server to its orderly end. Returns the exit code, and when its end began; `None` if it did not end in
/// order.
async fn run_server(config: &Config, server: Server) -> Option<(ExitCode, Instant)> {
    // `nohup`, for programs that outlive the terminal, has them ignore this signal.
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
            tracing::warn!("second signal; ending at once");
            return None;
        }
    };
    let code = result.map_or(ExitCode::from(FAULT), |()| ExitCode::SUCCESS);
    Some((code, stopped.unwrap_or_else(Instant::now)))
}

/// Whether this process was started with a signal ignored; `false` if the system does not say.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

fn announce(config: &Config, server: &Server) {
    let (address, probes, name) = (server.address(), server.probe_address(), server.origin_server());
    let broker = if config.redis_url.is_some() { "Redis" } else { "memory" };
    if config.log_format == LogFormat::Pretty {
        let version = env!("CARGO_PKG_VERSION");
        // On this machine, a server on all addresses is reached on the loopback.
        let here = |address| health::url_of(address).unwrap_or_else(|_| format!("http://{address}"));
        let (door, probes) = (here(address), here(probes));
        // The page to open comes first, because people want that first.
        let api =
            server.api_address().map_or(String::new(), |api| format!("  api       {}/v1/openapi.json\n", here(api)));
        let page = if config.page { format!("{door}/\n\n") } else { String::new() };
        print(&format!(
            "{page}roomcast {version} is listening, with the {broker} broker, as {name}\n  \
             chat      ws{}/ws\n  \
             ready     {probes}/readyz\n  \
             metrics   {probes}/metrics\n{api}",
            door.trim_start_matches("http"),
        ));
    }
    let api = server.api_address().map(tracing::field::display);
    tracing::info!(%address, %probes, api, origin_server = name, broker, "listening");
}
