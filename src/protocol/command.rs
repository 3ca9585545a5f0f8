//! What a client asks for.

use std::{borrow::Cow, time::Duration};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{
    Action, Content, Data, Epoch, ErrorCode, Event, EventName, Limits, Measure, MessageId, NameError, Position, Right,
    RoomId, Username,
};

/// Longest time of a measure, in seconds.
const LONGEST: u64 = 10 * 365 * 86_400;

/// Longest pause of slow mode, in seconds.
const SLOWEST: u64 = 86_400;

/// A checked frame from a client: every name in it keeps to the limits.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "docs/protocol.md documents each field, and a test parses its examples")]
pub enum Command<'a> {
    /// Show a token, in the place of the one before.
    Auth { token: Cow<'a, str> },
    /// Become a member of a room; a client with a token may leave its name out.
    Join { room: RoomId, username: Option<Username>, history: History },
    /// Stop being one.
    Leave { room: RoomId },
    /// Say something to a room; a client in exactly one room may leave its name out.
    Message { room: Option<RoomId>, content: Content<'a>, id: Option<MessageId> },
    /// Say something to every client of every server.
    Broadcast { content: Content<'a>, id: Option<MessageId> },
    /// Tell the other members of a room something that is not kept.
    Signal { room: Option<RoomId>, content: Content<'a> },
    /// Read what was said in a room before a position, or last.
    History { room: Option<RoomId>, before: Option<Position>, limit: Option<u64> },
    /// Take a measure against somebody in a room, or everywhere.
    Moderate { room: Option<RoomId>, measure: Measure },
    /// Ask for a `pong`.
    Ping,
}

/// Which earlier messages a client wants when it joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// Nothing.
    None,
    /// All after this position, the last that it has from an earlier membership.
    After(Position),
    /// The last ones: this many, or as many as there are.
    Last(u64),
}

/// Why a frame was refused, and which message or room it was about, if that could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// For programs.
    pub code: ErrorCode,
    /// What a person reads.
    pub message: Cow<'static, str>,
    /// The id in the refused frame.
    pub id: Option<MessageId>,
    /// The room in the refused frame.
    pub room: Option<RoomId>,
    /// The right that was missing.
    pub right: Option<Right>,
    /// After which time to try again, in milliseconds.
    pub retry_after_ms: Option<u64>,
}

impl Rejection {
    /// A rejection with nothing but these; set the other fields afterwards.
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { code, message: message.into(), id: None, room: None, right: None, retry_after_ms: None }
    }

    /// The client is too fast for a limit, and may go on after this time.
    pub fn too_fast(limit: &str, wait: Duration) -> Self {
        let wait = wait.as_millis();
        let message = format!("too fast for the limit {limit}; go on after {wait} ms");
        Self { retry_after_ms: u64::try_from(wait).ok(), ..Self::new(ErrorCode::RateLimited, message) }
    }

    /// The event that tells the client.
    pub fn into_event(self) -> Event {
        let Self { code, message, id, room, right, retry_after_ms } = self;
        Event::Error { code, message, id, room, right, retry_after_ms }
    }
}

impl<'a> Command<'a> {
    /// Reads one text frame. Unknown fields are ignored, and `null` counts as left out.
    pub fn decode(text: &'a str, limits: &Limits) -> Result<Self, Rejection> {
        Fields::read(text)?.told(limits, |fields| fields.command(limits))
    }
}

/// The fields of all commands, each still unparsed JSON, so that one bad field does not hide the others.
#[derive(Clone, Copy, Deserialize)]
pub(super) struct Fields<'a> {
    #[serde(rename = "type", default, borrow)]
    kind: Field<'a>,
    #[serde(default, borrow)]
    room: Field<'a>,
    #[serde(default, borrow)]
    username: Field<'a>,
    #[serde(default, borrow)]
    text: Field<'a>,
    #[serde(default, borrow)]
    id: Field<'a>,
    #[serde(default, borrow)]
    token: Field<'a>,
    #[serde(default, borrow)]
    action: Field<'a>,
    // These are parsed only for commands that have them.
    #[serde(default, borrow)]
    seconds: Option<&'a RawValue>,
    #[serde(default, borrow)]
    after: Option<&'a RawValue>,
    #[serde(default, borrow)]
    last: Option<&'a RawValue>,
    #[serde(default, borrow)]
    data: Option<&'a RawValue>,
    #[serde(default, borrow)]
    event: Field<'a>,
    #[serde(default, borrow)]
    before: Option<&'a RawValue>,
    #[serde(default, borrow)]
    limit: Option<&'a RawValue>,
}

