//! What the program's own clients share: one GET, and a WebSocket that speaks JSON, which both give up after a time; and
//! how to show what came over them.

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

/// What went wrong, as the user is told.
pub(crate) type Failure = Box<dyn std::error::Error>;

/// What `work` comes to, or a failure if it takes too long.
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

/// A name that nobody else has.
pub(crate) fn new_name() -> String {
    format!("{:016x}", rand::random::<u64>())
}
