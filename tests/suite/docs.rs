//! The pages in `docs` say what the code does: every example, every table and every default.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use roomcast::{
    config::{Config, SETTINGS, Setting, reference},
    protocol::{
        Action, CloseCode, Command, Content, Data, Draft, Envelope, Epoch, ErrorCode, Event, EventName, Frame, Limits,
        MessageId, Position, ResetReason, Right, RoomId, Stamp, Username,
    },
};
use serde_json::{Map, Value, json};

pub(super) type Names = BTreeSet<String>;

#[test]
fn the_reference_of_settings_is_what_the_program_prints() {
    let remedy = "docs/configuration.md is out of date; write it with: cargo run -- settings > docs/configuration.md";
    assert!(page("configuration.md") == reference(SETTINGS), "{remedy}");
}

#[test]
fn every_client_example_is_a_command_and_every_command_has_one() {
    let page = page("protocol.md");
    let commands = commands(&page);
    let mut shown: BTreeMap<String, Names> = BTreeMap::new();
    for Example { line, text, fields, .. } in examples(&page).filter(|example| example.from == "Client") {
        let command = Command::decode(&text, &limits()).unwrap_or_else(|why| panic!("line {line}: {why:?}"));
        assert_eq!(fields["type"], name_of(&command), "line {line}");
        shown.entry(name_of(&command).to_owned()).or_default().extend(names_in(&fields));
    }
    let documented: BTreeMap<String, Names> =
        commands.iter().map(|(kind, required, optional)| (kind.clone(), required | optional)).collect();
    assert_eq!(shown, documented, "the examples and the table show the same fields");
}

