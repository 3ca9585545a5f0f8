use std::{fs, time::Duration};

use rustix::{
    param::clock_ticks_per_second,
    time::{ClockId, clock_gettime},
};

use super::LoadError;

/// The CPU time of this program.
pub(super) fn own_cpu() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}

/// A process, measured from outside.
#[derive(Clone, Debug)]
pub struct Process {
    /// Its directory in `/proc`.
    directory: String,
}

impl Process {
    /// The process with this id.
    pub fn of(pid: u32) -> Self {
        Self { directory: format!("/proc/{pid}") }
    }

    /// Its CPU time: all threads, user and kernel.
    ///
    /// # Errors
    /// If there is no such process, or reading it is not allowed.
    pub fn cpu(&self) -> Result<Duration, LoadError> {
        let stat = self.read("stat")?;
        let ticks = ticks(&stat).ok_or_else(|| self.gone("its `stat` is not understood"))?;
        Ok(Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64))
    }

    /// Its resident memory in KiB.
    pub(super) fn resident(&self) -> Result<u64, LoadError> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        // A zombie has none.
        let number = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        number.ok_or_else(|| self.gone("it has ended"))
    }

    /// How many files and sockets it has open.
    pub(super) fn open_files(&self) -> Result<usize, LoadError> {
        let entries = fs::read_dir(format!("{}/fd", self.directory));
        Ok(entries.map_err(|why| self.gone(&why.to_string()))?.count())
    }

    fn read(&self, file: &str) -> Result<String, LoadError> {
        fs::read_to_string(format!("{}/{file}", self.directory)).map_err(|why| self.gone(&why.to_string()))
    }

    fn gone(&self, why: &str) -> LoadError {
        LoadError::Process { process: self.directory.clone(), why: why.to_owned() }
    }
}

/// `utime` and `stime`, 11 fields after the program's name, which is in parentheses and may contain anything.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_are_found_whatever_the_program_is_called() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 1 1 1";
        assert_eq!(ticks(stat), Some(300));
        assert!(Process::of(std::process::id()).cpu().is_ok());
    }

    #[test]
    fn this_program_can_be_measured() {
        let own = Process::of(std::process::id());
        assert!(own.resident().unwrap() > 100 && own.open_files().unwrap() > 2);
        let before = (own.cpu().unwrap(), own_cpu());
        while own.cpu().unwrap() == before.0 {}
        assert!(own_cpu() > before.1);
        assert!(matches!(Process::of(u32::MAX).cpu(), Err(LoadError::Process { .. })));
    }
}
