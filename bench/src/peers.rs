use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, SystemTime},
};

use crate::{
    Result,
    children::Children,
    subject::{Kind, Subject},
};

/// Longest time for an install or a build.
const INSTALL: Duration = Duration::from_secs(300);

/// The sources of the peers, which are installed when they are asked for.
#[derive(Clone, Debug)]
pub struct Peers {
    directory: PathBuf,
}

impl Peers {
    /// Those of this source tree.
    pub fn new() -> Self {
        Self { directory: Path::new(env!("CARGO_MANIFEST_DIR")).join("peers") }
    }

    /// Where a peer's sources are.
    pub fn directory(&self, peer: &str) -> PathBuf {
        self.directory.join(peer)
    }

    /// Gets what a subject needs to run. The error says why that fails here, and how to get it.
    pub fn install(&self, subject: &Subject, children: &Children) -> Result<()> {
        let Some(peer) = subject.peer() else { return Ok(()) };
        let directory = self.directory(peer);
        match subject.kind {
            Kind::Centrifuge { .. } => {
                need("go", "version", "go, from https://go.dev/doc/install")?;
                let mut build = Command::new("go");
                build.args(["build", "-trimpath", "-o", "server", "."]).current_dir(&directory);
                run(children, "go build", build)
            }
            _ => {
                need("node", "--version", "nodejs and npm from your package manager or https://nodejs.org")?;
                if !is_newer(&directory.join("node_modules/.package-lock.json"), &directory.join("package-lock.json")) {
                    need("npm", "--version", "npm from your package manager or https://nodejs.org")?;
                    let mut install = Command::new("npm");
                    install.args(["ci", "--no-audit", "--no-fund"]).current_dir(&directory);
                    run(children, "npm ci", install)?;
                }
                Ok(())
            }
        }
    }
}

/// An error that says how to get a program, if it does not run.
fn need(program: &str, argument: &str, what: &str) -> Result<()> {
    let status = Command::new(program).arg(argument).stdout(Stdio::null()).stderr(Stdio::null()).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        _ => Err(format!("{program} is missing: install {what}").into()),
    }
}

fn run(children: &Children, name: &str, command: Command) -> Result<()> {
    let directory = command.get_current_dir().and_then(Path::file_name).unwrap_or_default().display().to_string();
    let done = children.start(&name.replace(' ', "-"), command).and_then(|process| process.wait(INSTALL));
    done.map_err(|error| format!("`{name}` in bench/peers/{directory} failed: {error}").into())
}

fn is_newer(one: &Path, other: &Path) -> bool {
    let changed = |path: &Path| path.metadata().and_then(|data| data.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    one.exists() && changed(one) >= changed(other)
}
