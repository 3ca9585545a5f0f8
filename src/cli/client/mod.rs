//! What the program's own clients share: a GET and a WebSocket with JSON, both with deadlines, and how to show what
//! they received.

mod get;
mod open;
mod plain;
mod socket;

use std::time::Duration;

pub(crate) use self::{
    get::get,
    open::{WebSocket, open},
    plain::{plain, plain_json},
    socket::Socket,
};

/// What went wrong, in words for the user.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// The result of `work`, or a failure if it takes too long.
pub(crate) async fn within<T>(
    limit: Duration,
    what: &str,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    match tokio::time::timeout(limit, work).await {
        Ok(outcome) => outcome,
        Err(_) => Err(format!("{what} took longer than {}", humantime::format_duration(limit)).into()),
    }
}

/// A unique name.
pub(crate) fn new_name() -> String {
    format!("{:016x}", rand::random::<u64>())
}
