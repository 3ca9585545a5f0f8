use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::{extract::State, http::StatusCode};
use serde::{Deserialize, Deserializer, de::Error};

use super::{
    super::problem::Problem,
    Api,
    body::{Body, Room, RoomUser, User},
    caller::Caller,
    schema::{Answer, Disconnect, Kick, Lasting, Revocation, SlowMode},
};
use crate::{
    access::{Sanction, Scope},
    broker::ModerateError,
    protocol::{Action, ErrorCode, Measure, Rejection, Right, RoomId, Username},
    telemetry::Limit,
};

/// Longest time of a measure, and longest pause of slow mode, in seconds.
const LONGEST: u64 = 10 * 365 * 86_400;
const SLOWEST: u64 = 86_400;

/// The body of a measure that lasts.
#[derive(Deserialize)]
struct For {
    #[serde(default, deserialize_with = "whole")]
    seconds: Option<u64>,
}

/// What a measure answers when it holds.
type Done = Result<StatusCode, Problem>;

/// Bans a user from a room.
#[utoipa::path(
    put, path = "/v1/rooms/{room}/bans/{user}", tag = "moderation", params(("room" = String, Path), ("user" = String, Path)),
    request_body = Option<Lasting>, responses((status = 204, description = "It holds, on all servers."), Answer),
)]
pub(super) async fn ban(State(api): State<Api>, caller: Caller, path: RoomUser, body: Body) -> Done {
    let RoomUser(room, user) = path;
    api.take(&caller, Some(&room), Action::Ban, Some(user), time(&body)?).await
}

/// Ends a ban.
#[utoipa::path(
    delete, path = "/v1/rooms/{room}/bans/{user}", tag = "moderation", params(("room" = String, Path), ("user" = String, Path)),
    responses((status = 204, description = "The user may come back."), Answer),
)]
pub(super) async fn unban(State(api): State<Api>, caller: Caller, RoomUser(room, user): RoomUser) -> Done {
    api.take(&caller, Some(&room), Action::Unban, Some(user), None).await
}

/// Mutes a user in a room.
#[utoipa::path(
    put, path = "/v1/rooms/{room}/mutes/{user}", tag = "moderation", params(("room" = String, Path), ("user" = String, Path)),
    request_body = Option<Lasting>, responses((status = 204, description = "It holds, on all servers."), Answer),
)]
pub(super) async fn mute(State(api): State<Api>, caller: Caller, path: RoomUser, body: Body) -> Done {
    let RoomUser(room, user) = path;
    api.take(&caller, Some(&room), Action::Mute, Some(user), time(&body)?).await
}

/// Ends a mute in a room.
#[utoipa::path(
    delete, path = "/v1/rooms/{room}/mutes/{user}", tag = "moderation", params(("room" = String, Path), ("user" = String, Path)),
    responses((status = 204, description = "The user may speak again."), Answer),
)]
pub(super) async fn unmute(State(api): State<Api>, caller: Caller, RoomUser(room, user): RoomUser) -> Done {
    api.take(&caller, Some(&room), Action::Unmute, Some(user), None).await
}

/// Mutes a user everywhere.
#[utoipa::path(
    put, path = "/v1/mutes/{user}", tag = "moderation", params(("user" = String, Path)),
    request_body = Option<Lasting>, responses((status = 204, description = "It holds; on other servers as soon as they hear of it."), Answer),
)]
pub(super) async fn mute_everywhere(State(api): State<Api>, caller: Caller, User(user): User, body: Body) -> Done {
    api.take(&caller, None, Action::Mute, Some(user), time(&body)?).await
}

/// Ends a mute everywhere.
#[utoipa::path(
    delete, path = "/v1/mutes/{user}", tag = "moderation", params(("user" = String, Path)),
    responses((status = 204, description = "The user may speak again."), Answer),
)]
pub(super) async fn unmute_everywhere(State(api): State<Api>, caller: Caller, User(user): User) -> Done {
    api.take(&caller, None, Action::Unmute, Some(user), None).await
}

/// Makes a room slow, or as fast as ever.
#[utoipa::path(
    put, path = "/v1/rooms/{room}/slow-mode", tag = "moderation", params(("room" = String, Path)),
    request_body = SlowMode, responses((status = 204, description = "It holds, on all servers."), Answer),
)]
pub(super) async fn slow_mode(State(api): State<Api>, caller: Caller, Room(room): Room, body: Body) -> Done {
    let For { seconds } = body.value()?;
    let pause = seconds.filter(|seconds| *seconds <= SLOWEST);
    let bad = || {
        Rejection::new(ErrorCode::BadField, "`seconds` must be the pause of slow mode, 86400 at most, or 0 to end it")
    };
    let pause = pause.ok_or_else(|| Problem::from(bad()))?;
    api.take(&caller, Some(&room), Action::SlowMode, None, Some(Duration::from_secs(pause))).await
}

