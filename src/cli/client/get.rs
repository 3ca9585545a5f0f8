use std::time::Duration;

use axum::{
    body::{Body, to_bytes},
    http::{Request, StatusCode, Uri, header},
};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Failure, within};

/// Longest body to read. A page of metrics has some tens of KiB.
const LONGEST: usize = 16 << 20;

/// One GET request. Returns the status and the body.
pub(crate) async fn get(url: &str, limit: Duration) -> Result<(StatusCode, String), Failure> {
    let wrong = || format!("{url:?} is not a URL like http://127.0.0.1:8080");
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(wrong().into()) };
    // The brackets of an IPv6 address are only part of the URL.
    let host = authority.host().trim_matches(['[', ']']);
    let port = authority.port_u16().unwrap_or(80);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path).header(header::HOST, authority.as_str()).body(Body::empty())?;

    let exchange = async {
        let stream = TcpStream::connect((host, port)).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Dropping the answer drops the sender, and with it the connection.
        let answer = async move {
            let (head, body) = sender.send_request(request).await?.into_parts();
            let body = to_bytes(Body::new(body), LONGEST).await?;
            Ok::<_, Failure>((head.status, String::from_utf8_lossy(&body).into_owned()))
        };
        let (answer, _) = tokio::join!(answer, connection);
        answer
    };
    within(limit, "the answer", exchange).await.map_err(|error| format!("{url}: {error}").into())
}
