//! What servers say to each other. The envelope is the client frame: a server that hears one reads a few fields
//! and forwards the bytes as they are.

use std::{borrow::Cow, collections::BTreeMap};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::{Content, Data, Epoch, EventName, Frame, MessageId, Position, RoomId, Stamp, Username};

/// A message from a client of this server that has no place in the order yet.
///
/// It holds the envelope without its head, which the broker knows only when it has numbered the message. The script in
/// Redis and [`Draft::numbered`] put the same head in front, so the other servers and this server's own members get the
/// same bytes.
#[derive(Clone, Debug)]
pub struct Draft {
    tail: String,
    identity: Option<Identity>,
    /// Who speaks in a room.
    speaker: Option<Username>,
    is_of_moderator: bool,
}

/// How to recognise a message that is sent again.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Whose id it is, so that nobody can take, block or probe another's id. A broadcast has no sender here.
    pub sender: Option<Username>,
    /// The client's id for the message.
    pub id: MessageId,
    /// Distinguishes the message from another with the same id: a cryptographic hash of sender and content, the same on
    /// every server.
    pub fingerprint: u128,
}

#[derive(Serialize)]
struct Tail<'a> {
    #[serde(rename = "originServer")]
    origin_server: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    room: Option<&'a RoomId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<&'a Username>,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a EventName<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Data<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a MessageId>,
}

impl<'a> Tail<'a> {
    fn new(
        origin_server: &'a str,
        kind: &'static str,
        room: Option<&'a RoomId>,
        username: Option<&'a Username>,
        content: &'a Content<'a>,
    ) -> Self {
        let Content { event, text, data } = content;
        let (event, text) = (event.as_ref(), text.as_deref());
        Self { origin_server, kind, room, username, event, text, data: *data, id: None }
    }

    fn encode(&self) -> String {
        let mut tail = serde_json::to_string(self).expect("a draft has only strings and JSON");
        // The head brings the opening brace.
        tail.remove(0);
        tail
    }
}

impl Draft {
    /// A message to a room from one of its members, or, without a room, to everybody.
    pub fn new(
        origin_server: &str,
        room: Option<&RoomId>,
        username: Option<&Username>,
        content: &Content<'_>,
        id: Option<&MessageId>,
    ) -> Self {
        let kind = if room.is_some() { "message" } else { "broadcast" };
        // A client that repeats a broadcast over a new connection may have no name yet, because it has not joined
        // again.
        let sender = username.filter(|_| room.is_some());
        let identity = id.map(|id| Identity {
            sender: sender.cloned(),
            id: id.clone(),
            fingerprint: fingerprint(sender.map_or("", Username::as_str), content),
        });
        let tail = Tail { id, ..Tail::new(origin_server, kind, room, username, content) };
        Self { tail: tail.encode(), identity, speaker: sender.cloned(), is_of_moderator: false }
    }

    /// What the other members of a room hear now or never.
    pub fn signal(origin_server: &str, room: &RoomId, username: Option<&Username>, content: &Content<'_>) -> Self {
        let tail = Tail::new(origin_server, "signal", Some(room), username, content).encode();
        Self { tail, identity: None, speaker: username.cloned(), is_of_moderator: false }
    }

    /// The same, by somebody for whom the room is never slow.
    pub fn by_moderator(mut self, is_moderator: bool) -> Self {
        self.is_of_moderator = is_moderator;
        self
    }

    /// Who speaks; `None` in a broadcast.
    pub fn speaker(&self) -> Option<&Username> {
        self.speaker.as_ref()
    }

    /// Whether the room is never slow for its speaker.
    pub fn is_of_moderator(&self) -> bool {
        self.is_of_moderator
    }

