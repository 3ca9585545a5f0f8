//! `roomcast load`: puts a load on servers, reports progress on standard error, and prints the report.

use std::{
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use clap::Args;
use roomcast_load::{Churn, Flow, LoadError, Plan, Roomcast};
use signal_hook::{consts::SIGINT, flag};

use super::{USAGE, print};

/// What load to put on which servers.
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// The servers; clients are spread evenly over them
    #[arg(value_name = "URL", required = true)]
    urls: Vec<String>,
    /// How many clients connect, spread evenly over URLs and rooms
    #[arg(long, value_name = "N", default_value_t = 100)]
    clients: usize,
    /// How many rooms they join, one each
    #[arg(long, value_name = "N", default_value_t = 10)]
    rooms: usize,
    /// Messages a second, all clients together [default: 100]
    #[arg(long, value_name = "N", conflicts_with_all = ["saturate", "idle"])]
    rate: Option<f64>,
    /// How many clients publish, in turn; without it, all
    #[arg(long, value_name = "N")]
    publishers: Option<usize>,
    /// Size of each text
    #[arg(long, value_name = "BYTES", default_value_t = 128)]
    text: usize,
    /// How long messages flow before the measurement begins
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = time)]
    warm_up: Duration,
    /// How long the measurement lasts
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = time)]
    duration: Duration,
    /// Also measure the CPU time and memory of this process; can be given several times
    #[arg(long = "pid", value_name = "PID")]
    pids: Vec<u32>,
    /// Instead of a rate: keep N messages of each publisher under way, to find the top throughput
    #[arg(long, value_name = "N", conflicts_with = "idle")]
    saturate: Option<usize>,
    /// Instead of a rate: connect, join and hold, and measure memory before, during and after; start the servers afresh, as
    /// they keep memory that they once had
    #[arg(long)]
    idle: bool,
    /// Also join and leave new rooms N times a second on each URL
    #[arg(long, value_name = "N")]
    churn: Option<f64>,
    /// How many connections do that on each URL
    #[arg(long, value_name = "N", default_value_t = 50)]
    churn_connections: usize,
    /// Join the clients' rooms instead of new ones
    #[arg(long)]
    churn_existing: bool,
    /// Offer the subprotocol roomcast.v1, for slim frames
    #[arg(long)]
    slim: bool,
    /// Print the report as JSON; docs/load.md describes it
    #[arg(long)]
    json: bool,
}

impl From<Arguments> for Plan {
    fn from(arguments: Arguments) -> Self {
        let flow = match (arguments.rate, arguments.saturate) {
            _ if arguments.idle => Flow::Idle,
            (_, Some(count)) => Flow::Saturate(count),
            (Some(rate), None) => Flow::Rate(rate),
            (None, None) => Self::default().flow,
        };
        let (connections, fresh) = (arguments.churn_connections, !arguments.churn_existing);
        Self {
            urls: arguments.urls,
            pids: arguments.pids,
            clients: arguments.clients,
            rooms: arguments.rooms,
            publishers: arguments.publishers,
            text_bytes: arguments.text,
            warm_up: arguments.warm_up,
            duration: arguments.duration,
            flow,
            churn: arguments.churn.map(|rate| Churn { rate, connections, fresh }),
        }
    }
}

fn time(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|_| "write a time such as 10s or 500ms".to_owned())
}

/// Runs the load. Returns the exit code.
pub(super) fn run(arguments: Arguments) -> ExitCode {
    let (json, dialect) = (arguments.json, Roomcast { is_slim: arguments.slim });
    // The first signal asks for the report so far, the second one ends the program at once.
    let stop = Arc::new(AtomicBool::new(false));
    let signals =
        flag::register_conditional_shutdown(SIGINT, 1, stop.clone()).and_then(|_| flag::register(SIGINT, stop.clone()));
    if let Err(why) = signals {
        eprintln!("roomcast cannot listen for signals: {why}");
        return ExitCode::FAILURE;
    }
    let report = match roomcast_load::run(&arguments.into(), &dialect, &stop, &mut |step| eprintln!("{step}")) {
        Ok(report) => report,
        Err(why) => {
            eprintln!("roomcast load: {why}");
            let is_usage = matches!(why, LoadError::Plan(_) | LoadError::Url { .. });
            return if is_usage { ExitCode::from(USAGE) } else { ExitCode::FAILURE };
        }
    };
    print(&if json { report.to_json() } else { report.to_string() });
    if report.clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn plan(line: &str) -> Result<Plan, String> {
        let words = ["load"].into_iter().chain(line.split_whitespace());
        let command = Command::try_parse_from(words).map_err(|error| error.to_string())?;
        Ok(command.arguments.into())
    }

    #[test]
    fn options_make_a_plan() {
        let line = "ws://a --clients 1000 --rate 600.5 ws://b --duration 500ms --pid 7 --pid 8 --json --churn 9";
        let all = plan(line).unwrap();
        assert_eq!((all.urls, all.pids), (vec!["ws://a".to_owned(), "ws://b".to_owned()], vec![7, 8]));
        assert_eq!((all.clients, all.flow, all.duration), (1000, Flow::Rate(600.5), Duration::from_millis(500)));
        assert_eq!(all.churn, Some(Churn { rate: 9.0, connections: 50, fresh: true }));
        assert_eq!(plan("ws://a --saturate 4 --churn 1 --churn-existing").unwrap().flow, Flow::Saturate(4));
        let default = Plan::default();
        let bare = plan("ws://a").unwrap();
        assert_eq!((bare.clients, bare.rooms, bare.flow), (default.clients, default.rooms, default.flow));
        assert_eq!((bare.warm_up, bare.duration), (default.warm_up, default.duration));
        assert_eq!((bare.text_bytes, bare.churn, bare.publishers), (default.text_bytes, None, None));
    }

    #[test]
    fn what_is_not_right_is_said() {
        for (line, says) in [
            ("", "<URL>"),
            ("ws://a --clients", "--clients <N>"),
            ("ws://a --clients many", "'many' for '--clients <N>'"),
            ("ws://a --duration 10", "10s or 500ms"),
            ("ws://a --idle --rate 5", "cannot be used with"),
            ("ws://a --saturate 5 --rate 5", "cannot be used with"),
            ("ws://a --quick", "'--quick'"),
        ] {
            let why = plan(line).unwrap_err();
            assert!(why.contains(says), "{line}: {why}");
        }
    }
}
