use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use serde::Deserialize;
use serde_json::{Value, json, value::RawValue};

use super::{
    super::problem::Problem,
    Api,
    body::{Body, Room},
    caller::Caller,
    schema::{Answer, Kept, NewBatch, NewMessage, NewMessages, NewSignal, Results},
};
use crate::{
    access::Scope,
    hub::By,
    protocol::{Channel, Draft, ErrorCode, MessageId, Position, Post, Rejection, Right},
    session::not_published,
    telemetry::Limit,
};

/// Most items of a batch, and most rooms of one message.
const MOST: usize = 100;

/// What makes a call safe to repeat: an `id` for whoever does not want to put one into the body.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// Says something to a room.
#[utoipa::path(
    post, path = "/v1/rooms/{room}/messages", tag = "messages",
    params(("room" = String, Path), ("Idempotency-Key" = Option<String>, Header, description = "The `id`, if the body has none.")),
    request_body = NewMessage,
    responses((status = 201, description = "It is kept.", body = Kept), (status = 200, description = "It was kept before.", body = Kept), Answer),
)]
pub(super) async fn send(
    State(api): State<Api>,
    caller: Caller,
    Room(room): Room,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Kept>), Problem> {
    let post = Post { room: Some(room), ..api.post(body.text()?, &headers)? };
    kept(api.say(&caller, post).await?)
}

/// Tells the members of a room something that is not kept: who is typing, where a cursor is. It has no place in the order, and
/// each member gets it once or not at all.
#[utoipa::path(
    post, path = "/v1/rooms/{room}/signals", tag = "messages", params(("room" = String, Path)), request_body = NewSignal,
    responses((status = 204, description = "It is on its way."), Answer),
)]
pub(super) async fn signal(
    State(api): State<Api>,
    caller: Caller,
    Room(room): Room,
    body: Body,
) -> Result<StatusCode, Problem> {
    let Post { username, content, .. } = Post::decode_signal(body.text()?, &api.app.limits)?;
    caller.demand(Scope::Publish, Right::Signal, Some(&room))?;
    let speaker = caller.speaker(username)?;
    api.may_speak(speaker.as_ref())?;
    api.say_so_much(&caller, content.len())?;
    let draft = Draft::signal(api.app.hub.origin_server(), &room, speaker.as_ref(), &content);
    match api.app.hub.signal(&room, &draft, None).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(why) => Err(not_published(&Channel::Room(room), None, &why).into()),
    }
}

/// Says something to everybody.
#[utoipa::path(
    post, path = "/v1/broadcasts", tag = "messages",
    params(("Idempotency-Key" = Option<String>, Header, description = "The `id`, if the body has none.")),
    request_body = NewMessage,
    responses((status = 201, description = "It is kept.", body = Kept), (status = 200, description = "It was kept before.", body = Kept), Answer),
)]
pub(super) async fn broadcast(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Kept>), Problem> {
    let post = Post { room: None, ..api.post(body.text()?, &headers)? };
    kept(api.say(&caller, post).await?)
}

/// Says the same to many rooms, one after another. One that fails spoils no other.
#[utoipa::path(
    post, path = "/v1/messages", tag = "messages",
    params(("Idempotency-Key" = Option<String>, Header, description = "The `id`, if the body has none.")),
    request_body = NewMessages,
    responses((status = 200, description = "What became of it in each room, in their order.", body = Results), Answer),
)]
pub(super) async fn send_to_many(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Results>, Problem> {
    #[derive(Deserialize)]
    struct Rooms {
        rooms: Vec<String>,
    }
    let Rooms { rooms } = body.value()?;
    let post = api.post(body.text()?, &headers)?;
    not_too_many("rooms", rooms.len())?;
    let mut results = Vec::with_capacity(rooms.len());
    for room in rooms {
        let said = match api.room(&room) {
            Ok(room) => api.say(&caller, Post { room: Some(room), ..post.clone() }).await,
            Err(problem) => Err(problem),
        };
        results.push(result(said));
    }
    Ok(Json(Results { results }))
}

/// Says many things, in their order. One that fails spoils no other.
#[utoipa::path(
    post, path = "/v1/batch", tag = "messages",
    params(("Idempotency-Key" = Option<String>, Header, description = "The beginning of the `id` of each message that has none.")),
    request_body = NewBatch,
    responses((status = 200, description = "What became of each, in their order.", body = Results), Answer),
)]
pub(super) async fn batch(
    State(api): State<Api>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Results>, Problem> {
    #[derive(Deserialize)]
    struct Batch<'a> {
        #[serde(borrow)]
        messages: Vec<&'a RawValue>,
    }
    let Batch { messages } = body.value()?;
    not_too_many("messages", messages.len())?;
    let key = idempotency_key(&headers);
    let mut results = Vec::with_capacity(messages.len());
    for (number, message) in messages.into_iter().enumerate() {
        let key = key.map(|key| format!("{key}:{number}"));
        let said = match api.post_with(message.get(), key.as_deref()) {
            Ok(post) if post.room.is_some() => api.say(&caller, post).await,
            Ok(_) => Err(Rejection::new(ErrorCode::MissingField, "`room` is missing").into()),
            Err(problem) => Err(problem),
        };
        results.push(result(said));
    }
    Ok(Json(Results { results }))
}

