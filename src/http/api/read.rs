use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    super::problem::Problem,
    Api,
    body::Room,
    caller::Caller,
    schema::{Answer, History},
};
use crate::{
    access::Scope,
    protocol::{ErrorCode, Event, Position, Rejection, Right, RoomId},
};

/// How many messages to read if the caller does not say how many.
const PAGE: u64 = 50;

/// From where to read.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct From {
    /// What follows this position: `<epoch>:<seq>`.
    after: Option<String>,
    /// What comes before this position. Without both, what was said last.
    before: Option<String>,
    /// At most so many messages; 50 if it is not there, and 100 at most.
    #[param(minimum = 1)]
    limit: Option<u64>,
}

/// Reads what was said in a room.
#[utoipa::path(
    get, path = "/v1/rooms/{room}/messages", tag = "messages", params(("room" = String, Path), From),
    responses((status = 200, description = "What was said.", body = History), Answer),
)]
pub(super) async fn history(
    State(api): State<Api>,
    caller: Caller,
    Room(room): Room,
    from: Result<Query<From>, QueryRejection>,
) -> Result<Json<History>, Problem> {
    caller.demand(Scope::Read, Right::History, Some(&room))?;
    let bad = |message: String| Problem::from(Rejection::new(ErrorCode::BadField, message));
    let Query(From { after, before, limit }) = from.map_err(|rejection| bad(rejection.body_text()))?;
    let position = |name: &str, text: String| {
        Position::parse(&text).ok_or_else(|| bad(format!("`{name}` must be a position, <epoch>:<seq>, not {text:?}")))
    };
    let limit = limit.unwrap_or(PAGE);
    if limit == 0 {
        return Err(bad("`limit` must be 1 at least".into()));
    }
    api.is_welcome(&caller, &room).await?;
    let read = match (after, before) {
        (Some(_), Some(_)) => return Err(bad("give only one of `after` and `before`".into())),
        (Some(after), None) => api.app.hub.history_after(&room, position("after", after)?, limit).await,
        (None, before) => {
            let before = before.map(|before| position("before", before)).transpose()?;
            api.app.hub.history(&room, before, limit).await.map(|history| (history, None))
        }
    };
    match read {
        Ok((Event::History { room, epoch, messages, has_more }, gap)) => {
            Ok(Json(History { room, epoch: epoch.map(|epoch| epoch.to_string()), messages, has_more, gap }))
        }
        _ => Err(away(room)),
    }
}

fn away(room: RoomId) -> Problem {
    let rejection =
        Rejection::new(ErrorCode::Unavailable, "the server cannot read what was said at the moment; try again");
    Rejection { room: Some(room), ..rejection }.into()
}

impl Api {
    /// Refuses a client whose user is banned from the room.
    async fn is_welcome(&self, caller: &Caller, room: &RoomId) -> Result<(), Problem> {
        let Some(user) = caller.user() else { return Ok(()) };
        match self.app.hub.banned(room, user).await {
            Ok(None) => Ok(()),
            Ok(Some(until)) => Err(Rejection { room: Some(room.clone()), ..crate::session::banned(until) }.into()),
            Err(_) => Err(away(room.clone())),
        }
    }
}
