use std::time::Duration;

use jiff::{Timestamp, ZonedDateTime, civil::Date, tz::TimeZone};
use serde_json::{Value, json};

use super::{
    event::{Position, Refusal, Said},
    news::{Came, News},
};
use crate::cli::client::plain;

/// The colours of names; each name always has the same. None is close to the usual colours of text and background.
const COLOURS: [u8; 10] = [31, 32, 33, 34, 35, 36, 92, 93, 95, 96];

const DIM: &str = "\x1b[2m";
const PLAIN: &str = "\x1b[0m";

/// How to tell news to a person.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words {
    pub(super) has_colours: bool,
    /// Whether to say which room something is about.
    pub(super) has_several_rooms: bool,
}

impl Words {
    /// One line, in which the terminal obeys nothing but this program's colours; `None` for news that only programs
    /// need.
    pub(super) fn line(&self, news: &News) -> Option<String> {
        if let News::Said { room, said } = news {
            return Some(self.said(Some(room), said));
        }
        if let News::Broadcast(said) = news {
            return Some(self.said(None, said));
        }
        Some(self.note(&note(news, self.has_several_rooms)?))
    }

    /// A line of this program's own.
    pub(super) fn note(&self, text: &str) -> String {
        self.dim(&plain(&format!("-- {text}")))
    }

    fn said(&self, room: Option<&str>, said: &Said) -> String {
        let room = match room {
            None => "to all, ".to_owned(),
            Some(room) if self.has_several_rooms => format!("[{}] ", plain(room)),
            Some(_) => String::new(),
        };
        let name = self.name(said.username.as_deref().unwrap_or("?"));
        let place = said.position.as_ref().map(|position| format!("#{}", position.seq));
        let server = said.server.as_ref().map(|server| format!("via {}", plain(server)));
        let details: Vec<String> = [place, server].into_iter().flatten().collect();
        let details = if details.is_empty() { String::new() } else { format!("  {}", self.dim(&details.join(" "))) };
        format!("{} {room}{name}: {}{details}", self.dim(&time(said.ts)), plain(&said.text))
    }

    fn name(&self, name: &str) -> String {
        let shown = plain(name);
        if !self.has_colours {
            return shown.into_owned();
        }
        // FNV-1a, so that a name has the same colour always and everywhere.
        let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
        let colour = COLOURS[hash as usize % COLOURS.len()];
        format!("\x1b[{colour}m{shown}{PLAIN}")
    }

    fn dim(&self, text: &str) -> String {
        if self.has_colours { format!("{DIM}{text}{PLAIN}") } else { text.to_owned() }
    }
}

/// When something was said, in local time, with the day unless it was today.
fn time(ts: Option<i64>) -> String {
    let now = ZonedDateTime::now();
    let then = ts.and_then(|ts| Timestamp::from_millisecond(ts).ok());
    let then = then.map_or_else(|| now.clone(), |then| then.to_zoned_datetime(TimeZone::system()));
    time_of(&then, now.date())
}

