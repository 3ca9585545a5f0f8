use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use serde::Deserialize;
use utoipa::IntoParams;

use super::{
    super::problem::Problem,
    Api,
    body::{Room, User},
    caller::Caller,
    schema::{
        Answer, ConnectionState, MemberList, RoomCount, RoomList, RoomState, ServerList, ServerState, UserCount,
        UserState,
    },
};
use crate::{
    access::Scope,
    hub::Together,
    protocol::{ErrorCode, Position, Rejection, Right, RoomId},
};

/// How many names there are in a list if the caller does not say how many, and at most.
const PAGE: usize = 100;
const LARGEST_PAGE: usize = 1000;

/// Which part of a list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Part {
    /// What the names begin with.
    prefix: Option<String>,
    /// The `cursor` of the page before.
    cursor: Option<String>,
    /// At most so many names; 100 if it is not there, and 1000 at most.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// How many.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Most {
    /// At most so many names; 100 if it is not there, and 1000 at most.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<usize>,
}

/// Lists the rooms that have members on any server, by their names. A key for some rooms sees these alone, so a page may have
/// fewer than `limit`.
#[utoipa::path(
    get, path = "/v1/rooms", tag = "rooms", params(Part),
    responses((status = 200, description = "A page of them.", body = RoomList), Answer),
)]
pub(super) async fn rooms(
    State(api): State<Api>,
    caller: Caller,
    part: Result<Query<Part>, QueryRejection>,
) -> Result<Json<RoomList>, Problem> {
    caller.demand_scope(Scope::Read)?;
    let Part { prefix, cursor, limit } = query(part)?;
    let (prefix, after) = (prefix.unwrap_or_default(), cursor.unwrap_or_default());
    let Together { said, missing } = api.app.hub.rooms(&prefix, &after, page(limit)?).await.map_err(|_| away())?;
    let last = said.members.keys().next_back().cloned();
    let may = |name: &str| RoomId::parse(name, RoomId::LONGEST).is_ok_and(|room| caller.may(Scope::Read, &room));
    let rooms = said.members.into_iter().filter(|(name, _)| may(name));
    let rooms = rooms.map(|(room, members)| RoomCount { room, members }).collect();
    Ok(Json(RoomList { rooms, cursor: last.filter(|_| said.has_more), missing }))
}

/// Says how many are in a room, and how far it is. A room that nobody is in and that has no log is as good as any other.
#[utoipa::path(
    get, path = "/v1/rooms/{room}", tag = "rooms", params(("room" = String, Path)),
    responses((status = 200, description = "What is known of it.", body = RoomState), Answer),
)]
pub(super) async fn room(State(api): State<Api>, caller: Caller, Room(room): Room) -> Result<Json<RoomState>, Problem> {
    caller.demand(Scope::Read, Right::Presence, Some(&room))?;
    let (members, top) = tokio::join!(api.app.hub.members(&room, 0), api.app.hub.top(&room));
    let Together { said, missing } = members.map_err(|_| away())?;
    let top = top.map_err(|_| away())?;
    let (epoch, seq) = top.map(|Position { epoch, seq }| (epoch.to_string(), seq)).unzip();
    Ok(Json(RoomState { room, members: said.count, epoch, seq, missing }))
}

/// Lists who is in a room, on all servers, by their names.
#[utoipa::path(
    get, path = "/v1/rooms/{room}/members", tag = "rooms", params(("room" = String, Path), Most),
    responses((status = 200, description = "The first of them, and how many there are.", body = MemberList), Answer),
)]
pub(super) async fn members(
    State(api): State<Api>,
    caller: Caller,
    Room(room): Room,
    most: Result<Query<Most>, QueryRejection>,
) -> Result<Json<MemberList>, Problem> {
    caller.demand(Scope::Read, Right::Presence, Some(&room))?;
    let Most { limit } = query(most)?;
    let Together { said, missing } = api.app.hub.members(&room, page(limit)?).await.map_err(|_| away())?;
    let users = said.users.into_iter().map(|(username, connections)| UserCount { username, connections }).collect();
    Ok(Json(MemberList { room, count: said.count, users, has_more: said.has_more, missing }))
}

/// Lists the connections of a user on all servers, each with its rooms.
#[utoipa::path(
    get, path = "/v1/users/{user}", tag = "users", params(("user" = String, Path)),
    responses((status = 200, description = "They, or none if the user is not there.", body = UserState), Answer),
)]
pub(super) async fn user(
    State(api): State<Api>,
    caller: Caller,
    User(username): User,
) -> Result<Json<UserState>, Problem> {
    caller.demand_key()?;
    let Together { said, missing } = api.app.hub.connections(username.as_str()).await.map_err(|_| away())?;
    let connections = said.0.into_iter().map(|(id, rooms)| ConnectionState { id, rooms }).collect();
    Ok(Json(UserState { username, connections, missing }))
}

/// Lists the servers that share this Redis.
#[utoipa::path(
    get, path = "/v1/servers", tag = "servers",
    responses((status = 200, description = "They.", body = ServerList), Answer),
)]
pub(super) async fn servers(State(api): State<Api>, caller: Caller) -> Result<Json<ServerList>, Problem> {
    caller.demand_key()?;
    let Together { said, missing } = api.app.hub.hosts().await.map_err(|_| away())?;
    let servers = said.into_iter().map(|(name, host)| ServerState {
        name,
        clients: host.clients,
        rooms: host.rooms,
        version: host.version,
        since: host.since,
    });
    Ok(Json(ServerList { servers: servers.collect(), missing }))
}

fn query<T>(found: Result<Query<T>, QueryRejection>) -> Result<T, Problem> {
    let bad = |rejection: QueryRejection| Rejection::new(ErrorCode::BadField, rejection.body_text());
    found.map(|Query(found)| found).map_err(|rejection| bad(rejection).into())
}

fn page(limit: Option<usize>) -> Result<usize, Problem> {
    let limit = limit.unwrap_or(PAGE);
    let bad = || Rejection::new(ErrorCode::BadField, format!("`limit` must be 1 to {LARGEST_PAGE}, not {limit}"));
    (1..=LARGEST_PAGE).contains(&limit).then_some(limit).ok_or_else(|| bad().into())
}

fn away() -> Problem {
    Rejection::new(ErrorCode::Unavailable, "the servers cannot be asked at the moment; try again").into()
}
