//! `roomcast load`: it counts right where all is right, and notices what is not.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Read},
    process::Stdio,
    sync::{Arc, Mutex, atomic::AtomicBool},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use roomcast_load::{self as load, Client, Dialect, Flow, Heard, Plan, Roomcast};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::mpsc, task::JoinSet};
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Outcome, Redis, Server, command, free_port, run, send_signal};

fn ws(server: &Server) -> String {
    format!("ws://{}", server.address)
}

/// Runs a load with these options. Returns the report, and the exit code.
async fn load(options: &str, urls: &[&str]) -> (Value, Option<i32>) {
    let arguments: Vec<&str> =
        ["load", "--json"].into_iter().chain(options.split(' ')).chain(urls.iter().copied()).collect();
    let Outcome { code, stdout, stderr } = run(&arguments).await;
    let report = serde_json::from_str(&stdout).unwrap_or_else(|why| panic!("{why}: {stdout}{stderr}"));
    (report, code)
}

/// The names in a report; a field of a field has both, with a dot.
fn names(value: &Value, prefix: &str, found: &mut BTreeSet<String>) {
    match value {
        // These are no names, but reasons.
        Value::Object(_) if prefix == "connections.reasons." => {
            found.insert("connections.reasons".to_owned());
        }
        Value::Object(fields) => {
            for (name, value) in fields {
                names(value, &format!("{prefix}{name}."), found);
            }
        }
        Value::Array(values) => values.iter().for_each(|value| names(value, prefix, found)),
        _ => {
            found.insert(prefix.trim_end_matches('.').to_owned());
        }
    }
}

/// The names that `docs/load.md` promises to programs.
fn documented() -> BTreeSet<String> {
    let page = std::fs::read_to_string("docs/load.md").unwrap();
    let columns = page.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let fields = columns.flat_map(|column| column.split(", ")).map(|name| name.trim_matches('`').to_owned());
    let values = |field: String| match field.ends_with("latency_ms") || field.ends_with("lateness_ms") {
        true => ["p50", "p90", "p99", "p99_9", "max"].map(|name| format!("{field}.{name}")).to_vec(),
        false => vec![field],
    };
    fields.flat_map(values).collect()
}

#[tokio::test]
async fn a_clean_run_is_counted_right() {
    let Some(redis) = Redis::start().await else { return };
    let (one, two) = (Server::on(&redis, "one").await, Server::on(&redis, "two").await);
    let options = format!(
        "--clients 13 --rooms 3 --rate 200 --warm-up 100ms --duration 500ms --churn 40 --pid {} --pid {}",
        one.pid(),
        two.pid()
    );
    let (report, code) = load(&options, &[&ws(&one), &ws(&two)]).await;
    assert_eq!((code, &report["clean"], &report["mode"]), (Some(0), &json!(true), &json!("rate")), "{report:#}");
    assert_eq!((&report["messages"]["due"], &report["messages"]["published"]), (&json!(100), &json!(100)));
    // 120 messages by 13 publishers in turn: the first 3 of them have 10, the others 9; rooms of 5, 4 and 4 members.
    let expected = (10 + 4 * 9) * 5 + 2 * (10 + 3 * 9) * 4;
    let deliveries = &report["deliveries"];
    assert_eq!((&deliveries["expected"], &deliveries["received"]), (&json!(expected), &json!(expected)));
    assert_eq!(report["churn"]["sent"], report["churn"]["answered"]);
    assert!(report["churn"]["answered"].as_u64().unwrap() >= 38, "{report:#}");
    assert!(report["latency_ms"]["p50"].as_f64().unwrap() > 0.0);
    assert!(report["processes"].as_array().unwrap().iter().all(|process| process["rss_kib"].as_u64() > Some(1000)));

    let mut found = BTreeSet::new();
    names(&report, "", &mut found);
    assert_eq!(found, documented());
}

