//! JSON objects that are no command, or one that cannot be followed.

use roomcast::protocol::ErrorCode::{
    AlreadyMember, BadField, BadId, BadRoom, BadUsername, IdConflict, MissingField, NotMember, RoomNeeded, TextTooLong,
    TooManyRooms, UnknownType,
};
use serde_json::{Value, json};

use super::{Case, LOBBY, join, json::pong, limits};

pub(super) fn cases() -> Vec<Case> {
    let groups =
        [types(), missing_fields(), wrong_fields(), rooms(), usernames(), ids(), texts(), membership(), repeats()];
    groups.into_iter().flatten().collect()
}

fn types() -> Vec<Case> {
    let refused = |name, frame| Case::refused(name, frame, UnknownType);
    vec![
        refused("no type", r#"{"text":"a"}"#),
        refused("an empty object", "{}"),
        refused("a type that is null", r#"{"type":null}"#),
        refused("a type that is a number", r#"{"type":1}"#),
        refused("a type that is an array", r#"{"type":["ping"]}"#),
        refused("an empty type", r#"{"type":""}"#),
        refused("a type that nobody knows", r#"{"type":"dance","room":"lobby","id":"types"}"#)
            .about(json!({"room": "lobby", "id": "types"})),
        refused("a type in capitals", r#"{"type":"PING"}"#),
        refused("a type with a space", r#"{"type":"ping "}"#),
        refused("a type that only the server sends", r#"{"type":"joined","room":"lobby"}"#)
            .about(json!({"room": "lobby"})),
        refused("a type in a name in capitals", r#"{"Type":"ping"}"#),
    ]
}

fn missing_fields() -> Vec<Case> {
    let refused = |name: &str, frame| Case::refused(name, frame, MissingField);
    vec![
        refused("join without anything", r#"{"type":"join"}"#),
        refused("join without room", r#"{"type":"join","username":"sender"}"#),
        refused("join without username", r#"{"type":"join","room":"other"}"#).about(json!({"room": "other"})),
        refused("join with null for a room", r#"{"type":"join","room":null,"username":"sender"}"#),
        refused("leave without room", r#"{"type":"leave"}"#),
        refused("message without text", r#"{"type":"message","room":"lobby","id":"missing"}"#)
            .about(json!({"room": "lobby", "id": "missing"})),
        refused("message with null for a text", r#"{"type":"message","room":"lobby","text":null}"#)
            .about(json!({"room": "lobby"})),
        refused("broadcast without text", r#"{"type":"broadcast","id":"missing"}"#).about(json!({"id": "missing"})),
        Case::accepted(
            "message with null for all that may be left out",
            r#"{"type":"message","room":null,"id":null,"text":"a"}"#,
            [json!({"type": "message", "room": "lobby", "text": "a"})],
        ),
        Case::accepted(
            "ping with fields that it does not have",
            r#"{"type":"ping","room":7,"text":[],"id":{},"username":false}"#,
            [pong()],
        ),
    ]
}

/// Each field of each command, with each type of JSON that it must not have.
fn wrong_fields() -> Vec<Case> {
    let commands = [
        ("room", json!({"type": "join", "username": "sender"})),
        ("username", json!({"type": "join", "room": "other"})),
        ("room", json!({"type": "leave"})),
        ("room", json!({"type": "message", "text": "a", "id": "wrong"})),
        ("text", json!({"type": "message", "room": "lobby", "id": "wrong"})),
        ("id", json!({"type": "message", "room": "lobby", "text": "a"})),
        ("text", json!({"type": "broadcast", "id": "wrong"})),
        ("id", json!({"type": "broadcast", "text": "a"})),
    ];
    let values = [json!(7), json!(-0.5), json!(true), json!(["lobby"]), json!({"text": "a"})];
    let mut cases = Vec::new();
    for (field, command) in commands {
        for value in &values {
            let mut frame = command.clone();
            frame[field] = value.clone();
            let name = format!("{} with {value} for its {field}", command["type"]);
            cases.push(Case::refused(name, frame.to_string(), BadField).about(room_and_id_of(&command)));
        }
    }
    let huge = r#"{"type":"message","room":"lobby","id":"wrong","text":1e999}"#;
    let about = json!({"room": "lobby", "id": "wrong"});
    cases.push(Case::refused("message with a number for its text that no float holds", huge, BadField).about(about));
    cases
}

fn rooms() -> Vec<Case> {
    let longest = "r".repeat(limits().room);
    let mut cases: Vec<Case> = [
        ("an empty room", String::new()),
        ("a room one character too long", format!("{longest}r")),
        ("a room of 10,000 characters", "r".repeat(10_000)),
        ("a room with a space", "a b".into()),
        ("a room with a line break", "lobby\n".into()),
        ("a room with a NUL", "lobby\0".into()),
        ("a room with braces", "{lobby}".into()),
        ("a room with a slash", "../lobby".into()),
        ("a room with a pattern", "lobb*".into()),
        ("a room with a quote", "lob\"by".into()),
        ("a room that is not ASCII", "zoë".into()),
        ("a room with a look-alike", "lоbby".into()),
    ]
    .into_iter()
    .map(|(name, room)| Case::refused(name, join(&room), BadRoom))
    .collect();
    let joined = json!({"type": "joined", "room": longest, "seq": 0, "members": 1});
    cases.push(Case::accepted("a room as long as may be", join(&longest), [joined]));
    let all = "AZaz09-_.:~@";
    let joined = json!({"type": "joined", "room": all});
    cases.push(Case::accepted("a room with every kind of character", join(all), [joined]));
    cases.push(
        Case::refused("message to an empty room", r#"{"type":"message","room":"","text":"a","id":"rooms"}"#, BadRoom)
            .about(json!({"id": "rooms"})),
    );
    cases.push(Case::refused("leave of a room with a space", r#"{"type":"leave","room":"a b"}"#, BadRoom));
    cases
}

fn usernames() -> Vec<Case> {
    let join = |username: &str| json!({"type": "join", "room": "other", "username": username}).to_string();
    let max = limits().username;
    let mut cases: Vec<Case> = [
        ("an empty username", String::new()),
        ("a username one character too long", "u".repeat(max + 1)),
        ("a username one letter too long, of several bytes each", "名".repeat(max + 1)),
        ("a username with a line break", "a\nb".into()),
        ("a username with a NUL", "\0".into()),
        ("a username with DEL", "a\u{7f}".into()),
        ("a username with a control character beyond ASCII", "a\u{85}b".into()),
        ("a username with an escape sequence", "\u{1b}[31m".into()),
        ("a username of nothing but blanks", " \u{a0}\u{3000}".into()),
        ("a username that cannot be seen", "\u{3164}".into()),
        ("a username with a zero-width space", "a\u{200b}nn".into()),
        ("a username that turns the direction around", "\u{202e}nna".into()),
        ("a username of two lines", "ann\u{2028}admin".into()),
        ("a username with tags", "ann\u{e0041}".into()),
        ("a username that each font draws as it likes", "\u{e000}".into()),
    ]
    .into_iter()
    .map(|(name, username)| Case::refused(name, join(&username), BadUsername).about(json!({"room": "other"})))
    .collect();
    let joined = json!({"type": "joined", "room": "other"});
    cases.push(Case::accepted("a username as long as may be", join(&"名".repeat(max)), [joined]));
    cases
}

fn ids() -> Vec<Case> {
    let message = |id: &str| json!({"type": "message", "room": "lobby", "text": "a", "id": id}).to_string();
    let max = limits().id;
    let mut cases: Vec<Case> = [
        ("an empty id", String::new()),
        ("an id one character too long", "i".repeat(max + 1)),
        ("an id with a line break", "a\nb".into()),
        ("an id with a NUL", "a\0".into()),
    ]
    .into_iter()
    .map(|(name, id)| Case::refused(name, message(&id), BadId).about(json!({"room": "lobby"})))
    .collect();
    cases.push(Case::refused("broadcast with an empty id", r#"{"type":"broadcast","text":"a","id":""}"#, BadId));
    for (name, id) in [("an id as long as may be", "ü".repeat(max)), ("an id with braces and spaces", "{a} *:%".into())]
    {
        let events = [json!({"type": "message", "id": id}), json!({"type": "ack", "id": id, "room": "lobby"})];
        cases.push(Case::accepted(name, message(&id), events));
    }
    cases
}

fn texts() -> Vec<Case> {
    let message = |text: &str| json!({"type": "message", "room": "lobby", "text": text, "id": "texts"}).to_string();
    let about = json!({"room": "lobby", "id": "texts"});
    let max = limits().text;
    let longest = "x".repeat(max);
    let refused = |name, text: String| Case::refused(name, message(&text), TextTooLong).about(about.clone());
    let mut cases = vec![
        refused("a text one byte too long", format!("{longest}x")),
        refused("a text one byte too long, of several bytes a letter", format!("{}x", "€".repeat(max / 3 + 1))),
        refused("a text as long as a frame can hold", "x".repeat(120_000)),
        Case::refused(
            "broadcast of a text one byte too long",
            json!({"type": "broadcast", "text": format!("{longest}x")}).to_string(),
            TextTooLong,
        ),
    ];
    for (name, text) in
        [("a text as long as may be", longest), ("a text as long as may be, all of it escaped", "\u{1}".repeat(max))]
    {
        let frame = json!({"type": "message", "text": text});
        cases.push(Case::accepted(name, frame.to_string(), [frame]));
    }
    cases
}

fn membership() -> Vec<Case> {
    let message = r#"{"type":"message","text":"a","id":"members"}"#;
    let to_other = r#"{"type":"message","room":"other","text":"a","id":"members"}"#;
    let about_other = json!({"room": "other", "id": "members"});
    let left = json!({"type": "left", "room": LOBBY});
    vec![
        Case::refused("message to a room before any join", to_other, NotMember)
            .in_rooms(&[])
            .about(about_other.clone()),
        Case::refused("message to a room of others", to_other, NotMember).about(about_other),
        Case::refused("message without room in no room", message, RoomNeeded)
            .in_rooms(&[])
            .about(json!({"id": "members"})),
        Case::refused("message without room in two rooms", message, RoomNeeded)
            .in_rooms(&[LOBBY, "second"])
            .about(json!({"id": "members"})),
        Case::refused("message without room after the only one was left", message, RoomNeeded)
            .after(r#"{"type":"leave","room":"lobby"}"#, [left.clone()])
            .about(json!({"id": "members"})),
        Case::refused("message to a room that was left", r#"{"type":"message","room":"lobby","text":"a"}"#, NotMember)
            .after(r#"{"type":"leave","room":"lobby"}"#, [left.clone()])
            .about(json!({"room": "lobby"})),
        Case::refused("leave without join", r#"{"type":"leave","room":"other"}"#, NotMember)
            .about(json!({"room": "other"})),
        Case::refused("leave twice", r#"{"type":"leave","room":"lobby"}"#, NotMember)
            .after(r#"{"type":"leave","room":"lobby"}"#, [left])
            .about(json!({"room": "lobby"})),
        Case::refused("join twice", join(LOBBY), AlreadyMember).about(json!({"room": "lobby"})),
        Case::refused(
            "join twice under two names",
            r#"{"type":"join","room":"lobby","username":"somebody"}"#,
            AlreadyMember,
        )
        .about(json!({"room": "lobby"})),
        Case::refused("one room too many", join("third"), TooManyRooms)
            .in_rooms(&[LOBBY, "second"])
            .about(json!({"room": "third"})),
        Case::refused("join twice with as many rooms as may be", join("second"), AlreadyMember)
            .in_rooms(&[LOBBY, "second"])
            .about(json!({"room": "second"})),
    ]
}

fn repeats() -> Vec<Case> {
    let message = |text: &str, id: &str| json!({"type": "message", "room": LOBBY, "text": text, "id": id}).to_string();
    let placed = |id: &str| [json!({"type": "message", "id": id}), json!({"type": "ack", "id": id})];
    let broadcast = |text: &str| json!({"type": "broadcast", "text": text, "id": "shouted"}).to_string();
    vec![
        Case::refused("an id used for another message", message("b", "used"), IdConflict)
            .after(message("a", "used"), placed("used"))
            .about(json!({"room": "lobby", "id": "used"})),
        Case::refused("an id used for another broadcast", broadcast("b"), IdConflict)
            .after(broadcast("a"), [json!({"type": "broadcast"}), json!({"type": "ack", "id": "shouted"})])
            .about(json!({"id": "shouted"})),
        Case::accepted("the same message again", message("a", "again"), [json!({"type": "ack", "id": "again"})])
            .after(message("a", "again"), placed("again")),
        Case::accepted(
            "an id used in another room",
            r#"{"type":"message","room":"second","text":"b","id":"elsewhere"}"#,
            placed("elsewhere"),
        )
        .after(message("a", "elsewhere"), placed("elsewhere"))
        .in_rooms(&[LOBBY, "second"]),
    ]
}

fn room_and_id_of(command: &Value) -> Value {
    let fields = command.as_object().expect("an object").iter();
    fields.filter(|(name, _)| ["room", "id"].contains(&name.as_str())).map(|(k, v)| (k.clone(), v.clone())).collect()
}
