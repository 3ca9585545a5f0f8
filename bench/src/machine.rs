use std::{fs, process::Command, time::SystemTime};

use rustix::system::uname;

/// What a run was made on: nothing in it says whose machine it is.
pub fn describe() -> Vec<String> {
    let mut lines = vec![format!("{}, {} cores, {} of memory", processor(), cores(), memory())];
    lines.push(format!("{} {}", uname().sysname().to_string_lossy(), kernel(&uname().release().to_string_lossy())));
    let tools = [
        ("rustc", &["--version"][..]),
        ("redis-server", &["--version"]),
        ("node", &["--version"]),
        ("go", &["version"]),
    ];
    let versions = tools.iter().filter_map(|(name, arguments)| version(name, arguments));
    lines.push(versions.collect::<Vec<_>>().join(", "));
    lines
}

/// The date in UTC.
pub fn today() -> String {
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    now.split('T').next().unwrap_or_default().to_owned()
}

fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name"));
    model.and_then(|rest| rest.split_once(':')).map_or("unknown processor", |(_, model)| model.trim()).to_owned()
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(0, usize::from)
}

fn memory() -> String {
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = info.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib: Option<f64> = total.and_then(|rest| rest.split_whitespace().next()).and_then(|kib| kib.parse().ok());
    kib.map_or("?".to_owned(), |kib| format!("{:.0} GiB", kib / 1024.0 / 1024.0))
}

/// The numbers of a release, without what its builder has added.
fn kernel(release: &str) -> &str {
    release.split_once('-').map_or(release, |(numbers, _)| numbers)
}

/// A program and the first thing in its answer that looks like a version.
fn version(name: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(name).args(arguments).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    numbers_in(&text).map(|version| format!("{name} {version}"))
}

fn numbers_in(text: &str) -> Option<&str> {
    let words = text.split([' ', '\n', '=']).map(|word| word.trim_start_matches("go").trim_start_matches('v'));
    words.into_iter().find(|word| word.starts_with(|first: char| first.is_ascii_digit()) && word.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (text, version) in [
            ("rustc 1.95.0 (f2d3ce0bd 2026-03-21)\n", "1.95.0"),
            ("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64", "7.0.15"),
            ("v20.20.2\n", "20.20.2"),
            ("go version go1.26.8 linux/amd64", "1.26.8"),
        ] {
            assert_eq!(numbers_in(text), Some(version));
        }
    }

    #[test]
    fn the_builder_of_a_kernel_is_nobodys_business() {
        assert_eq!(kernel("6.18.44-builder-v1"), "6.18.44");
        assert!(describe()[0].contains("cores"));
    }
}