    /// Adds a trace context (W3C `traceparent`).
    pub fn set_traceparent(&mut self, traceparent: &str) {
        // A trace context has no character that JSON escapes.
        let closing_brace = self.tail.len() - 1;
        self.tail.insert_str(closing_brace, &format!(r#","traceparent":"{traceparent}""#));
    }

    /// The envelope without its head, as the script in Redis takes it.
    pub fn tail(&self) -> &str {
        &self.tail
    }

    /// The client's id for this message, if it gave one.
    pub fn id(&self) -> Option<&MessageId> {
        self.identity.as_ref().map(|identity| &identity.id)
    }

    /// How to recognise it, if it has an id.
    pub fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref()
    }

    /// The envelope of a message without a place, because no history is kept. `ts` is Unix time in milliseconds.
    pub fn unnumbered(&self, ts: u64) -> Frame {
        format!(r#"{{"ts":{ts},{}"#, self.tail).into()
    }

    /// The envelope in its place.
    pub fn numbered(&self, Stamp { position: Position { epoch, seq }, ts }: Stamp) -> Frame {
        format!(r#"{{"epoch":"{epoch}","seq":{seq},"ts":{ts},{}"#, self.tail).into()
    }
}

/// The first half of a SHA-256. The length in front says where the name ends. A byte that no text has says where each
/// other part begins, so a message of a text alone has the fingerprint that it always had.
fn fingerprint(username: &str, content: &Content<'_>) -> u128 {
    let mut hash = Sha256::new();
    hash.update((username.len() as u64).to_be_bytes());
    hash.update(username);
    let Content { event, text, data } = content;
    let parts = [text.as_deref(), data.map(|data| data.as_str()), event.as_ref().map(EventName::as_str)];
    for (mark, part) in [&[][..], &[0xfe], &[0xff]].into_iter().zip(parts) {
        match part {
            Some(part) => {
                hash.update(mark);
                hash.update(part);
            }
            None if mark.is_empty() => hash.update([0xfd]),
            None => {}
        }
    }
    let hash = hash.finalize();
    hash.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte))
}

/// What came over a channel, from roomcast or from a server of another kind.
#[derive(Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    /// The server that published it.
    pub origin_server: Cow<'a, str>,
    /// Its place in the order, and when it got it; messages of foreign servers have none.
    pub stamp: Option<Stamp>,
    /// The room that it says it is of.
    pub room: Option<Cow<'a, str>>,
    /// Its trace context. It may be any text, so check it before use.
    pub traceparent: Option<&'a str>,
}

/// Types of a server's own events, and of those it may get later. Nobody else may send them to clients.
const OF_SERVERS: [&str; 15] = [
    "ack",
    "authenticated",
    "error",
    "expiring",
    "history",
    "joined",
    "left",
    "member_joined",
    "member_left",
    "member_updated",
    "members",
    "moderated",
    "pong",
    "reconnect",
    "reset",
];

#[derive(Deserialize)]
struct Header<'a> {
    #[serde(rename = "originServer", borrow)]
    origin_server: Cow<'a, str>,
    // Whatever a foreign server puts under these names must not make its message unreadable.
    #[serde(default, borrow)]
    epoch: Option<&'a RawValue>,
    #[serde(default, borrow)]
    seq: Option<&'a RawValue>,
    #[serde(default, borrow)]
    ts: Option<&'a RawValue>,
    #[serde(default, borrow)]
    traceparent: Option<&'a RawValue>,
    #[serde(default, borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(default, borrow)]
    room: Option<&'a RawValue>,
}

impl Frame {
    /// The envelope without `epoch` and `seq`, because it claims a place that it does not have.
    pub fn without_place(&self) -> Self {
        let fields: Result<BTreeMap<Cow<'_, str>, &RawValue>, _> = serde_json::from_slice(self.as_bytes());
        let placeless = fields.and_then(|mut fields| {
            fields.retain(|name, _| name != "epoch" && name != "seq");
            serde_json::to_string(&fields)
        });
        placeless.map_or_else(|_| self.clone(), Self::from)
    }
}