#[tokio::test]
async fn idle_clients_are_held_and_let_go() {
    let server = Server::in_memory(&[]).await;
    let options = format!("--idle --clients 50 --duration 200ms --pid {}", server.pid());
    let (report, code) = load(&options, &[&ws(&server)]).await;
    assert_eq!((code, &report["mode"], &report["messages"]), (Some(0), &json!("idle"), &Value::Null), "{report:#}");
    assert_eq!(report["connections"]["joined"], 50);
    assert!(report["processes"][0]["rss_kib_after"].as_u64() > Some(1000), "{report:#}");
    assert!(report["rss_kib_per_connection"].is_number());
    server.metric_is("ws_connected_clients", 0.0).await;
}

#[tokio::test]
async fn a_closed_loop_says_that_it_is_one() {
    let server = Server::in_memory(&[]).await;
    let options =
        "load --saturate 2 --clients 6 --rooms 2 --warm-up 50ms --duration 200ms --churn 100 --churn-existing";
    let url = ws(&server);
    let outcome = run(&options.split(' ').chain([url.as_str()]).collect::<Vec<_>>()).await;
    assert_eq!(outcome.code, Some(0), "{outcome:?}");
    for text in
        ["A closed loop", "0 missing, 0 doubled", "0 members saw another", "latency       p50", "generator     CPU"]
    {
        assert!(outcome.stdout.contains(text), "{text}: {outcome:?}");
    }
}

/// A connect of several steps: the server is asked to say something first.
#[tokio::test]
async fn a_dialect_may_need_several_steps_to_connect() {
    const ROOMCAST: Roomcast = Roomcast { is_slim: false };
    struct Stepwise;
    impl Dialect for Stepwise {
        fn path(&self) -> &str {
            ROOMCAST.path()
        }
        fn open(&self, _: Client<'_>, texts: &mut Vec<String>) {
            texts.push(r#"{"type":"ping"}"#.to_owned());
        }
        fn hear<'a>(&self, client: Client<'_>, text: &'a [u8], heard: &mut dyn FnMut(Heard<'a>)) {
            if text == br#"{"type":"pong"}"# {
                let mut join = String::new();
                self.join(client, client.room, &mut join);
                heard(Heard::Answer(join));
            }
            ROOMCAST.hear(client, text, heard);
        }
        fn say(&self, room: &str, body: &str, text: &mut String) {
            ROOMCAST.say(room, body, text);
        }
        fn join(&self, client: Client<'_>, room: &str, text: &mut String) {
            ROOMCAST.join(client, room, text);
        }
        fn leave(&self, client: Client<'_>, room: &str, text: &mut String) {
            ROOMCAST.leave(client, room, text);
        }
    }
    let server = Server::in_memory(&[]).await;
    let plan = Plan {
        urls: vec![ws(&server)],
        clients: 6,
        rooms: 2,
        warm_up: Duration::ZERO,
        duration: Duration::from_millis(100),
        flow: Flow::Rate(200.0),
        ..Plan::default()
    };
    let loading = move || load::run(&plan, &Stepwise, &AtomicBool::new(false), &mut |_| {}).unwrap();
    let report = tokio::task::spawn_blocking(loading).await.unwrap();
    assert!(report.clean, "{report:#?}");
    assert_eq!(report.deliveries.unwrap().received, 20 * 3);
}

#[tokio::test]
async fn a_server_that_refuses_some_is_told() {
    let server = Server::in_memory(&[("ROOMCAST_MAX_CONNECTIONS", "3")]).await;
    let (report, code) = load("--clients 5 --rooms 1 --rate 50 --warm-up 0s --duration 100ms", &[&ws(&server)]).await;
    assert_eq!((code, &report["connections"]["failed"]), (Some(1), &json!(2)), "{report:#}");
    let reasons: Vec<&String> = report["connections"]["reasons"].as_object().unwrap().keys().collect();
    assert!(reasons.len() == 1 && reasons[0].contains("503") && reasons[0].contains("Retry-After"), "{reasons:?}");
    assert_eq!(report["deliveries"]["missing"], 0, "those that never joined miss nothing");
}