impl<'a> Fields<'a> {
    pub(super) fn read(text: &'a str) -> Result<Self, Rejection> {
        // serde would accept a JSON array too, as the fields in their order.
        if !text.trim_ascii_start().starts_with('{') {
            return Err(Rejection::new(ErrorCode::BadJson, "it must be one JSON object"));
        }
        serde_json::from_str(text)
            .map_err(|error| Rejection::new(ErrorCode::BadJson, format!("not valid JSON: {error}")))
    }

    /// Reads something of them. The id and the room go into the error if they can be read, so that whoever sent them knows
    /// what failed.
    pub(super) fn told<T>(
        self,
        limits: &Limits,
        read: impl FnOnce(Self) -> Result<T, Rejection>,
    ) -> Result<T, Rejection> {
        read(self).map_err(|rejection| {
            let id = string(self.id, "id").ok().flatten().and_then(|id| MessageId::parse(&id, limits.id).ok());
            let room = string(self.room, "room").ok().flatten();
            let room = room.and_then(|room| RoomId::parse(&room, limits.room).ok());
            Rejection { id, room, ..rejection }
        })
    }

    fn command(self, limits: &Limits) -> Result<Command<'a>, Rejection> {
        let kind = string(self.kind, "type").map_err(|why| Rejection { code: ErrorCode::UnknownType, ..why })?;
        let Some(kind) = kind else { return Err(Rejection::new(ErrorCode::UnknownType, "`type` is missing")) };
        match &*kind {
            "auth" => Ok(Command::Auth { token: string(self.token, "token")?.ok_or_else(|| missing("token"))? }),
            "join" => {
                let (room, username) = (self.needed_room(limits)?, self.optional_username(limits)?);
                Ok(Command::Join { room, username, history: self.history()? })
            }
            "leave" => Ok(Command::Leave { room: self.needed_room(limits)? }),
            "message" => {
                let (room, id) = (self.optional_room(limits)?, self.optional_id(limits)?);
                Ok(Command::Message { room, content: self.content(limits)?, id })
            }
            "broadcast" => {
                let id = self.optional_id(limits)?;
                Ok(Command::Broadcast { content: self.content(limits)?, id })
            }
            "signal" => {
                let room = self.optional_room(limits)?;
                Ok(Command::Signal { room, content: self.signal(limits)? })
            }
            "history" => {
                let room = self.optional_room(limits)?;
                let before = self.before.map(|before| position(before, "before")).transpose()?;
                let limit = self.limit.map(|limit| number(limit, "limit")).transpose()?;
                Ok(Command::History { room, before, limit })
            }
            "moderate" => {
                let room = self.optional_room(limits)?;
                Ok(Command::Moderate { measure: self.measure(room.is_some(), limits)?, room })
            }
            "ping" => Ok(Command::Ping),
            _ => Err(Rejection::new(
                ErrorCode::UnknownType,
                "`type` must be one of auth, join, leave, message, broadcast, signal, history, moderate, ping",
            )),
        }
    }

    pub(super) fn optional_room(&self, limits: &Limits) -> Result<Option<RoomId>, Rejection> {
        let Some(room) = string(self.room, "room")? else { return Ok(None) };
        RoomId::parse(&room, limits.room).map(Some).map_err(|why| named(ErrorCode::BadRoom, "room", &why))
    }

    fn needed_room(&self, limits: &Limits) -> Result<RoomId, Rejection> {
        self.optional_room(limits)?.ok_or_else(|| missing("room"))
    }

    pub(super) fn optional_username(&self, limits: &Limits) -> Result<Option<Username>, Rejection> {
        let Some(name) = string(self.username, "username")? else { return Ok(None) };
        Username::parse(&name, limits.username).map(Some).map_err(|why| named(ErrorCode::BadUsername, "username", &why))
    }

    pub(super) fn optional_id(&self, limits: &Limits) -> Result<Option<MessageId>, Rejection> {
        let Some(id) = string(self.id, "id")? else { return Ok(None) };
        MessageId::parse(&id, limits.id).map(Some).map_err(|why| named(ErrorCode::BadId, "id", &why))
    }

    fn measure(&self, has_room: bool, limits: &Limits) -> Result<Measure, Rejection> {
        let bad = |message| Rejection::new(ErrorCode::BadField, message);
        let name = string(self.action, "action")?.ok_or_else(|| missing("action"))?;
        let action = Action::parse(&name)
            .ok_or_else(|| bad("`action` must be one of mute, unmute, ban, unban, kick, slow_mode"))?;
        if !has_room && !matches!(action, Action::Mute | Action::Unmute) {
            return Err(missing("room"));
        }
        let username = self.optional_username(limits)?;
        if username.is_none() && action != Action::SlowMode {
            return Err(missing("username"));
        }
        let seconds =
            self.seconds.map(|seconds| whole_number(seconds).ok_or_else(|| bad("`seconds` must be a number")));
        let seconds = seconds.transpose()?;
        if seconds.is_some_and(|seconds| seconds > LONGEST) {
            return Err(bad(
                "`seconds` must be ten years at most, 315360000; leave it out for a measure without an end",
            ));
        }
        if action == Action::SlowMode && seconds.is_none_or(|seconds| seconds > SLOWEST) {
            return Err(bad("`seconds` must be the pause of slow mode, 86400 at most, or 0 to end it"));
        }
        Ok(Measure { action, username, time: seconds.map(Duration::from_secs) })
    }

    fn history(&self) -> Result<History, Rejection> {
        match (self.after, self.last) {
            (None, None) => Ok(History::None),
            (Some(after), None) => Ok(History::After(position(after, "after")?)),
            (None, Some(last)) => Ok(History::Last(number(last, "last")?)),
            (Some(_), Some(_)) => Err(Rejection::new(ErrorCode::BadField, "give only one of `after` and `last`")),
        }
    }

    pub(super) fn content(&self, limits: &Limits) -> Result<Content<'a>, Rejection> {
        let content = Content { event: self.event()?, text: string(self.text, "text")?, data: self.data()? };
        if content.is_empty() {
            return Err(Rejection::new(ErrorCode::MissingField, "`text` or `data` is missing"));
        }
        within(content, limits)
    }

    /// What a signal may carry: an event, and perhaps data.
    pub(super) fn signal(&self, limits: &Limits) -> Result<Content<'a>, Rejection> {
        let event = self.event()?.ok_or_else(|| missing("event"))?;
        within(Content { event: Some(event), text: None, data: self.data()? }, limits)
    }

    fn event(&self) -> Result<Option<EventName<'a>>, Rejection> {
        let Some(name) = string(self.event, "event")? else { return Ok(None) };
        EventName::parse(name).map(Some).map_err(|why| named(ErrorCode::BadField, "event", &why))
    }

    fn data(&self) -> Result<Option<Data<'a>>, Rejection> {
        let data = self.data.map(Data::parse).transpose();
        data.map_err(|why| Rejection::new(ErrorCode::BadField, format!("`data` cannot be sent on: {why}")))
    }
}

