use std::{
    collections::{BTreeSet, HashMap, HashSet},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use super::Pass;
use crate::protocol::{NameError, RoomId, Username};

/// What is further away than this, in milliseconds, has no end.
const CENTURIES: u64 = 10_000_000_000_000;

/// Something that holds on all servers, whichever took it, until some time.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sanction {
    /// The token with this `jti` is revoked.
    Token(String),
    /// All tokens of this user are that were issued before this time, in Unix milliseconds.
    User(String, u64),
    /// All tokens are that were issued before this time.
    IssuedBefore(u64),
    /// This user may not speak anywhere.
    Mute(String),
    /// This user leaves this room. The time makes two kicks differ.
    Kick {
        /// The room.
        room: String,
        /// The user.
        user: String,
        /// When, in Unix milliseconds.
        at: u64,
        /// Whether the user may not come back.
        banned: bool,
    },
    /// The connections of this user end. The time makes two of these differ.
    Disconnect {
        /// The user.
        user: String,
        /// When, in Unix milliseconds.
        at: u64,
        /// The only one of them that ends; without it, all do.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        connection: Option<String>,
    },
}

impl Sanction {
    /// All tokens of the user with this name that were issued before this time.
    ///
    /// # Errors
    /// If nobody can have this name.
    pub fn of_user(name: &str, longest: usize, before: u64) -> Result<Self, NameError> {
        Ok(Self::User(Username::parse(name, longest)?.as_str().to_owned(), before))
    }

    /// As it is kept.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("it has only texts and numbers")
    }

    /// Whether this text is a revocation, which must outlive a Redis that forgets it: nobody takes one back.
    pub fn is_revocation_text(text: &str) -> bool {
        matches!(serde_json::from_str(text), Ok(Self::Token(_) | Self::User(..) | Self::IssuedBefore(_)))
    }
}

/// All that holds now on all servers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sanctions {
    /// Whether it has been read; a server that starts does not know yet what holds.
    is_known: bool,
    tokens: HashMap<String, u64>,
    users: HashMap<String, Vec<(u64, u64)>>,
    issued_before: Vec<(u64, u64)>,
    muted: HashMap<String, u64>,
    /// By room and user, when, and whether the user may not come back. So a connection looks once for each of its rooms.
    kicks: HashMap<String, HashMap<String, BTreeSet<(u64, bool)>>>,
    disconnects: HashSet<(String, u64, Option<String>)>,
}

impl Sanctions {
    /// Reads what is kept: each with its end in Unix milliseconds. What a later version may know is left out.
    pub fn read<'a>(entries: impl IntoIterator<Item = (&'a str, u64)>) -> Self {
        let mut all = Self { is_known: true, ..Self::default() };
        for (text, until) in entries {
            match serde_json::from_str(text) {
                Ok(Sanction::Token(id)) => drop(all.tokens.insert(id, until)),
                Ok(Sanction::User(user, before)) => all.users.entry(user).or_default().push((before, until)),
                Ok(Sanction::IssuedBefore(before)) => all.issued_before.push((before, until)),
                Ok(Sanction::Mute(user)) => drop(all.muted.insert(user, until)),
                Ok(Sanction::Kick { room, user, at, banned }) => {
                    all.kicks.entry(room).or_default().entry(user).or_default().insert((at, banned));
                }
                Ok(Sanction::Disconnect { user, at, connection }) => {
                    all.disconnects.insert((user, at, connection));
                }
                Err(error) => tracing::debug!(%error, "a sanction that this version does not know"),
            }
        }
        all
    }

    /// Whether the token behind this pass is revoked. One without a time of issue counts as issued long ago.
    pub fn revoke(&self, pass: &Pass, now: SystemTime) -> bool {
        let Some(token) = &pass.token else { return false };
        let (now, issued) = (millis(now), token.issued_at.map_or(0, millis));
        let holds = |(before, until): &(u64, u64)| *until > now && issued < *before;
        let of_user = pass.user.as_ref().and_then(|user| self.users.get(user.as_str()));
        token.id.as_ref().and_then(|id| self.tokens.get(id)).is_some_and(|until| *until > now)
            || of_user.is_some_and(|users| users.iter().any(holds))
            || self.issued_before.iter().any(holds)
    }

    /// Whether this user may not speak anywhere, and how long it is until it may; that is `None` for a mute without an end.
    pub fn muted(&self, user: &Username, now: SystemTime) -> Option<Option<Duration>> {
        let left = self.muted.get(user.as_str())?.checked_sub(millis(now)).filter(|left| *left > 0)?;
        Some((left < CENTURIES).then(|| Duration::from_millis(left)))
    }

    /// Whether what is new since `before` ends a connection for which `is_meant` holds: given the user, and the connection if
    /// it is about one alone.
    pub fn newly_disconnects(&self, before: &Self, is_meant: impl Fn(&str, Option<&str>) -> bool) -> bool {
        let mut new = self.disconnects.difference(&before.disconnects);
        before.is_known && new.any(|(user, _, connection)| is_meant(user, connection.as_deref()))
    }

    /// The kick, among those that are new since `before`, that has this user leave this room, and whether it may come
    /// back.
    pub fn new_kick(&self, before: &Self, room: &RoomId, user: &Username) -> Option<bool> {
        let of = |all: &'_ Self| all.kicks.get(room.as_str())?.get(user.as_str()).cloned();
        let now = of(self)?;
        // What held before a server knew of it is not new.
        let before = if before.is_known { of(before).unwrap_or_default() } else { now.clone() };
        let new: Vec<bool> = now.difference(&before).map(|(_, banned)| *banned).collect();
        (!new.is_empty()).then(|| new.contains(&true))
    }

    /// Whether it is known what holds.
    pub fn is_known(&self) -> bool {
        self.is_known
    }
}