#[tokio::test]
async fn what_cannot_be_done_is_said_with_its_remedy() {
    let nobody = format!("ws://127.0.0.1:{}", free_port());
    let cases: [(&[&str], i32, &str); 6] = [
        (&["load", &nobody], 1, "no client could join: cannot connect: Connection refused"),
        (&["load"], 64, "<URL>..."),
        (&["load", "127.0.0.1:8080"], 64, "not a URL like ws://127.0.0.1:8080"),
        (&["load", "--rate", "fast", &nobody], 64, "'fast' for '--rate <N>'"),
        (&["load", "--clients", "100000000", &nobody], 1, "run `ulimit -n 100000032` first"),
        (&["load", "--pid", "4000000000", &nobody], 1, "give the pid of a process"),
    ];
    for (arguments, code, text) in cases {
        let outcome = run(arguments).await;
        assert!(outcome.code == Some(code) && outcome.stderr.contains(text), "{text}: {outcome:?}");
    }
    let help = run(&["load", "--help"]).await;
    assert!(help.code == Some(0) && help.stdout.contains("--saturate"), "{help:?}");
}

#[tokio::test]
async fn an_interrupt_ends_it_with_the_report_so_far() {
    let server = Server::in_memory(&[]).await;
    let url = ws(&server);
    let report = tokio::task::spawn_blocking(move || {
        let mut process = command(&[])
            .args(["load", "--json", "--duration", "10m", "--warm-up", "0s", &url])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // The first line of progress.
        BufReader::new(process.stderr.take().unwrap()).lines().next().unwrap().unwrap();
        send_signal(&process, "INT");
        let mut text = String::new();
        process.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        assert!(process.wait().unwrap().success());
        serde_json::from_str::<Value>(&text).unwrap()
    });
    let report = report.await.unwrap();
    assert_eq!((&report["interrupted"], &report["deliveries"]["missing"]), (&json!(true), &json!(0)), "{report:#}");
    assert!(report["deliveries"]["received"].as_u64() > Some(0));
}

/// What a server does wrong, to one member, once.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    None,
    Drop,
    Double,
    Swap,
    /// A member of another room gets it.
    Stray,
    /// Nobody is told anything for a while.
    Stall,
    /// It closes the connection.
    Close,
}

const STALL: Duration = Duration::from_millis(300);

/// The message with which it happens.
const FAULTY: usize = 20;

/// A server in a few lines that keeps to the protocol but for one fault.
struct Broken {
    fault: Fault,
    /// Who is in each room, and whether it is the one that is wronged.
    rooms: BTreeMap<String, Vec<(bool, mpsc::Sender<Message>)>>,
    messages: usize,
    held: Option<Message>,
}

