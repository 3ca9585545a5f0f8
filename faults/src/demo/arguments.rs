use std::{
    collections::BTreeSet,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    time::Duration,
};

use crate::{Result, beside_this_program};

/// What `--help` prints.
pub const HELP: &str = "\
roomcast-faults demo: a chat that goes on while what carries it is broken

Usage: roomcast-faults demo [OPTIONS]

  --once           Break each thing once, judge, and end; so it is without a terminal, too
  --quick          With shorter pauses and quicker talk, for tests
  --server PATH    The server to run; without it, `roomcast` beside this program
  --set NAME=VALUE A setting of the servers, without the prefix ROOMCAST_; may be given several times

The environment says where it listens on 127.0.0.1: PORT (8080) is nginx, PORT_1, PORT_2, PORT_3 (8081 to 8083) are the
servers, and REDIS_PORT (6380) is Redis. NO_COLOR leaves the colours out.

The exit code is 1 if anything was lost, doubled or misordered.
";

/// What the demo does.
#[derive(Debug)]
#[allow(missing_docs, reason = "the help says it")]
pub struct Arguments {
    pub once: bool,
    pub quick: bool,
    pub server: Option<PathBuf>,
    pub settings: Vec<(String, String)>,
    pub help: bool,
    pub ports: Ports,
}

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub struct Tempo {
    /// Between two messages of one person, on average.
    pub pace: Duration,
    /// How long they talk before the timer breaks something.
    pub peace: Duration,
    /// How long a thing stays broken.
    pub down: Duration,
    /// How long they talk on before the judgement.
    pub after: Duration,
}

impl Arguments {
    /// Parses the command line, without the program's name, and the environment.
    pub fn parse(
        arguments: impl IntoIterator<Item = String>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self> {
        let (once, quick, server, settings, help, ports) =
            (false, false, None, Vec::new(), false, Ports::parse(variable)?);
        let mut parsed = Self { once, quick, server, settings, help, ports };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--once" => parsed.once = true,
                "--quick" => parsed.quick = true,
                "--server" => parsed.server = Some(value()?.into()),
                "--set" => {
                    let pair = value()?;
                    let (name, value) = pair.split_once('=').ok_or("--set needs NAME=VALUE")?;
                    parsed.settings.push((name.to_owned(), value.to_owned()));
                }
                "--help" | "-h" => parsed.help = true,
                other => return Err(format!("{other:?} is not an option; --help lists them").into()),
            }
        }
        Ok(parsed)
    }

    /// The server's program.
    pub fn program(&self) -> Result<PathBuf> {
        let program = match &self.server {
            Some(path) => path.clone(),
            None => beside_this_program()?,
        };
        if program.is_file() { Ok(program) } else { Err(format!("{} is not there", program.display()).into()) }
    }

    /// Its pace.
    pub fn tempo(&self) -> Tempo {
        let [pace, peace, down, after] = if self.quick { [150, 800, 500, 1000] } else { [2500, 5000, 2000, 4000] };
        let millis = Duration::from_millis;
        Tempo { pace: millis(pace), peace: millis(peace), down: millis(down), after: millis(after) }
    }
}

/// Where everything listens on 127.0.0.1, each with the variable that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports([(&'static str, u16); 5]);

impl Ports {
    fn parse(variable: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let mut ports = [("PORT", 8080), ("PORT_1", 8081), ("PORT_2", 8082), ("PORT_3", 8083), ("REDIS_PORT", 6380)];
        for (name, port) in &mut ports {
            // Compose and make know an empty variable as one that is not set.
            let Some(value) = variable(name).filter(|value| !value.is_empty()) else { continue };
            *port = value
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .ok_or_else(|| format!("{name}={value} is not a port. Give a number from 1 to 65535."))?;
        }
        let mut seen = BTreeSet::new();
        match ports.iter().find(|(_, port)| !seen.insert(*port)) {
            Some((name, port)) => {
                Err(format!("{name}={port}: another part has this port already. Give each its own.").into())
            }
            None => Ok(Self(ports)),
        }
    }

    /// An error if something listens on one of them.
    pub fn check(&self) -> Result<()> {
        for (name, port) in self.0 {
            if TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], port))).is_ok() {
                let other = port % 50000 + 10000;
                return Err(format!(
                    "Port {port} is in use. Stop what listens there, or choose another, for example: make demo \
                     {name}={other}"
                )
                .into());
            }
        }
        Ok(())
    }

    /// Of nginx.
    pub fn nginx(&self) -> u16 {
        self.0[0].1
    }

    /// Of the servers.
    pub fn servers(&self) -> [u16; 3] {
        [self.0[1].1, self.0[2].1, self.0[3].1]
    }

    /// Of Redis.
    pub fn redis(&self) -> u16 {
        self.0[4].1
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn parse(line: &str, variables: &[(&str, &str)]) -> Result<Arguments> {
        let variable = |name: &str| {
            let set = variables.iter().find(|(known, _)| *known == name);
            set.map(|(_, value)| (*value).to_owned())
        };
        Arguments::parse(line.split_whitespace().map(str::to_owned), variable)
    }

    #[test]
    fn options_and_ports_are_understood_or_refused() {
        let arguments = parse("--once --set LOG=debug", &[("PORT", "9000"), ("PORT_1", "")]).unwrap();
        assert_eq!((arguments.once, arguments.settings.len()), (true, 1));
        assert_eq!((arguments.ports.nginx(), arguments.ports.servers()), (9000, [8081, 8082, 8083]));
        for wrong in ["--set a", "--server", "k"] {
            assert!(parse(wrong, &[]).is_err(), "{wrong}");
        }
        for (wrong, why) in [("0", "is not a port"), ("x", "is not a port"), ("8081", "another part")] {
            let error = parse("", &[("PORT", wrong)]).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_port_in_use_is_named_with_the_command_for_another() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port().to_string();
        let error = parse("", &[("REDIS_PORT", &port)]).unwrap().ports.check().unwrap_err().to_string();
        // Some other may be taken too on this machine, and comes first then.
        assert!(error.contains("is in use") && error.contains("make demo "), "{error}");
    }
}