impl<'a> Envelope<'a> {
    /// Reads the fields that the server needs, and skips the rest.
    ///
    /// # Errors
    /// If this is not a JSON object with a string `originServer`, or if clients would take its `type` for an event of
    /// their own server.
    pub fn read(frame: &'a Frame) -> Result<Self, serde_json::Error> {
        let bytes = frame.as_bytes();
        // A JSON array would do for serde, which reads it as the fields in their order.
        if !bytes.trim_ascii_start().starts_with(b"{") {
            return Err(serde::de::Error::custom("not a JSON object"));
        }
        let header: Header<'a> = serde_json::from_slice(bytes)?;
        let text = |raw: Option<&'a RawValue>| serde_json::from_str::<Cow<'a, str>>(raw?.get()).ok();
        if text(header.kind).is_some_and(|kind| OF_SERVERS.contains(&&*kind)) {
            return Err(serde::de::Error::custom("only a client's own server says that"));
        }
        let number = |raw: Option<&RawValue>| raw?.get().parse().ok();
        let epoch: Option<Epoch> = header.epoch.and_then(|raw| serde_json::from_str(raw.get()).ok());
        let stamp = match (epoch, number(header.seq), number(header.ts)) {
            // Clients look at these two alone, so it claims a place even without a time.
            (Some(epoch), Some(seq), ts) => Some(Stamp { position: Position::new(epoch, seq), ts: ts.unwrap_or(0) }),
            _ => None,
        };
        // A trace context has nothing that JSON escapes, so the text between the quotes is the context itself.
        let traceparent = header.traceparent.and_then(|raw| raw.get().strip_prefix('"')?.strip_suffix('"'));
        Ok(Self { origin_server: header.origin_server, stamp, room: text(header.room), traceparent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stamp(seq: u64, ts: u64) -> Stamp {
        Stamp { position: Position::new(Epoch(0xabc), seq), ts }
    }

    fn draft(id: Option<&str>) -> Draft {
        let room = RoomId::parse("lobby", 128).unwrap();
        let username = Username::parse("ann", 64).unwrap();
        let id = id.map(|id| MessageId::parse(id, 64).unwrap());
        Draft::new("a:1", Some(&room), Some(&username), &"hi \"you\"".into(), id.as_ref())
    }

    #[test]
    fn a_numbered_draft_is_the_client_frame() {
        let frame = draft(Some("m-1")).numbered(stamp(12, 1_700_000_000_123));
        let json: serde_json::Value = serde_json::from_slice(frame.as_bytes()).unwrap();
        let expected = serde_json::json!({
            "type": "message", "originServer": "a:1", "room": "lobby", "username": "ann", "text": "hi \"you\"",
            "id": "m-1", "epoch": "0000000000000abc", "seq": 12, "ts": 1_700_000_000_123_u64,
        });
        assert_eq!(json, expected);
        let envelope = Envelope::read(&frame).unwrap();
        assert_eq!(envelope.origin_server, "a:1");
        assert_eq!(envelope.stamp, Some(stamp(12, 1_700_000_000_123)));
    }

    #[test]
    fn a_foreign_envelope_has_no_position_and_any_order_of_fields() {
        for text in [
            r#"{"text":"x","originServer":"node-1","type":"message"}"#,
            r#" {"originServer":"node-1","seq":"seven","epoch":7} "#,
            r#"{"seq":3,"originServer":"node-1"}"#,
            r#"{"epoch":"0000000000000abc","originServer":"node\u002d1"}"#,
        ] {
            let frame = Frame::from(text.to_owned());
            let envelope = Envelope::read(&frame).unwrap();
            assert_eq!((&*envelope.origin_server, envelope.stamp), ("node-1", None), "{text}");
        }
        for text in ["", "hello", "[\"node-1\"]", "{}", r#"{"originServer":7}"#, "null", "{"] {
            assert!(Envelope::read(&Frame::from(text.to_owned())).is_err(), "{text:?}");
        }
    }

    #[test]
    fn nobody_speaks_for_a_server_to_its_clients() {
        for kind in OF_SERVERS.into_iter().chain(["err\\u006fr"]) {
            let frame = Frame::from(format!(r#"{{"originServer":"node-1","type":"{kind}","code":"x"}}"#));
            assert!(Envelope::read(&frame).is_err(), "{kind}");
        }
        for kind in [r#""message""#, r#""typing""#, "7", "null"] {
            assert!(Envelope::read(&Frame::from(format!(r#"{{"originServer":"node-1","type":{kind}}}"#))).is_ok());
        }
    }

    #[test]
    fn without_its_place_an_envelope_says_the_rest_unchanged() {
        let frame = Frame::from(
            r#"{"epoch":"0000000000000abc","seq":3,"text":"\u00e9 ","n":1.50,"originServer":"a"}"#.to_owned(),
        );
        let expected = r#"{"n":1.50,"originServer":"a","text":"\u00e9 "}"#;
        assert_eq!(frame.without_place().as_bytes(), expected.as_bytes());
    }

    #[test]
    fn a_trace_context_rides_along_and_a_wrong_one_spoils_nothing() {
        let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let mut traced = draft(Some("m-1"));
        traced.set_traceparent(traceparent);
        let fingerprint = |draft: &Draft| draft.identity().unwrap().fingerprint;
        assert_eq!(fingerprint(&traced), fingerprint(&draft(Some("m-1"))));
        let frame = traced.numbered(stamp(12, 0));
        let envelope = Envelope::read(&frame).unwrap();
        assert_eq!(envelope.traceparent, Some(traceparent));
        for (value, expected) in
            [("7", None), ("null", None), ("[\"a\"]", None), ("\"\"", Some("")), ("\"é\"", Some("é"))]
        {
            let frame = Frame::from(format!(r#"{{"originServer":"node-1","traceparent":{value}}}"#));
            assert_eq!(Envelope::read(&frame).unwrap().traceparent, expected, "{value}");
        }
    }

    #[test]
    fn the_fingerprint_tells_sender_and_content_apart() {
        let data = |json| Some(Data::parse(serde_json::from_str(json).unwrap()).unwrap());
        let event = |name: &'static str| Some(EventName::parse(name.into()).unwrap());
        let text = Some("hi".into());
        let contents = [
            "hi".into(),
            "".into(),
            Content { data: data("1"), ..Content::default() },
            Content { data: data("1"), ..Content::from("") },
            Content { data: data("12"), ..Content::from("hi") },
            Content { data: data("1"), event: event("2"), text: text.clone() },
            Content { data: None, event: event("12"), text },
        ];
        let prints: std::collections::HashSet<u128> =
            contents.iter().map(|content| fingerprint("ann", content)).collect();
        assert_eq!(prints.len(), contents.len());
        assert_ne!(fingerprint("ab", &"c".into()), fingerprint("a", &"bc".into()));
        assert_ne!(fingerprint("", &"abc".into()), fingerprint("abc", &"".into()));
        // Other servers compute the same number, so it must never change.
        assert_eq!(fingerprint("ann", &"hi".into()), 0xebd4_c27b_26d6_6e20_0a67_698d_e395_eab1);
    }

    #[test]
    fn data_is_sent_on_byte_for_byte() {
        let room = RoomId::parse("lobby", 128).unwrap();
        let json = "{ \"b\" : 1.50,\"a\":\"\\u00e9\" , \"b\":[ ]}";
        let data = Data::parse(serde_json::from_str(json).unwrap()).unwrap();
        let event = EventName::parse("order.paid".into()).unwrap();
        let content = Content { event: Some(event), text: None, data: Some(data) };
        let frame = Draft::new("a:1", Some(&room), None, &content, None).unnumbered(7);
        let expected = format!(
            r#"{{"ts":7,"originServer":"a:1","type":"message","room":"lobby","event":"order.paid","data":{json}}}"#
        );
        assert_eq!(std::str::from_utf8(frame.as_bytes()).unwrap(), expected);
    }
}
