use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::{Query, State, rejection::QueryRejection},
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use utoipa::IntoParams;

use super::{
    super::{plain::PlainPlace, problem::Problem},
    Api,
    body::Room,
    caller::Caller,
    schema::Answer,
};
use crate::{
    protocol::{ErrorCode, History, Limits, Position, Rejection, RoomId, Username},
    session::StreamArrival,
};

/// The id of the last event that the client has.
const LAST_EVENT_ID: &str = "last-event-id";

/// What may be in the query, as the OpenAPI document describes it.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[allow(dead_code, reason = "it only describes what `Wanted` reads")]
struct Listening {
    /// Its name in the rooms, for somebody without a token, and for a back end that wants another than its key's.
    username: Option<String>,
    /// The id of the last event that the client has: it gets what followed. The header `Last-Event-ID`, which browsers send
    /// when they come back, wins over it.
    after: Option<String>,
    /// At most so many of the last messages, in each room that `after` does not name.
    last: Option<u64>,
}

/// Listens to a room: a stream of server-sent events, one for each frame that a WebSocket would have.
#[utoipa::path(
    get, path = "/v1/rooms/{room}/events", tag = "events", params(("room" = String, Path), Listening),
    responses((status = 200, description = "The stream.", body = String, content_type = "text/event-stream"), Answer),
)]
pub(super) async fn of_room(
    State(api): State<Api>,
    caller: Caller,
    Room(room): Room,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
    headers: HeaderMap,
    Extension(place): Extension<Arc<PlainPlace>>,
) -> Result<Response, Problem> {
    let wanted = Wanted::read(Some(room), &pairs(query)?, &headers, &api.app.limits);
    api.stream(&caller, wanted?, &place).await
}

/// Listens to several rooms: `room` once for each. Ids then name them.
#[utoipa::path(
    get, path = "/v1/events", tag = "events", params(("room" = Vec<String>, Query), Listening),
    responses((status = 200, description = "The stream.", body = String, content_type = "text/event-stream"), Answer),
)]
pub(super) async fn of_rooms(
    State(api): State<Api>,
    caller: Caller,
    query: Result<Query<Vec<(String, String)>>, QueryRejection>,
    headers: HeaderMap,
    Extension(place): Extension<Arc<PlainPlace>>,
) -> Result<Response, Problem> {
    let wanted = Wanted::read(None, &pairs(query)?, &headers, &api.app.limits);
    api.stream(&caller, wanted?, &place).await
}

fn pairs(query: Result<Query<Vec<(String, String)>>, QueryRejection>) -> Result<Vec<(String, String)>, Problem> {
    query.map(|Query(pairs)| pairs).map_err(|rejection| bad(rejection.body_text()).into())
}

fn bad(message: String) -> Rejection {
    Rejection::new(ErrorCode::BadField, message)
}

/// What a client wants to hear.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    rooms: Vec<(RoomId, History)>,
    /// What is wrong with rooms that cannot be among them.
    refused: Vec<Rejection>,
    names_rooms: bool,
    username: Option<Username>,
}

impl Wanted {
    /// Reads a query and the headers beside it; `room` is the one in the path.
    fn read(
        room: Option<RoomId>,
        query: &[(String, String)],
        headers: &HeaderMap,
        limits: &Limits,
    ) -> Result<Self, Rejection> {
        let all =
            |name: &'static str| query.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str());
        let names_rooms = room.is_none();
        let mut rooms: Vec<RoomId> = room.into_iter().collect();
        let mut refused = Vec::new();
        for name in all("room").filter(|_| names_rooms) {
            match RoomId::parse(name, limits.room) {
                Ok(room) if rooms.contains(&room) => {}
                Ok(room) => rooms.push(room),
                Err(why) => refused.push(Rejection::new(ErrorCode::BadRoom, format!("`room` {why}: {name:.64?}"))),
            }
        }
        if rooms.is_empty() {
            let missing = || Rejection::new(ErrorCode::MissingField, "`room` is missing: write ?room=a&room=b");
            return Err(refused.pop().unwrap_or_else(missing));
        }
        let username = all("username").next().map(|name| Username::parse(name, limits.username)).transpose();
        let username = username.map_err(|why| Rejection::new(ErrorCode::BadUsername, format!("`username` {why}")))?;
        let last = all("last").next().map(|last| last.parse().map(History::Last)).transpose();
        let last = last.map_err(|_| bad("`last` must be a number".into()))?.unwrap_or(History::None);
        let id = headers.get(LAST_EVENT_ID).map(|id| id.to_str().unwrap_or("?")).or_else(|| all("after").next());
        let id = id.unwrap_or_default();
        let places = places(id, names_rooms).ok_or_else(|| {
            bad(format!("`after` and Last-Event-ID must be the id of an event of this stream, not {id:?}"))
        })?;
        let history = |room: &RoomId| {
            let place = places.iter().find(|(name, _)| name.is_none_or(|name| name == room.as_str()));
            place.map_or(last, |(_, position)| History::After(*position))
        };
        let rooms = rooms.into_iter().map(|room| (room.clone(), history(&room))).collect();
        Ok(Self { rooms, refused, names_rooms, username })
    }
}

