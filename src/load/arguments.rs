use std::{str::FromStr, time::Duration};

use super::{Churn, Flow, LoadError, Plan};

/// Connections for joins and leaves, for each URL, if the user does not say.
const CHURNERS: usize = 50;

/// A command line, understood.
#[derive(Clone, Debug)]
pub struct Arguments {
    /// What the run is to do.
    pub plan: Plan,
    /// Whether the report is to be JSON.
    pub json: bool,
    /// Whether only the help is wanted.
    pub help: bool,
}

impl Arguments {
    /// What `--help` prints.
    pub const HELP: &str = "\
roomcast load: puts a load on servers, and measures what comes of it

Usage: roomcast load [OPTIONS] URL [URL...]

Clients connect to the URLs (ws://host:port), join rooms, and publish at a steady rate, whatever the servers do.
Latency is counted from the moment at which a message was due.

  --clients N      How many connect, spread evenly over URLs and rooms (100)
  --rooms N        How many rooms they are in, one each (10)
  --rate N         Messages a second, all clients together (100)
  --publishers N   How many clients publish, in turn; without it, all
  --text BYTES     Size of each text (128)
  --warm-up TIME   For how long messages flow before anything is measured (2s)
  --duration TIME  For how long is measured (10s)
  --pid PID        Measure the CPU time and memory of this process too; may be given several times
  --saturate N     Instead of a rate: keep N messages of each publisher under way, to find the top throughput
  --idle           Instead of a rate: connect, join and hold, and measure memory before, with and after that; the
                   servers are to be fresh, as memory that they once had they keep
  --churn N        Beside it, N joins and leaves a second on each URL, pipelined, to rooms that have never been
  --churn-connections N
                   How many connections do that on each URL (50)
  --churn-existing Join the clients' rooms instead
  --json           Print the report as JSON; docs/load.md says what is in it
  --help           Print this text

The exit code is 0 if nothing was missing, doubled or out of order and no connection failed, 1 if not, and 64 for a wrong
option. Ctrl-C ends the run with the report so far; a second one ends it without.
";

    /// Understands the command line, without the program's name and the command's.
    ///
    /// # Errors
    /// If there is an option that is not known, or a value that is not right.
    pub fn parse<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Result<Self, LoadError> {
        let mut plan = Plan::default();
        let (mut json, mut help, mut flow) = (false, false, None);
        let (mut churn, mut churners, mut existing) = (None, CHURNERS, false);
        let mut arguments = arguments.into_iter();
        while let Some(option) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| wrong(format!("{option} needs a value")));
            match option {
                "--clients" => plan.clients = number(option, value()?)?,
                "--rooms" => plan.rooms = number(option, value()?)?,
                "--publishers" => plan.publishers = Some(number(option, value()?)?),
                "--text" => plan.text_bytes = number(option, value()?)?,
                "--warm-up" => plan.warm_up = time(option, value()?)?,
                "--duration" => plan.duration = time(option, value()?)?,
                "--pid" => plan.pids.push(number(option, value()?)?),
                "--rate" => choose(&mut flow, Flow::Rate(number(option, value()?)?))?,
                "--saturate" => choose(&mut flow, Flow::Saturate(number(option, value()?)?))?,
                "--idle" => choose(&mut flow, Flow::Idle)?,
                "--churn" => churn = Some(number(option, value()?)?),
                "--churn-connections" => churners = number(option, value()?)?,
                "--churn-existing" => existing = true,
                "--json" => json = true,
                "--help" | "-h" => help = true,
                other if other.starts_with('-') => return Err(wrong(format!("{other} is not an option"))),
                url => plan.urls.push(url.to_owned()),
            }
        }
        plan.flow = flow.unwrap_or(plan.flow);
        plan.churn = churn.map(|rate| Churn { rate, connections: churners, fresh: !existing });
        Ok(Self { plan, json, help })
    }
}

fn wrong(why: String) -> LoadError {
    LoadError::Plan(why)
}

fn choose(flow: &mut Option<Flow>, chosen: Flow) -> Result<(), LoadError> {
    match flow.replace(chosen) {
        None => Ok(()),
        Some(_) => Err(wrong("only one of --rate, --saturate and --idle can be had".to_owned())),
    }
}

fn number<T: FromStr>(option: &str, value: &str) -> Result<T, LoadError> {
    value.parse().map_err(|_| wrong(format!("{option} takes a number, not {value:?}")))
}

fn time(option: &str, value: &str) -> Result<Duration, LoadError> {
    humantime::parse_duration(value).map_err(|_| wrong(format!("{option} takes a time such as 10s, not {value:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, LoadError> {
        Arguments::parse(line.split_whitespace())
    }

    #[test]
    fn options_make_a_plan() {
        let line = "ws://a --clients 1000 --rate 600.5 ws://b --duration 500ms --pid 7 --pid 8 --json --churn 9";
        let Arguments { plan, json, help } = parse(line).unwrap();
        assert_eq!((plan.urls, plan.pids), (vec!["ws://a".to_owned(), "ws://b".to_owned()], vec![7, 8]));
        assert_eq!((plan.clients, plan.flow, plan.duration), (1000, Flow::Rate(600.5), Duration::from_millis(500)));
        assert_eq!(plan.churn, Some(Churn { rate: 9.0, connections: CHURNERS, fresh: true }));
        assert!(json && !help);
        assert!(parse("--help").unwrap().help);
    }

    #[test]
    fn what_is_not_right_is_said() {
        let why = |line: &str| parse(line).unwrap_err().to_string();
        assert_eq!(why("--clients"), "--clients needs a value");
        assert_eq!(why("--clients many"), "--clients takes a number, not \"many\"");
        assert_eq!(why("--duration 10"), "--duration takes a time such as 10s, not \"10\"");
        assert_eq!(why("--idle --rate 5"), "only one of --rate, --saturate and --idle can be had");
        assert_eq!(why("--quick"), "--quick is not an option");
    }
}
