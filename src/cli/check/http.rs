use super::{LIMIT, say};
use crate::cli::client::{Failure, get};

/// Checks that the server is alive and ready, and that its metrics can be read.
///
/// # Errors
/// If one of these is not the case.
pub(crate) async fn http(url: &str) -> Result<(), Failure> {
    let base = url.trim_end_matches('/');
    for path in ["/healthz", "/readyz"] {
        ask(base, path).await?;
        say(&format!("{path} says yes"))?;
    }
    let metrics = ask(base, "/metrics").await?;
    let clients = metrics.lines().find_map(|line| line.strip_prefix("ws_connected_clients "));
    let clients = clients.ok_or_else(|| format!("{base}/metrics has no ws_connected_clients"))?;
    say(&format!("/metrics has ws_connected_clients {clients}"))?;
    Ok(())
}

async fn ask(base: &str, path: &str) -> Result<String, Failure> {
    let url = format!("{base}{path}");
    let (status, body) = get(&url, LIMIT).await?;
    if !status.is_success() {
        return Err(format!("{url}: {status} {}", body.trim_end()).into());
    }
    Ok(body)
}
