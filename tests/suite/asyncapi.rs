//! `docs/asyncapi.yaml` says to programs what the code does, and what `docs/protocol.md` says to people.
//!
//! That it is valid AsyncAPI is for `tests/asyncapi` to say.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{LazyLock, Mutex, PoisonError},
};

use roomcast::{
    config::SETTINGS,
    protocol::{
        Action, CloseCode, Command, Envelope, ErrorCode, EventName, Frame, MessageId, ResetReason, Right, RoomId,
        Username,
    },
};
use serde_json::{Map, Value, json};

use super::docs::{Names, commands, examples, limits, name, names, names_in, page, rows, shapes};

/// The document, and its schemas compiled.
struct Document {
    all: Value,
    schemas: boon::Schemas,
    compiled: BTreeMap<String, boon::SchemaIndex>,
}

impl Document {
    fn read() -> Self {
        let all: Value = serde_norway::from_str(&page("asyncapi.yaml")).expect("YAML");
        let (mut schemas, mut compiler) = (boon::Schemas::new(), boon::Compiler::new());
        // As AsyncAPI has it.
        compiler.set_default_draft(boon::Draft::V7);
        let place = "https://localhost/asyncapi.json";
        compiler.add_resource(place, all.clone()).expect("a resource");
        let compiled = keys(&all["components"]["schemas"]).into_iter().map(|name| {
            let schema = compiler.compile(&format!("{place}#/components/schemas/{name}"), &mut schemas);
            (name.clone(), schema.unwrap_or_else(|why| panic!("{name}: {why:#}")))
        });
        Self { compiled: compiled.collect(), all, schemas }
    }

    fn schema(&self, name: &str) -> &Value {
        let schema = self.all["components"]["schemas"].get(name);
        schema.unwrap_or_else(|| panic!("there is no schema {name}"))
    }

    /// The required and the optional fields of a frame.
    fn fields(&self, name: &str) -> (Names, Names) {
        let schema = self.schema(name);
        let required: Names = strings(&schema["required"]).into_iter().filter(|name| name != "type").collect();
        let all: Names = keys(&schema["properties"]).into_iter().filter(|name| name != "type").collect();
        let optional = &all - &required;
        assert!(all.is_superset(&required), "{name}: {required:?}");
        (required, optional)
    }

    fn check(&self, name: &str, frame: &Value) -> Result<(), String> {
        let schema = *self.compiled.get(name).unwrap_or_else(|| panic!("there is no schema {name}"));
        self.schemas.validate(frame, schema).map_err(|why| format!("{name}: {frame}: {why:#}"))
    }

    #[track_caller]
    fn assert_takes(&self, name: &str, frame: &Value) {
        assert_eq!(self.check(name, frame), Ok(()));
    }

    #[track_caller]
    fn assert_refuses(&self, name: &str, frame: &Value) {
        assert!(self.check(name, frame).is_err(), "{name} takes {frame}");
    }
}

/// Checks what a client of some test got. Of those with the same fields, it checks the first.
#[track_caller]
pub(super) fn assert_may_come(event: &Value, is_slim: bool) {
    static DOCUMENT: LazyLock<Document> = LazyLock::new(Document::read);
    static CHECKED: Mutex<BTreeSet<(String, bool)>> = Mutex::new(BTreeSet::new());
    let kind = event["type"].as_str().unwrap_or_default();
    let shape = format!("{kind} {:?}", names_in(object(event)));
    if !CHECKED.lock().unwrap_or_else(PoisonError::into_inner).insert((shape, is_slim)) {
        return;
    }
    // The server itself always says when somebody spoke.
    let is_foreign = event.get("ts").is_none() && DOCUMENT.check("OnlyFromServers", event).is_err();
    let schema = match (is_foreign, is_slim) {
        (false, false) => schema_of(kind, "Event"),
        (false, true) => slim_schema_of(kind),
        (true, false) => "ForeignEvent".to_owned(),
        (true, true) => "SlimForeignEvent".to_owned(),
    };
    DOCUMENT.assert_takes(&schema, event);
}

