use std::fmt;

use super::Pattern;
use crate::protocol::{Right, RoomId};

/// What may be done in one room: a set of rights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rights(u8);

impl Rights {
    /// No right.
    pub const NONE: Self = Self(0);

    /// Every right that a pattern of rooms can grant: `*` in a token.
    pub const ALL: Self = Self::of(&[Right::Join, Right::Send, Right::History, Right::Signal, Right::Presence]);

    /// What the owner of a personal room may do there.
    pub(super) const OWNER: Self = Self::of(&[Right::Join, Right::History, Right::Presence]);

    /// These rights.
    pub const fn of(rights: &[Right]) -> Self {
        let (mut bits, mut index) = (0, 0);
        while index < rights.len() {
            bits |= 1 << rights[index] as u8;
            index += 1;
        }
        Self(bits)
    }

    /// Whether this right is one of them.
    pub fn has(self, right: Right) -> bool {
        self.0 & 1 << right as u8 != 0
    }

    /// These and those.
    pub fn and(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// These without those.
    pub(super) fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }
}

/// What somebody may do, in all rooms. There is nothing but grants: what no grant allows is refused, and the rights of
/// all patterns that are for a room are added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    rooms: Vec<(Pattern, Rights)>,
    broadcast: bool,
    moderate: Vec<Pattern>,
}

impl Grants {
    /// These grants.
    pub fn new(rooms: Vec<(Pattern, Rights)>, broadcast: bool, moderate: Vec<Pattern>) -> Self {
        Self { rooms, broadcast, moderate }
    }

    /// What anybody may do on a server without keys: everything but moderate and enter personal rooms.
    pub fn open() -> Self {
        let all = Pattern::parse("*").expect("it is a pattern");
        Self::new(vec![(all, Rights::ALL)], true, Vec::new())
    }

    /// Whether they allow nothing at all.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What they allow in this room. Nobody may do in a personal room what is for its owner alone.
    pub fn in_room(&self, room: &RoomId) -> Rights {
        let matching = self.rooms.iter().filter(|(pattern, _)| pattern.matches(room));
        let rights = matching.fold(Rights::NONE, |all, (_, rights)| all.and(*rights));
        if room.is_personal() { rights.without(Rights::OWNER) } else { rights }
    }

    /// Whether they allow to speak to everybody.
    pub fn may_broadcast(&self) -> bool {
        self.broadcast
    }

    /// Whether they allow to moderate any room.
    pub fn moderates(&self) -> bool {
        !self.moderate.is_empty()
    }

    /// Whether they allow to mute everywhere.
    pub fn may_moderate_all(&self) -> bool {
        self.moderate.iter().any(|pattern| pattern.as_str() == "*")
    }

    /// Whether they allow to mute, ban and slow down others in this room.
    pub fn may_moderate(&self, room: &RoomId) -> bool {
        self.moderate.iter().any(|pattern| pattern.matches(room))
    }
}

/// For people: a line for each pattern.
impl fmt::Display for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("may     do nothing but enter its personal room");
        }
        let mut lines: Vec<String> = Vec::new();
        for (pattern, rights) in &self.rooms {
            let names = Right::ALL.into_iter().filter(|right| rights.has(*right)).map(Right::as_str);
            let names = names.collect::<Vec<_>>().join(", ");
            lines.push(format!(
                "may     {} in {}",
                if names.is_empty() { "nothing" } else { &names },
                pattern.as_str()
            ));
        }
        if self.broadcast {
            lines.push("may     broadcast".into());
        }
        lines.extend(self.moderate.iter().map(|pattern| format!("may     moderate {}", pattern.as_str())));
        f.write_str(&lines.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(name: &str) -> RoomId {
        RoomId::parse(name, 128).unwrap()
    }

    fn grants(rooms: &[(&str, &[Right])]) -> Grants {
        let rooms = rooms.iter().map(|(pattern, rights)| (Pattern::parse(pattern).unwrap(), Rights::of(rights)));
        Grants::new(rooms.collect(), false, vec![Pattern::parse("team:*").unwrap()])
    }

    #[test]
    fn rights_of_all_patterns_that_match_are_added_up() {
        let grants =
            grants(&[("team:*", &[Right::Join]), ("*:news", &[Right::Send]), ("team:news", &[Right::History])]);
        let rights = grants.in_room(&room("team:news"));
        assert_eq!(rights, Rights::of(&[Right::Join, Right::Send, Right::History]));
        assert!(!rights.has(Right::Signal));
        assert_eq!(grants.in_room(&room("other:news")), Rights::of(&[Right::Send]));
        assert_eq!(grants.in_room(&room("other")), Rights::NONE);
        assert!(grants.may_moderate(&room("team:a")) && !grants.may_moderate(&room("other")));
        assert!(!grants.may_broadcast());
    }

    #[test]
    fn nobody_is_granted_what_is_for_the_owner_of_a_personal_room() {
        let all = Rights::ALL;
        let grants = Grants::new(vec![(Pattern::parse("@*").unwrap(), all)], false, Vec::new());
        assert_eq!(grants.in_room(&room("@ann")), Rights::of(&[Right::Send, Right::Signal]));
        assert_eq!(Grants::open().in_room(&room("@ann")), Rights::NONE);
        assert_eq!(Grants::open().in_room(&room("ann")), Rights::ALL);
    }

    #[test]
    fn nothing_is_empty() {
        assert!(Grants::default().is_empty());
        assert!(!Grants::open().is_empty() && !grants(&[]).is_empty());
    }
}
