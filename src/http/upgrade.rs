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

use super::{App, credential::Credential, handshake, problem::Problem, requester, stream::Stream};
use crate::{access::Source, protocol::Dialect};

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
        let on_upgrade = hyper::upgrade::on(&mut request);
        let (parts, _) = request.into_parts();
        let door = app.context.door();
        requester::page(&parts.headers, door).map_err(|why| Problem::from(why).into_response())?;
        let credential = Credential::of(&parts.headers, &parts.uri, app.token_in_query);
        let source = requester::source(&parts, door);
        Ok(Self { accept, subprotocol, dialect, credential, source, on_upgrade })
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
