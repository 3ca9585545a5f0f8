//! Whether a server is alive, for the health check of an image that has neither a shell nor curl.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use roomcast::config::Config;

use super::client::{Failure, get};

/// Longest time for the answer; the caller's own limit is a little longer.
const LIMIT: Duration = Duration::from_secs(2);

/// Asks a server whether it is alive: the one at the URL, or the one that was started with the same settings. A URL
/// with a path, such as `/readyz`, is used unchanged.
///
/// # Errors
/// If the answer is not yes.
pub(super) async fn run(url: Option<String>) -> Result<(), Failure> {
    let url = match url {
        Some(url) => url,
        None => {
            let (config, _) = Config::from_env(std::env::vars_os())?;
            url_of(config.probe_listen.unwrap_or(config.listen))?
        }
    };
    let has_path = url.strip_prefix("http://").is_some_and(|rest| rest.trim_end_matches('/').contains('/'));
    let url = if has_path { url } else { format!("{}/healthz", url.trim_end_matches('/')) };
    let (status, body) = get(&url, LIMIT).await?;
    if !status.is_success() {
        return Err(format!("{url}: {status} {}", body.trim_end()).into());
    }
    Ok(())
}

/// How to reach a server with this address from the same machine.
///
/// # Errors
/// If only that server knows its port.
pub(super) fn url_of(mut listen: SocketAddr) -> Result<String, Failure> {
    if listen.port() == 0 {
        return Err("ROOMCAST_LISTEN leaves the port to the system; give the server's URL".into());
    }
    match listen.ip() {
        ip if !ip.is_unspecified() => {}
        ip if ip.is_ipv4() => listen.set_ip(Ipv4Addr::LOCALHOST.into()),
        _ => listen.set_ip(Ipv6Addr::LOCALHOST.into()),
    }
    Ok(format!("http://{listen}"))
}

#[cfg(test)]
mod tests {
    use super::url_of;

    #[test]
    fn a_server_that_listens_everywhere_is_asked_on_loopback() {
        let url = |listen: &str| url_of(listen.parse().unwrap()).unwrap();
        assert_eq!(url("0.0.0.0:8080"), "http://127.0.0.1:8080");
        assert_eq!(url("[::]:8080"), "http://[::1]:8080");
        assert_eq!(url("127.0.0.1:9000"), "http://127.0.0.1:9000");
        assert_eq!(url("10.0.0.7:8080"), "http://10.0.0.7:8080");
        assert!(url_of("0.0.0.0:0".parse().unwrap()).is_err());
    }
}
