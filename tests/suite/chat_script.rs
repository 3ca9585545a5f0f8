//! `roomcast chat` as a script has it: lines in, lines out, and an exit code.

use std::{process::Stdio, time::Duration};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout},
    time::timeout,
};
use tokio_rustls::rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

use crate::support::{Client, DEADLINE, Front, Redis, Server, command, run};

/// A chat whose input and output are pipes.
struct Chat {
    process: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Chat {
    fn start(settings: &[(&str, &str)], arguments: &[&str]) -> Self {
        let mut command = tokio::process::Command::from(command(settings));
        command.arg("chat").args(arguments).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("it starts");
        let input = process.stdin.take();
        let output = BufReader::new(process.stdout.take().expect("a pipe")).lines();
        Self { process, input, output }
    }

    async fn says(&mut self, text: &str) {
        let input = self.input.as_mut().expect("an open pipe");
        let written = timeout(DEADLINE, input.write_all(text.as_bytes())).await;
        written.expect("in time").expect("an open pipe");
    }

    async fn hears(&mut self) -> String {
        timeout(DEADLINE, self.output.next_line()).await.expect("in time").expect("UTF-8").expect("a line")
    }

    /// Ends its input, and waits for its end. Returns the exit code, the rest of its output, and standard error.
    async fn ended(mut self) -> (Option<i32>, Vec<String>, String) {
        self.input = None;
        let (mut heard, mut errors) = (Vec::new(), String::new());
        let mut stderr = self.process.stderr.take().expect("a pipe");
        let ending = async {
            while let Some(line) = self.output.next_line().await.expect("UTF-8") {
                heard.push(line);
            }
            stderr.read_to_string(&mut errors).await.expect("UTF-8");
            self.process.wait().await.expect("its end").code()
        };
        let code = timeout(DEADLINE, ending).await.expect("its end in time");
        (code, heard, errors)
    }
}

fn url(server: &Server) -> String {
    format!("ws://{}", server.address)
}

/// All that was ever said in a room.
async fn history(server: &Server, room: &str) -> Vec<String> {
    let mut reader: Client = server.client().await;
    let mut texts = Vec::new();
    let mut after = json!({"epoch": "", "seq": 0});
    // More than can be asked for with `last` comes after the position before the first.
    reader.send(&json!({"type": "join", "room": room, "username": "reader", "last": 1})).await;
    let joined = reader.expect("joined").await;
    after["epoch"] = joined["epoch"].clone();
    let Some(until) = joined["until"].as_u64() else { return texts };
    reader.texts(1).await;
    reader.leave(room).await;
    reader.send(&json!({"type": "join", "room": room, "username": "reader", "after": after})).await;
    assert_eq!(reader.expect("joined").await["resumed"], true);
    texts.extend(reader.texts(until as usize).await);
    texts
}

#[tokio::test]
async fn lines_are_kept_before_it_ends_whatever_they_begin_with() {
    let server = Server::in_memory(&[]).await;
    let mut chat = Chat::start(&[], &["lobby", "bot", &url(&server)]);
    chat.says("one\r\n\n/quit\n//two\nthe last has no end").await;
    let (code, heard, errors) = chat.ended().await;
    assert_eq!(code, Some(0), "{errors}");
    let said = ["one", "/quit", "//two", "the last has no end"];
    assert_eq!(history(&server, "lobby").await, said);
    assert_eq!(heard.len(), 4, "its own messages, once: {heard:?}");
    for (number, (line, text)) in heard.iter().zip(said).enumerate() {
        assert!(line.ends_with(&format!(" bot: {text}  #{} via {}", number + 1, server.name)), "{line}");
    }
    assert!(!heard.concat().contains('\x1b'), "no colours for a program");
}

#[tokio::test]
async fn what_was_said_before_is_printed_whole_also_to_a_script_that_says_nothing() {
    let server = Server::in_memory(&[]).await;
    let mut bob = server.member("lobby", "bob").await;
    for number in 1..=8 {
        bob.say("lobby", &format!("line {number}")).await;
    }
    bob.texts(8).await;
    for arguments in [
        &["lobby", "bot", &url(&server), "--last", "20"][..],
        &["lobby", "bot", &url(&server), "--last", "20", "--json"],
    ] {
        let (code, heard, errors) = Chat::start(&[], arguments).ended().await;
        assert_eq!(code, Some(0), "{errors}");
        let said = heard.iter().filter(|line| line.contains("line ")).count();
        assert_eq!(said, 8, "{arguments:?}: {heard:?}");
        assert!(heard.last().is_some_and(|line| line.contains("line 8")), "{heard:?}");
    }
}

#[tokio::test]
async fn two_hundred_lines_are_kept_once_and_in_order_while_servers_are_killed_and_stop() {
    let Some(redis) = Redis::start().await else { return };
    let one = Server::on(&redis, "one").await;
    let two = Server::with(&redis, "two", &[("ROOMCAST_DRAIN_TIME", "1s")]).await;
    let three = Server::on(&redis, "three").await;
    let front = Front::to(vec![one.address, two.address, three.address]).await;
    let mut chat = Chat::start(&[], &["lobby", "bot", &front.address.to_string()]);
    let lines: Vec<String> = (0..200).map(|number| format!("line {number}")).collect();
    for (number, line) in lines.iter().enumerate() {
        chat.says(&format!("{line}\n")).await;
        match number {
            60 => one.signal("KILL"),
            130 => two.signal("TERM"),
            _ => {}
        }
        // So that there is something to break in the middle of.
        if number % 50 == 20 {
            while !chat.hears().await.contains(&format!("line {}  #", number - 10)) {}
        }
    }
    let (code, _, errors) = chat.ended().await;
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(history(&three, "lobby").await, lines);
    assert!(errors.contains("-- the server went away; trying again"), "{errors}");
    assert!(errors.contains("-- back"), "{errors}");
}

#[tokio::test]
async fn what_is_said_while_redis_is_away_is_kept_once_when_it_is_back() {
    let Some(mut redis) = Redis::start().await else { return };
    let server = Server::on(&redis, "one").await;
    let mut chat = Chat::start(&[], &["lobby", "bot", &url(&server)]);
    chat.says("before\n").await;
    assert!(chat.hears().await.contains("bot: before"));
    redis.kill();
    chat.says("meanwhile\nand then\n").await;
    server.metric_is("roomcast_broker_up", 0.0).await;
    redis.restart().await;
    let (code, _, errors) = chat.ended().await;
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(history(&server, "lobby").await, ["before", "meanwhile", "and then"]);
}

#[tokio::test]
async fn a_message_that_is_refused_fails_the_script_and_no_other_message() {
    let server = Server::in_memory(&[]).await;
    for too_long in [17 << 10, 200 << 10] {
        let room = format!("room-{too_long}");
        let mut chat = Chat::start(&[], &[&room, "bot", &url(&server)]);
        chat.says(&format!("short\n{}\nafter it\n", "x".repeat(too_long))).await;
        let (code, _, errors) = chat.ended().await;
        assert_eq!(code, Some(1), "{too_long}");
        assert!(errors.contains(": this message is too long: it "), "{too_long}: {errors:.200}");
        assert!(errors.contains("1 of 3 messages are not known to be kept"), "{too_long}");
        assert_eq!(history(&server, &room).await, ["short", "after it"], "{too_long}");
    }
    let mut chat = Chat::start(&[], &["lobby", "bot", &url(&server)]);
    let input = chat.input.as_mut().expect("a pipe");
    input.write_all(b"fine\n\xff\n").await.expect("an open pipe");
    let (code, _, errors) = chat.ended().await;
    assert_eq!(code, Some(1));
    assert!(errors.contains("line 2 is not UTF-8"), "{errors}");
}

#[tokio::test]
async fn what_is_wrong_is_said_with_what_to_do_and_does_not_wait_for_ever() {
    let server = Server::in_memory(&[]).await;
    let (closed, right) = (crate::support::free_port(), server.address.to_string());
    let nowhere = format!("127.0.0.1:{closed}");
    let elsewhere = format!("ws://{right}/elsewhere");
    let tls = format!("wss://{right}");
    for (arguments, says) in [
        (["lobby", "bot", &nowhere, "--timeout", "1"], "`make run` starts one"),
        (["lobby", "bot", &elsewhere, "--timeout", "9"], "Its path is /ws"),
        (["lobby", "bot", &tls, "--timeout", "9"], "write ws:// instead of wss://"),
        (["no blanks", "bot", &right, "--timeout", "9"], "choose another room"),
        (["lobby", "\u{202e}bot", &right, "--timeout", "9"], "choose another name"),
    ] {
        let mut chat = Chat::start(&[], &arguments);
        let _ = chat.input.as_mut().expect("a pipe").write_all(b"hello\n").await;
        let (code, _, errors) = chat.ended().await;
        assert_eq!(code, Some(1), "{arguments:?}: {errors}");
        assert!(errors.contains(says), "{arguments:?}: {errors}");
        assert_eq!(errors.matches("was not joined").count(), usize::from(says.starts_with("choose")), "once: {errors}");
        assert!(!errors.contains('\u{202e}'));
    }
}

#[tokio::test]
async fn an_outage_is_one_line_for_people_and_each_try_a_line_for_programs() {
    let nowhere = format!("127.0.0.1:{}", crate::support::free_port());
    let arguments = ["lobby", "bot", &nowhere, "--timeout", "4", "--json"];
    let (code, _, errors) = Chat::start(&[], &arguments[..5]).ended().await;
    assert_eq!((code, errors.matches("-- ").count()), (Some(1), 1), "{errors}");
    assert!(errors.lines().next().is_some_and(|line| line.matches(&nowhere).count() == 1), "{errors}");
    let (code, heard, _) = Chat::start(&[], &arguments).ended().await;
    let tries = heard.iter().filter(|line| line.contains("\"waiting\"")).count();
    assert!(code == Some(1) && tries >= 2, "{heard:?}");
}

#[tokio::test]
async fn what_answers_but_is_no_roomcast_is_recognised() {
    let Some(redis) = Redis::start().await else { return };
    let chat = Chat::start(&[], &["lobby", "bot", &redis.address().to_string()]);
    let (code, _, errors) = chat.ended().await;
    assert_eq!(code, Some(1));
    assert!(errors.contains("is the port right?") || errors.contains("`make run` starts one"), "{errors}");
}

#[tokio::test]
async fn a_script_that_gets_no_acks_gives_up() {
    let Some(mut redis) = Redis::start().await else { return };
    let server = Server::on(&redis, "one").await;
    let mut chat = Chat::start(&[], &["lobby", "bot", &url(&server), "--timeout", "2"]);
    chat.says("before\n").await;
    assert!(chat.hears().await.contains("bot: before"));
    redis.kill();
    chat.says("never\n").await;
    let (code, _, errors) = chat.ended().await;
    assert_eq!(code, Some(1));
    assert!(errors.contains("nothing was acknowledged for 2s; 1 of 2 messages are not known to be kept"), "{errors}");
}

#[tokio::test]
async fn programs_get_every_frame_and_every_state_as_json() {
    let Some(redis) = Redis::start().await else { return };
    let (one, two) = (Server::on(&redis, "one").await, Server::on(&redis, "two").await);
    let front = Front::to(vec![one.address, two.address]).await;
    let mut chat = Chat::start(&[], &["--json", "lobby", "bot", &front.address.to_string()]);
    let read = |line: String| serde_json::from_str::<Value>(&line).unwrap_or_else(|_| panic!("{line:?} is no JSON"));
    assert_eq!(read(chat.hears().await), json!({"type": "state", "state": "open"}));
    assert_eq!(read(chat.hears().await)["type"], "joined");
    let mut eve = two.member("lobby", "eve").await;
    eve.say("lobby", "\u{9b}2J\u{202e}\u{e0041} \u{1b}").await;
    let line = chat.hears().await;
    assert!(line.contains(r"\u009b2J\u202e\udb40\udc41 \u001b"), "{line}");
    assert_eq!(read(line)["text"], "\u{9b}2J\u{202e}\u{e0041} \u{1b}");
    one.signal("KILL");
    let waiting = read(chat.hears().await);
    assert_eq!((&waiting["state"], &waiting["why"]), (&json!("waiting"), &json!("the server went away")));
    assert!(waiting["again_in_ms"].as_u64().expect("a number") <= 1000);
    while read(chat.hears().await) != json!({"type": "state", "state": "open"}) {}
    assert_eq!(read(chat.hears().await)["resumed"], true);
    chat.says(&format!("{}\n", "x".repeat(17 << 10))).await;
    let (code, heard, errors) = chat.ended().await;
    assert_eq!(code, Some(1), "{errors}");
    let failed: Vec<Value> = heard.into_iter().map(read).filter(|line| line["type"] == "failed").collect();
    assert_eq!((failed.len(), &failed[0]["code"]), (1, &json!("text_too_long")));
}

#[tokio::test]
async fn programs_get_each_ack_before_it_ends() {
    let server = Server::in_memory(&[]).await;
    let mut chat = Chat::start(&[], &["acks", "bot", "--json", &url(&server)]);
    chat.says("one\ntwo\n").await;
    let (code, heard, errors) = chat.ended().await;
    assert_eq!(code, Some(0), "{errors}");
    let frames: Vec<Value> = heard.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let ids = |kind: &str| -> Vec<_> {
        frames.iter().filter(|frame| frame["type"] == kind).map(|frame| frame["id"].clone()).collect()
    };
    assert_eq!((ids("message").len(), ids("ack")), (2, ids("message")), "{heard:?}");
}

#[tokio::test]
async fn tls_needs_a_certificate_that_is_trusted_here() {
    let server = Server::in_memory(&[]).await;
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![certified.cert.der().clone()], key).expect("they belong together");
    let front = Front::with_tls(vec![server.address], config).await;
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), certified.cert.pem()).expect("a file");
    let trusting = [("SSL_CERT_FILE", file.path().to_str().expect("UTF-8"))];
    let by_name = format!("wss://localhost:{}", front.address.port());

    let mut chat = Chat::start(&trusting, &["lobby", "bot", &by_name]);
    chat.says("in private\n").await;
    let (code, _, errors) = chat.ended().await;
    assert_eq!(code, Some(0), "{errors}");
    assert_eq!(history(&server, "lobby").await, ["in private"]);

    let missing = [("SSL_CERT_FILE", "/nowhere/ca.pem")];
    let by_address = format!("wss://{}", front.address);
    for (settings, url, says) in [
        (
            &[][..],
            &by_name,
            "its certificate is not one that this machine trusts (nobody here knows who issued it); if the server has an \
             authority of its own",
        ),
        (&missing[..], &by_name, "/nowhere/ca.pem, which SSL_CERT_FILE names, cannot be read"),
        (&trusting[..], &by_address, "its certificate is for another name (for localhost, not for 127.0.0.1)"),
    ] {
        let (code, _, errors) = Chat::start(settings, &["lobby", "bot", url]).ended().await;
        assert_eq!(code, Some(1), "{errors}");
        assert!(errors.contains(says), "{errors}");
    }
}

