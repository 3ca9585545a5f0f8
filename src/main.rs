//! The `roomcast` program: reads the settings, starts the server, and turns signals into an orderly end.

mod chat;

use std::{io::Write, process::ExitCode};

use roomcast::{
    config::{Config, LogFormat, SETTINGS, Warning, reference},
    server::Server,
    telemetry::log,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// The exit code for a wrong setting or argument, after `EX_USAGE` of BSD's sysexits.
const USAGE: u8 = 64;

const DEFAULT_URL: &str = "ws://127.0.0.1:8080/ws";

const HELP: &str = "\
roomcast: a WebSocket chat and room-messaging server

Usage: roomcast [COMMAND]

Commands:
  serve                      Serve clients; this is what it does without a command
  chat ROOM USERNAME [URL]   Talk in a room from the terminal; without a URL, on ws://127.0.0.1:8080/ws
  settings                   Print the reference of all settings, as in docs/configuration.md
  help                       Print this text
  version                    Print the version

Settings of the server come from the environment, under names that start with ROOMCAST_.
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] | ["serve"] => serve(),
        ["chat", room, username] => talk(DEFAULT_URL, room, username),
        ["chat", room, username, url] => talk(url, room, username),
        ["settings"] => print(&reference(SETTINGS)),
        ["help" | "--help" | "-h"] => print(HELP),
        ["version" | "--version" | "-V"] => print(concat!("roomcast ", env!("CARGO_PKG_VERSION"), "\n")),
        _ => {
            eprintln!("roomcast: {:?} is not a command\n\n{HELP}", arguments.join(" "));
            ExitCode::from(USAGE)
        }
    }
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
    log::start(&config);
    on_runtime(run(&config, &warnings))
}

fn talk(url: &str, room: &str, username: &str) -> ExitCode {
    on_runtime(async {
        match chat::run(url, room, username).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("roomcast chat: {error}");
                ExitCode::FAILURE
            }
        }
    })
}

fn on_runtime(work: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(work),
        Err(error) => {
            eprintln!("roomcast cannot start its threads: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: &Config, warnings: &[Warning]) -> ExitCode {
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let server = match Server::bind(config).await {
        Ok(server) => server,
        Err(error) => {
            eprintln!("roomcast cannot start: {error}");
            return ExitCode::from(USAGE);
        }
    };
    let (mut interrupt, mut terminate) = match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(interrupt), Ok(terminate)) => (interrupt, terminate),
        (Err(error), _) | (_, Err(error)) => {
            eprintln!("roomcast cannot listen for signals: {error}");
            return ExitCode::FAILURE;
        }
    };
    announce(config, &server);

    let stop = CancellationToken::new();
    let signals = async {
        // The first signal asks for an orderly end, the second one for an end at once.
        for _ in 0..2 {
            tokio::select! {
                _ = interrupt.recv() => stop.cancel(),
                _ = terminate.recv() => stop.cancel(),
            }
        }
    };
    tokio::select! {
        () = server.run(stop.cancelled()) => ExitCode::SUCCESS,
        () = signals => ExitCode::FAILURE,
    }
}

fn announce(config: &Config, server: &Server) {
    let (address, name) = (server.address(), server.origin_server());
    let broker = if config.redis_url.is_some() { "Redis" } else { "embedded" };
    tracing::info!(%address, origin_server = name, broker, "listening");
    if config.log_format == LogFormat::Pretty {
        let version = env!("CARGO_PKG_VERSION");
        print(&format!(
            "roomcast {version} is listening, with the {broker} broker, as {name}\n  \
             chat      ws://{address}/ws\n  \
             ready     http://{address}/readyz\n  \
             metrics   http://{address}/metrics\n"
        ));
    }
}
