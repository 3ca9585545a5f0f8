use std::{
    collections::BTreeMap,
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use crate::Result;

const POLL: Duration = Duration::from_millis(20);

/// All processes of this run, so that they end with it: when their [`Process`] is dropped, and when the run is
/// interrupted.
#[derive(Clone, Debug)]
pub struct Children(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// The directory for their output and other files of the run.
    directory: PathBuf,
    started: AtomicUsize,
    /// The processes by id; `None` when no more may be started.
    running: Mutex<Option<BTreeMap<u32, Child>>>,
}

/// One process. It is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    id: u32,
    name: String,
    log: PathBuf,
    children: Children,
}

impl Children {
    /// None yet.
    pub fn new(directory: &Path) -> Self {
        let running = Mutex::new(Some(BTreeMap::new()));
        Self(Arc::new(Shared { directory: directory.to_owned(), started: AtomicUsize::new(0), running }))
    }

    /// A place for files, which is removed with the run.
    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// Starts a program; what it prints goes into a file.
    pub fn start(&self, name: &str, mut command: Command) -> Result<Process> {
        // Held to the end, so that nothing is written into the directory while it is removed.
        let mut running = self.running();
        let running = running.as_mut().ok_or("the run has ended")?;
        let number = self.0.started.fetch_add(1, Ordering::Relaxed);
        let log = self.0.directory.join(format!("{number}-{name}.log"));
        let file = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let program = command.get_program().display().to_string();
        let child = command.spawn().map_err(|error| format!("{program} cannot be started: {error}"))?;
        let id = child.id();
        running.insert(id, child);
        Ok(Process { id, name: name.to_owned(), log, children: self.clone() })
    }

    /// Kills all processes, and allows no more.
    pub fn end(&self) {
        for mut child in self.running().take().into_iter().flat_map(BTreeMap::into_values) {
            end(&mut child);
        }
    }

    /// Whether the run was interrupted. The process is then about to end.
    pub fn have_ended(&self) -> bool {
        self.running().is_none()
    }

    fn running(&self) -> MutexGuard<'_, Option<BTreeMap<u32, Child>>> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ask(&self, id: u32) -> Result<Option<ExitStatus>> {
        match self.running().as_mut().and_then(|running| running.get_mut(&id)) {
            Some(child) => Ok(child.try_wait()?),
            None => Err("the run has ended".into()),
        }
    }
}

impl Process {
    /// Its id.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Fails, with its last output, if it has ended.
    pub fn is_running(&self) -> Result<()> {
        match self.children.ask(self.id)? {
            None => Ok(()),
            Some(status) => Err(format!("{} ended with {status}; it said: {}", self.name, self.last_words()).into()),
        }
    }

    /// Waits until the condition holds while it runs.
    pub fn until(&self, what: &str, limit: Duration, condition: impl Fn() -> bool) -> Result<()> {
        let start = Instant::now();
        while !condition() {
            self.is_running()?;
            if start.elapsed() > limit {
                let words = self.last_words();
                return Err(format!("{}: {what}: not within {limit:?}; it said: {words}", self.name).into());
            }
            sleep(POLL);
        }
        self.is_running()
    }

    /// Waits for its successful end.
    pub fn wait(self, limit: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            match self.children.ask(self.id)? {
                Some(status) if status.success() => return Ok(()),
                Some(_) => return self.is_running(),
                None if start.elapsed() > limit => return Err(format!("{}: not within {limit:?}", self.name).into()),
                None => sleep(POLL),
            }
        }
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(4)..].join(" / ")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.children.running().as_mut().and_then(|running| running.remove(&self.id));
        if let Some(mut child) = child {
            end(&mut child);
        }
    }
}

fn end(child: &mut Child) {
    // An error means that it has ended already.
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper() -> Command {
        let mut command = Command::new("sleep");
        command.arg("60");
        command
    }

    fn is_there(id: u32) -> bool {
        Path::new(&format!("/proc/{id}")).exists()
    }

    #[test]
    fn processes_end_when_they_are_dropped_and_with_the_run() {
        let directory = tempfile::tempdir().unwrap();
        let children = Children::new(directory.path());
        let (one, other) = (children.start("one", sleeper()).unwrap(), children.start("other", sleeper()).unwrap());
        let ids = [one.id(), other.id()];
        assert!(ids.map(is_there).iter().all(|there| *there));
        drop(one);
        assert!(!is_there(ids[0]));
        children.end();
        assert!(!is_there(ids[1]) && children.have_ended());
        assert!(children.start("late", sleeper()).is_err());
    }

    #[test]
    fn one_that_ends_too_early_is_an_error_with_its_last_words() {
        let directory = tempfile::tempdir().unwrap();
        let children = Children::new(directory.path());
        let mut command = Command::new("sh");
        command.args(["-c", "echo no such thing; exit 3"]);
        let process = children.start("shell", command).unwrap();
        let error = process.until("never", Duration::from_secs(10), || false).unwrap_err().to_string();
        assert!(error.contains("no such thing"), "{error}");
    }
}
