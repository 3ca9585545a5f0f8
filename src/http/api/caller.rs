use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    extract::{FromRequestParts, MatchedPath},
    http::{header, request::Parts},
};
use tokio::time::Instant;
use tracing::Span;

use super::{
    super::{credential::Credential, problem::Problem, refused, requester},
    Api, Called,
};
use crate::{
    access::{ApiKey, Grants, Pass, Pattern, Rate, Rights, Scope, Source},
    protocol::{ErrorCode, Rejection, Right, RoomId, Username},
    telemetry::Limit,
};

/// What says whether the caller traces (W3C Trace Context).
const TRACEPARENT: &str = "traceparent";

/// Who calls.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    who: Who,
    /// From where, if limits by address apply to it.
    pub(super) source: Option<Source>,
    /// The span of the call.
    pub(super) span: Span,
}

/// A back end with a key, or a client: with its token, or on the clients' address perhaps without one.
#[derive(Clone, Debug)]
enum Who {
    Key(Arc<ApiKey>),
    Client(Arc<Pass>),
}

impl FromRequestParts<Api> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let (app, is_for_clients) = (&api.app, api.keys.is_none());
        let shown = Credential::of(&parts.headers, &parts.uri, is_for_clients && app.token_in_query);
        let secret = shown.map(|shown| shown.token);
        if let (Some(keys), Some(secret)) = (&api.keys, &secret)
            && let Some(key) = keys.find(secret)
        {
            // Only a back end is believed that it traces: a span costs more than a call.
            let traceparent = parts.headers.get(TRACEPARENT).and_then(|value| value.to_str().ok());
            return Ok(Self { who: Who::Key(key), source: None, span: api.span(parts, traceparent) });
        }
        let door = app.context.door();
        let source = requester::source(parts, door);
        // Before anything is checked, so that nobody tries tokens faster.
        if let Some(source) = source {
            let length =
                parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
            door.spend_of_address(source, length.unwrap_or(0), Instant::now()).map_err(|why| api.too_fast(why))?;
        }
        let unauthorized = |why: &'static str| Problem::from(Rejection::new(ErrorCode::Unauthorized, why));
        let pass = match secret {
            Some(secret) if door.checks_tokens() => app.context.admit(&secret).await.map_err(|why| refused(&why))?,
            // Who does not know that this server checks no tokens need not change for it.
            _ if is_for_clients => {
                door.anonymous().ok_or_else(|| unauthorized("show a token: Authorization: Bearer …"))?
            }
            Some(_) => return Err(unauthorized("this is no key of the API")),
            None => return Err(unauthorized("show a key of the API, or a token: Authorization: Bearer …")),
        };
        Ok(Self { who: Who::Client(pass), source, span: api.span(parts, None) })
    }
}

impl Caller {
    /// Its name for the log.
    pub(super) fn name(&self) -> &str {
        match &self.who {
            Who::Key(key) => key.name(),
            Who::Client(pass) => pass.user.as_ref().map_or("", Username::as_str),
        }
    }

    /// Refuses who may not do this in the room or, without one, everywhere.
    pub(super) fn demand(&self, scope: Scope, right: Right, room: Option<&RoomId>) -> Result<(), Problem> {
        match &self.who {
            Who::Key(key) if key.may(scope, room) => Ok(()),
            Who::Key(key) => {
                let place = if room.is_some() { "this room" } else { "all rooms" };
                let detail = format!("the key {} has not the scope `{}` for {place}", key.name(), scope.as_str());
                Err(Problem::forbidden(right, room, detail))
            }
            Who::Client(pass) => {
                let may = match (right, room) {
                    (Right::Broadcast, _) => pass.grants.may_broadcast(),
                    (Right::Moderate, Some(room)) => pass.grants.may_moderate(room),
                    (Right::Moderate, None) => pass.grants.may_moderate_all(),
                    (right, Some(room)) => pass.in_room(room).has(right),
                    (_, None) => false,
                };
                let detail = || format!("this needs the right `{}`, which you do not have here", right.as_str());
                may.then_some(()).ok_or_else(|| Problem::forbidden(right, room, detail()))
            }
        }
    }

    /// Whether it has a key that may do this in the room.
    pub(super) fn may(&self, scope: Scope, room: &RoomId) -> bool {
        matches!(&self.who, Who::Key(key) if key.may(scope, Some(room)))
    }

    /// Refuses who has no key with this scope for any room.
    pub(super) fn demand_scope(&self, scope: Scope) -> Result<(), Problem> {
        match &self.who {
            Who::Key(key) if key.has(scope) => Ok(()),
            _ => {
                let detail = format!("this needs a key of the API with the scope `{}`", scope.as_str());
                Err(Rejection::new(ErrorCode::Forbidden, detail).into())
            }
        }
    }