/// The table of commands says which fields must be there and which may be.
#[test]
fn the_table_of_commands_is_what_the_server_takes() {
    let commands = commands(&page("protocol.md"));
    for (kind, required, optional) in &commands {
        let all = required | optional;
        // The two kinds of history are no strings, and only one of them may be asked for; a measure has a closed list of
        // actions, which need different fields.
        let texts = all.iter().filter(|name| !["after", "before", "last", "limit", "seconds"].contains(&name.as_str()));
        let whole = texts.map(|name| (name.clone(), json!(if name == "action" { "mute" } else { "x" })));
        let whole: Map<String, Value> = whole.collect();
        let with = |name: &str, value: Value| {
            let mut command = whole.clone();
            command.insert("type".into(), kind.as_str().into());
            command.insert(name.into(), value);
            Value::from(command).to_string()
        };
        let refusal = |text: &str| Command::decode(text, &limits()).map_err(|rejection| rejection.code).err();
        assert_eq!(refusal(&with("type", json!(kind))), None, "{kind}");
        for name in &all {
            // Data may be any JSON, so nothing in it is of the wrong type.
            let wrong = if name == "data" { None } else { Some(ErrorCode::BadField) };
            assert_eq!(refusal(&with(name, json!([7]))), wrong, "{kind} has the field {name}");
            let is_needed = required.contains(name) || (kind == "moderate" && name == "username");
            let expected = is_needed.then_some(ErrorCode::MissingField);
            assert_eq!(refusal(&with(name, Value::Null)), expected, "{kind} without {name}");
        }
    }
    // The server tells whoever sends an unknown type which ones there are.
    let answer = Command::decode(r#"{"type":"?"}"#, &limits()).expect_err("an unknown type").message;
    let known = answer.rsplit(" one of ").next().expect("a list").split(", ");
    let documented: Names = commands.into_iter().map(|(kind, ..)| kind).collect();
    assert_eq!(documented, known.map(str::to_owned).collect());
}

#[test]
fn every_server_example_has_the_fields_that_the_code_writes() {
    let page = page("protocol.md");
    let mut shown: BTreeMap<String, Names> = BTreeMap::new();
    let shapes = shapes();
    for Example { line, fields, .. } in examples(&page).filter(|example| example.from == "Server") {
        let kind = fields["type"].as_str().unwrap_or_else(|| panic!("line {line}: no type"));
        let shape = shapes.get(kind).unwrap_or_else(|| panic!("line {line}: the server sends no {kind}"));
        let names = names_in(&fields);
        assert!(names.is_superset(&shape.required), "line {line}: {kind} has {:?}", shape.required);
        for (name, value) in fields.iter().filter(|(name, _)| *name != "type") {
            let like = shape.full.get(name).unwrap_or_else(|| panic!("line {line}: {kind} has no {name}"));
            assert_eq!(value.is_string(), like.is_string(), "line {line}: {name} is like {like}");
            assert_eq!(value.is_u64(), like.is_u64(), "line {line}: {name} is like {like}");
        }
        if let Some(code) = fields.get("code") {
            assert!(ErrorCode::ALL.iter().any(|known| code == known.as_str()), "line {line}: {code}");
        }
        if let Some(reason) = fields.get("reason").filter(|_| kind == "reset") {
            assert!(reset_reasons().iter().any(|known| reason == known), "line {line}: {reason}");
        }
        if let Some(epoch) = fields.get("epoch") {
            assert!(epoch.as_str().and_then(Epoch::parse).is_some(), "line {line}: {epoch}");
        }
        shown.entry(kind.to_owned()).or_default().extend(names);
    }
    for (kind, shape) in &shapes {
        let shown = shown.get(kind).unwrap_or_else(|| panic!("there is no example of {kind}"));
        assert_eq!(*shown, names_in(&shape.full), "the examples of {kind} together show all its fields");
    }
}

/// Each slim example is what becomes of one of the others.
#[test]
fn every_slim_example_is_a_whole_one_made_slim() {
    let page = page("protocol.md");
    let (slim, whole): (Vec<Example>, Vec<Example>) = examples(&page)
        .filter(|example| example.from.starts_with("Server"))
        .partition(|example| example.from != "Server");
    let made: Vec<String> = whole
        .into_iter()
        .map(|example| String::from_utf8(Frame::from(example.text).slim(false, |_| false).as_bytes().to_vec()).unwrap())
        .collect();
    assert!(!slim.is_empty());
    for Example { line, text, .. } in slim {
        assert!(made.contains(&text), "line {line}: {text}");
    }
}

#[test]
fn a_foreign_server_in_an_example_is_understood() {
    let page = page("protocol.md");
    let foreign: Vec<Example> = examples(&page).filter(|example| example.from == "Foreign server").collect();
    assert!(!foreign.is_empty());
    for Example { line, text, .. } in foreign {
        let frame = Frame::from(text);
        let envelope = Envelope::read(&frame).unwrap_or_else(|why| panic!("line {line}: {why}"));
        assert_eq!(envelope.stamp, None, "line {line}");
    }
}

#[test]
fn the_table_of_events_has_the_fields_that_the_code_writes() {
    let mut documented = BTreeMap::new();
    for [kind, required, optional, _] in rows(&page("protocol.md"), "## Events") {
        documented.insert(name(&kind), (names(&required), names(&optional)));
    }
    let written: BTreeMap<String, (Names, Names)> = shapes()
        .into_iter()
        .map(|(kind, shape)| {
            let optional = &names_in(&shape.full) - &shape.required;
            (kind, (shape.required, optional))
        })
        .collect();
    assert_eq!(documented, written);
}

#[test]
fn every_code_is_listed_and_no_other() {
    let page = page("protocol.md");
    let listed: Vec<String> = rows(&page, "## Errors").map(|[code, _, _]| name(&code)).collect();
    assert_eq!(listed, ErrorCode::ALL.map(ErrorCode::as_str));

    let listed: Vec<(String, String)> =
        rows(&page, "## Close codes").map(|[code, reason, _, _]| (code, name(&reason))).collect();
    assert_eq!(listed, CloseCode::ALL.map(|code| (code.code().to_string(), code.reason().to_owned())));

    let listed: Vec<String> = rows(&page, "## Tokens").map(|[right, _]| name(&right)).collect();
    assert_eq!(listed, Right::ALL.map(Right::as_str));

    let listed: Vec<String> = rows(&page, "### moderate").map(|[action, _]| name(&action)).collect();
    assert_eq!(listed, Action::ALL.map(Action::as_str));

    let listed: Vec<String> = rows(&page, "### reset").map(|[reason, _]| name(&reason)).collect();
    assert_eq!(listed, reset_reasons());
}

#[test]
fn the_limits_are_settings_with_these_defaults() {
    let page = page("protocol.md");
    let setting = |name: &str| SETTINGS.iter().find(|setting| setting.name() == name);
    for [_, limit, default, _] in rows(&page, "## Limits") {
        let known = setting(&name(&limit)).map(|setting| setting.default.to_owned());
        assert_eq!(known, Some(name(&default)), "{limit}");
    }
    for named in names(&page).iter().filter(|name| name.starts_with("ROOMCAST_")) {
        assert!(setting(named).is_some(), "{named} is no setting, but one of {:?}", SETTINGS.iter().map(Setting::name));
    }
}

/// Links to other pages of the project and to headings in them, on all pages.
#[test]
fn links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut followed = 0;
    for folder in ["", "docs", "helm/roomcast", "k8s"] {
        for entry in root.join(folder).read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "md") {
                followed += links_of(&path).inspect(|link| assert_leads_somewhere(&path, link)).count();
            }
        }
    }
    assert!(followed > 100, "{followed}");
}

fn links_of(path: &Path) -> impl Iterator<Item = String> {
    let page = std::fs::read_to_string(path).unwrap();
    let links: Vec<String> =
        page.split("](").skip(1).map(|rest| rest.split(')').next().unwrap_or_default().to_owned()).collect();
    links.into_iter().filter(|link| !link.starts_with("https://"))
}

