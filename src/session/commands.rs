//! What a connection does with what its client asks for.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::{
    context::Refused,
    guest::{Guest, millis},
    lease::Lease,
    refusals::{banned, kicked, muted, not_joined, not_moderated, not_published, not_read, not_signalled, put_out},
    state::{Action, Entry},
};
use crate::{
    access::{Act, Dropped, Pass, Rate},
    broker::{ModerateError, PublishError, RecoverError},
    hub::{By, Hub, JoinError, Membership},
    protocol::{
        Channel, CloseCode, Command, Draft, ErrorCode, Event, History, Item, MessageId, Position, Rejection, RoomId,
        Username,
    },
    socket::End,
    telemetry::Limit,
};

/// How long to wait before joining a room for a client once more.
const JOIN_AGAIN: Duration = Duration::from_secs(1);

/// A command of this client that waits for the hub. There is one at a time, and the next message is held back until it
/// ends: this keeps a client's messages in order, and slows a client that sends faster than the broker keeps up.
/// Meanwhile the client gets what waits for it, and its control frames are seen.
pub(super) enum Outcome {
    Authenticated(Result<Arc<Pass>, Refused>),
    Joined(Entry, Result<Membership, JoinError>),
    Moderated(Event),
    NotModerated(Option<RoomId>, ModerateError),
    /// The user is banned from this room.
    Banned(RoomId, u64),
    /// The client is too fast for this limit.
    TooFast(Limit, Duration, Option<RoomId>, Option<MessageId>),
    /// A message, or a signal.
    Published,
    NotPublished(Channel, Option<MessageId>, PublishError),
    NotSignalled(RoomId, PublishError),
    Read(Event),
    NotRead(RoomId),
}

pub(super) type Pending = Option<BoxFuture<'static, Outcome>>;

/// What a command costs in a purse that all servers share.
struct Charge {
    limit: Limit,
    purse: String,
    rate: Rate,
}

impl Guest {
    /// Does what the session says about a text frame.
    pub(super) fn act(&mut self, text: &str) -> Result<(), End> {
        let action = self.session.receive(text, &self.context.options.rules);
        self.perform(action, text.len())
    }

    /// Joins a room for a client that cannot say so in a frame.
    pub(super) fn enter(&mut self, room: RoomId, username: Option<Username>, history: History) -> Result<(), End> {
        let action = self.session.obey(Command::Join { room, username, history }, &self.context.options.rules);
        self.perform(action, 0)
    }

    fn perform(&mut self, action: Result<Action<Membership>, Rejection>, bytes: usize) -> Result<(), End> {
        match action {
            Ok(Action::Reply(event)) => self.answers.push(Item::Event(event)),
            Ok(Action::Authenticate(token)) => {
                self.send_answers();
                let context = self.context.clone();
                self.pending = Some(Box::pin(async move {
                    Outcome::Authenticated(context.admit(&token).await.map_err(Refused::Token))
                }));
            }
            Ok(Action::Join(entry, before)) => {
                if entry.history != History::None {
                    self.spend(Act::History)?;
                }
                drop(before);
                self.join(entry);
            }
            Ok(Action::Leave(membership, left)) => {
                self.send_answers();
                drop(membership);
                self.answers.push(Item::Event(left));
            }
            Ok(Action::Moderate(room, measure, by, event)) => {
                self.spend(Act::Message(bytes))?;
                self.send_answers();
                let (hub, charge) = (self.context.hub.clone(), self.charge(Limit::Measures));
                self.pending = Some(Box::pin(async move {
                    if let Some(charge) = charge
                        && let Some(wait) = charge.pay(&hub).await
                    {
                        return Outcome::TooFast(charge.limit, wait, room, None);
                    }
                    match hub.moderate(room.as_ref(), &measure, by.as_str()).await {
                        Ok(()) => Outcome::Moderated(event),
                        Err(why) => Outcome::NotModerated(room, why),
                    }
                }));
            }
            Ok(Action::Publish(channel, draft)) => {
                self.spend(Act::Message(bytes))?;
                let user = self.session.pass().and_then(|pass| pass.user.as_ref()).or(draft.speaker());
                match user.and_then(|user| self.kept_to.muted(user, SystemTime::now())) {
                    Some(left) => {
                        let (id, room) = (draft.id().cloned(), channel.room().cloned());
                        self.refuse(Rejection { id, room, ..muted(left) });
                    }
                    None => self.publish(channel, draft),
                }
            }
            Ok(Action::Signal(room, draft)) => {
                self.spend(Act::Signal(bytes))?;
                self.signal(room, draft);
            }
            Ok(Action::ReadBack { room, user, before, limit }) => {
                self.spend(Act::History)?;
                self.read_back(room, user, before, limit);
            }
            Err(rejection) => self.refuse(rejection),
        }
        Ok(())
    }

