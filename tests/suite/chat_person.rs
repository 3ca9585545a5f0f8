//! `roomcast chat` as a person has it, in a real terminal.

use serde_json::json;

use crate::support::{Client, Front, Redis, Screen, Server, eventually};

/// What Ctrl and a letter send.
const CTRL_A: &str = "\x01";
const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const UP: &str = "\x1b[A";

async fn chat(server: &Server, name: &str) -> Screen {
    chat_with(&[], server, name).await
}

async fn chat_with(settings: &[(&str, &str)], server: &Server, name: &str) -> Screen {
    let screen = Screen::start(settings, &["chat", "lobby", name, &format!("ws://{}", server.address)]);
    screen.shows("-- in lobby").await;
    screen.ends_with("lobby>").await;
    screen
}

#[tokio::test]
async fn what_arrives_leaves_the_line_that_is_typed_whole() {
    let server = Server::in_memory(&[]).await;
    let mut bob = server.member("lobby", "bob").await;
    let mut screen = chat(&server, "ann").await;
    screen.types("unfinished thou");
    screen.ends_with("lobby> unfinished thou").await;
    bob.say("lobby", "sorry to interrupt").await;
    screen.shows("bob: sorry to interrupt  #1 via").await;
    screen.ends_with("lobby> unfinished thou").await;
    // Typing goes on where it was, and at the beginning of the line as well.
    screen.types("ght");
    screen.types(CTRL_A);
    screen.types("an ");
    screen.ends_with("lobby> an unfinished thought").await;
    screen.types("\r");
    screen.shows("ann: an unfinished thought  #2 via").await;
    screen.ends_with("lobby>").await;
    assert_eq!(screen.count("an unfinished thought"), 1, "one's own text stands there once");
    assert_eq!(bob.texts(2).await, ["sorry to interrupt", "an unfinished thought"]);
    // The history has it.
    screen.types(UP);
    screen.ends_with("lobby> an unfinished thought").await;
}

#[tokio::test]
async fn a_line_of_several_rows_is_taken_away_whole_and_takes_nothing_with_it() {
    let server = Server::in_memory(&[]).await;
    let mut bob = server.member("lobby", "bob").await;
    let mut screen = chat(&server, "ann").await;
    bob.say("lobby", "just above").await;
    screen.shows("bob: just above").await;
    // Rows that are full to the brim, and wide letters at the edge.
    for (number, text) in ["x".repeat(73), "y".repeat(153), "日".repeat(60), "z".repeat(200)].iter().enumerate() {
        screen.types(text);
        screen.types("\r");
        let number = format!("#{} via", number + 2);
        eventually(&number, async || screen.rows().concat().contains(&number).then_some(())).await;
        screen.ends_with("lobby>").await;
        let shown = screen.rows().concat();
        assert_eq!(shown.matches(text.as_str()).count(), 1, "{text} once");
        assert!(shown.contains("bob: just above"), "{text} took the line above with it");
    }
}

#[tokio::test]
async fn a_new_size_of_the_window_leaves_the_line_whole() {
    let server = Server::in_memory(&[]).await;
    let mut bob = server.member("lobby", "bob").await;
    let mut screen = chat(&server, "ann").await;
    screen.types("half a line, and ");
    screen.ends_with("lobby> half a line, and").await;
    for columns in [40, 100, 60] {
        screen.resize(20, columns);
        bob.say("lobby", &format!("at {columns}")).await;
        screen.shows(&format!("bob: at {columns}")).await;
        screen.ends_with("lobby> half a line, and").await;
    }
    screen.types("the rest\r");
    screen.shows("ann: half a line, and the rest").await;
}

#[tokio::test]
async fn a_server_that_is_killed_costs_nothing() {
    let Some(redis) = Redis::start().await else { return };
    let (one, two) = (Server::on(&redis, "one").await, Server::on(&redis, "two").await);
    let front = Front::to(vec![one.address, two.address]).await;
    let mut bob = two.member("lobby", "bob").await;
    let mut screen = Screen::start(&[], &["chat", "lobby", "ann", &front.address.to_string()]);
    screen.shows("-- in lobby").await;
    screen.types("before\r");
    screen.shows("ann: before  #1 via one").await;
    one.signal("STOP");
    // What is said from now on ann's server does not take any more.
    bob.say("lobby", "missed").await;
    assert_eq!(bob.texts(2).await, ["before", "missed"]);
    one.signal("KILL");
    screen.shows("-- the server went away; trying again").await;
    screen.types("typed while away\r");
    screen.shows("-- back").await;
    screen.shows("ann: typed while away  #3 via two").await;
    screen.shows("bob: missed  #2 via two").await;
    assert_eq!(bob.texts(1).await, ["typed while away"]);
    bob.hears_nothing().await;
    assert!(["before", "bob: missed", "typed while away"].iter().all(|text| screen.count(text) == 1));
    screen.shows("1 message was missed and follows").await;
}

