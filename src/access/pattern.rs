use crate::protocol::RoomId;

/// Longest pattern, in bytes.
const LONGEST: usize = 512;

/// Which rooms a grant is for: a room id in which `*` stands for a segment between colons, and at the end for one or
/// more of them. `team:42:*` is for `team:42:news` and `team:42:a:b`, but not for `team:42`. Wildcards are those of
/// Ably's capabilities.
///
/// Personal rooms begin with `@`. Only a pattern that begins with `@` too can be for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern(Box<str>);

/// Why something is not a pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadPattern {
    /// It is empty.
    #[error("is empty")]
    Empty,
    /// It is too long.
    #[error("has more than {LONGEST} bytes")]
    TooLong,
    /// It has a character that no room has.
    #[error("may have only * and the characters of a room: A-Z a-z 0-9 - _ . : ~ @")]
    Alphabet,
    /// A `*` stands beside something else.
    #[error("must have each * alone between colons, as in team:*:news")]
    Star,
}

impl Pattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// If it is not one.
    pub fn parse(text: &str) -> Result<Self, BadPattern> {
        if text.is_empty() {
            return Err(BadPattern::Empty);
        }
        if text.len() > LONGEST {
            return Err(BadPattern::TooLong);
        }
        if !text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:~@*".contains(&b)) {
            return Err(BadPattern::Alphabet);
        }
        let is_star_apart = |segment: &str| segment == "*" || segment == "@*" || !segment.contains('*');
        // `@*` may only begin a pattern: it stands for the personal rooms.
        if !text.split(':').all(is_star_apart) || text.split(':').skip(1).any(|segment| segment == "@*") {
            return Err(BadPattern::Star);
        }
        Ok(Self(text.into()))
    }

    /// The pattern as it was read.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is for this room.
    pub fn matches(&self, room: &RoomId) -> bool {
        let (pattern, room) = match (self.0.strip_prefix('@'), room.as_str().strip_prefix('@')) {
            (Some(pattern), Some(room)) => (pattern, room),
            (None, None) => (&*self.0, room.as_str()),
            _ => return false,
        };
        let (mut wanted, mut given) = (pattern.split(':').peekable(), room.split(':'));
        while let Some(segment) = wanted.next() {
            let Some(actual) = given.next() else { return false };
            if segment == "*" && wanted.peek().is_none() {
                return true;
            }
            if segment != "*" && segment != actual {
                return false;
            }
        }
        given.next().is_none()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn matches(pattern: &str, room: &str) -> bool {
        Pattern::parse(pattern).unwrap().matches(&RoomId::parse(room, 128).unwrap())
    }

    #[test]
    fn a_star_is_one_segment_and_at_the_end_any_number() {
        for (pattern, room) in [
            ("lobby", "lobby"),
            ("*", "lobby"),
            ("*", "team:42:news"),
            ("team:42:*", "team:42:news"),
            ("team:42:*", "team:42:a:b"),
            ("team:*:news", "team:42:news"),
            ("*:news", "team:news"),
            ("*:*", "a:b:c"),
            ("a::b", "a::b"),
            ("a:*:b", "a::b"),
            ("@ann", "@ann"),
            ("@*", "@ann"),
            ("@*", "@ann:phone"),
        ] {
            assert!(matches(pattern, room), "{pattern} {room}");
        }
        for (pattern, room) in [
            ("lobby", "Lobby"),
            ("lobby", "lobby:a"),
            ("team:42:*", "team:42"),
            ("team:42:*", "team:420:news"),
            ("team:*:news", "team:42:old:news"),
            ("team:*:news", "team:news"),
            ("*", "@ann"),
            ("*:*", "@ann:phone"),
            ("@ann", "ann"),
            ("@*", "ann"),
        ] {
            assert!(!matches(pattern, room), "{pattern} {room}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_by_its_mistake() {
        for (text, why) in [
            ("", BadPattern::Empty),
            ("team *", BadPattern::Alphabet),
            ("zoë", BadPattern::Alphabet),
            ("team-*", BadPattern::Star),
            ("**", BadPattern::Star),
            ("a:*b", BadPattern::Star),
            ("a:@*", BadPattern::Star),
            (&"x".repeat(513), BadPattern::TooLong),
        ] {
            assert_eq!(Pattern::parse(text), Err(why), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_matches_or_not(pattern in ".{0,40}", room in "[a-z:@*]{1,12}") {
            if let (Ok(pattern), Ok(room)) = (Pattern::parse(&pattern), RoomId::parse(&room, 128)) {
                pattern.matches(&room);
            }
        }

        #[test]
        fn a_room_is_a_pattern_for_itself_alone(one in "[a-z:]{1,6}", other in "[a-z:]{1,6}") {
            prop_assert_eq!(matches(&one, &other), one == other);
        }

        #[test]
        fn replacing_a_segment_by_a_star_keeps_what_matched(room in "[a-z]{1,3}(:[a-z]{1,3}){0,4}", at in 0_usize..5) {
            let mut segments: Vec<&str> = room.split(':').collect();
            let at = at % segments.len();
            segments[at] = "*";
            prop_assert!(matches(&segments.join(":"), &room));
        }
    }
}
