//! What servers ask each other about their clients, and what the answers are together.
//!
//! Nothing about members is kept anywhere else: a server knows its own, so it costs nothing until somebody asks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// What goes from server to server as text.
pub trait Spoken: Sized {
    /// Reads it; `None` if it is something else.
    fn read(text: &str) -> Option<Self>;

    /// Writes it.
    fn write(&self) -> String;
}

impl<T: Serialize + DeserializeOwned> Spoken for T {
    fn read(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    fn write(&self) -> String {
        serde_json::to_string(self).expect("it has only texts, numbers and lists")
    }
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Question {
    /// How the server is: [`Host`].
    Host,
    /// Its rooms whose names begin with this, in the order of their names, the first so many after this one: [`Rooms`].
    Rooms {
        /// What the names begin with.
        prefix: String,
        /// The name after which to begin; empty for the first.
        after: String,
        /// How many rooms.
        limit: usize,
    },
    /// The members of this room, the first so many users: [`Members`].
    Members {
        /// The room.
        room: String,
        /// How many users.
        limit: usize,
    },
    /// The connections of this user: [`Connections`].
    User {
        /// The user.
        user: String,
    },
}

/// How a server is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "docs/api.md documents each field")]
pub struct Host {
    pub clients: usize,
    pub rooms: usize,
    pub version: String,
    /// Unix milliseconds.
    pub since: u64,
}

/// Rooms by their names, each with how many connections are its members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Rooms {
    pub members: BTreeMap<String, usize>,
    pub has_more: bool,
}

/// The members of a room.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)]
pub struct Members {
    /// How many connections are members.
    pub count: usize,
    /// The first users by their names, each with its number of connections.
    pub users: BTreeMap<String, usize>,
    pub has_more: bool,
}

/// The connections of a user: by their ids, the rooms of each.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Connections(pub BTreeMap<String, Vec<String>>);

/// Adds up; the first `limit` names that any has are all there, as each answer has its own first `limit`.
fn add_up(all: impl Iterator<Item = BTreeMap<String, usize>>, limit: usize) -> (BTreeMap<String, usize>, bool) {
    let mut sum = BTreeMap::new();
    for (name, count) in all.flatten() {
        *sum.entry(name).or_insert(0) += count;
    }
    let beyond = sum.keys().nth(limit).cloned();
    if let Some(beyond) = &beyond {
        drop(sum.split_off(beyond));
    }
    (sum, beyond.is_some())
}

impl Rooms {
    /// The first `limit` rooms of all servers that were asked for so many.
    pub fn merge(all: Vec<Self>, limit: usize) -> Self {
        let any_more = all.iter().any(|rooms| rooms.has_more);
        let (members, is_cut) = add_up(all.into_iter().map(|rooms| rooms.members), limit);
        Self { members, has_more: any_more || is_cut }
    }
}

impl Members {
    /// The members on all servers, with the first `limit` users, for so many of which each was asked.
    pub fn merge(all: Vec<Self>, limit: usize) -> Self {
        let (count, any_more) =
            (all.iter().map(|members| members.count).sum(), all.iter().any(|members| members.has_more));
        let (users, is_cut) = add_up(all.into_iter().map(|members| members.users), limit);
        Self { count, users, has_more: any_more || is_cut }
    }
}

impl Connections {
    /// Those on all servers.
    pub fn merge(all: Vec<Self>) -> Self {
        Self(all.into_iter().flat_map(|connections| connections.0).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(names: &[(&str, usize)]) -> BTreeMap<String, usize> {
        names.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn what_servers_say_adds_up_and_a_page_is_whole() {
        let rooms = |names: &[(&str, usize)], has_more| Rooms { members: counts(names), has_more };
        let one = rooms(&[("a", 1), ("d", 2)], true);
        let two = rooms(&[("b", 3), ("d", 4)], false);
        let both = Rooms::merge(vec![one.clone(), two.clone()], 2);
        assert_eq!(both, rooms(&[("a", 1), ("b", 3)], true));
        assert_eq!(Rooms::merge(vec![two.clone()], 2), two);
        let whole = Rooms::merge(vec![rooms(&[("d", 2)], false), two], 2);
        assert_eq!(whole, rooms(&[("b", 3), ("d", 6)], false));
        let members = |count, names: &[(&str, usize)]| Members { count, users: counts(names), has_more: false };
        let merged = Members::merge(vec![members(3, &[("ann", 2), ("bob", 1)]), members(1, &[("ann", 1)])], 1);
        assert_eq!(merged, Members { count: 4, users: counts(&[("ann", 3)]), has_more: true });
    }

    #[test]
    fn a_question_is_read_back() {
        for question in [Question::Host, Question::Members { room: "a".into(), limit: 7 }] {
            assert_eq!(Question::read(&question.write()), Some(question));
        }
    }
}