impl Broken {
    /// Serves until the test ends. Returns its URL.
    async fn serve(fault: Fault, tasks: &mut JoinSet<()>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let server = Arc::new(Mutex::new(Self { fault, rooms: BTreeMap::new(), messages: 0, held: None }));
        tasks.spawn(async move {
            let mut clients = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let server = server.clone();
                clients.spawn(async move {
                    let (mut sink, mut stream) = tokio_tungstenite::accept_async(stream).await.unwrap().split();
                    let (outbox, mut waiting) = mpsc::channel(10_000);
                    let reading = async {
                        while let Some(Ok(Message::Text(text))) = stream.next().await {
                            server.lock().unwrap().take(&text, &outbox);
                        }
                    };
                    let writing = async {
                        while let Some(message) = waiting.recv().await {
                            if sink.send(message).await.is_err() {
                                break;
                            }
                        }
                    };
                    tokio::join!(reading, writing);
                });
            }
        });
        url
    }

    fn take(&mut self, text: &str, outbox: &mpsc::Sender<Message>) {
        let command: Value = serde_json::from_str(text).unwrap();
        let room = command["room"].as_str().unwrap().to_owned();
        if command["type"] == "join" {
            let wronged = command["username"] == "load-1";
            self.rooms.entry(room).or_default().push((wronged, outbox.clone()));
            outbox.try_send(Message::text(r#"{"type":"joined"}"#)).unwrap();
            return;
        }
        self.messages += 1;
        let message = Message::text(json!({"type": "message", "text": command["text"]}).to_string());
        let faulty = self.messages == FAULTY;
        if faulty && self.fault == Fault::Stall {
            // Everybody waits for this lock.
            std::thread::sleep(STALL);
        }
        let held = self.held.take();
        for (wronged, member) in &self.rooms[&room] {
            // Whoever was closed gets no more.
            let give = |message: &Message| drop(member.try_send(message.clone()));
            match self.fault {
                Fault::Drop if faulty && *wronged => {}
                Fault::Double if faulty && *wronged => [&message, &message].into_iter().for_each(give),
                Fault::Swap if faulty && *wronged => self.held = Some(message.clone()),
                Fault::Close if faulty && *wronged => {
                    let code = tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode::Library(4008);
                    let frame = tokio_tungstenite::tungstenite::protocol::CloseFrame { code, reason: "slow".into() };
                    give(&Message::Close(Some(frame)));
                }
                _ => give(&message),
            }
            if let Some(held) = held.as_ref().filter(|_| *wronged) {
                give(held);
            }
        }
        if faulty && self.fault == Fault::Stray {
            let other = self.rooms.iter().find(|(name, _)| **name != room).unwrap();
            other.1[0].1.try_send(message).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_breaks_its_promises_is_noticed() {
    let all = ["missing", "doubled", "misordered", "strays", "members_in_another_order"];
    // With one publisher a swap is against that one's own order, with several it is another order than the others'.
    let cases = [
        (Fault::None, "--rooms 1", vec![]),
        (Fault::Drop, "--rooms 1", vec!["missing"]),
        (Fault::Double, "--rooms 1", vec!["doubled"]),
        (Fault::Swap, "--rooms 1", vec!["members_in_another_order"]),
        (Fault::Swap, "--rooms 1 --publishers 1", vec!["misordered", "members_in_another_order"]),
        (Fault::Stray, "--rooms 2", vec!["strays"]),
    ];
    for (fault, options, wrong) in cases {
        let mut tasks = JoinSet::new();
        let url = Broken::serve(fault, &mut tasks).await;
        let options = format!("{options} --clients 6 --rate 200 --warm-up 0s --duration 300ms");
        let (report, code) = load(&options, &[&url]).await;
        for name in all {
            let expected = u64::from(wrong.contains(&name));
            assert_eq!(report["deliveries"][name], expected, "{name} with {wrong:?}: {report:#}");
        }
        assert_eq!((code, &report["clean"]), (Some(i32::from(!wrong.is_empty())), &json!(wrong.is_empty())));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_closed_is_lost_and_misses_the_rest() {
    let mut tasks = JoinSet::new();
    let url = Broken::serve(Fault::Close, &mut tasks).await;
    let (report, code) =
        load("--rooms 1 --clients 6 --publishers 1 --rate 200 --warm-up 0s --duration 300ms", &[&url]).await;
    assert_eq!((code, &report["connections"]["lost"]), (Some(1), &json!(1)), "{report:#}");
    assert_eq!(report["connections"]["reasons"], json!({"closed with 4008 slow": 1}));
    assert_eq!(report["deliveries"]["missing"], 60 - FAULTY + 1);
}

/// A meter that waits for answers would have sent less, and seen one slow message.
#[tokio::test(flavor = "multi_thread")]
async fn a_stall_is_in_the_latency_of_all_messages_that_were_due_in_it() {
    let mut tasks = JoinSet::new();
    let url = Broken::serve(Fault::Stall, &mut tasks).await;
    let (report, code) = load("--rooms 1 --clients 6 --rate 100 --warm-up 0s --duration 1s", &[&url]).await;
    assert_eq!((code, &report["messages"]["published"]), (Some(0), &json!(100)), "{report:#}");
    let latency = |name: &str| report["latency_ms"][name].as_f64().unwrap();
    assert!(latency("max") >= STALL.as_millis() as f64, "{report:#}");
    // Of 100 messages, 30 were due within it, and 20 of those had at least a third of it to wait.
    assert!(latency("p90") >= 100.0, "{report:#}");
}
