//! Waiting with an end.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use crate::Result;

/// Waits for something outside, but not for ever.
pub async fn within<T>(what: &str, deadline: Duration, future: impl Future<Output = T>) -> Result<T> {
    timeout(deadline, future).await.map_err(|_| format!("{what}: not within {deadline:?}").into())
}

/// Asks again and again until the answer is yes.
pub async fn until(what: &str, deadline: Duration, mut condition: impl AsyncFnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !condition().await {
        if start.elapsed() > deadline {
            return Err(format!("{what}: not within {deadline:?}").into());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
