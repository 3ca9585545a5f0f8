use std::{borrow::Cow, time::Duration};

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::requester::NotAllowed;
use crate::protocol::{ErrorCode, MessageId, Rejection, Right, RoomId};

/// An error as programs read it: `application/problem+json` (RFC 9457), with the code that an `error` on the WebSocket
/// would have.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: Cow<'static, str>,
    id: Option<MessageId>,
    room: Option<RoomId>,
    right: Option<Right>,
    retry_after: Option<Duration>,
}

impl Problem {
    /// One that has no code on the WebSocket.
    pub(super) fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, detail: detail.into(), id: None, room: None, right: None, retry_after: None }
    }

    /// A missing right.
    pub(super) fn forbidden(right: Right, room: Option<&RoomId>, detail: impl Into<Cow<'static, str>>) -> Self {
        let room = room.cloned();
        Self { right: Some(right), room, ..Rejection::new(ErrorCode::Forbidden, detail).into() }
    }

    /// As an item of a batch.
    pub(super) fn to_json(&self) -> Value {
        let title = self.status.canonical_reason().unwrap_or_default();
        let mut body = json!({
            "type": "about:blank", "title": title, "status": self.status.as_u16(), "code": self.code, "detail": self.detail,
        });
        if let Some(id) = &self.id {
            body["id"] = json!(id);
        }
        if let Some(room) = &self.room {
            body["room"] = json!(room);
        }
        if let Some(right) = self.right {
            body["right"] = json!(right);
        }
        if let Some(wait) = self.retry_after {
            body["retry_after_ms"] = json!(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
        }
        body
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let Rejection { code, message, id, room, right, retry_after_ms } = rejection;
        let status = match code {
            ErrorCode::Unauthorized => StatusCode::UNAUTHORIZED,
            ErrorCode::Forbidden | ErrorCode::Muted | ErrorCode::Banned | ErrorCode::NotMember => StatusCode::FORBIDDEN,
            ErrorCode::IdConflict => StatusCode::CONFLICT,
            ErrorCode::TextTooLong => StatusCode::PAYLOAD_TOO_LARGE,
            ErrorCode::RateLimited | ErrorCode::SlowMode => StatusCode::TOO_MANY_REQUESTS,
            ErrorCode::Unavailable | ErrorCode::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        };
        let soon = Duration::from_secs(if code == ErrorCode::Overloaded { 60 } else { 1 });
        let retry_after = match retry_after_ms {
            Some(wait) => Some(Duration::from_millis(wait)),
            None => (status == StatusCode::SERVICE_UNAVAILABLE).then_some(soon),
        };
        Self { status, code: code.as_str(), detail: message, id, room, right, retry_after }
    }
}

impl From<NotAllowed> for Problem {
    fn from(_: NotAllowed) -> Self {
        Rejection::new(ErrorCode::Forbidden, "pages of this origin may not connect here").into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let headers = [(header::CONTENT_TYPE, "application/problem+json")];
        let mut response = (self.status, headers, self.to_json().to_string()).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\""));
        }
        if let Some(wait) = self.retry_after {
            headers.insert(header::RETRY_AFTER, wait.as_secs().max(1).into());
        }
        response
    }
}
