use std::{io::ErrorKind, time::Duration};

use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{Error, http::StatusCode, http::header::RETRY_AFTER},
};

/// Longest time to connect and be upgraded.
const LIMIT: Duration = Duration::from_secs(10);

/// A WebSocket to a server.
pub(crate) type WebSocket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Why there is no WebSocket.
#[derive(Debug, thiserror::Error)]
#[error("{why}{}", .remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default())]
pub(crate) struct NotOpened {
    pub(crate) why: String,
    /// What to do, where trying again will not help.
    pub(crate) remedy: Option<String>,
    /// How long the server wants to be left alone.
    pub(crate) retry_after: Option<Duration>,
}

/// Opens a WebSocket, with TLS to `wss` and the certificates that the system trusts, or those of `SSL_CERT_FILE`.
pub(crate) async fn open(url: &str) -> Result<WebSocket, NotOpened> {
    let connecting = connect_async_with_config(url, None, true);
    match tokio::time::timeout(LIMIT, connecting).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(error)) => Err(NotOpened::from(url, &error)),
        Err(_) => {
            let why = format!("{url} did not answer within {}", humantime::format_duration(LIMIT));
            Err(NotOpened { why, remedy: None, retry_after: None })
        }
    }
}

impl NotOpened {
    fn from(url: &str, error: &Error) -> Self {
        let mut retry_after = None;
        let (what, remedy) = match error {
            Error::Io(error) => match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
                Some(error) => tls(error),
                None if error.kind() == ErrorKind::ConnectionRefused => {
                    ("nothing listens there (connection refused)".to_owned(), None)
                }
                None => (error.to_string(), None),
            },
            Error::Http(response) => {
                let status = response.status();
                let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
                retry_after = seconds.map(Duration::from_secs);
                let remedy = match status {
                    StatusCode::BAD_REQUEST => Some("if it speaks TLS, write wss://"),
                    StatusCode::TOO_MANY_REQUESTS => None,
                    _ if status.is_client_error() => Some("is that a roomcast server? Its path is /ws"),
                    _ if status.is_redirection() || status.is_success() => Some("that is no roomcast server"),
                    _ => None,
                };
                (format!("it answered {status}"), remedy.map(str::to_owned))
            }
            Error::Protocol(_) | Error::HttpFormat(_) => {
                ("what answers there speaks no HTTP".to_owned(), Some("is the port right?".to_owned()))
            }
            other => (other.to_string(), None),
        };
        Self { why: format!("{url} cannot be reached: {what}"), remedy, retry_after }
    }
}

/// What a failed handshake of TLS says, and what to do.
fn tls(error: &rustls::Error) -> (String, Option<String>) {
    use rustls::{CertificateError as Bad, Error};

    let (what, remedy) = match error {
        Error::InvalidCertificate(Bad::UnknownIssuer) => (
            "its certificate is not trusted here".to_owned(),
            "if the server has an authority of its own, name that authority's certificate in SSL_CERT_FILE",
        ),
        Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            (format!("its certificate is for another name ({error})"), "write the name that it is for")
        }
        Error::InvalidCertificate(_) => {
            (format!("its certificate is not trusted: {error}"), "the server needs another certificate")
        }
        Error::InvalidMessage(_) => ("it does not speak TLS".to_owned(), "write ws:// instead of wss://"),
        other => (format!("TLS failed: {other}"), "look at what speaks TLS there"),
    };
    (what, Some(remedy.to_owned()))
}
