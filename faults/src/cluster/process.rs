use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::LazyLock,
    time::Duration,
};

use tokio::{
    process::{Child, Command},
    time::timeout,
};

use crate::{Result, wait::within};

/// Longest time from a signal that ends a process to its end.
const END: Duration = Duration::from_secs(20);

/// `setpriv` of util-linux, if it is there and can have Linux kill a process when its parent ends.
static LEASH: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let setpriv = find(Path::new("setpriv"))?;
    let tried =
        std::process::Command::new(&setpriv).args(["--pdeathsig", "KILL", "true"]).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success()).then_some(setpriv)
});

/// The command that runs a program so that it ends with this process, even if this process is killed. Without
/// `setpriv`, as on systems other than Linux, the program would stay.
pub fn leashed(program: &Path) -> Command {
    // A missing program is started directly, so that the error names it.
    let (Some(found), Some(setpriv)) = (find(program), &*LEASH) else { return Command::new(program) };
    let mut command = Command::new(setpriv);
    command.args(["--pdeathsig", "KILL"]).arg(found);
    command
}

/// Where a program is. Debian keeps some where an ordinary user's PATH does not lead.
fn find(program: &Path) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&paths).chain(["/usr/sbin".into(), "/sbin".into()]);
    let is_path = program.components().count() > 1;
    let mut candidates: Box<dyn Iterator<Item = PathBuf>> = if is_path {
        Box::new(std::iter::once(program.to_owned()))
    } else {
        Box::new(places.map(|place| place.join(program)))
    };
    candidates.find(|candidate| candidate.is_file())
}

/// A process of this run. Dropping it kills the process, so a panic or an interrupt does too.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
}

impl Process {
    /// Starts a program in its own process group, so that Ctrl-C in the terminal reaches only the harness, which ends
    /// the others in order. Its standard error is appended to a file.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(log)?;
        let spawned = command.stdin(Stdio::null()).stderr(file).process_group(0).kill_on_drop(true).spawn();
        let program = command.as_std().get_program().to_owned();
        let child = spawned.map_err(|error| format!("{} cannot be started: {error}", program.display()))?;
        Ok(Self { name: name.to_owned(), child })
    }

    /// Its standard output, if it was asked for and not taken yet.
    pub fn stdout(&mut self) -> Option<tokio::process::ChildStdout> {
        self.child.stdout.take()
    }

    /// An error if it has ended.
    pub fn is_running(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("{} ended with {status}", self.name).into()),
        }
    }

    /// Sends a signal to this process alone, by its id.
    pub async fn signal(&self, signal: &str) -> Result<()> {
        let id = self.child.id().ok_or_else(|| format!("{} has ended already", self.name))?;
        let arguments = ["-s".as_ref(), signal.as_ref(), OsStr::new(&id.to_string())].map(OsStr::to_owned);
        let status = within("kill", END, Command::new("kill").args(arguments).status()).await??;
        if !status.success() {
            return Err(format!("kill -s {signal} for {} failed with {status}", self.name).into());
        }
        Ok(())
    }

    /// Ends it as a crash would.
    pub async fn kill(mut self) -> Result<()> {
        Ok(within(&format!("the end of {}", self.name), END, self.child.kill()).await??)
    }

    /// Asks it to end with SIGTERM, and waits until it has.
    pub async fn terminate(mut self) -> Result<()> {
        self.signal("TERM").await?;
        match timeout(END, self.child.wait()).await {
            Ok(status) => drop(status?),
            Err(_) => return Err(format!("{} did not end within {END:?} of SIGTERM", self.name).into()),
        }
        Ok(())
    }
}