/// Each example of the page is what the schema of its message says, and one of the schema of all messages.
#[test]
fn every_example_of_the_page_is_valid() {
    let document = Document::read();
    for example in examples(&page("protocol.md")) {
        let kind = || example.fields["type"].as_str().expect("a type");
        let frame = Value::from(example.fields.clone());
        match example.from.as_str() {
            "Client" => {
                document.assert_takes(&schema_of(kind(), "Command"), &frame);
                document.assert_takes("Command", &frame);
            }
            "Server" => {
                document.assert_takes(&schema_of(kind(), "Event"), &frame);
                document.assert_takes("Event", &frame);
                for is_own in [false, true] {
                    let slim = slim(&frame, is_own);
                    document.assert_takes(&slim_schema_of(kind()), &slim);
                    document.assert_takes("SlimEvent", &slim);
                }
            }
            "Server, slim" => {
                document.assert_takes(&slim_schema_of(kind()), &frame);
                document.assert_takes("SlimEvent", &frame);
            }
            "Foreign server" => {
                document.assert_takes("ForeignEvent", &frame);
                document.assert_takes("SlimForeignEvent", &slim(&frame, false));
            }
            other => panic!("{other} says something"),
        }
    }
}

/// Whoever changes the page need not look for other copies of its examples.
#[test]
fn the_examples_are_those_of_the_page() {
    let document = Document::read();
    let page = page("protocol.md");
    let whole = examples(&page).map(|example| Value::from(example.fields));
    let known: Vec<Value> = whole.flat_map(|frame| [slim(&frame, true), slim(&frame, false), frame]).collect();
    for (message, about) in object(&document.all["components"]["messages"]) {
        let examples = about["examples"].as_array().unwrap_or_else(|| panic!("{message} has no example"));
        for example in examples {
            let payload = &example["payload"];
            assert!(known.contains(payload), "{message}: docs/protocol.md has no {payload}");
            document.assert_takes(&capitalised(message), payload);
        }
    }
}

#[test]
fn commands_have_the_fields_that_the_server_takes() {
    let document = Document::read();
    let commands = commands(&page("protocol.md"));
    for (kind, required, optional) in &commands {
        let schema = schema_of(kind, "Command");
        assert_eq!(document.fields(&schema), (required.clone(), optional - required), "{schema}");
        assert_eq!(document.schema(&schema)["properties"]["type"]["const"], *kind);
    }
    assert_eq!(members(&document, "Command"), commands.iter().map(|(kind, ..)| schema_of(kind, "Command")).collect());
}

#[test]
fn events_have_the_fields_that_the_code_writes() {
    let document = Document::read();
    let shapes = shapes();
    let (mut whole, mut made_slim) = (Names::new(), Names::new());
    for (kind, shape) in &shapes {
        let mut full = Value::from(shape.full.clone());
        if kind == "history" {
            full["messages"] = json!([shapes["message"].full]);
        }
        let mut bare = full.clone();
        bare.as_object_mut().expect("an object").retain(|name, _| name == "type" || shape.required.contains(name));
        let (slim_bare, slim_full) = (slim(&bare, true), slim(&full, true));
        let frames = [(schema_of(kind, "Event"), &bare, &full), (slim_schema_of(kind), &slim_bare, &slim_full)];
        for (schema, bare, full) in frames {
            let (required, all) = (names_in(object(bare)), names_in(object(full)));
            assert_eq!(document.fields(&schema), (required.clone(), &all - &required), "{schema}");
            assert_eq!(document.schema(&schema)["properties"]["type"]["const"], *kind);
            document.assert_takes(&schema, bare);
            document.assert_takes(&schema, full);
            document.assert_takes(&schema, &with(full, "a field that nobody knows", json!(null)));
            for name in &all {
                // No field is nothing, and only data may be an object.
                document.assert_refuses(&schema, &with(full, name, json!(null)));
                if name != "data" {
                    document.assert_refuses(&schema, &with(full, name, json!({})));
                }
                let is_of_a_list = ["code", "right", "action"].contains(&name.as_str());
                if is_of_a_list || (name == "reason" && kind != "reconnect") {
                    document.assert_refuses(&schema, &with(full, name, json!("dance")));
                }
            }
            if all.contains("epoch") && all.contains("seq") {
                // A position is whole, or not there.
                document.assert_refuses(&schema, &without(full, "epoch"));
                document.assert_refuses(&schema, &without(full, "seq"));
            }
            for name in required.iter().map(String::as_str).chain(["type"]) {
                document.assert_refuses(&schema, &without(full, name));
            }
        }
        whole.insert(schema_of(kind, "Event"));
        made_slim.insert(slim_schema_of(kind));
    }
    assert_eq!(members(&document, "Event"), whole);
    assert_eq!(members(&document, "SlimEvent"), made_slim);
}