/// Removes a user from a room. The user may come back.
#[utoipa::path(
    post, path = "/v1/rooms/{room}/kick", tag = "moderation", params(("room" = String, Path)),
    request_body = Kick, responses((status = 204, description = "The user leaves; on other servers as soon as they hear of it."), Answer),
)]
pub(super) async fn kick(State(api): State<Api>, caller: Caller, Room(room): Room, body: Body) -> Done {
    #[derive(Deserialize)]
    struct Whom {
        username: String,
    }
    let Whom { username } = body.value()?;
    api.take(&caller, Some(&room), Action::Kick, Some(api.user(&username)?), None).await
}

/// Ends the connections that a user has now, on all servers, or only one of them. Revoke its tokens too, or it comes back.
#[utoipa::path(
    post, path = "/v1/users/{user}/disconnect", tag = "users", params(("user" = String, Path)), request_body = Option<Disconnect>,
    responses((status = 204, description = "They end, on other servers as soon as these hear of it."), Answer),
)]
pub(super) async fn disconnect(State(api): State<Api>, caller: Caller, User(user): User, body: Body) -> Done {
    #[derive(Deserialize)]
    struct Which {
        connection: Option<String>,
    }
    caller.demand_key()?;
    let Which { connection } = body.value()?;
    let done = api.app.hub.disconnect(&user, connection, caller.name()).await;
    done.map(|()| StatusCode::NO_CONTENT).map_err(|_| away())
}

/// Revokes tokens on all servers, for as long as they could be good.
#[utoipa::path(
    post, path = "/v1/revocations", tag = "users", request_body = Revocation,
    responses((status = 204, description = "No server takes them any more."), Answer),
)]
pub(super) async fn revoke(State(api): State<Api>, caller: Caller, body: Body) -> Done {
    #[derive(Deserialize)]
    struct Which {
        jti: Option<String>,
        user: Option<String>,
        #[serde(default, deserialize_with = "whole")]
        issued_before: Option<u64>,
    }
    caller.demand_key()?;
    let bad = |message| Problem::from(Rejection::new(ErrorCode::BadField, message));
    let now = SystemTime::now();
    let millis = |time: SystemTime| {
        u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
    };
    let sanction = match body.value()? {
        Which { jti: Some(id), user: None, issued_before: None } if !id.is_empty() => Sanction::Token(id),
        Which { jti: None, user: Some(user), issued_before: None } => {
            Sanction::User(api.user(&user)?.as_str().to_owned(), millis(now))
        }
        Which { jti: None, user: None, issued_before: Some(seconds) } => {
            let before = seconds.checked_mul(1000).filter(|before| *before <= millis(now));
            Sanction::IssuedBefore(
                before.ok_or_else(|| bad("`issued_before` is a time to come; write seconds since 1970"))?,
            )
        }
        _ => return Err(bad("give one of `jti`, `user` and `issued_before`")),
    };
    let until = api.revocations_last.map(|time| now + time);
    let done = api.app.hub.impose(&sanction, until).await;
    let kind = match &sanction {
        Sanction::Token(_) => "token",
        Sanction::User(..) => "user",
        _ => "issued_before",
    };
    tracing::info!(by = caller.name(), kind, held = done.is_ok(), "revoked");
    done.map(|()| StatusCode::NO_CONTENT).map_err(|_| away())
}

/// Reads a number that is whole, as `60` and `60.0` are.
fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let Some(number) = Option::<serde_json::Number>::deserialize(deserializer)? else { return Ok(None) };
    let whole = |number: f64| (number.fract() == 0.0 && (0.0..1e15).contains(&number)).then_some(number as u64);
    let read = number.as_u64().or_else(|| number.as_f64().and_then(whole));
    read.map(Some).ok_or_else(|| D::Error::custom(format!("{number} is no whole number from 0 on")))
}

fn time(body: &Body) -> Result<Option<Duration>, Problem> {
    let For { seconds } = body.value()?;
    if seconds.is_some_and(|seconds| seconds == 0 || seconds > LONGEST) {
        let message = "`seconds` must be 1 to 315360000, ten years; leave it out for a measure without an end";
        return Err(Rejection::new(ErrorCode::BadField, message).into());
    }
    Ok(seconds.map(Duration::from_secs))
}

fn away() -> Problem {
    Rejection::new(ErrorCode::Unavailable, "this may not hold yet; try again").into()
}

impl Api {
    async fn take(
        &self,
        caller: &Caller,
        room: Option<&RoomId>,
        action: Action,
        username: Option<Username>,
        time: Option<Duration>,
    ) -> Done {
        caller.demand(Scope::Admin, Right::Moderate, room)?;
        self.pay(caller, Limit::Measures, self.app.context.door().limits().measures).await?;
        let measure = Measure { action, username, time };
        match self.app.hub.moderate(room, &measure, caller.name()).await {
            Ok(()) => Ok(StatusCode::NO_CONTENT),
            Err(ModerateError::Full) => {
                let message = "this room has as many mutes and bans as it may; end some first";
                Err(Rejection { room: room.cloned(), ..Rejection::new(ErrorCode::Overloaded, message) }.into())
            }
            Err(ModerateError::Unavailable(_)) => Err(away()),
        }
    }
}