#[tokio::test]
async fn what_may_be_lost_without_history_is_said() {
    let Some(redis) = Redis::start().await else { return };
    let off = [("ROOMCAST_HISTORY_LENGTH", "0")];
    let (one, two) = (Server::with(&redis, "one", &off).await, Server::with(&redis, "two", &off).await);
    let front = Front::to(vec![one.address, two.address]).await;
    let mut screen = Screen::start(&[], &["chat", "lobby", "ann", &front.address.to_string()]);
    screen.shows("-- in lobby, on one").await;
    one.signal("KILL");
    // Over the edge of the window it goes on in the next row.
    let says = |text: &str| screen.rows().concat().contains(text).then_some(());
    eventually("that it is back", async || says("-- back, on two; this server keeps nothing of what is said")).await;
    screen.types("/last 5\r");
    let says = |text: &str| screen.rows().concat().contains(text).then_some(());
    eventually("why nothing is shown", async || says("so it cannot show it")).await;
}

#[tokio::test]
async fn rooms_are_joined_left_and_told_apart() {
    let server = Server::in_memory(&[]).await;
    let mut bob = server.member("den", "bob").await;
    for text in ["one", "two", "three"] {
        bob.say("den", text).await;
    }
    bob.texts(3).await;
    let mut screen = chat(&server, "ann").await;
    screen.types("/join den\r");
    screen.ends_with("den>").await;
    screen.shows("-- in den").await;
    screen.shows("[den] bob: three  #3").await;
    screen.types("hi den\r");
    screen.shows("[den] ann: hi den  #4").await;
    assert_eq!(bob.texts(1).await, ["hi den"]);
    screen.types("//join is a command\r");
    assert_eq!(bob.texts(1).await, ["/join is a command"]);
    screen.types("/last 2\r");
    screen.shows("-- the last 2 messages of den:").await;
    let hi = || screen.count("hi den");
    eventually("shown again", async || (hi() == 2).then_some(())).await;
    screen.types("/leave\r");
    screen.ends_with("lobby>").await;
    screen.types("back here\r");
    screen.shows(" ann: back here  #1").await;
    bob.say("den", "unheard").await;
    bob.texts(1).await;
    screen.types("/nonsense\r");
    screen.shows("-- there is no /nonsense").await;
    screen.types("/help\r");
    screen.shows("/join ROOM").await;
    assert_eq!(screen.count("unheard"), 0);
    // A room that is refused is no reason to end.
    screen.types("/join not here\r");
    screen.shows("was not joined").await;
    screen.types("\r/join lobby\r");
    screen.ends_with("lobby>").await;
    screen.types("still in\r");
    screen.shows("ann: still in  #2").await;
}

#[tokio::test]
async fn what_is_said_right_before_a_room_is_left_is_kept() {
    let server = Server::in_memory(&[]).await;
    let mut bob = server.member("lobby", "bob").await;
    let mut screen = chat(&server, "ann").await;
    screen.types("\x1b[200~last words\n/leave\x1b[201~\r");
    assert_eq!(bob.texts(1).await, ["last words"]);
    screen.shows("-- you left lobby").await;
    screen.ends_with("(no room)>").await;
    assert_eq!((screen.count("ann: last words  #1"), screen.count("not kept")), (1, 0));
}

#[tokio::test]
async fn whoever_types_into_a_flood_is_heard_and_sees_all_of_it() {
    let server = Server::in_memory(&[("ROOMCAST_OUTBOX_MESSAGES", "20000")]).await;
    let mut bob = server.member("lobby", "bob").await;
    let mut screen = chat_with(&[("NO_COLOR", "1")], &server, "ann").await;
    let mut typed = 0;
    for number in 0..2000 {
        bob.say("lobby", &format!("line {number}.")).await;
        bob.expect("message").await;
        if number % 100 == 50 {
            typed += 1;
            screen.types(&format!("word {typed}.\r"));
        }
    }
    screen.types("and an end\r");
    screen.shows("ann: and an end").await;
    screen.ends_with("lobby>").await;
    let bytes = screen.bytes();
    // Each once, and in their order.
    let mut rest = bytes.as_str();
    for number in 0..2000 {
        let line = format!("bob: line {number}.");
        assert_eq!(bytes.matches(&line).count(), 1, "{line}");
        rest = &rest[rest.find(&line).unwrap_or_else(|| panic!("{line} is out of order"))..];
    }
    assert!((1..=typed).all(|number| bytes.matches(&format!("ann: word {number}.")).count() == 1));
}

#[tokio::test]
async fn what_is_pasted_is_sent_line_by_line_when_enter_is_pressed() {
    let server = Server::in_memory(&[]).await;
    let mut bob = server.member("lobby", "bob").await;
    let mut screen = chat(&server, "ann").await;
    screen.types("\x1b[200~first\nsecond\nthird\x1b[201~");
    screen.shows("third").await;
    bob.hears_nothing().await;
    screen.types("\r");
    assert_eq!(bob.texts(3).await, ["first", "second", "third"]);
    screen.shows("ann: third  #3").await;
    assert_eq!((screen.count("first"), screen.count("third")), (1, 1));
}