/// The positions in the id of an event, each with its room if ids name the rooms.
fn places(id: &str, names_rooms: bool) -> Option<Vec<(Option<&str>, Position)>> {
    let items = id.split(',').filter(|item| !item.is_empty());
    let place = |item: &'_ str| -> Option<_> { Position::parse(item) };
    match names_rooms {
        false => items.map(|item| Some((None, place(item)?))).collect(),
        true => items.map(|item| item.split_once('=')).map(|pair| Some((Some(pair?.0), place(pair?.1)?))).collect(),
    }
}

impl Api {
    async fn stream(&self, caller: &Caller, wanted: Wanted, plain: &PlainPlace) -> Result<Response, Problem> {
        let Wanted { rooms, refused, names_rooms, username } = wanted;
        let names: Vec<RoomId> = rooms.iter().map(|(room, _)| room.clone()).collect();
        let (pass, username) = caller.listener(username, &names)?;
        let (place, seat) = self.app.let_in(caller.source)?;
        let username = Some(username);
        let arrival = StreamArrival { pass, username, rooms, refused, names_rooms, source: caller.source, seat };
        let (stream, mut body) = self.app.context.clone().stream(arrival)?;
        let place = place.of_stream(&self.app.metrics.event_streams);
        self.app.sessions.spawn(async move {
            stream.await;
            // Only now can another client have it.
            drop(place);
        });
        let ended = || Rejection::new(ErrorCode::Unavailable, "the stream ended; try again");
        body.begun().await.map_err(|why| why.unwrap_or_else(ended))?;
        let context = self.app.context.clone();
        plain.give_up(move |connection| context.bound(connection));
        let headers = [
            (header::CONTENT_TYPE, "text/event-stream"),
            (header::CACHE_CONTROL, "no-store"),
            // The connection has given up its place among those that wait for requests.
            (header::CONNECTION, "close"),
        ];
        // nginx would otherwise keep events until it has a buffer full of them.
        Ok((headers, [("x-accel-buffering", "no")], Body::from_stream(body)).into_response())
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::protocol::Epoch;

    const LIMITS: Limits = Limits { room: 9, username: 9, id: 9, text: 9 };

    fn read(room: Option<&str>, query: &[(&str, &str)], id: Option<&'static str>) -> Result<Wanted, ErrorCode> {
        let room = room.map(|room| RoomId::parse(room, 9).unwrap());
        let query: Vec<_> = query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let headers = id.map(|id| (LAST_EVENT_ID.parse().unwrap(), HeaderValue::from_static(id)));
        Wanted::read(room, &query, &headers.into_iter().collect(), &LIMITS).map_err(|why| why.code)
    }

    fn histories(wanted: Result<Wanted, ErrorCode>) -> Vec<(String, History)> {
        wanted.unwrap().rooms.into_iter().map(|(room, history)| (room.as_str().to_owned(), history)).collect()
    }

    #[test]
    fn a_stream_goes_on_after_the_last_event() {
        let after = |seq| History::After(Position::new(Epoch(10), seq));
        let (own, named) = ("000000000000000a:7", "a=000000000000000a:7,b=000000000000000a:8");
        assert_eq!(histories(read(Some("a"), &[("after", own)], None)), [("a".into(), after(7))]);
        assert_eq!(
            histories(read(Some("a"), &[("after", own)], Some("000000000000000a:9"))),
            [("a".into(), after(9))],
            "the browser knows better than the URL"
        );
        let three = [("room", "b"), ("room", "a"), ("room", "c"), ("room", "a"), ("last", "5")];
        let expected = [("b".into(), after(8)), ("a".into(), after(7)), ("c".into(), History::Last(5))];
        assert_eq!(histories(read(None, &three, Some(named))), expected);
        assert_eq!(histories(read(Some("a"), &[("last", "5")], Some(""))), [("a".into(), History::Last(5))]);
    }

    #[test]
    fn a_room_that_nobody_can_have_spoils_no_other() {
        let wanted = read(None, &[("room", "a b"), ("room", "a")], None).unwrap();
        assert_eq!((wanted.rooms.len(), wanted.refused[0].code), (1, ErrorCode::BadRoom));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for (room, query, id, code) in [
            (Some("a"), [("after", "a=000000000000000a:7")], None, ErrorCode::BadField),
            (None, [("room", "a")], Some("000000000000000a:7"), ErrorCode::BadField),
            (Some("a"), [("last", "x")], None, ErrorCode::BadField),
            (Some("a"), [("username", " ")], None, ErrorCode::BadUsername),
            (None, [("room", "a b")], None, ErrorCode::BadRoom),
            (None, [("last", "1")], None, ErrorCode::MissingField),
        ] {
            assert_eq!(read(room, &query, id), Err(code), "{room:?} {query:?} {id:?}");
        }
    }
}
