use std::{sync::Arc, time::SystemTime};

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};
use tokio::time::Instant;

use super::{
    super::{problem::Problem, refused},
    Api,
};
use crate::{
    access::{ApiKey, Pass, Scope},
    protocol::{ErrorCode, Rejection, Right, RoomId, Username},
};

/// Who calls: a back end with a key, or a client with its token.
#[derive(Clone, Debug)]
pub(super) enum Caller {
    Key(Arc<ApiKey>),
    Token(Arc<Pass>),
}

impl FromRequestParts<Api> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let value = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer =
            value.and_then(|value| value.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
        let unauthorized = |why: &'static str| Problem::from(Rejection::new(ErrorCode::Unauthorized, why));
        let (_, secret) =
            bearer.ok_or_else(|| unauthorized("show a key of the API, or a token: Authorization: Bearer …"))?;
        let secret = secret.trim();
        if let Some(key) = api.keys.find(secret) {
            return Ok(Self::Key(key));
        }
        if !api.context.door().checks_tokens() {
            return Err(unauthorized("this is no key of the API"));
        }
        api.context.admit(secret).await.map(Self::Token).map_err(|why| refused(&why))
    }
}

impl Caller {
    /// Its name for the log.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Key(key) => key.name(),
            Self::Token(pass) => pass.user.as_ref().map_or("", Username::as_str),
        }
    }

    /// Refuses who may not do this in the room or, without one, everywhere.
    pub(super) fn demand(&self, scope: Scope, right: Right, room: Option<&RoomId>) -> Result<(), Problem> {
        match self {
            Self::Key(key) if key.may(scope, room) => Ok(()),
            Self::Key(key) => {
                let place = if room.is_some() { "this room" } else { "all rooms" };
                let detail = format!("the key {} has not the scope `{}` for {place}", key.name(), scope.as_str());
                Err(Problem::forbidden(right, room, detail))
            }
            Self::Token(pass) => {
                let may = match (right, room) {
                    (Right::Broadcast, _) => pass.grants.may_broadcast(),
                    (Right::Moderate, Some(room)) => pass.grants.may_moderate(room),
                    (Right::Moderate, None) => pass.grants.may_moderate_all(),
                    (right, Some(room)) => pass.in_room(room).has(right),
                    (_, None) => false,
                };
                let detail =
                    || format!("this needs the right `{}`, which your token does not give you here", right.as_str());
                may.then_some(()).ok_or_else(|| Problem::forbidden(right, room, detail()))
            }
        }
    }

    /// Refuses who has no key: what concerns users rather than rooms is for back ends alone.
    pub(super) fn demand_key(&self) -> Result<(), Problem> {
        match self {
            Self::Key(key) if key.may(Scope::Admin, None) => Ok(()),
            _ => Err(Problem::forbidden(
                Right::Moderate,
                None,
                "this needs a key of the API with the scope `admin` for all rooms",
            )),
        }
    }

    /// Who speaks: the token's user, or whom a back end names.
    pub(super) fn speaker(&self, named: Option<Username>) -> Result<Option<Username>, Problem> {
        match self {
            Self::Key(_) => Ok(named),
            Self::Token(pass) if named.is_none() || named == pass.user => Ok(pass.user.clone()),
            Self::Token(_) => {
                Err(Rejection::new(ErrorCode::Forbidden, "`username` must be the one of the token; leave it out")
                    .into())
            }
        }
    }

    /// The user whose own limits apply; none for a back end.
    pub(super) fn limited_user(&self) -> Option<&Username> {
        match self {
            Self::Key(_) => None,
            Self::Token(pass) => pass.user.as_ref(),
        }
    }

    /// Whether the room is never slow for it.
    pub(super) fn is_moderator(&self, room: &RoomId) -> bool {
        match self {
            Self::Key(_) => true,
            Self::Token(pass) => pass.grants.may_moderate(room),
        }
    }
}

impl Api {
    /// Refuses a token holder who says more than its user may.
    pub(super) fn say_so_much(&self, caller: &Caller, bytes: usize) -> Result<(), Problem> {
        let Some(user) = caller.limited_user() else { return Ok(()) };
        self.context.door().spend(user, bytes, Instant::now()).map_err(|(limit, wait)| {
            self.metrics.limited(limit);
            Rejection::too_fast(limit.as_str(), wait).into()
        })
    }

    /// Refuses a speaker who is muted everywhere.
    pub(super) fn may_speak(&self, speaker: Option<&Username>) -> Result<(), Problem> {
        let left = speaker.and_then(|user| self.hub.sanctions().muted(user, SystemTime::now()));
        left.map_or(Ok(()), |left| Err(crate::session::muted(left).into()))
    }
}