    /// Refuses who has no key: what concerns users rather than rooms is for back ends alone.
    pub(super) fn demand_key(&self) -> Result<(), Problem> {
        match &self.who {
            Who::Key(key) if key.may(Scope::Admin, None) => Ok(()),
            _ => Err(Problem::forbidden(
                Right::Moderate,
                None,
                "this needs a key of the API with the scope `admin` for all rooms",
            )),
        }
    }

    /// Who speaks: the token's user, or whom a back end or somebody without a token names.
    pub(super) fn speaker(&self, named: Option<Username>) -> Result<Option<Username>, Problem> {
        let Who::Client(pass) = &self.who else { return Ok(named) };
        match (&pass.user, named) {
            (Some(user), Some(named)) if *user != named => {
                let message = "`username` must be the one of the token; leave it out";
                Err(Rejection::new(ErrorCode::Forbidden, message).into())
            }
            (None, None) => Err(Rejection::new(ErrorCode::MissingField, "`username` is missing").into()),
            (user, named) => Ok(user.clone().or(named)),
        }
    }

    /// What listens in its name in these rooms, for which it may read.
    pub(super) fn listener(&self, named: Option<Username>, rooms: &[RoomId]) -> Result<(Arc<Pass>, Username), Problem> {
        match &self.who {
            Who::Client(pass) => Ok((pass.clone(), self.speaker(named)?.expect("a client has a name"))),
            Who::Key(key) => {
                let rights = Rights::of(&[Right::Join, Right::History]);
                let rooms = rooms.iter().filter(|room| key.may(Scope::Read, Some(room)));
                let patterns = rooms.filter_map(|room| Some((Pattern::parse(room.as_str()).ok()?, rights)));
                let pass = Pass::anonymous(Grants::new(patterns.collect(), false, Vec::new()));
                let own = || Username::parse(key.name(), key.name().len()).ok();
                let missing = || Rejection::new(ErrorCode::MissingField, "`username` is missing");
                Ok((Arc::new(pass), named.or_else(own).ok_or_else(missing)?))
            }
        }
    }

    /// The user whose own limits and bans apply; none for a back end, and none for somebody without a token.
    pub(super) fn user(&self) -> Option<&Username> {
        match &self.who {
            Who::Key(_) => None,
            Who::Client(pass) => pass.user.as_ref(),
        }
    }

    /// Who pays for what is limited over all servers; nobody for a back end.
    pub(super) fn payer(&self) -> Option<String> {
        match (&self.who, &self.source) {
            (Who::Client(pass), source) => match (&pass.user, source) {
                (Some(user), _) => Some(format!("user:{}", user.as_str())),
                (None, Some(source)) => Some(format!("address:{source}")),
                (None, None) => None,
            },
            (Who::Key(_), _) => None,
        }
    }

    /// Whether the room is never slow for it.
    pub(super) fn is_moderator(&self, room: &RoomId) -> bool {
        match &self.who {
            Who::Key(_) => true,
            Who::Client(pass) => pass.grants.may_moderate(room),
        }
    }
}

impl Api {
    /// The span of a call whose caller is known.
    fn span(&self, parts: &Parts, traceparent: Option<&str>) -> Span {
        let route = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
        let span = self.app.hub.tracer().call(parts.method.as_str(), route, traceparent);
        if let Some(Called(called)) = parts.extensions.get() {
            let _ = called.set(span.clone());
        }
        span
    }

    /// Refuses a user who says more than it may.
    pub(super) fn say_so_much(&self, caller: &Caller, bytes: usize) -> Result<(), Problem> {
        let Some(user) = caller.user() else { return Ok(()) };
        self.app.context.door().spend(user, bytes, Instant::now()).map_err(|why| self.too_fast(why))
    }

    fn too_fast(&self, (limit, wait): (Limit, Duration)) -> Problem {
        self.app.metrics.limited(limit);
        Rejection::too_fast(limit.as_str(), wait).into()
    }

    /// Takes from the purse of whoever pays, which is the same on all servers.
    ///
    /// # Errors
    /// If there is not enough in it.
    pub(super) async fn pay(&self, caller: &Caller, limit: Limit, rate: Option<Rate>) -> Result<(), Rejection> {
        let (Some(payer), Some(rate)) = (caller.payer(), rate) else { return Ok(()) };
        let purse = format!("{}:{payer}", limit.as_str());
        // If Redis is away, what follows says so.
        let Some(wait) = self.app.hub.spend(&purse, rate, 1.0).await.unwrap_or_default() else { return Ok(()) };
        self.app.metrics.limited(limit);
        Err(Rejection::too_fast(limit.as_str(), wait))
    }

    /// Refuses a speaker who is muted everywhere.
    pub(super) fn may_speak(&self, speaker: Option<&Username>) -> Result<(), Problem> {
        let left = speaker.and_then(|user| self.app.hub.sanctions().muted(user, SystemTime::now()));
        left.map_or(Ok(()), |left| Err(crate::session::muted(left).into()))
    }
}
