use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::TaskTracker;

use super::eventually;

/// A span that came in, with the name of the server that sent it.
#[derive(Clone, Debug)]
pub struct Collected {
    pub service: String,
    pub instance: String,
    pub span: Span,
}

impl Collected {
    /// An attribute of the span that is a text.
    pub fn attribute(&self, key: &str) -> String {
        attribute(&self.span.attributes, key)
    }
}

/// A collector that takes spans by OTLP over HTTP, on a port of its own.
pub struct Collector {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    spans: Mutex<Vec<Collected>>,
    refuses: AtomicBool,
    refused: AtomicUsize,
}

impl Collector {
    /// Starts one; it ends with the test's runtime.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let (state, tasks) = (Arc::new(State::default()), TaskTracker::new());
        let collector = Self { address, state: state.clone() };
        tasks.clone().spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tasks.spawn(serve(stream, state.clone()));
            }
        });
        collector
    }

    /// The value for `ROOMCAST_OTLP_ENDPOINT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Has it answer each request with status 400, or take it again.
    pub fn refuse(&self, refuse: bool) {
        self.state.refuses.store(refuse, Ordering::Relaxed);
    }

    /// Waits until it has refused this many requests.
    pub async fn has_refused(&self, count: usize) {
        let what = format!("{count} requests are refused");
        eventually(&what, async || (self.state.refused.load(Ordering::Relaxed) >= count).then_some(())).await;
    }

    /// All that came so far.
    pub fn spans(&self) -> Vec<Collected> {
        self.state.spans.lock().expect("no panic under this lock").clone()
    }

    /// Waits until this many have come, and returns all.
    pub async fn has(&self, count: usize) -> Vec<Collected> {
        let what = format!("{count} spans are collected");
        eventually(&what, async || Some(self.spans()).filter(|spans| spans.len() >= count)).await
    }
}

/// Answers one request after another. What it cannot read ends the connection, and then the spans are missing.
async fn serve(stream: TcpStream, state: Arc<State>) -> Option<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if stream.read_until(b'\n', &mut head).await.ok()? == 0 {
                return None;
            }
        }
        let head = String::from_utf8(head).ok()?.to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "))?.parse().ok()?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).await.ok()?;
        let status = if state.refuses.load(Ordering::Relaxed) || !head.starts_with("post /v1/traces http/1.1\r\n") {
            state.refused.fetch_add(1, Ordering::Relaxed);
            "400 Bad Request"
        } else {
            let request = ExportTraceServiceRequest::decode(&body[..]).ok()?;
            state.spans.lock().expect("no panic under this lock").extend(flatten(request));
            "200 OK"
        };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n");
        stream.write_all(answer.as_bytes()).await.ok()?;
    }
}

fn flatten(request: ExportTraceServiceRequest) -> Vec<Collected> {
    let mut spans = Vec::new();
    for batch in request.resource_spans {
        let resource = batch.resource.unwrap_or_default().attributes;
        let (service, instance) = (attribute(&resource, "service.name"), attribute(&resource, "service.instance.id"));
        for span in batch.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.push(Collected { service: service.clone(), instance: instance.clone(), span });
        }
    }
    spans
}

fn attribute(attributes: &[KeyValue], key: &str) -> String {
    let value = attributes.iter().find(|attribute| attribute.key == key).and_then(|found| found.value.as_ref());
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        other => panic!("{key} is {other:?} in {attributes:?}"),
    }
}
