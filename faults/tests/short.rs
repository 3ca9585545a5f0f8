//! The short form of the harness against the server of this build.

mod support;

use support::{Harness, program};

#[test]
fn no_promise_is_broken_in_the_short_form() {
    let server = program("roomcast");
    assert!(server.is_file(), "{} is not there; run `cargo test --workspace`, which builds it", server.display());
    let Some(harness) = Harness::new() else { return };
    let (code, output) = harness.run(&["--short", "--server", &server.to_string_lossy()]);
    // Shown by `cargo test -- --nocapture`, and when this fails.
    println!("{output}");
    assert_eq!(code, Some(0), "the table above says what was wrong, and its seed makes the run again");
}