/// Refuses a content that is too long.
fn within<'a>(content: Content<'a>, limits: &Limits) -> Result<Content<'a>, Rejection> {
    if content.len() <= limits.text {
        return Ok(content);
    }
    let what = if content.data.is_some() { "`text` and `data`" } else { "`text`" };
    let message = format!("{what} must have at most {} bytes, not {}", limits.text, content.len());
    Err(Rejection::new(ErrorCode::TextTooLong, message))
}

/// Reads a position.
fn position(value: &RawValue, name: &str) -> Result<Position, Rejection> {
    #[derive(Deserialize)]
    struct Fields<'a> {
        epoch: Epoch,
        #[serde(borrow)]
        seq: &'a RawValue,
    }
    // serde would accept an array here too.
    let fields = Some(value.get()).filter(|value| value.starts_with('{'));
    let fields: Option<Fields<'_>> = fields.and_then(|fields| serde_json::from_str(fields).ok());
    let position = fields.and_then(|fields| Some(Position::new(fields.epoch, whole_number(fields.seq)?)));
    let bad =
        || Rejection::new(ErrorCode::BadField, format!("`{name}` must be the `epoch` and the `seq` of a message"));
    position.ok_or_else(bad)
}

/// Reads a number of messages.
fn number(value: &RawValue, name: &str) -> Result<u64, Rejection> {
    let bad = || Rejection::new(ErrorCode::BadField, format!("`{name}` must be a number of messages"));
    whole_number(value).ok_or_else(bad)
}

fn missing(field: &str) -> Rejection {
    Rejection::new(ErrorCode::MissingField, format!("`{field}` is missing"))
}

