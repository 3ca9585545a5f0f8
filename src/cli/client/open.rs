use std::{env, fs, io::ErrorKind, path::Path, time::Duration};

use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{
        Error,
        client::IntoClientRequest,
        handshake::client::{Request, Response},
        http::{
            StatusCode,
            header::{AUTHORIZATION, HeaderValue, RETRY_AFTER},
        },
    },
};

/// Longest time to connect and upgrade.
const LIMIT: Duration = Duration::from_secs(10);

/// The variable with the token that the program's clients show. A command's arguments could be seen by others.
const TOKEN: &str = "ROOMCAST_TOKEN";

/// A WebSocket to a server.
pub(crate) type WebSocket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Why there is no WebSocket.
#[derive(Debug, thiserror::Error)]
#[error("{why}{}", .remedy.as_ref().map(|remedy| format!("; {remedy}")).unwrap_or_default())]
pub(crate) struct NotOpened {
    pub(crate) why: String,
    /// What to do, if another attempt will not help.
    pub(crate) remedy: Option<String>,
    /// How long the server asks to wait.
    pub(crate) retry_after: Option<Duration>,
}

/// Opens a WebSocket; for `wss`, with TLS and the certificates that the system trusts, or those of `SSL_CERT_FILE`.
pub(crate) async fn open(url: &str) -> Result<WebSocket, NotOpened> {
    // The library reads this file again, in the same way.
    if url.starts_with("wss:")
        && let Some(file) = env::var_os("SSL_CERT_FILE").filter(|file| !file.is_empty())
        && let Some(error) = unusable(Path::new(&file), fs::read(&file))
    {
        return Err(error);
    }
    let connecting = connect_async_with_config(request(url)?, None, true);
    match tokio::time::timeout(LIMIT, connecting).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(error)) => Err(NotOpened::from(url, &error)),
        Err(_) => {
            let why = format!("{url} did not answer within {}", humantime::format_duration(LIMIT));
            Err(NotOpened { why, remedy: None, retry_after: None })
        }
    }
}

/// The request for a WebSocket, with the token if there is one.
fn request(url: &str) -> Result<Request, NotOpened> {
    let mut request = url.into_client_request().map_err(|error| NotOpened::from(url, &error))?;
    if let Some(token) = env::var_os(TOKEN).filter(|token| !token.is_empty()) {
        let value = token.to_str().and_then(|token| HeaderValue::try_from(format!("Bearer {}", token.trim())).ok());
        let mut value = value.ok_or_else(|| NotOpened {
            why: format!("{TOKEN} has characters that no token has"),
            remedy: Some("make one with: roomcast token".into()),
            retry_after: None,
        })?;
        value.set_sensitive(true);
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    Ok(request)
}

/// What the server says about a refused request.
fn detail(response: &Response) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(response.body().as_ref()?).ok()?;
    Some(body["detail"].as_str()?.to_owned())
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
                    StatusCode::UNAUTHORIZED => Some("set ROOMCAST_TOKEN to a token that this server takes"),
                    _ if status.is_client_error() => Some("is that a roomcast server? Its path is /ws"),
                    _ if status.is_redirection() || status.is_success() => Some("that is no roomcast server"),
                    _ => None,
                };
                let detail = detail(response).map_or(String::new(), |detail| format!(": {detail}"));
                (format!("it answered {status}{detail}"), remedy.map(str::to_owned))
            }
            Error::Protocol(_) | Error::HttpFormat(_) => {
                ("what answers there speaks no HTTP".to_owned(), Some("is the port right?".to_owned()))
            }
            other => (other.to_string(), None),
        };
        Self { why: format!("{url} cannot be reached: {what}"), remedy, retry_after }
    }
}

