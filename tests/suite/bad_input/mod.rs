//! What a client may get wrong, and the answer. After each mistake, a socket that stays open works as before, and
//! another member of the room notices nothing.

mod commands;
mod frames;
mod json;

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
    panic::AssertUnwindSafe,
};

use futures_util::FutureExt;
use roomcast::{
    config::Config,
    protocol::{CloseCode, ErrorCode, Limits},
};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{CloseFrame, frame::coding::CloseCode as WireCode},
};

use crate::support::{Client, Server};

/// The room in which another client is a member all along.
const LOBBY: &str = "lobby";

/// One row: what a client in some rooms does, step by step.
struct Case {
    name: String,
    rooms: Vec<&'static str>,
    steps: Vec<Step>,
}

struct Step {
    sends: Sent,
    gets: Outcome,
}

enum Sent {
    Text(String),
    Bytes(Vec<u8>),
    /// The connection ends after these bytes.
    HangUp(Vec<u8>),
}

enum Outcome {
    /// These events and no others, each with at least these fields.
    Events(Vec<Value>),
    /// An `error` with this code and, except for its `message`, exactly these fields.
    Error(ErrorCode, Value),
    /// The server closes the socket.
    Close(CloseCode),
    /// The client closes the socket, and this is the code in the answer.
    Goodbye(u16),
    Nothing,
}

impl Case {
    fn new(name: impl Into<String>, sends: Sent, gets: Outcome) -> Self {
        Self { name: name.into(), rooms: vec![LOBBY], steps: vec![Step { sends, gets }] }
    }

    /// A text frame whose error concerns no room and no message.
    fn refused(name: impl Into<String>, frame: impl Into<String>, code: ErrorCode) -> Self {
        Self::new(name, Sent::Text(frame.into()), Outcome::Error(code, json!({})))
    }

    /// A text frame that may look wrong and is not.
    fn accepted(name: impl Into<String>, frame: impl Into<String>, events: impl Into<Vec<Value>>) -> Self {
        Self::new(name, Sent::Text(frame.into()), Outcome::Events(events.into()))
    }

    /// Bytes for which the server closes the socket.
    fn closed(name: impl Into<String>, bytes: Vec<u8>, code: CloseCode) -> Self {
        Self::new(name, Sent::Bytes(bytes), Outcome::Close(code))
    }

    /// The fields of the error that say what it is about.
    fn about(mut self, fields: Value) -> Self {
        match &mut self.steps.last_mut().expect("a step").gets {
            Outcome::Error(_, about) => *about = fields,
            _ => panic!("only an error is about something"),
        }
        self
    }

    /// The rooms that the client has joined before, if not the lobby.
    fn in_rooms(mut self, rooms: &[&'static str]) -> Self {
        self.rooms = rooms.to_vec();
        self
    }

    /// What the client does right before the last step.
    fn after(mut self, frame: impl Into<String>, events: impl Into<Vec<Value>>) -> Self {
        let step = Step { sends: Sent::Text(frame.into()), gets: Outcome::Events(events.into()) };
        self.steps.insert(self.steps.len() - 1, step);
        self
    }

    /// Bytes for which the client gets these events before the last step.
    fn after_bytes(mut self, bytes: Vec<u8>, events: impl Into<Vec<Value>>) -> Self {
        let step = Step { sends: Sent::Bytes(bytes), gets: Outcome::Events(events.into()) };
        self.steps.insert(self.steps.len() - 1, step);
        self
    }

    async fn run(&self, server: &Server, bystander: &mut Client) {
        let mut sender = Sender { client: Some(server.client().await), rooms: BTreeSet::new(), heard: Vec::new() };
        for room in &self.rooms {
            sender.send(&join(room)).await;
            sender.hear().await;
        }
        for step in &self.steps {
            sender.take(step).await;
        }

        let marker = format!("after {}", self.name);
        match sender.client.take() {
            Some(mut client) => {
                client.hears_nothing().await;
                if !sender.rooms.contains(LOBBY) {
                    client.join(LOBBY, "sender").await;
                }
                client.say(LOBBY, &marker).await;
                assert_eq!(client.texts(1).await, [&*marker]);
                let goodbye = CloseFrame { code: WireCode::Normal, reason: "".into() };
                client.send_raw(Message::Close(Some(goodbye))).await;
                assert_eq!(client.closed().await, CloseCode::Normal.code());
            }
            None => bystander.say(LOBBY, &marker).await,
        }
        for event in sender.heard {
            assert_eq!(bystander.next().await, event, "heard by another member of the room");
        }
        assert_eq!(bystander.texts(1).await, [marker], "heard by another member of the room");
    }
}

/// The client that makes the mistakes.
struct Sender {
    /// `None` when it is closed.
    client: Option<Client>,
    rooms: BTreeSet<String>,
    /// What other members of the lobby must hear too.
    heard: Vec<Value>,
}

impl Sender {
    async fn take(&mut self, step: &Step) {
        match &step.sends {
            Sent::Text(text) => self.send(text).await,
            Sent::Bytes(bytes) | Sent::HangUp(bytes) => self.client().send_bytes(bytes).await,
        }
        match &step.gets {
            Outcome::Events(events) => {
                for expected in events {
                    let event = self.hear().await;
                    let has_fields = expected.as_object().expect("fields").iter().all(|(name, it)| event[name] == *it);
                    assert!(has_fields, "expected {expected}, got {event}");
                }
            }
            Outcome::Error(code, about) => {
                let mut event = self.hear().await;
                let message = event.as_object_mut().expect("an object").remove("message");
                assert!(message.as_ref().and_then(Value::as_str).is_some_and(|text| !text.is_empty()), "{message:?}");
                let mut expected = about.clone();
                expected["type"] = "error".into();
                expected["code"] = code.as_str().into();
                assert_eq!(event, expected, "{message:?}");
            }
            Outcome::Close(code) => {
                let frame = self.closed().await;
                assert_eq!((u16::from(frame.code), frame.reason.as_str()), (code.code(), code.reason()));
                // A client that is still sending must not be reset, or it may never read why it was closed.
                let mut client = self.client.take().expect("an open socket");
                client.send_bytes(&vec![0; 1 << 20]).await;
                client.ended().await;
            }
            Outcome::Goodbye(code) => {
                assert_eq!(u16::from(self.closed().await.code), *code);
                self.client.take().expect("an open socket").ended().await;
            }
            Outcome::Nothing => {}
        }
        if matches!(step.sends, Sent::HangUp(_)) {
            self.client = None;
        }
    }

