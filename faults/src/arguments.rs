use std::path::PathBuf;

use crate::{
    Result,
    scenario::{SCENARIOS, Scenario},
};

/// What `--help` prints.
pub const HELP: &str = "\
roomcast-faults: breaks a roomcast cluster in every way it must survive, and judges what its clients saw

Usage: roomcast-faults [OPTIONS]
       roomcast-faults demo [OPTIONS]    A chat to watch while things break; `demo --help` has its options

  --server PATH    The server to run; without it, `roomcast` beside this program
  --set NAME=VALUE A setting of the servers, without the prefix ROOMCAST_; may be given several times
  --seed N         Makes the choices of an earlier run again
  --short          Only some scenarios, and shorter
  --only NAME      Only this scenario; may be given several times
  --list           Print the scenarios and end
  --json FILE      Write the result as JSON
  --markdown FILE  Write the result as a section of docs/reliability.md

It starts redis-server and roomcast processes on free ports of 127.0.0.1 and ends them again. The exit code is 1 if
anything was silently lost, doubled or out of order, or if not all clients had everything in the end.
";

/// What the run does.
#[derive(Debug, Default)]
#[allow(missing_docs, reason = "the help says it")]
pub struct Arguments {
    pub server: Option<PathBuf>,
    pub settings: Vec<(String, String)>,
    pub seed: Option<u64>,
    pub short: bool,
    pub only: Vec<String>,
    pub list: bool,
    pub help: bool,
    pub json: Option<PathBuf>,
    pub markdown: Option<PathBuf>,
}

impl Arguments {
    /// Parses the command line, without the program's name.
    pub fn parse(arguments: impl IntoIterator<Item = String>) -> Result<Self> {
        let mut parsed = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--server" => parsed.server = Some(value()?.into()),
                "--set" => {
                    let pair = value()?;
                    let (name, value) = pair.split_once('=').ok_or("--set needs NAME=VALUE")?;
                    parsed.settings.push((name.to_owned(), value.to_owned()));
                }
                "--seed" => parsed.seed = Some(value()?.parse().map_err(|_| "--seed needs a number")?),
                "--only" => parsed.only.push(value()?),
                "--json" => parsed.json = Some(value()?.into()),
                "--markdown" => parsed.markdown = Some(value()?.into()),
                "--short" => parsed.short = true,
                "--list" => parsed.list = true,
                "--help" | "-h" => parsed.help = true,
                other => return Err(format!("{other:?} is not an option; --help lists them").into()),
            }
        }
        match parsed.only.iter().find(|name| !SCENARIOS.iter().any(|scenario| scenario.name == **name)) {
            Some(name) => Err(format!("there is no scenario {name:?}; --list names them").into()),
            None => Ok(parsed),
        }
    }

    /// The scenarios to run.
    pub fn scenarios(&self) -> Vec<&'static Scenario> {
        let chosen = |scenario: &&Scenario| match self.only.is_empty() {
            true => scenario.short || !self.short,
            false => self.only.iter().any(|name| name == scenario.name),
        };
        SCENARIOS.iter().filter(chosen).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments> {
        Arguments::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_are_understood_or_refused() {
        let arguments = parse("--seed 7 --short --only calm --server a/b").unwrap();
        assert_eq!((arguments.seed, arguments.short, arguments.only.len()), (Some(7), true, 1));
        for wrong in ["--seed", "--seed x", "--only no-such", "--set a", "calm"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_short_form_is_a_part_of_the_long_one() {
        let (short, long) = (parse("--short").unwrap().scenarios(), parse("").unwrap().scenarios());
        assert!(!short.is_empty() && short.len() < long.len());
        assert_eq!(parse("--short --only flushall").unwrap().scenarios().len(), 1);
    }
}
