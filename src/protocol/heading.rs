use std::borrow::Cow;

use serde::Deserialize;

use super::{Epoch, Frame, Position};

/// What tells a client which frame it has before it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Heading<'a> {
    /// Its `type`.
    pub kind: Option<Cow<'a, str>>,
    /// The room to which it belongs, and the position in it after which the next message comes.
    pub place: Option<(Cow<'a, str>, Position)>,
}

impl Frame {
    /// Its heading; empty if a foreign server wrote something else under these names.
    pub fn heading(&self) -> Heading<'_> {
        #[derive(Deserialize)]
        struct Fields<'a> {
            #[serde(default, borrow, rename = "type")]
            kind: Option<Cow<'a, str>>,
            #[serde(default, borrow)]
            room: Option<Cow<'a, str>>,
            epoch: Option<Epoch>,
            seq: Option<u64>,
        }
        let Ok(Fields { kind, room, epoch, seq }) = serde_json::from_slice(self.as_bytes()) else {
            return Heading::default();
        };
        let place = room.zip(epoch).zip(seq).map(|((room, epoch), seq)| (room, Position::new(epoch, seq)));
        Heading { kind, place }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heading(json: &str) -> (Option<String>, Option<(String, Position)>) {
        let frame = Frame::from(json.to_owned());
        let Heading { kind, place } = frame.heading();
        (kind.map(Cow::into_owned), place.map(|(room, position)| (room.into_owned(), position)))
    }

    #[test]
    fn only_a_frame_of_a_room_has_a_place_and_a_foreign_one_may_have_anything() {
        let place = |seq| Some(("r".to_owned(), Position::new(Epoch(10), seq)));
        let epoch = r#""epoch":"000000000000000a""#;
        let placed = format!(r#"{{"seq":7,"room":"r",{epoch},"type":"message"}}"#);
        assert_eq!(heading(&placed), (Some("message".into()), place(7)));
        assert_eq!(heading(&format!(r#"{{"seq":7,{epoch},"type":"broadcast"}}"#)), (Some("broadcast".into()), None));
        for foreign in [r#"{"type":7}"#, "[1,2]", r#"{"seq":"7"}"#, ""] {
            assert_eq!(heading(foreign), (None, None), "{foreign}");
        }
    }
}