fn kept(kept: Kept) -> Result<(StatusCode, Json<Kept>), Problem> {
    Ok((if kept.duplicate { StatusCode::OK } else { StatusCode::CREATED }, Json(kept)))
}

fn result(said: Result<Kept, Problem>) -> Value {
    match said {
        Ok(kept) => json!(kept),
        Err(problem) => problem.to_json(),
    }
}

fn not_too_many(name: &str, count: usize) -> Result<(), Problem> {
    let message = || format!("`{name}` must be 1 to {MOST}, not {count}");
    ((1..=MOST).contains(&count)).then_some(()).ok_or_else(|| Rejection::new(ErrorCode::BadField, message()).into())
}

fn idempotency_key(headers: &HeaderMap) -> Option<&str> {
    headers.get(IDEMPOTENCY_KEY).and_then(|key| key.to_str().ok()).filter(|key| !key.is_empty())
}

impl Api {
    fn post<'a>(&self, json: &'a str, headers: &HeaderMap) -> Result<Post<'a>, Problem> {
        self.post_with(json, idempotency_key(headers))
    }

    fn post_with<'a>(&self, json: &'a str, key: Option<&str>) -> Result<Post<'a>, Problem> {
        let mut post = Post::decode(json, &self.app.limits)?;
        if let (None, Some(key)) = (&post.id, key) {
            let id = MessageId::parse(key, self.app.limits.id);
            let bad = |why| Rejection::new(ErrorCode::BadId, format!("the Idempotency-Key {why}"));
            post.id = Some(id.map_err(|why| Problem::from(bad(why)))?);
        }
        Ok(post)
    }

    /// The one way in: the same as for what a client sends.
    async fn say(&self, caller: &Caller, post: Post<'_>) -> Result<Kept, Problem> {
        let Post { room, username, content, id } = post;
        let about = |rejection: Rejection| Problem::from(Rejection { id: id.clone(), room: room.clone(), ..rejection });
        let right = if room.is_some() { Right::Send } else { Right::Broadcast };
        caller.demand(Scope::Publish, right, room.as_ref())?;
        let speaker = caller.speaker(username)?;
        self.may_speak(speaker.as_ref())?;
        self.say_so_much(caller, content.len())?;
        let limits = self.app.context.door().limits();
        let (limit, rate) = match &room {
            None => (Limit::Broadcasts, limits.broadcasts),
            Some(room) if caller.payer().is_some() && self.app.hub.would_make(room).await => {
                (Limit::NewRooms, limits.new_rooms)
            }
            Some(_) => (Limit::NewRooms, None),
        };
        self.pay(caller, limit, rate).await.map_err(about)?;
        let channel = room.clone().map_or(Channel::Broadcast, Channel::Room);
        let draft = Draft::new(self.app.hub.origin_server(), room.as_ref(), speaker.as_ref(), &content, id.as_ref());
        let draft = draft.by_moderator(room.as_ref().is_some_and(|room| caller.is_moderator(room)));
        match self.app.hub.publish(&channel, &draft, By::Call(&caller.span)).await {
            Ok(receipt) => {
                let ts = match (receipt.ts, receipt.position) {
                    (None, Some(position)) => self.app.hub.time_of(&channel, position).await,
                    (ts, _) => ts,
                };
                let (epoch, seq) = receipt.position.map(|Position { epoch, seq }| (epoch.to_string(), seq)).unzip();
                Ok(Kept { room, id, epoch, seq, ts, duplicate: receipt.is_repeated })
            }
            Err(why) => Err(not_published(&channel, id, &why).into()),
        }
    }
}
