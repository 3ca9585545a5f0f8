use std::{fs, time::Duration};

use rustix::{
    param::clock_ticks_per_second,
    time::{ClockId, clock_gettime},
};

use super::LoadError;

/// The CPU time that this program has used.
pub(super) fn own_cpu() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}

/// A process that is measured, from outside.
#[derive(Clone, Debug)]
pub(super) struct Process {
    /// Its directory in `/proc`.
    directory: String,
}

impl Process {
    /// The process with this number.
    pub(super) fn of(pid: u32) -> Self {
        Self { directory: format!("/proc/{pid}") }
    }

    /// The CPU time that it has used, in programs and in the kernel.
    pub(super) fn cpu(&self) -> Result<Duration, LoadError> {
        let stat = self.read("stat")?;
        // The second field is the name, in parentheses, and may hold anything; utime and stime are the 14th and 15th.
        let after_name = stat.rsplit(')').next().unwrap_or("");
        let ticks = after_name.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
        let ticks: u64 = ticks.map(|ticks| ticks.unwrap_or(0)).sum();
        Ok(Duration::from_secs_f64(ticks as f64 / clock_ticks_per_second() as f64))
    }

    /// Its resident memory in KiB.
    pub(super) fn resident(&self) -> Result<u64, LoadError> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        // A process that has ended and is not yet buried has none.
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

#[cfg(test)]
mod tests {
    use super::*;

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
