//! The benchmark in its quick form against the server of this build, so that it does not rot. It says nothing about
//! speed.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// Whether Redis is installed; if not, that is said loudly, and in CI it fails.
fn has_redis() -> bool {
    if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_ok() {
        return true;
    }
    let text = "redis-server is not installed: `apt-get install redis-server`";
    assert!(std::env::var_os("CI").is_none_or(|value| value == "false"), "{text}");
    // Past the capture of the test runner.
    let _ = writeln!(std::io::stderr(), "LEFT OUT the benchmark: {text}");
    false
}

fn bench(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roomcast-bench"));
    command.args(arguments);
    command
}

/// The processes whose parent this is.
fn children_of(parent: u32) -> Vec<String> {
    let entries =
        std::fs::read_dir("/proc").expect("/proc").filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let is_child = |id: &String| {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        status.lines().any(|line| line.strip_prefix("PPid:").is_some_and(|id| id.trim() == parent.to_string()))
    };
    entries.filter(is_child).collect()
}

#[test]
fn every_scenario_measures_roomcast_and_the_floor() {
    let server = Path::new(env!("CARGO_BIN_EXE_roomcast-bench")).with_file_name("roomcast");
    assert!(server.is_file(), "{} is not there; run `cargo test --workspace`, which builds it", server.display());
    if !has_redis() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let page = directory.path().join("page.md");
    let arguments = ["--quick", "--peers", "none", "--seconds", "0.3", "--markdown", &page.to_string_lossy()];
    let output = bench(&arguments).output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // Shown by `cargo test -- --nocapture`, and when this fails.
    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}", output.status);

    let page = std::fs::read_to_string(page).expect("the page");
    let names = String::from_utf8(bench(&["--list"]).output().expect("it starts").stdout).expect("text");
    for scenario in names.lines().take_while(|line| !line.is_empty()).filter_map(|line| line.split(' ').next()) {
        let section = page.split(&format!("\n## {scenario}\n")).nth(1).expect(scenario);
        let section = section.split("\n## ").next().expect("a beginning");
        assert!(section.contains("\n| roomcast | "), "{scenario}: {section}");
    }
}

#[test]
fn an_interrupted_run_leaves_nothing_behind() {
    if !has_redis() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let arguments = ["--quick", "--peers", "none", "--seconds", "60", "--only", "fanout-60k"];
    let mut run = bench(&arguments).env("TMPDIR", directory.path()).stdout(Stdio::null()).spawn().expect("it starts");
    let started = Instant::now();
    while children_of(run.id()).len() < 3 {
        assert!(started.elapsed() < Duration::from_secs(20), "a Redis and two servers do not start");
        sleep(Duration::from_millis(20));
    }
    let running = children_of(run.id());
    let kill = Command::new("kill").args(["-s", "INT", &run.id().to_string()]).status().expect("kill");
    assert!(kill.success());
    assert_eq!(run.wait().expect("it ends").code(), Some(130));
    let left: Vec<_> = running.into_iter().filter(|id| Path::new("/proc").join(id).exists()).collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(std::fs::read_dir(directory.path()).expect("it is there").count(), 0, "files are left");
}