fn named(code: ErrorCode, field: &str, why: &NameError) -> Rejection {
    Rejection::new(code, format!("`{field}` {why}"))
}

/// A field as it stands in the frame; `None` if it was left out or `null`.
type Field<'a> = Option<&'a RawValue>;

/// A string, without a copy if it has no escapes.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads a field that must be a string. In JSON a string may have half of a surrogate pair (`"\ud800"`), which UTF-8
/// cannot express. JavaScript clients send one if they cut a text within an emoji.
fn string<'a>(field: Field<'a>, name: &str) -> Result<Option<Cow<'a, str>>, Rejection> {
    let Some(value) = field.map(RawValue::get) else { return Ok(None) };
    match serde_json::from_str::<Text<'a>>(value) {
        Ok(Text(text)) => Ok(Some(text)),
        Err(_) if value.starts_with('"') => {
            Err(Rejection::new(ErrorCode::BadField, format!("`{name}` has half of a surrogate pair")))
        }
        Err(_) => Err(Rejection::new(ErrorCode::BadField, format!("`{name}` must be a string"))),
    }
}

/// Reads a whole number that is not negative, in any JSON notation: `2`, `2.0`, `20e-1`. A number beyond every position
/// counts as the largest one.
fn whole_number(value: &RawValue) -> Option<u64> {
    let (digits, exponent) = match value.get().split_once(['e', 'E']) {
        // If the exponent itself is too large, only its sign matters.
        Some((digits, exponent)) => {
            let limit = if exponent.starts_with('-') { i64::MIN / 2 } else { i64::MAX / 2 };
            (digits, exponent.parse().map_or(limit, |exponent: i64| exponent.clamp(i64::MIN / 2, i64::MAX / 2)))
        }
        None => (value.get(), 0),
    };
    let (is_negative, digits) = digits.strip_prefix('-').map_or((false, digits), |digits| (true, digits));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let digits = [whole, fraction].concat();
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    // Trailing zeros go into the exponent, so that the number is whole exactly if the exponent is not negative.
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    let zeros = digits.len() - significant.len();
    let exponent = exponent + i64::try_from(zeros).ok()? - i64::try_from(fraction.len()).ok()?;
    if is_negative || exponent < 0 {
        return None;
    }
    let scale = u32::try_from(exponent).ok().and_then(|exponent| 10_u64.checked_pow(exponent));
    let number = scale.and_then(|scale| significant.parse::<u64>().ok()?.checked_mul(scale));
    Some(number.unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: Limits = Limits { room: 128, username: 64, id: 64, text: 32 };

    fn refused(text: &str) -> Rejection {
        Command::decode(text, &LIMITS).expect_err(text)
    }

    #[test]
    fn a_message_borrows_its_text_from_the_frame() {
        let Ok(Command::Message { content: Content { text: Some(Cow::Borrowed("hi")), .. }, .. }) =
            Command::decode(r#"{"type":"message","text":"hi"}"#, &LIMITS)
        else {
            panic!("not borrowed")
        };
    }

    #[test]
    fn an_error_names_the_message_and_the_room_it_is_about() {
        let rejection = refused(r#"{"type":"message","room":"lobby","id":"7","text":[1]}"#);
        assert_eq!(rejection.code, ErrorCode::BadField);
        assert_eq!(rejection.id.unwrap().as_str(), "7");
        assert_eq!(rejection.room.unwrap().as_str(), "lobby");
    }

    #[test]
    fn a_string_that_utf8_cannot_hold_is_a_bad_field_of_a_good_frame() {
        for text in [r"\ud83d", r"a\ude00", r"\ude00\ud83d"] {
            let rejection = refused(&format!(r#"{{"type":"broadcast","id":"7","text":"{text}"}}"#));
            assert_eq!((rejection.code, rejection.id.unwrap().as_str()), (ErrorCode::BadField, "7"));
        }
        assert_eq!(refused(r#"{"type":"\ud83d"}"#).code, ErrorCode::UnknownType);
        assert_eq!(Command::decode(r#"{"type":"ping","x":"\ud83d"}"#, &LIMITS), Ok(Command::Ping));
    }

    #[test]
    fn null_is_left_out_and_unknown_fields_are_ignored() {
        let text = r#"{"x":{"y":[1,2]},"type":"broadcast","id":null,"text":"a"}"#;
        let expected = Command::Broadcast { content: "a".into(), id: None };
        assert_eq!(Command::decode(text, &LIMITS), Ok(expected));
        assert_eq!(refused(r#"{"type":"broadcast","text":null}"#).code, ErrorCode::MissingField);
    }

    #[test]
    fn a_join_may_ask_for_what_came_before() {
        let history = |fields: &str| {
            let frame = format!(r#"{{"type":"join","room":"a","username":"u"{fields}}}"#);
            Command::decode(&frame, &LIMITS).map(|command| match command {
                Command::Join { history, .. } => history,
                other => panic!("{other:?}"),
            })
        };
        assert_eq!(history(""), Ok(History::None));
        assert_eq!(history(r#","after":null,"last":null"#), Ok(History::None));
        let after = r#","after":{"epoch":"000000000000000a","seq":7,"more":1}"#;
        assert_eq!(history(after), Ok(History::After(Position::new(Epoch(10), 7))));
        assert_eq!(history(r#","last":20"#), Ok(History::Last(20)));
        assert_eq!(
            history(r#","after":{"epoch":"000000000000000a","seq":7.0}"#),
            Ok(History::After(Position::new(Epoch(10), 7)))
        );
        for bad in [
            r#","after":7"#,
            r#","after":{"epoch":"x","seq":7}"#,
            r#","after":{"epoch":"000000000000000a","seq":-1}"#,
            r#","after":{"epoch":"000000000000000a"}"#,
            r#","after":{"epoch":"000000000000000a","seq":"7"}"#,
            r#","after":["000000000000000a",7]"#,
            r#","last":"20""#,
            r#","last":-1"#,
            r#","last":1.5"#,
            r#","last":20,"after":{"epoch":"000000000000000a","seq":7}"#,
        ] {
            assert_eq!(history(bad).unwrap_err().code, ErrorCode::BadField, "{bad}");
        }
    }

    #[test]
    fn a_whole_number_is_one_however_it_is_written() {
        let read = |text: &str| whole_number(serde_json::from_str(text).unwrap());
        for (text, number) in [
            ("0", 0),
            ("-0", 0),
            ("0e999999999999999999999", 0),
            ("-0.0E-7", 0),
            ("2", 2),
            ("2.0", 2),
            ("2e0", 2),
            ("20e-1", 2),
            ("0.02e2", 2),
            ("1200E+1", 12_000),
            ("18446744073709551615", u64::MAX),
            ("18446744073709551614.000", u64::MAX - 1),
            ("18446744073709551616", u64::MAX),
            ("1e99", u64::MAX),
            ("1e99999999999999999999", u64::MAX),
        ] {
            assert_eq!(read(text), Some(number), "{text}");
        }
        for text in ["1.5", "-1", "-2.0", "2e-1", "1e-99999999999999999999", "null", "true", "\"2\"", "[2]", "{}"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_decoded_or_refused(text in ".*") {
            let _ = Command::decode(&text, &LIMITS);
        }

        #[test]
        fn any_values_in_the_known_fields_are_decoded_or_refused(
            kind in prop::sample::select(vec!["\"join\"", "\"leave\"", "\"message\"", "\"broadcast\"", "\"ping\"", "1"]),
            values in prop::collection::vec(
                prop::sample::select(vec!["null", "1", "-2.5e9", "true", "\"ok\"", "\"\"", "[]", "{\"a\":[]}", "\"\\u0000\""]), 4),
        ) {
            let [room, username, text, id] = &values[..] else { unreachable!() };
            let frame = format!(r#"{{"type":{kind},"room":{room},"username":{username},"text":{text},"id":{id}}}"#);
            match Command::decode(&frame, &LIMITS) {
                Ok(_) => prop_assert!(kind != "1"),
                Err(rejection) => prop_assert_ne!(rejection.code, ErrorCode::BadJson),
            }
        }

        #[test]
        fn what_a_client_builds_comes_out_as_it_went_in(text in "\\PC{0,8}", room in "[a-zA-Z0-9._:~@-]{1,20}", id in "[^\\pC]{1,20}") {
            let frame = serde_json::json!({"type": "message", "room": room, "text": text, "id": id}).to_string();
            let expected = Command::Message {
                room: Some(RoomId::parse(&room, 128).unwrap()),
                content: text.as_str().into(),
                id: Some(MessageId::parse(&id, 64).unwrap()),
            };
            prop_assert_eq!(Command::decode(&frame, &LIMITS), Ok(expected));
        }
    }
}