    async fn send(&mut self, text: &str) {
        self.client().send_raw(Message::text(text)).await;
    }

    async fn hear(&mut self) -> Value {
        let event = self.client().next().await;
        let room = event["room"].as_str().unwrap_or(LOBBY).to_owned();
        match event["type"].as_str().expect("a type") {
            "joined" => drop(self.rooms.insert(room)),
            "left" => drop(self.rooms.remove(&room)),
            "message" | "broadcast" if room == LOBBY => self.heard.push(event.clone()),
            _ => {}
        }
        event
    }

    async fn closed(&mut self) -> CloseFrame {
        match self.client().next_frame().await {
            Message::Close(Some(frame)) => frame,
            other => panic!("expected a close frame, got {other:?}"),
        }
    }

    fn client(&mut self) -> &mut Client {
        self.client.as_mut().expect("an open socket")
    }
}

fn join(room: &str) -> String {
    json!({"type": "join", "room": room, "username": "sender"}).to_string()
}

fn defaults() -> Config {
    Config::from_env([]).expect("the defaults are right").0
}

fn limits() -> Limits {
    Limits::from(&defaults())
}

fn all_cases() -> Vec<Case> {
    json::cases().into_iter().chain(commands::cases()).chain(frames::cases()).collect()
}

#[tokio::test]
async fn bad_input_costs_an_error_or_the_socket_and_nothing_else() {
    let server = Server::in_memory(&[("ROOMCAST_MAX_ROOMS_PER_CLIENT", "2")]).await;
    let mut bystander = server.member(LOBBY, "bystander").await;
    let cases = all_cases();
    let mut failures = Vec::new();
    for case in &cases {
        let run = AssertUnwindSafe(case.run(&server, &mut bystander)).catch_unwind().await;
        if let Err(panic) = run {
            failures.push(format!("{}: {}", case.name, text_of(&*panic)));
            // What this one heard too much or too little must not spoil the next case.
            bystander = server.member(LOBBY, "bystander").await;
        }
    }
    assert!(failures.is_empty(), "{} of {} cases failed:\n{}", failures.len(), cases.len(), failures.join("\n"));
    bystander.hears_nothing().await;
    for (series, count) in expected_counts(&cases) {
        server.metric_is(&series, count).await;
    }
}

/// What the metrics must say at the end, for every error code and every way in which a connection ends.
fn expected_counts(cases: &[Case]) -> BTreeMap<String, f64> {
    let error = |code: ErrorCode| format!("ws_errors_total{{code=\"{}\"}}", code.as_str());
    let end = |reason: &str| format!("ws_disconnects_total{{reason=\"{reason}\"}}");
    let reasons = CloseCode::ALL.map(CloseCode::reason).into_iter().chain(["lost"]);
    let series = ErrorCode::ALL.map(error).into_iter().chain(reasons.map(end));
    let mut counts: BTreeMap<String, f64> = series.map(|series| (series, 0.0)).collect();
    let mut add = |series: String| *counts.get_mut(&series).expect("a known series") += 1.0;
    for case in cases {
        for step in &case.steps {
            if let Outcome::Error(code, _) = step.gets {
                add(error(code));
            }
        }
        let last = case.steps.last().expect("a step");
        add(end(match (&last.sends, &last.gets) {
            (Sent::HangUp(_), _) => "lost",
            (_, Outcome::Close(code)) => code.reason(),
            _ => CloseCode::Normal.reason(),
        }));
    }
    counts
}

/// A code that no row provokes could change its meaning unnoticed.
#[test]
fn every_code_that_bad_input_can_get_is_in_the_table() {
    let cases = all_cases();
    let steps = || cases.iter().flat_map(|case| &case.steps);
    // Nothing that a client sends appears in these.
    let of_redis = [ErrorCode::Unavailable, ErrorCode::Overloaded];
    // These depend on tokens, limits and moderators: door.rs, limits.rs and moderation.rs.
    let elsewhere = [
        ErrorCode::Unauthorized,
        ErrorCode::Forbidden,
        ErrorCode::RateLimited,
        ErrorCode::Muted,
        ErrorCode::Banned,
        ErrorCode::SlowMode,
    ];
    for code in ErrorCode::ALL.into_iter().filter(|code| !of_redis.contains(code) && !elsewhere.contains(code)) {
        assert!(steps().any(|step| matches!(step.gets, Outcome::Error(it, _) if it == code)), "{code:?}");
    }
    for code in [CloseCode::ProtocolError, CloseCode::Binary, CloseCode::NotUtf8, CloseCode::TooBig] {
        assert!(steps().any(|step| matches!(step.gets, Outcome::Close(it) if it == code)), "{code:?}");
    }
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked")
}
