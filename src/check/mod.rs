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

pub(crate) use self::{
    across::{CONNECTIONS, across, between},
    http::http,
    redis_refuses::redis_refuses,
    upgrade::upgrade,
};

/// Longest time for any one thing that is waited for.
const LIMIT: Duration = Duration::from_secs(5);

/// Tells the user what has been found so far.
fn say(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{text}")
}
