use std::collections::HashMap;

use super::{event::Refusal, news::News};

/// What a person was already told about failures, which nobody wants to read again after each attempt.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Why there is no connection.
    outage: Option<String>,
    /// Whether that named the server's URL.
    has_url: bool,
    /// Why a room cannot be joined yet.
    joins: HashMap<String, Refusal>,
    /// Why messages in a room are not kept yet.
    messages: HashMap<String, Refusal>,
}

impl Told {
    /// Notes news. Returns whether they say something new since everything last worked.
    pub(super) fn note(&mut self, news: &News) -> bool {
        match news {
            News::Waiting { why, .. } => self.outage.replace(why.clone()).as_ref() != Some(why),
            News::JoinDelayed { room, refusal, .. } => {
                self.joins.insert(room.clone(), refusal.clone()).as_ref() != Some(refusal)
            }
            News::MessageDelayed { room, refusal, .. } => {
                self.messages.insert(room.clone(), refusal.clone()).as_ref() != Some(refusal)
            }
            News::Joined { room, .. } => {
                (self.outage, self.has_url) = (None, false);
                self.joins.remove(room);
                true
            }
            News::Kept { room, .. } | News::Failed { room, .. } => {
                self.messages.remove(room);
                true
            }
            _ => true,
        }
    }

    /// A reason, with the URL only if that is new in this outage.
    pub(super) fn with_url_once(&mut self, why: &str, url: &str) -> String {
        let had_url = self.has_url;
        self.has_url |= why.contains(url);
        if had_url { why.replace(url, "the server") } else { why.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::cli::chat::news::Came;

    #[test]
    fn an_outage_is_told_when_it_begins_and_when_its_reason_changes() {
        let mut told = Told::default();
        let mut tells = |why: &str| told.note(&News::Waiting { why: why.into(), wait: Duration::ZERO });
        let outage = ["it went away", "refused", "refused", "refused", "it answered 502", "it answered 502"];
        assert_eq!(outage.map(&mut tells), [true, true, false, false, true, false]);
        assert!(told.note(&News::Joined { room: "den".into(), server: None, came: Came::Back { missed: 0 } }));
        assert!(told.note(&News::Waiting { why: "it answered 502".into(), wait: Duration::ZERO }));
    }

    #[test]
    fn what_a_room_cannot_do_is_told_once_too() {
        let mut told = Told::default();
        let refusal = Refusal { code: "unavailable".into(), message: String::new() };
        let wait = Duration::ZERO;
        let delayed = |room: &str| News::MessageDelayed { room: room.into(), refusal: refusal.clone(), wait };
        assert_eq!(["a", "a", "b", "a"].map(|room| told.note(&delayed(room))), [true, false, true, false]);
        assert!(told.note(&News::Kept { room: "a".into(), id: "1".into() }));
        assert!(told.note(&delayed("a")) && !told.note(&delayed("b")));
        let join = News::JoinDelayed { room: "a".into(), refusal: refusal.clone(), wait };
        assert!(told.note(&join) && !told.note(&join));
    }

    #[test]
    fn the_url_is_told_once_in_an_outage() {
        let mut told = Told::default();
        let (url, why) = ("ws://h/ws", "ws://h/ws cannot be reached");
        assert_eq!(told.with_url_once("it went away", url), "it went away");
        assert_eq!(told.with_url_once(why, url), why);
        assert_eq!(told.with_url_once(why, url), "the server cannot be reached");
    }
}
