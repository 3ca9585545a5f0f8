//! The demo on its timer, against the server of this build.

mod support;

use std::{
    io::{BufRead, BufReader},
    net::TcpStream,
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};

use support::Harness;

#[test]
fn the_demo_breaks_everything_once_and_leaves_nothing_behind() {
    let Some(harness) = Harness::with(&["nginx"]) else { return };
    let (mut command, ports) = harness.demo(&["--once", "--quick"]);
    let output = command.output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.starts_with(&format!("http://127.0.0.1:{}/?room=demo\n", ports[0])), "{text}");
    assert_eq!(text.matches("Lost 0, doubled 0, misordered 0").count(), 3, "{text}");
    assert!(text.contains("In all: lost 0, doubled 0, misordered 0, over"), "{text}");
    assert!(!text.contains('\x1b'), "no colours where there is no terminal: {text}");
    assert_nothing_left(&harness, &ports);
}

#[test]
fn the_demo_can_be_ended_at_any_time() {
    let Some(harness) = Harness::with(&["nginx"]) else { return };
    let (mut command, ports) = harness.demo(&["--quick"]);
    let mut demo = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut lines = BufReader::new(demo.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("Killing server-")), "it kills a server");
    let status = std::process::Command::new("kill").args(["-s", "TERM", &demo.id().to_string()]).status();
    assert!(status.expect("kill").success());
    let output = demo.wait_with_output().expect("its end");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(text.contains("ended before everything had been broken"), "{text}");
    assert!(lines.any(|line| line.contains("before it could judge")), "it says that it judged nothing");
    assert_nothing_left(&harness, &ports);
}

#[test]
fn what_the_demo_started_dies_with_it() {
    // The processes end with the demo only where setpriv is, which is on Linux.
    let Some(harness) = Harness::with(&["nginx", "setpriv"]) else { return };
    let (mut command, ports) = harness.demo(&["--quick"]);
    let mut demo = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
    let mut lines = BufReader::new(demo.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("http://")), "all is started");
    demo.kill().expect("it runs");
    demo.wait().expect("its end");
    let deadline = Instant::now() + Duration::from_secs(20);
    for port in ports {
        while TcpStream::connect(("127.0.0.1", port)).is_ok() {
            assert!(Instant::now() < deadline, "something still listens on {port}");
            sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_port_in_use_is_said_before_anything_starts() {
    let Some(harness) = Harness::with(&["nginx"]) else { return };
    let (mut command, ports) = harness.demo(&["--once"]);
    let _taken = std::net::TcpListener::bind(("127.0.0.1", ports[2])).expect("a free port");
    let output = command.output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{text}");
    assert!(text.contains(&format!("Port {} is in use", ports[2])) && text.contains("make demo PORT_2="), "{text}");
}

#[test]
fn a_server_that_is_not_there_is_said_before_anything_starts() {
    let Some(harness) = Harness::with(&["nginx"]) else { return };
    let (mut command, _) = harness.demo(&["--once", "--server", "/nope"]);
    let output = command.output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{text}");
    assert!(text.contains("/nope is not there") && !text.contains("logs"), "{text}");
    assert_eq!(harness.files(), Vec::<String>::new());
}

fn assert_nothing_left(harness: &Harness, ports: &[u16]) {
    assert_eq!(harness.files(), Vec::<String>::new());
    for port in ports {
        assert!(TcpStream::connect(("127.0.0.1", *port)).is_err(), "something still listens on {port}");
    }
}
