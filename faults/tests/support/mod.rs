//! Running the harness as a program, as a person does.

#![allow(unreachable_pub, reason = "a test program has no outside")]
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::{
    io::Write,
    net::TcpListener,
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
        Self::with(&[])
    }

    /// The same, if one of these is not installed either.
    pub fn with(tools: &[&str]) -> Option<Self> {
        for tool in [&["redis-server"], tools].concat() {
            if Command::new(tool).arg("-v").env("PATH", path()).output().is_ok() {
                continue;
            }
            let text = format!("{tool} is not installed: `apt-get install {tool}`");
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

    /// The demo with these arguments, and the free ports that it is given: of nginx, the servers and Redis.
    pub fn demo(&self, arguments: &[&str]) -> (Command, [u16; 5]) {
        // All at once, so that no two are the same.
        let free = [(); 5].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let ports = free.map(|listener| listener.local_addr().expect("its address").port());
        let mut command = Command::new(env!("CARGO_BIN_EXE_roomcast-faults"));
        command.arg("demo").args(arguments).env("TMPDIR", self.kept.path()).stdin(Stdio::null());
        for (name, port) in ["PORT", "PORT_1", "PORT_2", "PORT_3", "REDIS_PORT"].into_iter().zip(ports) {
            command.env(name, port.to_string());
        }
        (command, ports)
    }

    /// What is left in its directory.
    pub fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.kept.path()).expect("its directory");
        entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
    }
}

/// Debian keeps nginx where an ordinary user's PATH does not lead.
fn path() -> String {
    format!("{}:/usr/sbin:/sbin", std::env::var_os("PATH").unwrap_or_default().to_string_lossy())
}

/// A program beside the harness.
pub fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_roomcast-faults")).with_file_name(name)
}
