//! Checks of servers that run somewhere, for `helm test`, for `make compose-smoke` and for people. Each says what it
//! did, and ends with the reason if something is not as it should be.

mod across;
mod http;
mod member;
mod redis_refuses;
mod upgrade;

use std::{
    io::{self, Write},
    time::Duration,
};

use tokio::time::{Instant, sleep};

pub(crate) use self::{
    across::{CONNECTIONS, across, between},
    http::http,
    redis_refuses::redis_refuses,
    upgrade::upgrade,
};
use crate::client::{Failure, plain};

/// How long to wait before the next try.
const PAUSE: Duration = Duration::from_millis(500);

/// Longest time for any one thing that is waited for.
const LIMIT: Duration = Duration::from_secs(5);

/// Does a check again and again until it passes, or fails when so much time is over. A pod that has just been made may not
/// get through to others yet: its network policies take effect when each node has heard of it.
///
/// # Errors
/// What the last try came to.
pub(crate) async fn patiently(patience: Duration, check: impl AsyncFn() -> Result<(), Failure>) -> Result<(), Failure> {
    let (start, mut last) = (Instant::now(), String::new());
    loop {
        let Err(failure) = check().await else { return Ok(()) };
        if start.elapsed() >= patience {
            return Err(failure);
        }
        let text = failure.to_string();
        if text != last {
            eprintln!("not yet: {}", plain(&text));
            last = text;
        }
        sleep(PAUSE).await;
    }
}

/// Tells the user what has been found so far.
fn say(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{}", plain(text))
}
