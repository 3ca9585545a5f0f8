//! The harness against a server that breaks its promise on purpose.

mod support;

use std::{
    path::{Path, PathBuf},
    process::Command,
};

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

    // The demo, in which people talk slowly, sees it when a server comes back and gets what was said meanwhile.
    let (mut demo, _) = harness.demo(&["--once", "--quick", "--server", &server, "--set", "SABOTAGE=sequencer"]);
    let output = demo.output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");

    // It is the sabotage that was seen, and nothing that this build always does.
    let (code, output) = harness.run(&calm);
    assert_eq!(code, Some(0), "{output}");
}

/// Builds it into a directory of its own, so that no other server is ever one that can be sabotaged. What it is made of is
/// shared with this build (by a Cargo older than 1.91 it is made again): that takes the same selection of packages, and a
/// test among the targets, for all dependencies to have the same features.
fn build() -> PathBuf {
    let target = program("roomcast").parent().and_then(Path::parent).expect("the target directory").to_owned();
    let sabotage = target.join("sabotage");
    let mut command = Command::new(env!("CARGO"));
    // Of what this test itself was told about its package, build scripts would take note, and run again.
    let told = std::env::vars_os().map(|(name, _)| name).filter(|name| {
        let name = name.to_string_lossy();
        name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")
    });
    for name in told {
        command.env_remove(name);
    }
    let status = command
        .args(["build", "--locked", "--workspace", "--features", "roomcast/sabotage"])
        .args(["--bin", "roomcast", "--test", "sabotage", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("Cargo.toml"))
        .arg("--target-dir")
        .arg(&sabotage)
        .arg("--config")
        .arg(format!("build.build-dir = {target:?}"))
        .status();
    assert!(status.expect("cargo").success());
    sabotage.join("debug/roomcast")
}
