//! Names that are checked once, at the edge, and trusted afterwards.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

/// The bounds on what clients may send; every one is a setting.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest room id, in characters.
    pub room: usize,
    /// Longest username, in characters.
    pub username: usize,
    /// Longest message id, in characters.
    pub id: usize,
    /// Longest text, in bytes of UTF-8.
    pub text: usize,
}

/// Why a name was refused; the text is for the person who sent it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It is empty.
    #[error("must not be empty")]
    Empty,
    /// It has more characters than allowed.
    #[error("must have at most {0} characters")]
    TooLong(usize),
    /// It has a character outside the room alphabet.
    #[error("may have only the characters A-Z a-z 0-9 - _ . : ~ @")]
    Alphabet,
    /// It has a control character.
    #[error("must not have control characters")]
    Control,
    /// It begins with a mark that would be drawn over the character before it.
    #[error("must not begin with a combining mark")]
    Mark,
    /// It has an invisible character.
    #[error(
        "must not have characters that cannot be seen, such as zero-width, direction-changing and private-use ones"
    )]
    Unseen,
}

pub(super) fn check_length(name: &str, max: usize) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    // A character has at least one byte, so most names need no counting.
    if name.len() > max && name.chars().count() > max {
        return Err(NameError::TooLong(max));
    }
    Ok(())
}

/// The id of a room: 1 to 128 (a setting) characters of letters, digits and `-_.:~@`.
/// Cloning it copies a pointer.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct RoomId(Arc<str>);

impl RoomId {
    /// More characters than any setting allows.
    pub const LONGEST: usize = 512;

    /// Whether it is the personal room of a user; those begin with `@`.
    pub fn is_personal(&self) -> bool {
        self.0.starts_with('@')
    }

    /// Checks the alphabet and the length, in characters. A personal room may be as long as any setting allows, as it takes
    /// up to three characters for each byte of a name.
    pub fn parse(name: &str, max: usize) -> Result<Self, NameError> {
        check_length(name, if name.starts_with('@') { Self::LONGEST } else { max })?;
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-_.:~@".contains(&b);
        if !name.bytes().all(allowed) {
            return Err(NameError::Alphabet);
        }
        Ok(Self(name.into()))
    }

    /// The id as in JSON and in channel names.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A client's id for its own message, so that sending it again makes no second one. It must be unique in its room (for
/// example a UUID): 1 to 128 (a setting) characters, no control characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct MessageId(Arc<str>);

impl MessageId {
    /// Checks the length, in characters, and that there are no control characters.
    pub fn parse(id: &str, max: usize) -> Result<Self, NameError> {
        check_length(id, max)?;
        if id.chars().any(char::is_control) {
            return Err(NameError::Control);
        }
        Ok(Self(id.into()))
    }

    /// The id as in JSON and in keys.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Where a publication goes: to one room or to everybody.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Channel {
    /// Every client of every server.
    Broadcast,
    /// The members of one room, on all servers.
    Room(RoomId),
}

impl Channel {
    /// The room, unless this is the broadcast channel.
    pub fn room(&self) -> Option<&RoomId> {
        match self {
            Self::Broadcast => None,
            Self::Room(room) => Some(room),
        }
    }
}

/// One life of a channel's numbering. Positions can be compared only within one epoch; a log that was lost or wound
/// back gets a new one. On the wire: 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Epoch(pub u64);

impl Epoch {
    /// Reads what [`Display`](fmt::Display) writes; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !digits {
            return None;
        }
        u64::from_str_radix(text, 16).ok().map(Self)
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for Epoch {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Epoch {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("an epoch has 16 hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_ids_keep_to_their_alphabet_and_length() {
        for good in ["a", "A-Z_0.9:~@", &"x".repeat(8)] {
            assert_eq!(RoomId::parse(good, 10).unwrap().as_str(), good);
        }
        let cases = [
            ("", NameError::Empty),
            ("aaaaaaaaaaa", NameError::TooLong(10)),
            ("a b", NameError::Alphabet),
            ("a{b}", NameError::Alphabet),
            ("zoë", NameError::Alphabet),
            ("a\n", NameError::Alphabet),
        ];
        for (bad, why) in cases {
            assert_eq!(RoomId::parse(bad, 10), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn message_ids_have_no_control_characters() {
        assert_eq!(MessageId::parse(" \u{200b}é", 3).unwrap().as_str(), " \u{200b}é");
        assert_eq!(MessageId::parse("a\u{7f}", 6), Err(NameError::Control));
        assert_eq!(MessageId::parse("", 6), Err(NameError::Empty));
        assert_eq!(MessageId::parse("éééé", 3), Err(NameError::TooLong(3)));
    }

    #[test]
    fn an_epoch_reads_what_it_writes_and_nothing_else() {
        for epoch in [Epoch(0), Epoch(u64::MAX), Epoch(0x1234)] {
            assert_eq!(Epoch::parse(&epoch.to_string()), Some(epoch));
        }
        for bad in ["", "12", "000000000000000G", "+00000000000000f", "00000000000000FF"] {
            assert_eq!(Epoch::parse(bad), None, "{bad:?}");
        }
    }
}