/// Of everything that a client could try, the schemas take what the server takes, and refuse what it refuses. They say what
/// to send, so `null` for what is left out is not tried, nor what only the server can know: how many bytes a text has, and which
/// characters of a username nobody sees.
#[test]
fn a_command_is_valid_if_the_server_takes_it() {
    let document = Document::read();
    let long = |length| json!("a".repeat(length));
    let personal = |length| json!(format!("@{}", "a".repeat(length - 1)));
    let position = json!({"epoch": "8f3a1c5d9e7b2046", "seq": 43, "more": [1]});
    let positions = vec![
        position,
        json!({"epoch": "8f3a1c5d9e7b2046"}),
        json!({"epoch": "x", "seq": 1}),
        json!(["x", 1]),
        json!(7),
    ];
    let numbers = vec![
        json!(0),
        json!(20),
        json!(2.0),
        json!(86_400),
        json!(86_401),
        json!(315_360_000),
        json!(315_360_001),
        json!(-1),
        json!(1.5),
        json!("20"),
    ];
    let actions = Action::ALL.map(|action| json!(action.as_str())).into_iter().chain([json!("dance"), json!(7)]);
    let pools: BTreeMap<&str, Vec<Value>> = BTreeMap::from([
        ("token", vec![json!("x"), json!(""), json!(7)]),
        (
            "room",
            vec![
                json!("team:42"),
                long(limits().room),
                long(limits().room + 1),
                personal(RoomId::LONGEST),
                personal(RoomId::LONGEST + 1),
                json!(""),
                json!("a b"),
                json!(7),
            ],
        ),
        ("username", vec![json!("Ann B. 🌻"), long(limits().username + 1), json!(""), json!("a\u{1}"), json!([])]),
        ("id", vec![json!(" é"), long(limits().id), long(limits().id + 1), json!(""), json!("\u{85}"), json!(1)]),
        (
            "event",
            vec![
                json!("a b"),
                long(EventName::LONGEST),
                long(EventName::LONGEST + 1),
                json!(""),
                json!("\n"),
                json!(0),
            ],
        ),
        ("text", vec![json!(""), json!("hi\n"), long(limits().text + 1), json!(false)]),
        ("data", vec![json!({"a": null}), json!([]), json!(""), json!(-1.5), json!(false)]),
        ("after", positions.clone()),
        ("before", positions),
        ("last", numbers.clone()),
        ("limit", numbers.clone()),
        ("seconds", numbers),
        ("action", actions.collect()),
    ]);
    let (mut taken, mut refused) = (0, 0);
    for (kind, required, optional) in commands(&page("protocol.md")) {
        let mut frames = vec![json!({"type": kind})];
        for name in required.union(&optional) {
            let pool = pools.get(name.as_str()).unwrap_or_else(|| panic!("nothing to try as {name}"));
            let more = frames.iter().flat_map(|frame| pool.iter().map(|value| with(frame, name, value.clone())));
            frames = more.chain(frames.iter().cloned()).collect();
        }
        for frame in frames {
            let (text, schema) = (frame.to_string(), schema_of(&kind, "Command"));
            let (valid, decoded) = (document.check(&schema, &frame), Command::decode(&text, &limits()));
            assert_eq!(valid.is_ok(), decoded.is_ok(), "{text}: {valid:?}, {decoded:?}");
            *(if decoded.is_ok() { &mut taken } else { &mut refused }) += 1;
        }
    }
    assert!(taken > 500 && refused > 5_000, "{taken}, {refused}");
    document.assert_takes("Text", &long(limits().text));
    document.assert_refuses("Command", &json!({"type": "dance"}));
    document.assert_refuses("Command", &json!({}));
}

/// Which characters may be in a name. Of those that a username may not have, the schema knows only control characters.
#[test]
fn a_name_is_valid_if_the_server_takes_it() {
    let document = Document::read();
    for c in ('\0'..='\u{24f}').chain(['\u{2028}', '\u{feff}', '中', '🌻']) {
        let name = format!("x{c}");
        for (schema, is_taken) in [
            ("RoomId", RoomId::parse(&name, 9).is_ok()),
            ("MessageId", MessageId::parse(&name, 9).is_ok()),
            ("EventName", EventName::parse(name.as_str().into()).is_ok()),
            ("Username", Username::parse(&name, 9).is_ok() || !c.is_control()),
        ] {
            assert_eq!(document.check(schema, &json!(name)).is_ok(), is_taken, "{name:?} as {schema}");
        }
    }
}

