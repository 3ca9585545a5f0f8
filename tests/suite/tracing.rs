//! Traces: a message leaves a span where it was published and one where it was heard, and a failing collector disturbs
//! nobody else.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::trace::v1::{span::SpanKind, status::StatusCode};
use serde_json::json;

use crate::support::{Collected, Collector, Redis, Server, eventually, free_port};

/// Longer than any test, so that what comes in was sent because the server ended.
const NEVER: &str = "3600000";

/// Settings for a server that traces this share of its messages and sends its spans after this many milliseconds.
fn settings<'a>(url: &'a str, ratio: &'a str, delay: &'a str) -> [(&'a str, &'a str); 4] {
    [
        ("ROOMCAST_OTLP_ENDPOINT", url),
        ("ROOMCAST_TRACE_RATIO", ratio),
        ("OTEL_BSP_SCHEDULE_DELAY", delay),
        ("NO_PROXY", "127.0.0.1"),
    ]
}

async fn ends(server: &mut Server) -> Duration {
    let start = Instant::now();
    server.signal("TERM");
    assert_eq!(server.ended().await.code(), Some(0));
    start.elapsed()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn traceparent(collected: &Collected) -> String {
    format!("00-{}-{}-01", hex(&collected.span.trace_id), hex(&collected.span.span_id))
}

#[tokio::test]
async fn a_message_leaves_a_span_where_it_is_published_and_a_linked_one_where_it_is_heard() {
    let Some(redis) = Redis::start().await else { return };
    let collector = Collector::start().await;
    let url = collector.url();
    let settings = settings(&url, "1", NEVER);
    // The log's filter has no say in what is traced.
    let mut one = Server::with(&redis, "one", &[&settings[..], &[("ROOMCAST_LOG", "off")]].concat()).await;
    let mut two = Server::with(&redis, "two", &settings).await;
    let mut ann = one.member("lobby", "ann").await;
    let mut others = [two.member("lobby", "bob").await, two.member("lobby", "cleo").await];
    ann.say("lobby", "hello").await;
    let message = ann.expect("message").await;
    for other in &mut others {
        assert_eq!(other.expect("message").await, message);
    }
    ends(&mut one).await;
    ends(&mut two).await;

    let mut spans = collector.spans();
    spans.sort_by_key(|collected| collected.span.kind);
    let [publish, deliver] = &spans[..] else { panic!("one span for each server, not {spans:#?}") };
    assert_eq!((&*publish.span.name, &*publish.instance), ("publish", "one"));
    assert_eq!((&*deliver.span.name, &*deliver.instance), ("deliver", "two"));
    assert_eq!([publish.span.kind(), deliver.span.kind()], [SpanKind::Producer, SpanKind::Consumer]);
    for (collected, operation) in [(publish, "send"), (deliver, "process")] {
        assert_eq!(collected.service, "roomcast");
        assert_eq!(collected.attribute("messaging.system"), "redis");
        assert_eq!(collected.attribute("messaging.destination.name"), "lobby");
        assert_eq!(collected.attribute("messaging.operation.name"), collected.span.name);
        assert_eq!(collected.attribute("messaging.operation.type"), operation);
        let (start, end) = (collected.span.start_time_unix_nano, collected.span.end_time_unix_nano);
        assert!(start > 0 && start <= end, "from {start} to {end}");
    }
    assert!(publish.span.parent_span_id.is_empty() && publish.span.links.is_empty());
    assert_eq!(message["traceparent"], traceparent(publish));
    let [link] = &deliver.span.links[..] else { panic!("one link, not {:?}", deliver.span.links) };
    assert_eq!((&link.trace_id, &link.span_id), (&publish.span.trace_id, &publish.span.span_id));
    assert_eq!(deliver.span.parent_span_id, publish.span.span_id);
    assert_eq!(deliver.span.trace_id, publish.span.trace_id);

    assert_eq!(one.log(), "");
    assert!(!two.log().contains("messaging"), "spans are not logged: {}", two.log());
}

#[tokio::test]
async fn a_message_that_is_not_drawn_carries_and_leaves_nothing() {
    let Some(redis) = Redis::start().await else { return };
    let collector = Collector::start().await;
    let url = collector.url();
    let settings = settings(&url, "0", NEVER);
    let mut one = Server::with(&redis, "one", &settings).await;
    let mut two = Server::with(&redis, "two", &settings).await;
    let (mut ann, mut bob) = (one.member("lobby", "ann").await, two.member("lobby", "bob").await);
    ann.say("lobby", "hello").await;
    for client in [&mut ann, &mut bob] {
        assert_eq!(client.expect("message").await.get("traceparent"), None);
    }
    ends(&mut one).await;
    ends(&mut two).await;
    assert!(collector.spans().is_empty());
}

#[tokio::test]
async fn a_server_holds_to_what_the_publisher_drew_and_forgives_what_it_cannot_read() {
    let Some(redis) = Redis::start().await else { return };
    let collector = Collector::start().await;
    let url = collector.url();
    let mut server = Server::with(&redis, "one", &settings(&url, "0", NEVER)).await;
    let mut ann = server.member("lobby", "ann").await;
    let traced = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let not_drawn = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    for value in [json!(traced), json!(not_drawn), json!(7), json!(null), json!("\"é"), json!(""), json!({"a": [1]})] {
        let envelope = json!({"type": "message", "originServer": "node-1", "text": "hi", "traceparent": value});
        redis.publish("ws:room:lobby", envelope.to_string()).await;
        assert_eq!(ann.expect("message").await["traceparent"], value);
    }
    // What a server hears back from itself is not a delivery.
    let echo = json!({"type": "message", "originServer": "one", "text": "hi", "traceparent": traced});
    redis.publish("ws:room:lobby", echo.to_string()).await;
    server.metric_is(r#"roomcast_envelopes_received_total{kind="own_echo"}"#, 1.0).await;
    ends(&mut server).await;
    let spans = collector.spans();
    let [deliver] = &spans[..] else { panic!("one span, not {spans:#?}") };
    assert_eq!(format!("00-{}-{}-01", hex(&deliver.span.trace_id), hex(&deliver.span.parent_span_id)), traced);
}

#[tokio::test]
async fn a_broadcast_and_a_failure_show_in_their_spans() {
    let collector = Collector::start().await;
    let url = collector.url();
    let server = Server::in_memory(&settings(&url, "1", "10")).await;
    let mut ann = server.member("lobby", "ann").await;
    ann.send(&json!({"type": "broadcast", "text": "x", "id": "m"})).await;
    ann.expect("broadcast").await;
    ann.expect("ack").await;
    // The same id under another text.
    ann.send(&json!({"type": "broadcast", "text": "y", "id": "m"})).await;
    ann.expect("error").await;
    let spans = collector.has(2).await;
    for collected in &spans {
        assert_eq!(collected.attribute("messaging.system"), "roomcast");
        assert_eq!(collected.attribute("messaging.destination.name"), "broadcast");
        assert_eq!(collected.instance, server.name);
    }
    let statuses: Vec<_> = spans.iter().map(|collected| collected.span.status.clone().unwrap_or_default()).collect();
    assert_eq!(statuses.iter().map(|status| status.code()).collect::<Vec<_>>(), [StatusCode::Unset, StatusCode::Error]);
    assert_eq!(statuses[1].message, "the id belongs to another message");
}

#[tokio::test]
async fn a_call_is_the_root_of_its_messages_trace_and_a_part_of_its_back_ends() {
    let Some(redis) = Redis::start().await else { return };
    let collector = Collector::start().await;
    let url = collector.url();
    let api = [("ROOMCAST_API_LISTEN", "127.0.0.1:0"), ("ROOMCAST_API_KEYS", "shop:publish:shop-key-0123456789abcdef")];
    let one = Server::with(&redis, "one", &[&settings(&url, "1", "10")[..], &api].concat()).await;
    let two = Server::with(&redis, "two", &settings(&url, "0", "10")).await;
    let mut ann = two.member("lobby", "ann").await;
    let call = async |traceparent: Option<&str>, body: &str| {
        let request = reqwest::Client::new().post(format!("{}/v1/rooms/lobby/messages", one.api_base()));
        let request = request.bearer_auth("shop-key-0123456789abcdef").header("content-type", "application/json");
        let request = traceparent.map_or(request.try_clone().unwrap(), |it| request.header("traceparent", it));
        request.body(body.to_owned()).send().await.unwrap().status().as_u16()
    };
    assert_eq!(call(None, r#"{"text":"x"}"#).await, 201);
    ann.texts(1).await;
    let spans = collector.has(3).await;
    let named = |name: &str| spans.iter().find(|collected| collected.span.name == name).expect("a span");
    let (root, publish, deliver) = (named("POST /v1/rooms/{room}/messages"), named("publish"), named("deliver"));
    assert_eq!((root.span.kind(), root.attribute("http.response.status_code").as_str()), (SpanKind::Server, "201"));
    assert!(root.span.parent_span_id.is_empty());
    assert_eq!(publish.span.parent_span_id, root.span.span_id);
    assert_eq!(deliver.span.parent_span_id, publish.span.span_id);
    assert_eq!([&publish.span.trace_id, &deliver.span.trace_id], [&root.span.trace_id; 2]);

    // The back end decides, and what it traces is all one trace.
    let drawn = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let not_drawn = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    assert_eq!(call(Some(not_drawn), r#"{"text":"x"}"#).await, 201);
    assert_eq!(call(Some(drawn), r#"{"text":7}"#).await, 400);
    assert_eq!(call(Some(drawn), r#"{"text":"x"}"#).await, 201);
    ann.texts(2).await;
    let spans = collector.has(7).await;
    let of_back_end = |collected: &&Collected| hex(&collected.span.trace_id) == "0af7651916cd43dd8448eb211c80319c";
    let spans: Vec<_> = spans.iter().filter(of_back_end).collect();
    let roots = spans.iter().filter(|collected| hex(&collected.span.parent_span_id) == "b7ad6b7169203331");
    let mut statuses: Vec<_> = roots.map(|root| root.attribute("http.response.status_code")).collect();
    statuses.sort();
    assert_eq!((spans.len(), statuses), (4, vec!["201".to_owned(), "400".to_owned()]));
}

#[tokio::test]
async fn what_is_logged_while_a_message_is_published_says_nothing_of_spans() {
    let Some(mut redis) = Redis::start().await else { return };
    let collector = Collector::start().await;
    let url = collector.url();
    let server = Server::with(&redis, "one", &settings(&url, "1", "10")).await;
    let mut ann = server.member("lobby", "ann").await;
    redis.kill();
    ann.say("lobby", "x").await;
    assert_eq!(ann.expect("error").await["code"], "unavailable");
    let [publish] = &collector.has(1).await[..] else { panic!("one span") };
    assert_eq!(publish.span.status.clone().unwrap_or_default().code(), StatusCode::Error);
    assert!(publish.span.events.is_empty(), "{:?}", publish.span.events);
    eventually("it is logged", async || server.log().contains("cannot use Redis").then_some(())).await;
    assert!(!server.log().contains("messaging"), "{}", server.log());
}

#[tokio::test]
async fn an_outage_of_the_collector_is_logged_once_and_its_end_too() {
    let collector = Collector::start().await;
    let url = collector.url();
    let settings = settings(&url, "1", "10");
    let server = Server::in_memory(&[&settings[..], &[("ROOMCAST_LOG", "trace")]].concat()).await;
    let mut ann = server.member("lobby", "ann").await;
    collector.refuse(true);
    for batch in 1..=5 {
        ann.say("lobby", "x").await;
        ann.texts(1).await;
        collector.has_refused(batch).await;
    }
    collector.refuse(false);
    ann.say("lobby", "x").await;
    ann.texts(1).await;
    collector.has(1).await;
    eventually("the end is logged", async || server.log().contains("accepts spans again").then_some(())).await;
    let log = server.log();
    assert_eq!(log.matches("the collector refuses spans").count(), 1, "{log}");
    assert!(log.contains("status code: 400"), "{log}");
    assert!(!log.contains(" opentelemetry"), "{log}");
    // Neither what it logs nor its own requests have made spans.
    assert_eq!(collector.spans().len(), 1);
}

#[tokio::test]
async fn without_a_collector_all_goes_on_and_ends_in_time() {
    let url = format!("http://127.0.0.1:{}", free_port());
    let mut server = Server::in_memory(&settings(&url, "1", "10")).await;
    let mut ann = server.member("lobby", "ann").await;
    // In parts that its outbox holds however slowly it reads.
    for _ in 0..6 {
        for _ in 0..500 {
            ann.say("lobby", "x").await;
        }
        assert_eq!(ann.texts(500).await.len(), 500);
    }
    eventually("it is logged", async || server.log().contains("the collector refuses spans").then_some(())).await;
    let log = server.log();
    assert!(ends(&mut server).await < Duration::from_secs(10), "{log}");
    assert!(log.lines().count() < 10, "{log}");
}

#[tokio::test]
async fn a_collector_that_hangs_does_not_hold_up_the_end() {
    // The system takes its connections, and nobody ever answers.
    let deaf = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", deaf.local_addr().unwrap());
    let settings = settings(&url, "1", NEVER);
    let mut server = Server::in_memory(&settings).await;
    let mut ann = server.member("lobby", "ann").await;
    ann.say("lobby", "x").await;
    ann.texts(1).await;
    drop(ann);
    server.metric_is("ws_connected_clients", 0.0).await;
    let time = ends(&mut server).await;
    assert!(time < Duration::from_secs(10), "{time:?}");
    assert!(server.log().contains("did not take the last spans"), "{}", server.log());
}

#[tokio::test]
async fn an_endpoint_that_is_no_url_stops_the_start() {
    for endpoint in ["http://a b", "https://collector:4318", "collector:4318"] {
        let settings = [("ROOMCAST_OTLP_ENDPOINT", endpoint), ("ROOMCAST_LISTEN", "127.0.0.1:0")];
        let (code, text) = crate::support::refuses_to_start(&settings);
        assert_eq!(code, Some(64), "{text}");
        assert!(text.contains("ROOMCAST_OTLP_ENDPOINT"), "{text}");
    }
}