fn millis(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::{super::TokenId, *};

    const NOW: u64 = 1_800_000_000_000;

    fn at(ms: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(ms)
    }

    fn all(sanctions: &[(Sanction, u64)]) -> Sanctions {
        let texts: Vec<_> = sanctions.iter().map(|(sanction, until)| (sanction.text(), *until)).collect();
        Sanctions::read(texts.iter().map(|(text, until)| (text.as_str(), *until)))
    }

    fn pass(user: &str, id: Option<&str>, issued: Option<u64>) -> Pass {
        let token = TokenId { id: id.map(str::to_owned), issued_at: issued.map(at) };
        Pass { user: Username::parse(user, 9).ok(), token: Some(token), ..Pass::default() }
    }

    #[test]
    fn a_token_is_revoked_by_its_id_its_user_or_its_age() {
        let revoked = |sanction, pass: &Pass| all(&[(sanction, NOW + 1)]).revoke(pass, at(NOW));
        let ann = pass("ann", Some("7"), Some(NOW - 10));
        for sanction in
            [Sanction::Token("7".into()), Sanction::User("ann".into(), NOW), Sanction::IssuedBefore(NOW - 9)]
        {
            assert!(revoked(sanction.clone(), &ann), "{sanction:?}");
            assert!(!all(&[(sanction.clone(), NOW)]).revoke(&ann, at(NOW)), "its time is over: {sanction:?}");
            assert!(!revoked(sanction.clone(), &Pass::default()), "there is no token: {sanction:?}");
        }
        for sanction in
            [Sanction::Token("8".into()), Sanction::User("bob".into(), NOW), Sanction::User("ann".into(), NOW - 10)]
        {
            assert!(!revoked(sanction.clone(), &ann), "{sanction:?}");
        }
        assert!(revoked(Sanction::IssuedBefore(1), &pass("ann", None, None)), "nobody knows when it was issued");
    }

    #[test]
    fn a_mute_ends_and_a_kick_is_new_once() {
        let (room, ann) = (RoomId::parse("a", 9).unwrap(), Username::parse("ann", 9).unwrap());
        let muted = all(&[(Sanction::Mute("ann".into()), NOW + 5)]);
        assert_eq!(muted.muted(&ann, at(NOW)), Some(Some(Duration::from_millis(5))));
        assert_eq!(all(&[(Sanction::Mute("ann".into()), u64::MAX)]).muted(&ann, at(NOW)), Some(None));
        assert_eq!(muted.muted(&ann, at(NOW + 5)), None);
        let kick = |at, banned| (Sanction::Kick { room: "a".into(), user: "ann".into(), at, banned }, NOW);
        let (none, one, two) = (all(&[]), all(&[kick(1, false)]), all(&[kick(1, false), kick(2, true)]));
        assert_eq!(one.new_kick(&none, &room, &ann), Some(false));
        assert_eq!(one.new_kick(&one, &room, &ann), None);
        assert_eq!(one.new_kick(&Sanctions::default(), &room, &ann), None, "the server has just started");
        assert_eq!(two.new_kick(&one, &room, &ann), Some(true));
        assert_eq!(one.new_kick(&none, &room, &Username::parse("bob", 9).unwrap()), None);
    }

    #[test]
    fn a_disconnect_is_new_once_and_for_its_user() {
        let gone = |at| (Sanction::Disconnect { user: "ann".into(), at, connection: None }, NOW);
        let (none, one, two) = (all(&[]), all(&[gone(1)]), all(&[gone(1), gone(2)]));
        let is_ann = |user: &str, only: Option<&str>| user == "ann" && only.is_none_or(|only| only == "a/1");
        assert!(one.newly_disconnects(&none, is_ann) && two.newly_disconnects(&one, is_ann));
        assert!(!one.newly_disconnects(&one, is_ann) && !one.newly_disconnects(&none, |user, _| user == "bob"));
        let single = |connection: &str| {
            let connection = Some(connection.to_owned());
            all(&[(Sanction::Disconnect { user: "ann".into(), at: 1, connection }, NOW)])
        };
        assert!(single("a/1").newly_disconnects(&none, is_ann) && !single("a/2").newly_disconnects(&none, is_ann));
    }

    #[test]
    fn what_is_not_known_is_left_out() {
        let none = Sanctions { is_known: true, ..Sanctions::default() };
        assert_eq!(Sanctions::read([("{\"future\":1}", NOW), ("x", NOW)]), none);
    }
}