#[test]
fn the_closed_lists_are_those_of_the_code() {
    let document = Document::read();
    let protocol = page("protocol.md");
    let left: Vec<String> = rows(&protocol, "### left").map(|[reason, ..]: [String; 3]| name(&reason)).collect();
    for (schema, expected) in [
        ("ErrorCode", ErrorCode::ALL.map(ErrorCode::as_str).to_vec()),
        ("ResetReason", ResetReason::ALL.map(ResetReason::as_str).to_vec()),
        ("Right", Right::ALL.map(Right::as_str).to_vec()),
        ("Action", Action::ALL.map(Action::as_str).to_vec()),
        ("LeftReason", left.iter().map(String::as_str).collect()),
    ] {
        let schema = document.schema(schema);
        assert_eq!(strings(&schema["enum"]), expected);
        let explained: BTreeSet<String> = keys(&schema["x-meanings"]).into_iter().collect();
        assert_eq!(explained, expected.into_iter().map(str::to_owned).collect());
    }

    let closes = document.all["channels"]["ws"]["x-close-codes"].as_array().expect("close codes");
    let listed: Vec<Value> = closes.iter().map(|close| json!([close["code"], close["reason"]])).collect();
    assert_eq!(listed, CloseCode::ALL.map(|code| json!([code.code(), code.reason()])));

    let kinds = strings(&document.schema("OnlyFromServers")["properties"]["type"]["enum"]);
    let of_page = protocol.lines().find(|line| line.contains("only your own server may say")).expect("a line");
    assert_eq!(kinds.iter().cloned().collect::<Names>(), &names(of_page) - &Names::from(["type".to_owned()]));
    for kind in kinds {
        let frame = json!({"type": kind, "originServer": "legacy-3"});
        assert!(Envelope::read(&Frame::from(frame.to_string())).is_err(), "{kind}");
        document.assert_refuses("ForeignEvent", &frame);
        document.assert_refuses("SlimForeignEvent", &frame);
    }
    for frame in [json!({"originServer": "legacy-3"}), json!({"originServer": "legacy-3", "type": 7, "data": null})] {
        assert!(Envelope::read(&Frame::from(frame.to_string())).is_ok());
        document.assert_takes("ForeignEvent", &frame);
        document.assert_takes("SlimForeignEvent", &without(&frame, "originServer"));
    }
}

#[test]
fn bounds_are_the_defaults_and_say_which_setting_they_are() {
    let document = Document::read();
    let characters = |bound| format!("1 to {bound} characters");
    for (name, bound, words, setting) in [
        ("Username", limits().username, characters(limits().username), "ROOMCAST_MAX_USERNAME_LENGTH"),
        ("MessageId", limits().id, characters(limits().id), "ROOMCAST_MAX_ID_LENGTH"),
        ("Text", limits().text, format!("{} KiB", limits().text / 1024), "ROOMCAST_MAX_TEXT_BYTES"),
        ("EventName", EventName::LONGEST, characters(EventName::LONGEST), ""),
    ] {
        let schema = document.schema(name);
        assert_eq!(schema["maxLength"], bound, "{name}");
        let description = schema["description"].as_str().expect("a description");
        assert!(description.contains(&words) && description.contains(setting), "{name}: {words}, {setting}");
    }
    let room = document.schema("RoomId");
    assert_eq!(
        (&room["else"]["maxLength"], &room["then"]["maxLength"]),
        (&json!(limits().room), &json!(RoomId::LONGEST))
    );
    let description = room["description"].as_str().expect("a description");
    for words in [characters(limits().room), format!("may have {}", RoomId::LONGEST), "ROOMCAST_MAX_ROOM_LENGTH".into()]
    {
        assert!(description.contains(&words), "{words}");
    }
    let most = SETTINGS.iter().find(|setting| setting.name() == "ROOMCAST_MAX_LAST").expect("a setting");
    for (schema, field) in [("JoinCommand", "last"), ("HistoryCommand", "limit")] {
        let description = document.schema(schema)["properties"][field]["description"].as_str().expect("a description");
        assert!(description.contains(&format!("(`{}`, {} by default)", most.name(), most.default)), "{description}");
    }
    let text = page("asyncapi.yaml");
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    for named in words.filter(|word| word.starts_with("ROOMCAST_")) {
        assert!(SETTINGS.iter().any(|setting| setting.name() == named), "{named} is no setting");
    }
    assert_eq!(document.all["info"]["version"], env!("CARGO_PKG_VERSION"));
}

