//! Running the harness as a program, as a person does.

#![allow(unreachable_pub, reason = "a test program has no outside")]

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The harness, with a directory for what it keeps when something was wrong.
pub struct Harness {
    kept: tempfile::TempDir,
}

impl Harness {
    /// `None`, said loudly, if Redis is not installed. In CI that fails.
    pub fn new() -> Option<Self> {
        if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_err() {
            let text = "redis-server is not installed: `apt-get install redis-server`";
            assert!(std::env::var_os("CI").is_none_or(|value| value == "false"), "{text}");
            // Past the capture of the test runner.
            let _ = writeln!(std::io::stderr(), "LEFT OUT the fault harness: {text}");
            return None;
        }
        Some(Self { kept: tempfile::tempdir().expect("a temporary directory") })
    }

    /// Runs it. Returns its exit code and what it printed.
    pub fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_roomcast-faults"));
        let output = command.args(arguments).env("TMPDIR", self.kept.path()).output().expect("it starts");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    }
}

/// A program beside the harness.
pub fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_roomcast-faults")).with_file_name(name)
}