    fn signal(&mut self, room: RoomId, draft: Draft) {
        if let Err(Dropped { wait, tell }) = self.allowance.signal(Instant::now()) {
            self.context.metrics.limited(Limit::SignalsPerConnection);
            if tell {
                let rejection = Rejection::too_fast(Limit::SignalsPerConnection.as_str(), wait);
                self.refuse(Rejection { room: Some(room), ..rejection });
            }
            return;
        }
        if let Some(left) = draft.speaker().and_then(|user| self.kept_to.muted(user, SystemTime::now())) {
            self.refuse(Rejection { room: Some(room), ..muted(left) });
            return;
        }
        self.send_answers();
        let (hub, client) = (self.context.hub.clone(), self.client.clone());
        self.pending = Some(Box::pin(async move {
            match hub.signal(&room, &draft, Some(&client)).await {
                Ok(()) => Outcome::Published,
                Err(why) => Outcome::NotSignalled(room, why),
            }
        }));
    }

    fn read_back(&mut self, room: RoomId, user: Option<Username>, before: Option<Position>, limit: u64) {
        self.send_answers();
        let hub = self.context.hub.clone();
        self.pending = Some(Box::pin(async move {
            if let Some(user) = user {
                match hub.banned(&room, &user).await {
                    Ok(None) => {}
                    Ok(Some(until)) => return Outcome::Banned(room, until),
                    Err(_) => return Outcome::NotRead(room),
                }
            }
            match hub.history(&room, before, limit).await {
                Ok(history) => Outcome::Read(history),
                Err(_) => Outcome::NotRead(room),
            }
        }));
    }

    fn join(&mut self, entry: Entry) {
        self.send_answers();
        self.joins_under = self.kept_to.clone();
        // What its token has the server join is not the client's doing.
        let charge = if entry.by_server { None } else { self.charge(Limit::NewRooms) };
        let (hub, client) = (self.context.hub.clone(), self.client.clone());
        self.pending = Some(Box::pin(async move {
            match hub.banned(&entry.room, &entry.username).await {
                Ok(None) => {}
                Ok(Some(until)) => return Outcome::Banned(entry.room, until),
                Err(why) => return Outcome::Joined(entry, Err(RecoverError::from(why).into())),
            }
            if let Some(charge) = charge
                && hub.would_make(&entry.room).await
                && let Some(wait) = charge.pay(&hub).await
            {
                return Outcome::TooFast(charge.limit, wait, Some(entry.room), None);
            }
            let result = hub.join(&client, &entry.room, &entry.username, entry.history).await;
            Outcome::Joined(entry, result)
        }));
    }

    fn publish(&mut self, channel: Channel, draft: Draft) {
        self.send_answers();
        let charge = if channel == Channel::Broadcast { self.charge(Limit::Broadcasts) } else { None };
        let (hub, client) = (self.context.hub.clone(), self.client.clone());
        self.pending = Some(Box::pin(async move {
            if let Some(charge) = charge
                && let Some(wait) = charge.pay(&hub).await
            {
                return Outcome::TooFast(charge.limit, wait, None, draft.id().cloned());
            }
            match hub.publish(&channel, &draft, By::Client(&client)).await {
                Ok(_) => Outcome::Published,
                Err(why) => Outcome::NotPublished(channel, draft.id().cloned(), why),
            }
        }));
    }

    /// What the user, or else the address, pays for something; `None` if it is free.
    fn charge(&self, limit: Limit) -> Option<Charge> {
        let limits = self.context.door.limits();
        let rate = match limit {
            Limit::NewRooms => limits.new_rooms,
            Limit::Broadcasts => limits.broadcasts,
            _ => limits.measures,
        }?;
        let user = self.session.pass().and_then(|pass| pass.user.as_ref());
        let who = match (user, &self.source) {
            (Some(user), _) => format!("user:{}", user.as_str()),
            (None, Some(source)) => format!("address:{source}"),
            (None, None) => return None,
        };
        Some(Charge { limit, purse: format!("{}:{who}", limit.as_str()), rate })
    }

    /// Joins the next of the rooms that the server joins for this client.
    pub(super) fn join_next(&mut self) {
        while self.pending.is_none() && self.joins_from.is_none() {
            match self.session.next_to_join(&self.context.options.rules) {
                Some(Ok(entry)) => self.join(entry),
                Some(Err(rejection)) => {
                    self.refuse(rejection);
                    self.send_answers();
                }
                None => return,
            }
        }
    }