fn time_of(then: &ZonedDateTime, today: Date) -> String {
    then.strftime(if then.date() == today { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" }).to_string()
}

fn note(news: &News, has_several_rooms: bool) -> Option<String> {
    let on = |server: &Option<String>| server.as_ref().map(|server| format!(", on {server}")).unwrap_or_default();
    Some(match news {
        News::Opened | News::Kept { .. } | News::Said { .. } | News::Broadcast(_) | News::Over { .. } => return None,
        News::Waiting { why, wait } => format!("{why}; {}", again(*wait)),
        News::Drains => "this server is about to stop; the chat will move to another".to_owned(),
        News::Left { room } => format!("you left {room}"),
        News::Joined { room, server, came: Came::New { last: 0 } } => format!("in {room}{}", on(server)),
        News::Joined { room, server, came: Came::New { last } } => {
            format!("in {room}{}; {}:", on(server), the_last(*last))
        }
        News::Joined { room, came: Came::ForLast { last: 0 }, .. } => format!("nothing was said in {room} yet"),
        News::Joined { room, came: Came::ForLast { last }, .. } => format!("{} of {room}:", the_last(*last)),
        News::Joined { room, came: Came::ForLastUnkept, .. } => format!(
            "this server keeps nothing of what is said in {room}, so it cannot show it; what was said in this moment may be lost"
        ),
        News::Joined { room, server, came } => {
            let of_room = if has_several_rooms { format!(" in {room}") } else { String::new() };
            let missed = match came {
                Came::Back { missed: 0 } => "nothing was missed",
                Came::Back { missed: 1 } => "1 message was missed and follows",
                Came::Back { missed } => &format!("{missed} messages were missed and follow"),
                Came::BackUnkept => "this server keeps nothing of what is said, so what was said meanwhile may be lost",
                _ => "some of what was missed is gone",
            };
            format!("back{of_room}{}; {missed}", on(server))
        }
        News::JoinDelayed { room, refusal, wait } => {
            format!("{room} cannot be joined yet: {}; {}", refused(refusal), again(*wait))
        }
        News::JoinRefused { room, refusal } => not_joined(room, refusal),
        News::PutOut { room, reason, wait } => {
            format!("the server cannot go on in {room} at the moment ({reason}); {}", again(*wait))
        }
        News::Gap { room, after, up_to, reason } => {
            let of_room = if has_several_rooms { format!(" in {room}") } else { String::new() };
            gap(&of_room, after.as_ref(), up_to.as_ref(), reason)
        }
        News::BroadcastsMissed => "some messages to all were missed".to_owned(),
        News::MessageDelayed { refusal, wait, .. } => format!("not kept yet: {}; {}", refused(refusal), again(*wait)),
        News::Failed { text, why, maybe_kept, .. } => {
            format!("{}: {}: {}", if *maybe_kept { "perhaps not kept" } else { "not kept" }, start(text), refused(why))
        }
        News::Error(refusal) => refused(refusal),
    })
}

/// Enough of a text to recognise it.
pub(super) fn start(text: &str) -> String {
    const ENOUGH: usize = 60;
    let start: String = text.chars().take(ENOUGH).collect();
    if start.len() < text.len() { format!("{start:?}…") } else { format!("{start:?}") }
}

fn the_last(count: u64) -> String {
    if count == 1 { "the last message".to_owned() } else { format!("the last {count} messages") }
}

/// Says that the client tries again. It does not say how often, because this is said only once.
fn again(wait: Duration) -> &'static str {
    if wait.is_zero() { "trying again at once" } else { "trying again" }
}

fn gap(of_room: &str, after: Option<&Position>, up_to: Option<&Position>, reason: &str) -> String {
    let which = match (after, up_to) {
        (Some(after), Some(up_to)) if after.epoch == up_to.epoch && after.seq + 1 < up_to.seq => {
            format!("messages {} to {}{of_room}", after.seq + 1, up_to.seq)
        }
        (Some(after), Some(up_to)) if after.epoch == up_to.epoch => format!("message {}{of_room}", up_to.seq),
        _ => return format!("messages may be missing{of_room}: the server has lost what was said before"),
    };
    match reason {
        "missed" => format!("{which} not shown; /last shows more"),
        _ => format!("{which} missing: the server does not have them any more"),
    }
}

fn refused(Refusal { code, message }: &Refusal) -> String {
    // The server names the field of the frame, which people have not seen.
    let of = |field: &str| message.strip_prefix(field).unwrap_or(message);
    match code.as_str() {
        _ if message.is_empty() => code.clone(),
        "text_too_long" | "frame_too_big" => {
            format!("this message is too long: {}", message.replacen("`text`", "it", 1))
        }
        "bad_username" => format!("a name {}", of("`username` ")),
        "bad_room" => format!("the name of a room {}", of("`room` ")),
        // How a client would show a token is nothing to a person.
        "unauthorized" if message.contains('{') => "this server wants a token; set ROOMCAST_TOKEN to one".to_owned(),
        "unauthorized" => format!("{message}; set ROOMCAST_TOKEN to another one"),
        "outcome_unknown" | "left" => message.clone(),
        _ => format!("{message} ({code})"),
    }
}

/// Why a room was not joined, and what to do about it.
pub(super) fn not_joined(room: &str, refusal: &Refusal) -> String {
    let remedy = match refusal.code.as_str() {
        "bad_room" => "; choose another room, of letters, digits and - _ . : ~ @",
        "bad_username" => "; choose another name, of at most 64 characters that can be seen",
        "too_many_rooms" => "; /leave one first",
        _ => "",
    };
    format!("{room:?} was not joined: {}{remedy}", refused(refusal))
}

/// News for a program; `None` for those that it knows from the frames.
pub(super) fn json(news: &News) -> Option<Value> {
    Some(match news {
        News::Opened => json!({"type": "state", "state": "open"}),
        News::Waiting { why, wait } => {
            let wait = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            json!({"type": "state", "state": "waiting", "why": why, "again_in_ms": wait})
        }
        News::Over { why, remedy } => json!({"type": "state", "state": "closed", "why": why, "remedy": remedy}),
        News::Failed { room, id, text, why, maybe_kept } => json!({
            "type": "failed", "room": room, "id": id, "text": text, "code": why.code, "message": why.message,
            "maybe_kept": maybe_kept,
        }),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(has_colours: bool, has_several_rooms: bool) -> Words {
        Words { has_colours, has_several_rooms }
    }

    fn hello(username: &str) -> News {
        let position = Some(Position { epoch: "e".into(), seq: 42 });
        let said = Said {
            username: Some(username.into()),
            text: "hello".into(),
            ts: Some(Timestamp::now().as_millisecond()),
            server: Some("one".into()),
            position,
            id: None,
        };
        News::Said { room: "lobby".into(), said }
    }

    #[test]
    fn a_message_has_its_time_room_author_number_and_server() {
        let line = words(false, false).line(&hello("ann")).unwrap();
        assert!(line.ends_with(" ann: hello  #42 via one"), "{line}");
        assert_eq!(line.find(' '), Some("12:34:56".len()), "{line}");
        let line = words(false, true).line(&hello("ann")).unwrap();
        assert!(line.contains(" [lobby] ann: hello"), "{line}");
    }

    #[test]
    fn a_name_keeps_its_colour_and_has_none_where_there_are_none() {
        let colour = |name: &str| {
            let line = words(true, false).line(&hello(name)).unwrap();
            let at = line.find(&format!("m{name}\x1b[0m")).expect("a name in a colour");
            line[at - 2..at].to_owned()
        };
        assert_eq!(colour("ann"), colour("ann"));
        assert_ne!(colour("ann"), colour("bob"));
        assert!(!words(false, false).line(&hello("ann")).unwrap().contains('\x1b'));
    }

    #[test]
    fn what_was_not_said_today_has_its_day() {
        let then: ZonedDateTime = "2026-01-02T03:04:05+01:00[Europe/Berlin]".parse().unwrap();
        assert_eq!(time_of(&then, then.date()), "03:04:05");
        assert_eq!(time_of(&then, then.date().tomorrow().unwrap()), "2026-01-02 03:04:05");
    }

    #[test]
    fn nothing_of_others_is_obeyed_by_the_terminal() {
        let evil = || "\x1b[2J\r\n\u{202e}".to_owned();
        let refusal = || Refusal { code: evil(), message: evil() };
        let wait = Duration::ZERO;
        let said = || Said { username: Some(evil()), text: evil(), server: Some(evil()), ..Said::default() };
        for news in [
            News::Waiting { why: evil(), wait },
            News::Joined { room: evil(), server: Some(evil()), came: Came::New { last: 3 } },
            News::Joined { room: evil(), server: Some(evil()), came: Came::Back { missed: 3 } },
            News::JoinDelayed { room: evil(), refusal: refusal(), wait },
            News::JoinRefused { room: evil(), refusal: refusal() },
            News::PutOut { room: evil(), reason: evil(), wait },
            News::Said { room: evil(), said: said() },
            News::Broadcast(said()),
            News::Gap { room: evil(), after: None, up_to: None, reason: evil() },
            News::MessageDelayed { room: evil(), refusal: refusal(), wait },
            News::Failed { room: evil(), id: evil(), text: evil(), why: refusal(), maybe_kept: true },
            News::Error(refusal()),
        ] {
            let line = words(false, true).line(&news).unwrap();
            assert!(!line.contains(['\x1b', '\r', '\n', '\u{202e}']), "{line:?}");
        }
    }

    #[test]
    fn a_gap_says_which_messages() {
        let at = |seq| Some(Position { epoch: "e".into(), seq });
        let says = |after, up_to, reason: &str| {
            words(false, false).line(&News::Gap { room: "lobby".into(), after, up_to, reason: reason.into() }).unwrap()
        };
        assert_eq!(says(at(3), at(9), "trimmed"), "-- messages 4 to 9 missing: the server does not have them any more");
        assert_eq!(says(at(3), at(4), "missed"), "-- message 4 not shown; /last shows more");
        for reason in ["new_epoch", "unknown_position"] {
            let line = "-- messages may be missing: the server has lost what was said before";
            assert_eq!(says(at(3), None, reason), line);
        }
    }

    #[test]
    fn a_refusal_names_no_field_of_a_frame() {
        for (code, message, says) in [
            (
                "text_too_long",
                "`text` must have at most 9 bytes, not 10",
                "this message is too long: it must have at most 9 bytes, not 10",
            ),
            ("bad_username", "`username` must not be empty", "a name must not be empty"),
            ("bad_room", "`room` must not be empty", "the name of a room must not be empty"),
            ("unavailable", "Redis is away", "Redis is away (unavailable)"),
            ("new_one", "", "new_one"),
            ("unauthorized", "send {} first", "this server wants a token; set ROOMCAST_TOKEN to one"),
            ("unauthorized", "it ended", "it ended; set ROOMCAST_TOKEN to another one"),
        ] {
            assert_eq!(refused(&Refusal { code: code.into(), message: message.into() }), says);
        }
    }
}
