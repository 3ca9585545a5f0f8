use std::collections::BTreeMap;

use super::{Hub, recipient::Client};
use crate::{
    broker::Unavailable,
    protocol::{
        Channel, Position, RoomId,
        roll::{Connections, Host, Members, Question, Rooms, Spoken},
    },
};

/// Most names in one answer.
const MOST: usize = 1000;

/// What all servers say together, and those that should have said something.
#[derive(Clone, Debug)]
pub struct Together<T> {
    /// What they say.
    pub said: T,
    /// The servers whose answer is missing, so that it may be more.
    pub missing: Vec<String>,
}

impl Hub {
    /// The id of a client's connection, which no other has on any server.
    pub fn connection(&self, client: &Client) -> String {
        format!("{}/{}", self.origin_server, client.id.0)
    }

    /// How each server is, by its name.
    ///
    /// # Errors
    /// If the broker is away.
    pub async fn hosts(&self) -> Result<Together<BTreeMap<String, Host>>, Unavailable> {
        let Together { said, missing } = self.call(&Question::Host).await?;
        let own = |name: String| if name.is_empty() { self.origin_server.to_string() } else { name };
        Ok(Together { said: said.into_iter().map(|(name, host)| (own(name), host)).collect(), missing })
    }

    /// The first `limit` rooms, a thousand at most, that have members on any server, whose names begin with `prefix` and come
    /// after `after`.
    ///
    /// # Errors
    /// If the broker is away.
    pub async fn rooms(&self, prefix: &str, after: &str, limit: usize) -> Result<Together<Rooms>, Unavailable> {
        let limit = limit.min(MOST);
        let question = Question::Rooms { prefix: prefix.to_owned(), after: after.to_owned(), limit };
        let Together { said, missing } = self.call(&question).await?;
        Ok(Together { said: Rooms::merge(said.into_iter().map(|(_, rooms)| rooms).collect(), limit), missing })
    }

    /// The members of a room on all servers, with the first `limit` users, a thousand at most.
    ///
    /// # Errors
    /// If the broker is away.
    pub async fn members(&self, room: &RoomId, limit: usize) -> Result<Together<Members>, Unavailable> {
        let limit = limit.min(MOST);
        let Together { said, missing } =
            self.call(&Question::Members { room: room.as_str().to_owned(), limit }).await?;
        Ok(Together { said: Members::merge(said.into_iter().map(|(_, members)| members).collect(), limit), missing })
    }

    /// How far a room is; `None` if it has no log.
    ///
    /// # Errors
    /// If the broker is away.
    pub async fn top(&self, room: &RoomId) -> Result<Option<Position>, Unavailable> {
        if !self.rules.keeps_history {
            return Ok(None);
        }
        let tops = self.broker.tops(&[Channel::Room(room.clone())]).await?;
        let top = tops.into_iter().next().unwrap_or(Ok(None))?;
        Ok(top.map(|stamp| stamp.position))
    }

    /// The connections of a user on all servers, at most a thousand of each.
    ///
    /// # Errors
    /// If the broker is away.
    pub async fn connections(&self, user: &str) -> Result<Together<Connections>, Unavailable> {
        let Together { said, missing } = self.call(&Question::User { user: user.to_owned() }).await?;
        Ok(Together { said: Connections::merge(said.into_iter().map(|(_, all)| all).collect()), missing })
    }

    async fn call<T: Spoken>(&self, question: &Question) -> Result<Together<Vec<(String, T)>>, Unavailable> {
        let answers = self.broker.ask(&question.write()).await?;
        let (mut said, mut missing) = (Vec::new(), answers.missing);
        for (server, answer) in answers.answers {
            match T::read(&answer) {
                Some(answer) => said.push((server, answer)),
                // Another version's, perhaps.
                None => missing.push(server),
            }
        }
        Ok(Together { said, missing })
    }

    /// What this server says to a question of a server; `None` if it does not know the question.
    pub(super) fn answer(&self, question: &str) -> Option<String> {
        Some(match Question::read(question)? {
            Question::Host => self.own_state().write(),
            Question::Rooms { prefix, after, limit } => self.own_rooms(&prefix, &after, limit).write(),
            Question::Members { room, limit } => self.own_members(&room, limit).write(),
            Question::User { user } => self.own_connections(&user).write(),
        })
    }

    fn own_state(&self) -> Host {
        let clients = self.channels.peek(&Channel::Broadcast, |broadcast| broadcast.members().count());
        Host {
            clients: clients.unwrap_or(0),
            rooms: self.channels.rooms(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: self.since,
        }
    }

    fn own_rooms(&self, prefix: &str, after: &str, limit: usize) -> Rooms {
        let limit = limit.min(MOST);
        let count = |channel: Channel| {
            let name = channel.room()?.as_str().to_owned();
            if !name.starts_with(prefix) || *name <= *after {
                return None;
            }
            let count = self.channels.peek(&channel, |local| local.members().count())?;
            (count > 0).then_some((name, count))
        };
        let mut rooms: Vec<(String, usize)> = self.channels.all().into_iter().filter_map(count).collect();
        rooms.sort_unstable();
        let has_more = rooms.len() > limit;
        rooms.truncate(limit);
        Rooms { members: rooms.into_iter().collect(), has_more }
    }

    fn own_members(&self, room: &str, limit: usize) -> Members {
        let Ok(room) = RoomId::parse(room, RoomId::LONGEST) else { return Members::default() };
        let names = self
            .channels
            .peek(&Channel::Room(room), |local| local.members().map(|member| member.user).collect::<Vec<_>>());
        let names = names.unwrap_or_default();
        let count = names.len();
        let mut users = BTreeMap::new();
        for user in names.into_iter().flatten() {
            *users.entry(user.as_str().to_owned()).or_insert(0) += 1;
        }
        let beyond = users.keys().nth(limit.min(MOST)).cloned();
        if let Some(beyond) = &beyond {
            drop(users.split_off(beyond));
        }
        Members { count, users, has_more: beyond.is_some() }
    }

    /// Looks at every member of this server: it is for an operator, who asks seldom.
    fn own_connections(&self, user: &str) -> Connections {
        let mut all = BTreeMap::<String, Vec<String>>::new();
        for channel in [Channel::Broadcast].into_iter().chain(self.channels.all()) {
            let is_of_user = |member: &Client| member.user.as_ref().is_some_and(|name| name.as_str() == user);
            let members = self.channels.peek(&channel, |local| local.members().filter(is_of_user).collect::<Vec<_>>());
            for member in members.unwrap_or_default() {
                let id = self.connection(&member);
                if all.len() >= MOST && !all.contains_key(&id) {
                    continue;
                }
                let rooms = all.entry(id).or_default();
                rooms.extend(channel.room().map(|room| room.as_str().to_owned()));
            }
        }
        all.values_mut().for_each(|rooms| rooms.sort_unstable());
        Connections(all)
    }
}