    /// Takes the outcome in, and tells the client what the hub did not tell it.
    ///
    /// # Errors
    /// If the client showed a token that is refused.
    pub(super) fn conclude(&mut self, outcome: Outcome) -> Result<(), End> {
        match outcome {
            Outcome::Authenticated(Ok(pass)) => self.admit(&pass)?,
            Outcome::Authenticated(Err(why)) => self.turn_away(&why)?,
            Outcome::Moderated(event) => self.answers.push(Item::Event(event)),
            Outcome::NotModerated(room, why) => self.refuse(Rejection { room, ..not_moderated(&why) }),
            Outcome::Banned(room, until) => self.refuse(Rejection { room: Some(room), ..banned(until) }),
            Outcome::TooFast(limit, wait, room, id) => {
                self.context.metrics.limited(limit);
                self.refuse(Rejection { room, id, ..Rejection::too_fast(limit.as_str(), wait) });
            }
            Outcome::Joined(entry, Ok(membership)) => {
                self.session.joined(entry, membership);
                self.kick(&self.joins_under.clone());
            }
            Outcome::Joined(entry, Err(JoinError::Kicked { banned, announced: true })) => {
                self.answers.push(Item::Event(kicked(entry.room, banned)));
            }
            Outcome::Joined(entry, Err(JoinError::Kicked { banned, .. })) => {
                let code = if banned { ErrorCode::Banned } else { ErrorCode::Unavailable };
                let message = "a moderator has removed you from this room meanwhile";
                self.refuse(Rejection { room: Some(entry.room), ..Rejection::new(code, message) });
            }
            Outcome::Joined(entry, Err(_)) if entry.by_server => {
                self.session.join_later(entry.room);
                self.joins_from = Some(Instant::now() + JOIN_AGAIN);
            }
            Outcome::Joined(entry, Err(JoinError::Refused(why))) => self.refuse(not_joined(entry.room, &why)),
            Outcome::Joined(entry, Err(JoinError::Interrupted)) => {
                self.answers.push(Item::Event(put_out(entry.room)));
            }
            Outcome::Published => {}
            Outcome::NotPublished(channel, id, why) => self.refuse(not_published(&channel, id, &why)),
            Outcome::NotSignalled(room, why) => {
                if let Some(rejection) = not_signalled(room, &why) {
                    self.refuse(rejection);
                }
            }
            Outcome::Read(history) => self.answers.push(Item::Event(history)),
            Outcome::NotRead(room) => self.refuse(not_read(room)),
        }
        Ok(())
    }

    /// The client has shown a true token.
    fn admit(&mut self, pass: &Arc<Pass>) -> Result<(), End> {
        let Ok(ended) = self.session.admit(pass.clone()) else {
            let message = "this token is another user's than the one before; open another connection for it";
            self.refuse(Rejection::new(ErrorCode::Unauthorized, message));
            return Err(CloseCode::Unauthorized.into());
        };
        if let Some(user) = pass.user.as_ref().filter(|_| !self.allowance.has_user()) {
            match self.context.door.user_seat(user, Instant::now()) {
                Ok(seat) => self.allowance.belongs_to(Some(seat)),
                Err(_) => self.turn_away(&Refused::TooMany)?,
            }
        }
        for (membership, left) in ended {
            drop(membership);
            self.answers.push(Item::Event(left));
        }
        self.lease = Lease::of(Some(pass), Instant::now(), SystemTime::now());
        if let Some(user) = &pass.user {
            self.context.hub.hear_broadcasts(&self.client, user);
        }
        self.joins_from = None;
        self.answers.push(Item::Event(authenticated(pass)));
        // The token may have been revoked since it was checked.
        self.keep_to_sanctions()
    }
}

impl Charge {
    /// Returns how long to wait if there is not enough in the purse. If Redis is away, what follows will say so.
    async fn pay(&self, hub: &Hub) -> Option<Duration> {
        hub.spend(&self.purse, self.rate, 1.0).await.unwrap_or_default()
    }
}

/// What tells a client who it is and for how long.
pub(super) fn authenticated(pass: &Pass) -> Event {
    let left = pass.expires_at.map(|end| end.duration_since(SystemTime::now()).unwrap_or_default());
    Event::Authenticated {
        username: pass.user.clone().expect("a token names its user"),
        expires_ms: left.map(millis),
        rooms: pass.auto_join.clone(),
    }
}
