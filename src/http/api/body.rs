use std::time::Duration;

use axum::{
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{StatusCode, header, request::Parts},
};
use bytes::Bytes;
use tokio::time::timeout;

use super::{super::problem::Problem, Api};
use crate::protocol::{ErrorCode, NameError, Rejection, RoomId, Username};

/// How long a body may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The JSON text of a request.
#[derive(Debug)]
pub(super) struct Body(Bytes);

impl Body {
    pub(super) fn text(&self) -> Result<&str, Problem> {
        std::str::from_utf8(&self.0).map_err(|_| bad_json("it is not UTF-8"))
    }

    /// The value of this type in it; nothing at all is an empty object.
    pub(super) fn value<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T, Problem> {
        let text = match self.text()? {
            "" | "null" => "{}",
            text => text,
        };
        serde_json::from_str(text).map_err(|error| bad_json(error.to_string()))
    }
}

fn bad_json(why: impl Into<std::borrow::Cow<'static, str>>) -> Problem {
    Rejection::new(ErrorCode::BadJson, why).into()
}

impl FromRequest<Api> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE).map(|kind| kind.to_str().unwrap_or_default());
        let is_json = |kind: &str| {
            kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
        };
        if kind.is_some_and(|kind| !is_json(kind)) {
            let detail = "the body must be application/json";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail));
        }
        let read = timeout(PATIENCE, Bytes::from_request(request, api)).await.map_err(|_| {
            Problem::new(StatusCode::REQUEST_TIMEOUT, "timeout", format!("the body did not come within {PATIENCE:?}"))
        })?;
        read.map(Self).map_err(|rejection| match rejection.status() {
            StatusCode::PAYLOAD_TOO_LARGE => {
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is larger than 1 MiB")
            }
            _ => bad_json(rejection.body_text()),
        })
    }
}

/// The room in the path.
#[derive(Debug)]
pub(super) struct Room(pub(super) RoomId);

/// The room and the user in the path.
#[derive(Debug)]
pub(super) struct RoomUser(pub(super) RoomId, pub(super) Username);

/// The user in the path.
#[derive(Debug)]
pub(super) struct User(pub(super) Username);

impl FromRequestParts<Api> for Room {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        Ok(Self(api.room(&path::<String>(parts, api).await?)?))
    }
}

impl FromRequestParts<Api> for RoomUser {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let (room, user) = path::<(String, String)>(parts, api).await?;
        Ok(Self(api.room(&room)?, api.user(&user)?))
    }
}

impl FromRequestParts<Api> for User {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        Ok(Self(api.user(&path::<String>(parts, api).await?)?))
    }
}

async fn path<T: serde::de::DeserializeOwned + Send>(parts: &mut Parts, api: &Api) -> Result<T, Problem> {
    let found = Path::<T>::from_request_parts(parts, api).await;
    let bad = |why: String| Problem::from(Rejection::new(ErrorCode::BadField, why));
    found.map(|Path(found)| found).map_err(|rejection| bad(rejection.body_text()))
}

impl Api {
    pub(super) fn room(&self, name: &str) -> Result<RoomId, Problem> {
        RoomId::parse(name, self.app.limits.room).map_err(|why| named(ErrorCode::BadRoom, "room", &why))
    }

    pub(super) fn user(&self, name: &str) -> Result<Username, Problem> {
        Username::parse(name, self.app.limits.username).map_err(|why| named(ErrorCode::BadUsername, "username", &why))
    }
}

fn named(code: ErrorCode, name: &str, why: &NameError) -> Problem {
    Rejection::new(code, format!("`{name}` {why}")).into()
}
