use std::{path::PathBuf, time::Duration};

use crate::{
    Result,
    scenario::{SCENARIOS, Scenario},
    subject::{SUBJECTS, Subject},
};

/// What `--help` prints.
pub const HELP: &str = "\
roomcast-bench: measures roomcast beside other servers, and beside the least that the work can cost

Usage: roomcast-bench [OPTIONS]

  --only NAMES      Only these scenarios, by the beginning of their names: --only fanout,memory
  --peers NAMES     Beside roomcast, the floor and plain PUBLISH only these, or none: --peers bun,no-history
  --runs N          Measure everything so many times and take the medians (5); peers once where no target compares them
  --seconds N       Measure for so long each time (10), or half of it where a scenario has several loads
  --quick           Small numbers, one run of a second each: to see that everything works, not how fast
  --list            Print the scenarios and what is measured, and end
  --json FILE       Write every single value as JSON
  --markdown FILE   Where the result goes, docs/benchmarks.md if nothing is left out on the command line;
                    what stands below the mark in that file stays

It starts redis-server, roomcast and the others on free ports of 127.0.0.1 and ends them again. Peers are installed by
npm and go when they are asked for; one that cannot be had is left out.
";

/// What the run does.
#[derive(Debug)]
#[allow(missing_docs, reason = "the help says it")]
pub struct Arguments {
    pub only: Vec<String>,
    pub peers: Option<Vec<String>>,
    pub runs: usize,
    pub measuring: Duration,
    pub quick: bool,
    pub list: bool,
    pub help: bool,
    pub json: Option<PathBuf>,
    pub markdown: Option<PathBuf>,
    /// The arguments as given.
    pub line: String,
}

impl Arguments {
    /// Parses the command line, without the program's name.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self> {
        let given: Vec<String> = arguments.into_iter().collect();
        let quick = given.iter().any(|argument| argument == "--quick");
        let (runs, seconds) = if quick { (1, 1.0) } else { (5, 10.0) };
        let mut parsed = Self {
            only: Vec::new(),
            peers: None,
            runs,
            measuring: Duration::from_secs_f64(seconds),
            quick,
            list: false,
            help: false,
            json: None,
            markdown: None,
            line: given.join(" "),
        };
        let mut arguments = given.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--only" => parsed.only = names(&value()?),
                "--peers" => parsed.peers = Some(names(&value()?)),
                "--runs" => {
                    parsed.runs = value()?.parse().ok().filter(|runs| *runs > 0).ok_or("--runs needs a number")?
                }
                "--seconds" => parsed.measuring = seconds_of(&value()?)?,
                "--json" => parsed.json = Some(value()?.into()),
                "--markdown" => parsed.markdown = Some(value()?.into()),
                "--quick" => {}
                "--list" => parsed.list = true,
                "--help" | "-h" => parsed.help = true,
                other => return Err(format!("{other:?} is not an option; --help lists them").into()),
            }
        }
        parsed.check()?;
        Ok(parsed)
    }

    /// Whether nothing is left out, so that the result may go into the project's page.
    pub fn is_complete(&self) -> bool {
        self.only.is_empty() && self.peers.is_none() && !self.quick
    }

    /// The scenarios to run.
    pub fn scenarios(&self) -> Vec<&'static Scenario> {
        let chosen =
            |scenario: &&Scenario| self.only.is_empty() || self.only.iter().any(|name| scenario.name.starts_with(name));
        SCENARIOS.iter().filter(chosen).collect()
    }

    /// What to measure: this project's own, the floors, and the chosen peers.
    pub fn subjects(&self) -> Vec<&'static Subject> {
        let chosen = |subject: &&Subject| match (subject.choice(), &self.peers) {
            (Some(choice), Some(peers)) => peers.iter().any(|name| name == choice),
            _ => true,
        };
        SUBJECTS.iter().filter(chosen).collect()
    }

    fn check(&self) -> Result<()> {
        let is_scenario = |name: &&String| SCENARIOS.iter().any(|scenario| scenario.name.starts_with(name.as_str()));
        if let Some(name) = self.only.iter().find(|name| !is_scenario(name)) {
            return Err(format!("there is no scenario {name:?}; --list names them").into());
        }
        let is_peer =
            |name: &&String| *name == "none" || SUBJECTS.iter().any(|subject| subject.choice() == Some(name.as_str()));
        match self.peers.iter().flatten().find(|name| !is_peer(name)) {
            Some(name) => Err(format!("there is no peer {name:?}; --list names them").into()),
            None => Ok(()),
        }
    }
}

fn names(value: &str) -> Vec<String> {
    value.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

fn seconds_of(value: &str) -> Result<Duration> {
    let seconds = value.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.filter(|time| !time.is_zero()).ok_or_else(|| "--seconds needs a number".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_understood_or_refused() {
        let arguments = parse("--only fanout,memory --runs 3 --seconds 2.5").unwrap();
        assert_eq!((arguments.scenarios().len(), arguments.runs), (4, 3));
        assert_eq!(arguments.measuring, Duration::from_millis(2500));
        for wrong in ["--only", "--only no-such", "--peers no-such", "--runs 0", "--seconds -1", "fanout"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn ours_and_the_floor_are_always_there() {
        let names = |line: &str| parse(line).unwrap().subjects().iter().map(|subject| subject.name).collect::<Vec<_>>();
        assert_eq!(names("").len(), SUBJECTS.len());
        assert_eq!(names("--peers none"), ["roomcast", "floor", "plain PUBLISH"]);
        assert_eq!(names("--peers centrifuge,no-history").len(), 6);
    }

    #[test]
    fn only_a_whole_run_stands_for_the_project() {
        assert!(parse("--runs 7").unwrap().is_complete());
        for part in ["--quick", "--only memory", "--peers bun"] {
            assert!(!parse(part).unwrap().is_complete(), "{part}");
        }
    }
}
