//! Text frames that are not one JSON object, and some that are, though oddly written.

use roomcast::protocol::ErrorCode::{BadField, BadJson};
use serde_json::{Value, json};

use super::Case;

/// Deeper than any parser that calls itself for each level can go, and within the limit on frames.
const DEEP: usize = 60_000;

pub(super) fn cases() -> Vec<Case> {
    let mut cases = not_one_object();
    cases.extend(strings());
    cases.extend(nesting());
    cases
}

fn not_one_object() -> Vec<Case> {
    let ping = r#"{"type":"ping"}"#;
    let frames = [
        ("an empty frame", ""),
        ("only spaces", " \r\n\t "),
        ("no JSON", "hello"),
        ("a string", r#""ping""#),
        ("a number", "7"),
        ("true", "true"),
        ("null", "null"),
        ("an array", "[]"),
        ("an object within an array", r#"[{"type":"ping"}]"#),
        ("an array of the values of a command", r#"["join","lobby","sender"]"#),
        ("two objects", r#"{"type":"ping"}{"type":"ping"}"#),
        ("two objects on two lines", "{\"type\":\"ping\"}\n{\"type\":\"ping\"}"),
        ("something after the object", r#"{"type":"ping"} x"#),
        ("an object that does not end", r#"{"type":"ping""#),
        ("a string that does not end", r#"{"type":"ping"#),
        ("single quotes", "{'type':'ping'}"),
        ("a name without quotes", r#"{type:"ping"}"#),
        ("a comma too many", r#"{"type":"ping",}"#),
        ("a comment", r#"{"type":"ping" /* hello */}"#),
        ("a byte order mark", "\u{feff}{\"type\":\"ping\"}"),
        ("a NUL before the object", "\0{\"type\":\"ping\"}"),
        ("not a number", r#"{"type":"ping","x":NaN}"#),
        ("a number with a leading zero", r#"{"type":"ping","x":01}"#),
        ("a name twice", r#"{"type":"message","text":"a","text":"b"}"#),
        ("the type twice", r#"{"type":"ping","type":"ping"}"#),
        ("a name twice, once null", r#"{"type":"message","room":"lobby","room":null,"text":"a"}"#),
    ];
    let mut cases: Vec<Case> = frames.map(|(name, frame)| Case::refused(name, frame, BadJson)).into();
    cases.push(Case::accepted("spaces around the object", format!(" \n{ping}\r\n\t "), [pong()]));
    cases.push(Case::accepted("an empty name", r#"{"":0,"type":"ping"}"#, [pong()]));
    cases.push(Case::accepted("an unknown name twice", r#"{"x":1,"type":"ping","x":2}"#, [pong()]));
    cases.push(Case::accepted("a name with an escape", r#"{"t\u0079pe":"ping"}"#, [pong()]));
    cases.push(Case::accepted("a huge number in an unknown field", r#"{"type":"ping","x":1e999}"#, [pong()]));
    cases
}

fn strings() -> Vec<Case> {
    let message = |text: &str| format!(r#"{{"type":"message","text":"{text}","id":"strings","room":"lobby"}}"#);
    let about = json!({"id": "strings", "room": "lobby"});
    let mut cases: Vec<Case> = [
        ("a line break that is not escaped", "a\nb"),
        ("a NUL that is not escaped", "a\0b"),
        ("an escape that JSON does not have", r"\x41"),
        ("an escape with too few digits", r"\u12"),
    ]
    .map(|(name, text)| Case::refused(name, message(text), BadJson))
    .into();
    for (name, text) in [
        ("the first half of a surrogate pair", r"\ud800"),
        ("the first half of a surrogate pair before a letter", r"a\ud83db"),
        ("the second half of a surrogate pair", r"\udc00"),
        ("a surrogate pair the wrong way round", r"\ude00\ud83d"),
    ] {
        cases.push(Case::refused(name, message(text), BadField).about(about.clone()));
    }
    for (name, written, text) in [
        ("a surrogate pair", r"\ud83d\ude00", "😀"),
        ("an escaped NUL", r"a\u0000b", "a\0b"),
        ("escaped control characters", r"\b\f\n\r\t\u001b[0m\u007f", "\u{8}\u{c}\n\r\t\u{1b}[0m\u{7f}"),
        ("line and paragraph separators", "a\u{2028}b\u{2029}", "a\u{2028}b\u{2029}"),
        ("the last code point", "\u{10ffff}", "\u{10ffff}"),
        ("an empty text", "", ""),
    ] {
        let frame = format!(r#"{{"type":"message","text":"{written}"}}"#);
        cases.push(Case::accepted(name, frame, [json!({"type": "message", "text": text})]));
    }
    let unknown = r#"{"type":"ping","x":"\ud800"}"#;
    cases.push(Case::accepted("half a surrogate pair in an unknown field", unknown, [pong()]));
    cases
}

fn nesting() -> Vec<Case> {
    let arrays = format!("{}{}", "[".repeat(DEEP), "]".repeat(DEEP));
    let objects = format!("{}0{}", r#"{"a":"#.repeat(DEEP / 4), "}".repeat(DEEP / 4));
    let endless = "[".repeat(100_000);
    let message = |text: &str| format!(r#"{{"type":"message","room":"lobby","id":"deep","text":{text}}}"#);
    let about = json!({"id": "deep", "room": "lobby"});
    let unknown = |value: &str| format!(r#"{{"type":"ping","x":{value}}}"#);
    vec![
        Case::refused("100,000 brackets", &*endless, BadJson),
        Case::refused("100,000 brackets in a known field", message(&endless), BadJson),
        Case::refused("100,000 brackets in an unknown field", unknown(&endless), BadJson),
        Case::refused("deep arrays in a known field", message(&arrays), BadField).about(about.clone()),
        Case::refused("deep objects in a known field", message(&objects), BadField).about(about),
        Case::refused("deep arrays around a command", format!("[{arrays}]"), BadJson),
        Case::accepted("deep arrays in an unknown field", unknown(&arrays), [pong()]),
        Case::accepted("deep objects in an unknown field", unknown(&objects), [pong()]),
    ]
}

pub(super) fn pong() -> Value {
    json!({"type": "pong"})
}