#[tokio::test]
async fn a_signal_ends_it_and_says_what_is_not_kept() {
    let Some(mut redis) = Redis::start().await else { return };
    let server = Server::on(&redis, "one").await;
    let mut chat = Chat::start(&[], &["lobby", "bot", &url(&server)]);
    chat.says("before\n").await;
    assert!(chat.hears().await.contains("bot: before"));
    redis.kill();
    server.metric_is("roomcast_broker_up", 0.0).await;
    chat.says("never\n").await;
    let mut errors = BufReader::new(chat.process.stderr.take().expect("a pipe")).lines();
    let mut next = async || timeout(DEADLINE, errors.next_line()).await.expect("in time").expect("UTF-8");
    while !next().await.expect("a line").contains("-- not kept yet") {}
    let id = chat.process.id().expect("it runs").to_string();
    assert!(std::process::Command::new("kill").args(["-s", "INT", &id]).status().expect("kill").success());
    let code = timeout(DEADLINE, chat.process.wait()).await.expect("its end").expect("a status").code();
    assert_eq!(code, Some(130));
    while next().await.expect("a line") != "-- closing; 1 of 2 messages are not known to be kept" {}
}

#[tokio::test]
async fn whoever_stops_reading_ends_it() {
    let server = Server::in_memory(&[]).await;
    let mut chat = Chat::start(&[], &["lobby", "bot", &url(&server)]);
    chat.says("one\n").await;
    chat.hears().await;
    let Chat { mut process, input, output } = chat;
    drop(output);
    let mut bob = server.member("lobby", "bob").await;
    let ended = timeout(DEADLINE, async {
        loop {
            bob.say("lobby", "anybody?").await;
            bob.expect("message").await;
            if let Ok(status) = timeout(Duration::from_millis(50), process.wait()).await {
                break status.expect("a status");
            }
        }
    });
    assert_eq!(ended.await.expect("its end").code(), Some(1));
    drop(input);
}