fn assert_leads_somewhere(page: &Path, link: &str) {
    let (file, heading) = link.split_once('#').unwrap_or((link, ""));
    let target = if file.is_empty() { page.to_owned() } else { page.parent().expect("a folder").join(file) };
    assert!(target.exists(), "{}: {link}", page.display());
    if !heading.is_empty() {
        let text = std::fs::read_to_string(&target).unwrap();
        let titles = text.lines().filter_map(|line| line.strip_prefix('#')?.split_once(' '));
        let anchors: Names = titles.map(|(_, title)| anchor(title)).collect();
        assert!(anchors.contains(heading), "{}: {link} is none of {anchors:?}", page.display());
    }
}

/// Nobody is told to set what cannot be set.
#[test]
fn the_settings_that_operators_read_of_exist() {
    for page in ["operations.md", "runbook.md", "observability.md"].map(page) {
        let words = page.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for name in words.filter(|word| word.starts_with("ROOMCAST_")) {
            assert!(SETTINGS.iter().any(|setting| setting.name() == name), "{name} is no setting");
        }
    }
}

/// What one type of event looks like on the wire.
pub(super) struct Shape {
    /// The fields that it always has, beside its type.
    pub(super) required: Names,
    /// An event with all the fields that it can have.
    pub(super) full: Map<String, Value>,
}

/// Everything that the code can write to a client, by its type.
pub(super) fn shapes() -> BTreeMap<String, Shape> {
    let room = &RoomId::parse("lobby", 9).expect("a room");
    let username = &Username::parse("ann", 9).expect("a username");
    let id = &MessageId::parse("m-1", 9).expect("an id");
    let stamp = Stamp { position: Position::new(Epoch(1), 2), ts: 3 };
    let position = Some(stamp.position);
    let always = |event: Event| (written(&event), written(&event));
    let varies = |bare: Event, full: Event| (written(&bare), written(&full));
    let joined = |position, until, resumed| {
        let (room, origin_server) = (room.clone(), "a:1".into());
        Event::Joined { room, position, until, members: 1, origin_server, resumed }
    };
    let left = |reason| Event::Left { room: room.clone(), reason };
    let ack = |room, position| Event::Ack { id: id.clone(), room, position };
    let reset = |room, position| Event::Reset { room, position, reason: ResetReason::Trimmed };
    let error = |id, room, right, retry_after_ms| Event::Error {
        code: ErrorCode::BadJson,
        message: "no".into(),
        id,
        room,
        right,
        retry_after_ms,
    };
    let authenticated =
        |expires_ms| Event::Authenticated { username: username.clone(), expires_ms, rooms: vec![room.clone()] };
    let history = |epoch| {
        let (room, messages) = (room.clone(), vec![Frame::from("{}".to_owned())]);
        Event::History { room, epoch, messages, has_more: false }
    };
    let events = [
        varies(joined(None, None, None), joined(position, Some(2), Some(true))),
        varies(left(None), left(Some("unavailable"))),
        varies(ack(None, None), ack(Some(room.clone()), position)),
        varies(reset(None, None), reset(Some(room.clone()), position)),
        varies(error(None, None, None, None), error(Some(id.clone()), Some(room.clone()), Some(Right::Send), Some(1))),
        varies(authenticated(None), authenticated(Some(1))),
        always(Event::Expiring { in_ms: 1 }),
        varies(
            Event::Moderated { room: None, action: Action::Kick, username: None, seconds: None },
            Event::Moderated {
                room: Some(room.clone()),
                action: Action::Kick,
                username: Some(username.clone()),
                seconds: Some(1),
            },
        ),
        varies(history(None), history(Some(Epoch(1)))),
        always(Event::Reconnect { after_ms: 1, reason: "shutting_down" }),
        always(Event::Pong),
    ];
    let data = Data::parse(serde_json::from_str("[7]").expect("JSON")).expect("data");
    let event = EventName::parse("typing".into()).expect("a name");
    let says = |text: Option<&'static str>, data, event| Content { text: text.map(Into::into), data, event };
    let draft = |room, username, content: &Content<'_>, id| Draft::new("a:1", room, username, content, id);
    let bare = |room, username| draft(room, username, &Content::default(), None).unnumbered(3);
    let all = &says(Some("hi"), Some(data), Some(event.clone()));
    let full = |room| draft(room, Some(username), all, Some(id)).numbered(stamp);
    let signal =
        |data| Draft::signal("a:1", room, Some(username), &says(None, data, Some(event.clone()))).unnumbered(3);
    let envelopes = [
        (bare(Some(room), None), full(Some(room))),
        (bare(None, None), full(None)),
        (signal(None), signal(Some(data))),
    ];
    let pairs = events.into_iter().chain(envelopes);
    pairs
        .map(|(bare, full)| {
            let full = object(full.as_bytes());
            let kind = full["type"].as_str().expect("a type").to_owned();
            (kind, Shape { required: names_in(&object(bare.as_bytes())), full })
        })
        .collect()
}