/// Why a TLS handshake failed, and what to do.
fn tls(error: &rustls::Error) -> (String, Option<String>) {
    use rustls::{CertificateError as Bad, Error};

    let not_trusted = |why: &str| format!("its certificate is not one that this machine trusts ({why})");
    let (what, remedy) = match error {
        Error::InvalidCertificate(Bad::UnknownIssuer) => (
            not_trusted("nobody here knows who issued it"),
            "if the server has an authority of its own, name that authority's certificate in SSL_CERT_FILE",
        ),
        Error::InvalidCertificate(Bad::NotValidForNameContext { expected, presented }) => {
            let names: Vec<&str> = presented.iter().map(|name| bare(name)).collect();
            let names = if names.is_empty() { "no name at all".to_owned() } else { names.join(" or ") };
            let what = format!("its certificate is for another name (for {names}, not for {})", expected.to_str());
            (what, "write the name that it is for")
        }
        Error::InvalidCertificate(Bad::NotValidForName) => {
            ("its certificate is for another name".to_owned(), "write the name that it is for")
        }
        Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            (not_trusted("it has expired"), "the server needs another certificate, or is the clock here wrong?")
        }
        Error::InvalidCertificate(Bad::NotValidYet | Bad::NotValidYetContext { .. }) => {
            (not_trusted("it is not valid yet"), "is the clock here wrong?")
        }
        Error::InvalidCertificate(Bad::Other(other)) if other.to_string() == "CaUsedAsEndEntity" => (
            not_trusted("it is that of an authority, not of a server, as a self-signed one often is"),
            "the server needs another certificate, with `CA:FALSE` in it",
        ),
        Error::InvalidCertificate(Bad::Other(other)) => {
            (not_trusted(&in_words(&other.to_string())), "the server needs another certificate")
        }
        Error::InvalidCertificate(bad) => {
            (not_trusted(&in_words(&bad.to_string())), "the server needs another certificate")
        }
        Error::InvalidMessage(_) => ("it does not speak TLS".to_owned(), "write ws:// instead of wss://"),
        other => (format!("TLS failed: {other}"), "look at what speaks TLS there"),
    };
    (what, Some(remedy.to_owned()))
}

/// The name inside what rustls writes, as in `DnsName("localhost")`.
fn bare(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(name).trim_matches('"')
}

/// An error's name in words: `BadSignature` becomes "bad signature". A sentence stays as it is.
fn in_words(name: &str) -> String {
    if name.contains(' ') {
        return name.to_owned();
    }
    let mut words = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(c.to_lowercase());
    }
    words
}

/// What is wrong with the file of `SSL_CERT_FILE`. The library would only log it.
fn unusable(file: &Path, content: std::io::Result<Vec<u8>>) -> Option<NotOpened> {
    const CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";
    let what = match content {
        Ok(content) if content.windows(CERTIFICATE.len()).any(|part| part == CERTIFICATE) => return None,
        Ok(_) => "has no certificate in the form of PEM".to_owned(),
        Err(error) => format!("cannot be read: {error}"),
    };
    let why = format!("{}, which SSL_CERT_FILE names, {what}", file.display());
    let remedy = Some("correct it, or unset SSL_CERT_FILE to trust what the system trusts".to_owned());
    Some(NotOpened { why, remedy, retry_after: None })
}

#[cfg(test)]
mod tests {
    use std::{io, sync::Arc};

    use rustls::{CertificateError as Bad, Error, OtherError, pki_types::ServerName};

    use super::*;

    #[test]
    fn a_certificate_that_is_not_trusted_gets_a_sentence() {
        let other = |name: &str| Bad::Other(OtherError(Arc::new(io::Error::other(name.to_owned()))));
        let expected = ServerName::try_from("127.0.0.1").unwrap();
        let presented = vec![r#"DnsName("localhost")"#.into(), "IpAddress(::1)".into()];
        for (bad, says) in [
            (Bad::UnknownIssuer, "not one that this machine trusts (nobody here knows who issued it)"),
            (
                other("CaUsedAsEndEntity"),
                "not one that this machine trusts (it is that of an authority, not of a server",
            ),
            (other("PathLenConstraintViolated"), "not one that this machine trusts (path len constraint violated)"),
            (Bad::BadSignature, "not one that this machine trusts (bad signature)"),
            (Bad::Expired, "not one that this machine trusts (it has expired)"),
            (Bad::NotValidForNameContext { expected, presented }, "(for localhost or ::1, not for 127.0.0.1)"),
        ] {
            let (what, remedy) = tls(&Error::InvalidCertificate(bad));
            assert!(what.contains(says) && remedy.is_some(), "{what}");
        }
    }

    #[test]
    fn a_file_of_certificates_that_cannot_be_used_is_named() {
        let says = |content| unusable(Path::new("/tmp/ca.pem"), content).map(|error| error.to_string());
        let missing = says(Err(io::ErrorKind::NotFound.into())).unwrap();
        assert!(missing.starts_with("/tmp/ca.pem, which SSL_CERT_FILE names, cannot be read: "), "{missing}");
        assert!(says(Ok(b"no PEM".to_vec())).unwrap().contains("has no certificate"));
        assert_eq!(says(Ok(b"# mine\n-----BEGIN CERTIFICATE-----\n".to_vec())), None);
    }
}
