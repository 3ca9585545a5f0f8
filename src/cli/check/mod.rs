//! `roomcast check`: checks of running servers, and of tokens, for `helm test`, for `make compose-smoke` and for people. Each says
//! what it did, or why it failed.

mod across;
mod http;
mod member;
mod redis_refuses;
mod token;
mod upgrade;

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::{Args, Subcommand};
use tokio::time::{Instant, sleep};

use self::across::CONNECTIONS;
use super::client::{Failure, plain};

/// How long to wait before the next attempt.
const PAUSE: Duration = Duration::from_millis(500);

/// Longest wait for any single step.
const LIMIT: Duration = Duration::from_secs(5);

/// What to check.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Repeat the check until it passes or this time is over
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    within: u64,
    #[command(subcommand)]
    check: Check,
}

#[derive(Debug, Subcommand)]
enum Check {
    /// Check that a server is alive and ready, and that its metrics can be read
    Http {
        /// The server, such as http://127.0.0.1:8080
        url: String,
    },
    /// Check that a WebSocket can be opened, and a message sent over it
    Upgrade {
        /// The server, such as ws://127.0.0.1:8080/ws
        url: String,
    },
    /// Check that a message reaches another server
    Across {
        /// A URL that leads to two servers or more, or to the first of two
        url: String,
        /// The URL of the second server
        other: Option<String>,
        /// Most connections to open until two servers have answered at the one URL
        #[arg(long, value_name = "N", default_value_t = CONNECTIONS, conflicts_with = "other")]
        connections: usize,
    },
    /// Check that a Redis refuses commands without a password
    RedisRefuses {
        /// Its address
        #[arg(value_name = "HOST:PORT")]
        address: String,
    },
    /// Check a token as a server with the same settings would, and say what it allows
    Token {
        /// The token; - reads it from standard input, where no list of processes shows it
        token: String,
    },
}

impl Arguments {
    /// The command, as a person would type it.
    pub(super) fn name(&self) -> &'static str {
        match self.check {
            Check::Http { .. } => "check http",
            Check::Upgrade { .. } => "check upgrade",
            Check::Across { .. } => "check across",
            Check::RedisRefuses { .. } => "check redis-refuses",
            Check::Token { .. } => "check token",
        }
    }
}

/// Runs a check.
///
/// # Errors
/// Why it failed.
pub(super) async fn run(Arguments { within, check }: Arguments) -> Result<(), Failure> {
    patiently(Duration::from_secs(within), async || match &check {
        Check::Http { url } => http::http(url).await,
        Check::Upgrade { url } => upgrade::upgrade(url).await,
        Check::Across { url, other: None, connections } => across::across(url, *connections).await,
        Check::Across { url, other: Some(other), .. } => across::between(url, other).await,
        Check::RedisRefuses { address } => redis_refuses::redis_refuses(address).await,
        Check::Token { token } => token::token(token).await,
    })
    .await
}

/// Repeats a check until it passes or the time is over. A new pod may not reach others yet: its network policies take
/// effect only when each node has heard of it.
///
/// # Errors
/// The failure of the last attempt.
async fn patiently(patience: Duration, check: impl AsyncFn() -> Result<(), Failure>) -> Result<(), Failure> {
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

/// Tells the user what was found so far.
fn say(text: &str) -> io::Result<()> {
    writeln!(io::stdout(), "{}", plain(text))
}