/// A new event stops this from compiling: add it to [`shapes`] too, and to the page.
fn written(event: &Event) -> Frame {
    match event {
        Event::Joined { .. }
        | Event::Left { .. }
        | Event::Ack { .. }
        | Event::Reset { .. }
        | Event::Error { .. }
        | Event::Authenticated { .. }
        | Event::Expiring { .. }
        | Event::Moderated { .. }
        | Event::History { .. }
        | Event::Reconnect { .. }
        | Event::Pong => event.encode(),
    }
}

/// A new command stops this from compiling: add it to the page too.
fn name_of(command: &Command<'_>) -> &'static str {
    match command {
        Command::Auth { .. } => "auth",
        Command::Join { .. } => "join",
        Command::Leave { .. } => "leave",
        Command::Message { .. } => "message",
        Command::Broadcast { .. } => "broadcast",
        Command::Signal { .. } => "signal",
        Command::History { .. } => "history",
        Command::Moderate { .. } => "moderate",
        Command::Ping => "ping",
    }
}

fn reset_reasons() -> [&'static str; 3] {
    ResetReason::ALL.map(ResetReason::as_str)
}

pub(super) fn limits() -> Limits {
    Limits::from(&Config::from_env([]).expect("the defaults are right").0)
}

pub(super) fn page(name: &str) -> String {
    let path = format!("{}/docs/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(&path).unwrap_or_else(|why| panic!("{path}: {why}"))
}

/// One line of a block of JSON, and who says it: what the bold line before the block names.
pub(super) struct Example {
    pub(super) line: usize,
    pub(super) from: String,
    pub(super) text: String,
    pub(super) fields: Map<String, Value>,
}

pub(super) fn examples(page: &str) -> impl Iterator<Item = Example> {
    let mut examples = Vec::new();
    let (mut speaker, mut within) = (None, false);
    for (line, text) in (1..).zip(page.lines()) {
        match (within, text) {
            (_, "") => {}
            (false, "```json") => within = true,
            (true, "```") => (within, speaker) = (false, None),
            (true, _) => {
                let from: &str = speaker.unwrap_or_else(|| panic!("line {line}: who says this?"));
                let (from, text) = (from.to_owned(), text.to_owned());
                let fields = serde_json::from_str(&text).unwrap_or_else(|why| panic!("line {line}: {why}"));
                examples.push(Example { line, from, text, fields });
            }
            (false, _) => {
                assert!(!text.contains("```"), "line {line}: a block that is not JSON");
                speaker = text.strip_prefix("**").and_then(|text| text.strip_suffix("**"));
            }
        }
    }
    let speakers = ["Client", "Server", "Server, slim", "Foreign server"];
    for Example { line, from, .. } in &examples {
        assert!(speakers.contains(&from.as_str()), "line {line}: {from} is none of {speakers:?}");
    }
    examples.into_iter()
}

/// The type, the required and the optional fields of every command in the table.
pub(super) fn commands(page: &str) -> Vec<(String, Names, Names)> {
    let rows = rows(page, "## Commands");
    rows.map(|[kind, required, optional, _]| (name(&kind), names(&required), names(&optional))).collect()
}

/// The rows of the first table after a heading, without its head.
pub(super) fn rows<const COLUMNS: usize>(page: &str, heading: &str) -> impl Iterator<Item = [String; COLUMNS]> {
    let table = page.lines().skip_while(|line| *line != heading).skip_while(|line| !line.starts_with('|'));
    let rows: Vec<[String; COLUMNS]> = table
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| {
            let cells = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned());
            cells.collect::<Vec<_>>().try_into().unwrap_or_else(|_| panic!("{COLUMNS} cells, unlike {line}"))
        })
        .collect();
    assert!(!rows.is_empty(), "a table under {heading}");
    rows.into_iter()
}

/// What stands in backticks.
pub(super) fn names(text: &str) -> Names {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

pub(super) fn name(cell: &str) -> String {
    let mut names = names(cell).into_iter();
    names.next().unwrap_or_else(|| panic!("a name in backticks, unlike {cell}"))
}

pub(super) fn names_in(fields: &Map<String, Value>) -> Names {
    fields.keys().filter(|name| *name != "type").cloned().collect()
}

fn object(bytes: &[u8]) -> Map<String, Value> {
    serde_json::from_slice(bytes).expect("an object")
}

/// What GitHub calls a heading in links.
fn anchor(title: &str) -> String {
    let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}