/// The server receives each command in one operation and answers as the page says, and sends each event in one.
#[test]
fn every_message_has_its_operation() {
    let document = Document::read();
    let messages = keys(&document.all["components"]["messages"]);
    assert_eq!(keys(&document.all["channels"]["ws"]["messages"]), messages);
    let of_schemas = ["Command", "Event", "SlimEvent"].map(|all| members(&document, all)).into_iter().flatten();
    let foreign = ["ForeignEvent", "SlimForeignEvent"].map(str::to_owned);
    let expected: Names = of_schemas.chain(foreign).collect();
    assert_eq!(messages.iter().map(|message| capitalised(message)).collect::<Names>(), expected);

    for message in &messages {
        let about = &document.all["components"]["messages"][message];
        assert_eq!(leads_to(&about["payload"]), capitalised(message));
        assert_eq!(leads_to(&document.all["channels"]["ws"]["messages"][message]), *message);
        let schema = document.schema(&capitalised(message));
        assert_eq!(about.get("correlationId").is_some(), schema["properties"].get("id").is_some(), "{message}");
        if let Some(kind) = schema["properties"]["type"].get("const") {
            assert_eq!(about["name"], *kind, "{message}");
        }
    }

    let (mut heard, mut said) = (BTreeMap::new(), Vec::new());
    for (operation, about) in object(&document.all["operations"]) {
        let messages = targets(&about["messages"]);
        if about["action"] == "receive" {
            let [command] = &messages[..] else { panic!("{operation} receives {messages:?}") };
            heard.insert(command.clone(), targets(&about["reply"]["messages"]));
        } else {
            said.extend(messages);
        }
    }
    let events: Vec<String> = messages.iter().filter(|message| message.ends_with("Event")).cloned().collect();
    said.sort();
    assert_eq!(said, events);

    let kinds = shapes();
    for [command, _, _, answer] in rows(&page("protocol.md"), "## Commands") {
        let answers = names(&answer).into_iter().filter(|name| kinds.contains_key(name)).chain(["error".to_owned()]);
        let answers: Names = answers.flat_map(|kind| [schema_of(&kind, "Event"), slim_schema_of(&kind)]).collect();
        let documented = heard.remove(&format!("{}Command", name(&command))).expect("an operation");
        assert_eq!(documented.iter().map(|message| capitalised(message)).collect::<Names>(), answers, "{command}");
    }
    assert_eq!(heard, BTreeMap::new());
}

/// What is another frame for clients that offered `roomcast.v1`; all else is the same for all.
const SLIM: [&str; 4] = ["message", "broadcast", "signal", "history"];

/// The frame as such a client gets it, with its `id` if it is that client's own.
fn slim(frame: &Value, is_own: bool) -> Value {
    if let Some(messages) = frame["messages"].as_array() {
        let messages: Vec<Value> = messages.iter().map(|message| slim(message, true)).collect();
        return with(frame, "messages", json!(messages));
    }
    if !frame["type"].as_str().is_some_and(|kind| SLIM.contains(&kind)) {
        return frame.clone();
    }
    let made = Frame::from(frame.to_string()).slim(false, |_| is_own);
    serde_json::from_slice(made.as_bytes()).expect("JSON")
}

/// The schema of a type of commands or events.
fn schema_of(kind: &str, of: &str) -> String {
    format!("{}{of}", capitalised(kind))
}

/// The same for clients that offered `roomcast.v1`.
fn slim_schema_of(kind: &str) -> String {
    schema_of(&if SLIM.contains(&kind) { format!("slim{}", capitalised(kind)) } else { kind.to_owned() }, "Event")
}

fn capitalised(name: &str) -> String {
    let (first, rest) = name.split_at(1);
    first.to_uppercase() + rest
}

/// The schemas of which such a frame is one.
fn members(document: &Document, schema: &str) -> Names {
    targets(&document.schema(schema)["oneOf"]).into_iter().collect()
}

/// The last parts of references.
fn targets(references: &Value) -> Vec<String> {
    references.as_array().unwrap_or_else(|| panic!("{references} is no list")).iter().map(leads_to).collect()
}

/// The last part of a reference.
fn leads_to(reference: &Value) -> String {
    let path = reference["$ref"].as_str().unwrap_or_else(|| panic!("{reference} is no reference"));
    path.rsplit('/').next().unwrap_or_default().to_owned()
}

fn with(frame: &Value, name: &str, value: Value) -> Value {
    let mut frame = frame.clone();
    frame[name] = value;
    frame
}

fn without(frame: &Value, name: &str) -> Value {
    let mut frame = frame.clone();
    frame.as_object_mut().expect("an object").remove(name);
    frame
}

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap_or_else(|| panic!("{value} is no object"))
}

fn keys(value: &Value) -> Vec<String> {
    object(value).keys().cloned().collect()
}

fn strings(value: &Value) -> Vec<String> {
    let list = value.as_array().unwrap_or_else(|| panic!("{value} is no list"));
    list.iter().map(|item| item.as_str().expect("a text").to_owned()).collect()
}
