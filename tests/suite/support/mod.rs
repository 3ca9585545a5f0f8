//! What the tests drive: servers and Redis as processes, and a small client.
//!
//! Nothing here sleeps to let something happen: it waits for a condition, and fails if that is not true within
//! [`DEADLINE`].

mod client;
mod collector;
mod events;
mod front;
mod http;
mod proxy;
mod redis;
mod screen;
mod server;
mod sockets;
mod tokens;
mod wire;

use std::time::{Duration, Instant};

pub use self::{
    client::Client,
    collector::{Collected, Collector},
    events::Events,
    front::Front,
    http::get,
    proxy::{Network, Proxy},
    redis::{Redis, free_port},
    screen::Screen,
    server::{Outcome, Server, command, refuses_to_start, run, run_with, send_signal},
    sockets::held,
    tokens::{SECRET, Token, in_seconds},
    wire::{frame, head, read_close, read_frame},
};

/// Much longer than anything takes on a slow machine, so that only what never happens fails.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits until `condition` gives a value; asks again every few milliseconds.
pub async fn eventually<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = condition().await {
            return value;
        }
        assert!(start.elapsed() < DEADLINE, "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Says, past the test runner's capture, that a test was left out because a tool is missing. In CI that fails.
pub fn left_out(tool: &str, package: &str) {
    use std::io::Write;

    let text = format!("{tool} is not installed: `apt-get install {package}`");
    assert!(std::env::var_os("CI").is_none_or(|ci| ci != "true"), "{text}");
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = writeln!(std::io::stderr(), "LEFT OUT {test}: {text}");
}
