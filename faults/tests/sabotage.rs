//! The harness against a server that breaks its promise on purpose.

mod support;

use std::{path::PathBuf, process::Command};

use support::{Harness, program};

#[test]
#[ignore = "builds the server a second time, with the feature `sabotage`; `make test` does it"]
fn a_server_without_the_sequencer_is_caught() {
    let Some(harness) = Harness::new() else { return };
    let server = build();
    let server = server.to_string_lossy();
    let calm = ["--short", "--only", "calm", "--seed", "1", "--server", &server];
    let (code, output) = harness.run(&[&calm[..], &["--set", "SABOTAGE=sequencer"]].concat());
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("out of order: client "), "{output}");

    // It is the sabotage that was seen, and nothing that this build always does.
    let (code, output) = harness.run(&calm);
    assert_eq!(code, Some(0), "{output}");
}

/// Builds it into a directory of its own, so that no other server is ever one that can be sabotaged.
fn build() -> PathBuf {
    let target = program("roomcast").with_file_name("sabotage");
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR")).with_file_name("Cargo.toml");
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "--features", "sabotage", "--bin", "roomcast", "--manifest-path"])
        .arg(manifest)
        .arg("--target-dir")
        .arg(&target)
        .status();
    assert!(status.expect("cargo").success());
    target.join("debug/roomcast")
}