#[tokio::test]
async fn the_terminal_is_given_back_as_it_was() {
    let server = Server::in_memory(&[]).await;
    for (keys, code) in [(CTRL_C, 130), (CTRL_D, 0), ("/quit\r", 0), ("not finished", 143)] {
        let mut screen = chat(&server, "ann").await;
        assert!(!screen.echoes());
        screen.types(keys);
        if code == 143 {
            screen.ends_with("lobby> not finished").await;
            screen.signal("TERM");
        }
        assert_eq!(screen.ended().await.code(), Some(code), "{keys:?}");
        assert!(screen.echoes(), "{keys:?}");
        // Whoever pastes into the shell afterwards does not find marks in it.
        let has_no_marks = |bytes: &str| bytes.rfind("\x1b[?2004l") > bytes.rfind("\x1b[?2004h");
        eventually("no marks", async || has_no_marks(&screen.bytes()).then_some(())).await;
    }
}

#[tokio::test]
async fn what_waits_for_a_server_keeps_nobody_from_ending_it() {
    for keys in [CTRL_C, "/quit\r"] {
        let server = Server::in_memory(&[]).await;
        let mut screen = chat(&server, "ann").await;
        server.signal("KILL");
        screen.shows("-- the server went away").await;
        let many: Vec<String> = (0..150).map(|number| format!("line {number}")).collect();
        screen.types(&format!("\x1b[200~{}\x1b[201~\r", many.join("\n")));
        screen.shows("-- 150 messages wait for the connection").await;
        screen.types(keys);
        let code = screen.ended().await.code();
        assert_eq!(code, Some(if keys == CTRL_C { 130 } else { 1 }));
        screen.shows("150 of 150 messages are not known to be kept").await;
        assert!(screen.echoes());
    }
}

#[tokio::test]
async fn a_room_or_name_that_is_refused_ends_it_with_what_to_do() {
    let server = Server::in_memory(&[]).await;
    let url = format!("ws://{}", server.address);
    for (room, name, says) in
        [("no blanks", "ann", "choose another room"), ("lobby", "\u{200b}", "choose another name")]
    {
        let mut screen = Screen::start(&[], &["chat", room, name, &url]);
        assert_eq!(screen.ended().await.code(), Some(1), "{says}");
        screen.shows(says).await;
        assert!(screen.echoes());
    }
}

#[tokio::test]
async fn nothing_of_others_is_obeyed_and_names_have_colours() {
    let Some(redis) = Redis::start().await else { return };
    let server = Server::on(&redis, "one").await;
    let mut eve = server.member("lobby", "eve").await;
    let screen = chat(&server, "ann").await;
    eve.say("lobby", "\u{1b}]0;owned\u{7}\u{1b}[2J\r\n\u{202e}").await;
    screen.shows(r"\u{1b}]0;owned\u{7}\u{1b}[2J\r\n\u{202e}").await;
    // The names of others' servers are checked by nobody.
    let foreign = json!({"originServer": "x\u{1b}[2J", "type": "message", "room": "lobby", "username": "\u{9b}31m\nann",
        "text": "hi"});
    redis.publish("ws:room:lobby", foreign.to_string()).await;
    screen.shows(r"\u{9b}31m\nann: hi  via x\u{1b}[2J").await;
    let bytes = screen.bytes();
    assert!(
        !bytes.contains("\x1b]0;") && !bytes.contains("\x1b[2J") && !bytes.contains(['\u{9b}', '\u{202e}', '\x07'])
    );
    let colour = |bytes: &str| bytes.split("meve\x1b[0m").next().map(|before| before[before.len() - 2..].to_owned());
    assert!(bytes.contains("meve\x1b[0m"), "a name in a colour");
    let (coloured, url) = (colour(&bytes), format!("ws://{}", server.address));

    let again = Screen::start(&[], &["chat", "lobby", "bob", &url]);
    again.shows("eve: ").await;
    assert_eq!(colour(&again.bytes()), coloured, "the same one everywhere");
    let plain = Screen::start(&[("NO_COLOR", "1")], &["chat", "lobby", "bob", &url]);
    plain.shows("eve: ").await;
    assert!(!plain.bytes().contains("meve"));
}

#[tokio::test]
async fn a_person_is_told_that_what_is_said_waits_for_redis() {
    let Some(mut redis) = Redis::start().await else { return };
    let server = Server::on(&redis, "one").await;
    let mut screen = chat(&server, "ann").await;
    redis.kill();
    screen.types("into the dark\r");
    screen.shows("-- not kept yet: ").await;
    assert_eq!(screen.count("ann: into the dark"), 0);
    redis.restart().await;
    screen.shows("ann: into the dark  #1 via one").await;
    let mut bob: Client = server.client().await;
    bob.send(&json!({"type": "join", "room": "lobby", "username": "bob", "last": 10})).await;
    assert_eq!(bob.expect("joined").await["until"], 1, "once");
}
