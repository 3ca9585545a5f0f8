use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{BadPattern, Grants, Pattern, Rights};
use crate::protocol::{NameError, Right, RoomId};

/// Most patterns, and most rooms to join, in one claim.
const MOST: usize = 1000;

/// What a claim, or `ROOMCAST_ANONYMOUS`, allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Permissions {
    /// What may be done.
    pub grants: Grants,
    /// Rooms that the server joins for the client when it connects.
    pub auto_join: Vec<RoomId>,
    /// What has no effect, as this server does not know it. A later one may, so this is no mistake.
    pub unknown: Vec<String>,
}

/// Why a claim cannot be used; the text goes on after its name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadClaim {
    /// It is not built as it must be.
    #[error("is not as it must be: {0}")]
    Shape(String),
    /// It has more than a server can look at for each command.
    #[error("has more than {MOST} patterns or rooms")]
    TooMany,
    /// It has a pattern that is none.
    #[error("has the pattern {0:?}, which {1}")]
    Pattern(String, BadPattern),
    /// It has a room to join that is none.
    #[error("has the room {0:?} in `auto_join`, which {1}")]
    Room(String, NameError),
}

impl Permissions {
    /// Reads the claim: an object, or a text that holds one, as some providers cannot say more.
    ///
    /// # Errors
    /// If it is something else, or if one of its patterns or rooms is none. Rights that are not known grant nothing.
    pub fn read(claim: &Value, longest_room: usize) -> Result<Self, BadClaim> {
        let shape = |error: serde_json::Error| BadClaim::Shape(error.to_string());
        let object = match claim {
            Value::String(text) => Cow::Owned(serde_json::from_str(text).map_err(shape)?),
            object => Cow::Borrowed(object),
        };
        if !object.is_object() {
            return Err(BadClaim::Shape(
                "it must be an object, such as {\"rooms\":{\"lobby\":[\"join\",\"send\"]}}".into(),
            ));
        }
        let fields = Fields::deserialize(&*object).map_err(shape)?;
        if fields.rooms.len() + fields.moderate.len() > MOST || fields.auto_join.len() > MOST {
            return Err(BadClaim::TooMany);
        }
        let mut unknown: Vec<String> = fields.others.into_keys().map(|name| format!("the field {name:?}")).collect();
        let pattern = |text: String| Pattern::parse(&text).map_err(|why| BadClaim::Pattern(text, why));
        let mut rooms = Vec::with_capacity(fields.rooms.len());
        for (text, names) in fields.rooms {
            let mut rights = Rights::NONE;
            for name in names {
                match Right::parse(&name) {
                    _ if name == "*" => rights = rights.and(Rights::ALL),
                    Some(right) if Rights::ALL.has(right) => rights = rights.and(Rights::of(&[right])),
                    _ => unknown.push(format!("the right {name:?}")),
                }
            }
            rooms.push((pattern(text)?, rights));
        }
        let moderate = fields.moderate.into_iter().map(pattern).collect::<Result<_, _>>()?;
        let room = |text: String| RoomId::parse(&text, longest_room).map_err(|why| BadClaim::Room(text, why));
        let auto_join = fields.auto_join.into_iter().map(room).collect::<Result<_, _>>()?;
        Ok(Self { grants: Grants::new(rooms, fields.broadcast, moderate), auto_join, unknown })
    }
}

/// The claim as it is written. `null` is the same as left out.
#[derive(Deserialize)]
struct Fields {
    #[serde(default, deserialize_with = "or_default")]
    rooms: BTreeMap<String, Vec<String>>,
    #[serde(default, deserialize_with = "or_default")]
    broadcast: bool,
    #[serde(default, deserialize_with = "or_default")]
    moderate: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    auto_join: Vec<String>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn room(name: &str) -> RoomId {
        RoomId::parse(name, 128).unwrap()
    }

    #[test]
    fn a_claim_says_what_may_be_done_and_where() {
        let claim = json!({
            "rooms": {"lobby": ["join", "send"], "team:42:*": ["*"]},
            "broadcast": true, "moderate": ["team:42:*"], "auto_join": ["team:42:news"], "info": {"name": "Ann"},
        });
        for claim in [claim.clone(), Value::String(claim.to_string())] {
            let Permissions { grants, auto_join, unknown } = Permissions::read(&claim, 128).unwrap();
            assert_eq!(grants.in_room(&room("lobby")), Rights::of(&[Right::Join, Right::Send]));
            assert_eq!(grants.in_room(&room("team:42:news")), Rights::ALL);
            assert!(grants.may_broadcast() && grants.may_moderate(&room("team:42:x")));
            assert_eq!(auto_join, [room("team:42:news")]);
            assert_eq!(unknown, ["the field \"info\""]);
        }
        let nothing = Permissions::read(&json!({"rooms": null}), 128).unwrap();
        assert!(nothing.grants.is_empty());
    }

    #[test]
    fn what_a_later_server_may_know_grants_nothing_and_is_named() {
        let claim = json!({"rooms": {"a": ["join", "publish", "moderate"]}});
        let read = Permissions::read(&claim, 128).unwrap();
        assert_eq!(read.grants.in_room(&room("a")), Rights::of(&[Right::Join]));
        assert_eq!(read.unknown, ["the right \"publish\"", "the right \"moderate\""]);
    }

    #[test]
    fn a_wrong_claim_is_refused_by_its_mistake() {
        let many: Vec<String> = (0..=MOST).map(|number| number.to_string()).collect();
        for (claim, part) in [
            (json!(["lobby"]), "must be an object"),
            (json!("lobby"), "not as it must be"),
            (json!("[]"), "must be an object"),
            (json!({"rooms": ["lobby"]}), "expected a map"),
            (json!({"rooms": {"lobby": "join"}}), "expected a sequence"),
            (json!({"rooms": {"team-*": ["join"]}}), "\"team-*\", which must have each *"),
            (json!({"moderate": ["a b"]}), "\"a b\", which may have only"),
            (json!({"auto_join": ["a b"]}), "the room \"a b\""),
            (json!({"auto_join": many}), "more than 1000"),
            (json!({"broadcast": "yes"}), "expected a boolean"),
        ] {
            let error = Permissions::read(&claim, 128).unwrap_err().to_string();
            assert!(error.contains(part), "{claim}: {error}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _ = Permissions::read(&Value::String(text), 128);
        }

        #[test]
        fn any_values_in_the_known_fields_are_read_or_refused(values in prop::collection::vec(
            prop::sample::select(vec!["null", "1", "true", "\"a\"", "[]", "[1]", "[\"*\"]", "{}", "{\"a:*\":[\"*\",\"x\"]}", "{\"a\":1}"]), 4)) {
            let [rooms, broadcast, moderate, auto_join] = &values[..] else { unreachable!() };
            let claim = format!(r#"{{"rooms":{rooms},"broadcast":{broadcast},"moderate":{moderate},"auto_join":{auto_join}}}"#);
            let _ = Permissions::read(&serde_json::from_str(&claim).unwrap(), 128);
        }
    }
}