#[tokio::test]
async fn help_is_given_and_wrong_arguments_are_mended() {
    for (arguments, says) in [
        (&["chat", "--help"][..], "Usage: roomcast chat"),
        (&["chat", "lobby", "ann", "-h"], "--json"),
        (&["check", "--help"], "across "),
        (&["health", "--help"], "health [URL]"),
        (&["--help"], "completions"),
        (&["help"], "completions"),
        (&["help", "chat"], "Usage: roomcast chat"),
    ] {
        let outcome = run(arguments).await;
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(outcome.stdout.contains(says), "{arguments:?}");
    }
    for (arguments, says) in [
        (&["chat"][..], "<ROOM>"),
        (&["chat", "den"], "<USERNAME>"),
        (&["chat", "den", "ann", "ftp://h"], "ws://127.0.0.1:8080"),
        (&["chat", "den", "ann", "--colour"], "try '--help'"),
        (&["chat", "den", "ann", "--jsn"], "'--json'"),
        (&["srve"], "'serve'"),
    ] {
        let outcome = run(arguments).await;
        assert_eq!((outcome.code, outcome.stdout.as_str()), (Some(64), ""), "{arguments:?}");
        assert!(outcome.stderr.contains(says), "{arguments:?}: {}", outcome.stderr);
    }
}
