//! The commands of the program: `serve` runs the server, the others are its clients.
//!
//! Only [`serve`] knows the server. The clients know the protocol from its documentation, like anybody's.

mod chat;
mod check;
mod client;
mod health;
mod load;
mod revoke;
mod serve;
mod token;

use std::{
    io::Write,
    process::{ExitCode, Termination},
};

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use roomcast::config::{SETTINGS, reference};
use tokio::runtime::Runtime;

use self::client::{Failure, plain};

/// The exit code for a wrong setting or argument, after `EX_USAGE` of BSD's sysexits.
const USAGE: u8 = 64;

/// A WebSocket chat and room-messaging server.
///
/// Without a command, roomcast serves. The server reads its settings from environment variables that start with ROOMCAST_;
/// `roomcast settings` lists them.
#[derive(Debug, Parser)]
#[command(name = "roomcast", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve clients; this is the default
    Serve,
    /// Talk in a room, from the terminal or from a script
    ///
    /// In a terminal, roomcast says in the room what you type when you press Enter; /help lists what else you can type. It
    /// reconnects by itself, and you miss nothing meanwhile.
    ///
    /// Without a terminal, roomcast says each line of standard input in the room. It exits with 0 once every line is
    /// acknowledged, or with 1 if a line could not be. It writes what it hears to standard output, and all else to standard
    /// error.
    ///
    /// NO_COLOR=1 turns colours off. SSL_CERT_FILE names a file of certificates to trust instead of the system's.
    Chat(chat::Arguments),
    /// Exit with 0 if a server is alive
    Health {
        /// The server's URL; without one, the server that runs here with the same settings
        url: Option<String>,
    },
    /// Put a load on servers and measure what they deliver
    ///
    /// Clients connect to the URLs (ws://host:port), join rooms, and publish at a steady rate, whatever the servers do.
    /// Latency counts from the moment at which a message was due.
    ///
    /// The exit code is 0 if no message was missing, doubled or out of order and no connection failed; 1 if one was; and 64
    /// for a wrong option. Ctrl-C ends the run with the report so far; a second one ends it without.
    Load(load::Arguments),
    /// Check running servers from outside, or a token
    Check(check::Arguments),
    /// Make a token for trying out
    ///
    /// It is signed with ROOMCAST_JWT_SECRET, for the first of ROOMCAST_JWT_AUDIENCE. In use, your back end makes the tokens.
    Token(token::Arguments),
    /// Revoke tokens on all servers, by way of their Redis
    ///
    /// It reads the settings of the servers. A revocation stays for as long as such tokens could be good
    /// (ROOMCAST_JWT_MAX_LIFETIME).
    Revoke(revoke::Arguments),
    /// Print the reference of all settings, as in docs/configuration.md
    Settings,
    /// Print a script that completes commands and options in a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the version
    Version,
}

/// Runs the command that the arguments name.
pub(crate) fn run() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command.unwrap_or(Command::Serve),
        Err(error) => {
            // Whoever reads this may have seen enough, as `head` does.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match command {
        Command::Serve => serve::run(),
        Command::Chat(arguments) => client("chat", async { Ok(ExitCode::from(chat::run(arguments).await?)) }),
        Command::Health { url } => client("health", health::run(url)),
        Command::Load(arguments) => load::run(arguments),
        Command::Check(arguments) => {
            let name = arguments.name();
            client(name, check::run(arguments))
        }
        Command::Token(arguments) => client("token", async { token::run(arguments) }),
        Command::Revoke(arguments) => client("revoke", revoke::run(arguments)),
        Command::Settings => print(&reference(SETTINGS)),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "roomcast", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
        Command::Version => print(concat!("roomcast ", env!("CARGO_PKG_VERSION"), "\n")),
    }
}

fn print(text: &str) -> ExitCode {
    // Whoever reads this may have seen enough, as `head` does.
    let _ = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// Runs one of the program's clients.
fn client(name: &str, client: impl Future<Output = Result<impl Termination, Failure>>) -> ExitCode {
    let Some(runtime) = runtime() else { return ExitCode::FAILURE };
    let outcome = runtime.block_on(client);
    runtime.shutdown_background();
    match outcome {
        Ok(code) => code.report(),
        Err(error) => {
            // The text may contain what a server said.
            eprintln!("roomcast {name}: {}", plain(&error.to_string()));
            ExitCode::FAILURE
        }
    }
}

/// The async runtime; `None`, with a line for the user, if the system refuses its threads.
fn runtime() -> Option<Runtime> {
    let started = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    started.map_err(|error| eprintln!("roomcast cannot start its threads: {error}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_typo_gets_a_suggestion() {
        let error = Cli::try_parse_from(["roomcast", "srve"]).expect_err("no command").to_string();
        assert!(error.contains("'serve'"), "{error}");
        let error = Cli::try_parse_from(["roomcast", "load", "--clent", "5"]).expect_err("no option").to_string();
        assert!(error.contains("'--clients'"), "{error}");
    }
}
