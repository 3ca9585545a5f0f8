use axum::{
    body::Body,
    extract::{FromRequest, Request},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{App, credential::Credential, handshake, listener::Peer, problem::Problem, stream::Stream};
use crate::{
    access::Source,
    protocol::{Dialect, ErrorCode, Rejection},
};

/// Where proxies write whom they serve.
const FORWARDED: &str = "x-forwarded-for";

/// A request for a WebSocket.
///
/// axum's own type would hand out a socket behind layers of its own. Sessions write to the bare socket, from any task
/// that has something to send.
#[derive(Debug)]
pub(super) struct Upgrade {
    accept: HeaderValue,
    subprotocol: Option<HeaderValue>,
    dialect: Dialect,
    credential: Option<Credential>,
    source: Option<Source>,
    on_upgrade: OnUpgrade,
}

impl FromRequest<App> for Upgrade {
    type Rejection = Response;

    async fn from_request(mut request: Request, app: &App) -> Result<Self, Response> {
        let checked = handshake::check(request.method(), request.version(), request.headers());
        let accept = checked.map_err(IntoResponse::into_response)?;
        let subprotocol = handshake::subprotocol(request.headers());
        let dialect = handshake::dialect(request.headers(), subprotocol.as_ref());
        let (headers, door) = (request.headers(), app.context.door());
        if let Some(origin) = headers.get(header::ORIGIN) {
            let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
            if !origin.to_str().is_ok_and(|origin| door.allows_page(origin, host)) {
                let why = Rejection::new(ErrorCode::Forbidden, "pages of this origin may not connect here");
                return Err(Problem::from(why).into_response());
            }
        }
        let credential = Credential::of(headers, request.uri(), app.token_in_query);
        // Anybody can put bytes into a line to which a proxy then appends; what the proxy wrote counts all the same.
        let forwarded: Vec<_> =
            headers.get_all(FORWARDED).iter().map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
        let peer = request.extensions().get::<Peer>();
        let source = peer.and_then(|peer| door.source(peer.0, forwarded.iter().map(|line| &**line)));
        Ok(Self { accept, subprotocol, dialect, credential, source, on_upgrade: hyper::upgrade::on(&mut request) })
    }
}

impl Upgrade {
    /// The token that it shows, if it shows one.
    pub(super) fn credential(&self) -> Option<&Credential> {
        self.credential.as_ref()
    }

    /// From where it comes, if limits by address apply to it.
    pub(super) fn source(&self) -> Option<Source> {
        self.source
    }

    /// How the client wants its frames.
    pub(super) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The answer that grants it, and the socket, which is ready once that answer has gone out.
    pub(super) fn accept(self) -> (Response, Accepted) {
        let headers = [
            (header::CONNECTION, HeaderValue::from_static("Upgrade")),
            (header::UPGRADE, HeaderValue::from_static("websocket")),
            (header::SEC_WEBSOCKET_ACCEPT, self.accept),
        ];
        let subprotocol = self.subprotocol.map(|value| [(header::SEC_WEBSOCKET_PROTOCOL, value)]);
        let response = (StatusCode::SWITCHING_PROTOCOLS, headers, subprotocol, Body::empty()).into_response();
        (response, Accepted(self.on_upgrade))
    }
}

/// A WebSocket that is being opened.
#[derive(Debug)]
pub(super) struct Accepted(OnUpgrade);

impl Accepted {
    /// The socket, and what the client has sent after its request; `None` if the connection broke.
    pub(super) async fn socket(self) -> Option<(TcpStream, Bytes)> {
        let parts = self.0.await.ok()?.downcast::<TokioIo<Stream>>().ok()?;
        // A copy, so that it does not keep hyper's buffer alive.
        Some((parts.io.into_inner().into_tcp()?, Bytes::copy_from_slice(&parts.read_buf)))
    }
}
