use axum::{
    body::Body,
    extract::{FromRequest, Request},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tungstenite::{
    error::{Error, ProtocolError},
    handshake::server::create_response_with_body,
};

use super::lingering::Lingering;

/// A request for a WebSocket.
///
/// axum's own would hand out a socket that writes through layers of its own. The sessions write to the bare socket, from
/// wherever there is something to write.
#[derive(Debug)]
pub(super) struct Upgrade {
    response: Response,
    on_upgrade: OnUpgrade,
}

impl<S: Sync> FromRequest<S> for Upgrade {
    type Rejection = Response;

    async fn from_request(mut request: Request, _: &S) -> Result<Self, Response> {
        let response = create_response_with_body(&request, Body::empty).map_err(|error| refuse(&error))?;
        Ok(Self { response, on_upgrade: hyper::upgrade::on(&mut request) })
    }
}

impl Upgrade {
    /// The answer that grants it, and the socket, which is there when that has been sent.
    pub(super) fn accept(self) -> (Response, Accepted) {
        (self.response, Accepted(self.on_upgrade))
    }
}

/// A WebSocket that is about to be there.
#[derive(Debug)]
pub(super) struct Accepted(OnUpgrade);

impl Accepted {
    /// The socket, and what the client has sent after its request; `None` if the connection has broken meanwhile.
    pub(super) async fn socket(self) -> Option<(TcpStream, Bytes)> {
        let parts = self.0.await.ok()?.downcast::<TokioIo<Lingering>>().ok()?;
        // A copy, so that hyper's buffer is not kept for it.
        Some((parts.io.into_inner().into_stream()?, Bytes::copy_from_slice(&parts.read_buf)))
    }
}

fn refuse(error: &Error) -> Response {
    let text = format!("this is no request for a WebSocket: {error}\n");
    match error {
        Error::Protocol(ProtocolError::WrongHttpMethod) => {
            (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET")], text).into_response()
        }
        Error::Protocol(ProtocolError::MissingSecWebSocketVersionHeader) => {
            let headers = [(header::UPGRADE, "websocket"), (header::SEC_WEBSOCKET_VERSION, "13")];
            (StatusCode::UPGRADE_REQUIRED, headers, text).into_response()
        }
        _ => (StatusCode::BAD_REQUEST, text).into_response(),
    }
}
