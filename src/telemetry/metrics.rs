use prometheus::{
    Encoder, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
    core::Collector,
};

use super::{
    Limit,
    instruments::{Counter, Durations, Gauge, Level},
};
use crate::protocol::{CloseCode, ErrorCode, ResetReason};

/// What kind of message was heard on a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EnvelopeKind {
    /// From another roomcast, with its place in the order.
    Numbered,
    /// This server's own.
    OwnEcho,
    /// From another server, with a place in the order for which Redis does not vouch.
    Unvouched,
    /// From a server that gives no place in the order.
    Foreign,
    /// Not an envelope at all.
    Unreadable,
}

impl EnvelopeKind {
    const ALL: [Self; 5] = [Self::Numbered, Self::OwnEcho, Self::Unvouched, Self::Foreign, Self::Unreadable];

    fn as_str(self) -> &'static str {
        match self {
            Self::Numbered => "numbered",
            Self::OwnEcho => "own_echo",
            Self::Unvouched => "unvouched",
            Self::Foreign => "foreign",
            Self::Unreadable => "unreadable",
        }
    }
}

/// The kinds of statuses with which the API answers.
const API_STATUSES: [&str; 3] = ["2xx", "4xx", "5xx"];

/// The metrics of one server, each resolved once so that counting is one atomic addition.
///
/// A server has its own registry, so several can run in one process. Labels come from closed lists, never from
/// clients: no rooms, no users.
#[derive(Debug)]
#[allow(missing_docs, reason = "each has its help text in `new`, which is what `/metrics` shows")]
pub struct Metrics {
    registry: Registry,
    pub connected_clients: Gauge,
    pub event_streams: Gauge,
    pub connections_limit: Gauge,
    pub messages_received: Counter,
    pub messages_sent: Counter,
    pub connections: Counter,
    pub connections_refused: Counter,
    pub http_displaced: Counter,
    pub rooms: Gauge,
    pub memberships: Gauge,
    pub subscriptions: Gauge,
    pub publish_duration: Durations,
    pub publishes_repeated: Counter,
    pub publishes_failed: Counter,
    pub broker_up: Gauge,
    pub log_reader_up: Gauge,
    pub redis_memory_ratio: Level,
    pub rooms_refused: Counter,
    pub name_shared: Gauge,
    pub subscriber_connected: Gauge,
    pub subscriber_connects: Counter,
    pub subscriber_silence: Level,
    pub subscriber_probe_failures: Counter,
    pub holes: Counter,
    pub messages_recovered: Counter,
    pub pages_read: Counter,
    pub recent_bytes: Gauge,
    pub unplaced_dropped: Counter,
    pub unknown_keys: Counter,
    pub keys_fetched: Level,
    pub key_fetches_failed: Counter,
    disconnects: IntCounterVec,
    errors: IntCounterVec,
    envelopes: [IntCounter; EnvelopeKind::ALL.len()],
    resets: IntCounterVec,
    limited: [IntCounter; Limit::ALL.len()],
    api_answers: IntCounterVec,
    info: IntGaugeVec,
}

impl Metrics {
    /// A new set, all at zero. Every labelled series exists from the start, so that a rate over it has a beginning.
    pub fn new() -> Self {
        let registry = Registry::new();
        #[cfg(target_os = "linux")]
        add(&registry, prometheus::process_collector::ProcessCollector::for_self());
        let counter = |name, help| counter(&registry, name, help);
        let gauge = |name, help| gauge(&registry, name, help);
        let counters = |name, help, label, values: &[&str]| counters(&registry, name, help, label, values);

        let close_reasons: Vec<&str> = CloseCode::ALL.iter().map(|code| code.reason()).chain(["lost"]).collect();
        let error_codes: Vec<&str> = ErrorCode::ALL.iter().map(|code| code.as_str()).collect();
        let envelopes = counters(
            "roomcast_envelopes_received_total",
            "Messages heard on channels: from other servers, own echoes, with a place that Redis does not vouch for, from servers that do not number, unreadable.",
            "kind",
            &EnvelopeKind::ALL.map(EnvelopeKind::as_str),
        );
        let limited = counters(
            "roomcast_limited_total",
            "Times that a limit refused a client, or began to slow it down, by limit.",
            "limit",
            &Limit::ALL.map(Limit::as_str),
        );
        Self {
            limited: Limit::ALL.map(|limit| limited.with_label_values(&[limit.as_str()])),
            api_answers: counters(
                "roomcast_api_answers_total",
                "Calls of the API that were answered, by status.",
                "status",
                &API_STATUSES,
            ),
            connected_clients: gauge("ws_connected_clients", "Clients connected to this server now."),
            event_streams: gauge(
                "roomcast_event_streams",
                "Those of them that have a stream of events and no WebSocket.",
            ),
            connections_limit: gauge("ws_connections_limit", "WebSocket clients that this server takes at most."),
            messages_received: counter("ws_messages_received_total", "Data frames received from clients."),
            messages_sent: counter("ws_messages_sent_total", "Messages sent to clients, one for each recipient."),
            connections: counter("ws_connections_total", "WebSocket connections accepted."),
            connections_refused: counter("ws_connections_refused_total", "WebSocket upgrades refused with status 503."),
            http_displaced: counter(
                "http_connections_displaced_total",
                "Connections that had not been upgraded and were closed to make room for others.",
            ),
            disconnects: counters(
                "ws_disconnects_total",
                "WebSocket connections ended, by reason.",
                "reason",
                &close_reasons,
            ),
            errors: counters("ws_errors_total", "Error events sent to clients, by code.", "code", &error_codes),
            rooms: gauge("roomcast_rooms", "Rooms with members on this server."),
            memberships: gauge("roomcast_memberships", "Members of rooms on this server, counted once for each room."),
            subscriptions: gauge("roomcast_subscriptions", "Channels that this server is subscribed to."),
            publish_duration: histogram(
                &registry,
                "roomcast_publish_duration_seconds",
                "Time from handing a message to the broker to its answer.",
                &[0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0],
            ),
            publishes_repeated: counter(
                "roomcast_publishes_repeated_total",
                "Messages that were sent again under a known id and not published a second time.",
            ),
            publishes_failed: counter(
                "roomcast_publishes_failed_total",
                "Messages that the broker did not accept in time.",
            ),
            broker_up: gauge("roomcast_broker_up", "1 if the broker took its last check, else 0."),
            log_reader_up: gauge("roomcast_log_reader_up", "1 if the connection for reading logs answers, else 0."),
            redis_memory_ratio: level(
                &registry,
                "roomcast_redis_memory_ratio",
                "Share of its maxmemory that Redis uses; 0 without a limit.",
            ),
            rooms_refused: counter(
                "roomcast_rooms_refused_total",
                "New rooms that were refused because Redis is nearly full.",
            ),
            name_shared: gauge("roomcast_name_shared", "1 if another server has this server's name, else 0."),
            subscriber_connected: gauge(
                "roomcast_subscriber_connected",
                "1 if the subscriber is connected and subscribed to every channel it needs, else 0.",
            ),
            subscriber_silence: level(
                &registry,
                "roomcast_subscriber_silence_seconds",
                "How long the subscriber has heard nothing, its own probe included.",
            ),
            subscriber_probe_failures: counter(
                "roomcast_subscriber_probe_failures_total",
                "Connections that the subscriber gave up because it did not hear its own probe.",
            ),
            subscriber_connects: counter("roomcast_subscriber_connects_total", "Connections the subscriber has made."),
            envelopes: EnvelopeKind::ALL.map(|kind| envelopes.with_label_values(&[kind.as_str()])),
            holes: counter("roomcast_holes_total", "Holes in the order that did not close by themselves."),
            messages_recovered: counter(
                "roomcast_messages_recovered_total",
                "Messages delivered on a reading of the log.",
            ),
            pages_read: counter(
                "roomcast_pages_read_total",
                "Parts of logs read for clients or rooms that needed older messages than this server keeps.",
            ),
            recent_bytes: gauge(
                "roomcast_recent_bytes",
                "Bytes of recent messages kept in memory, of all rooms together, to bring clients up to date.",
            ),
            unplaced_dropped: counter(
                "roomcast_unplaced_dropped_total",
                "Messages without a place in the order that were dropped in rooms whose members were behind.",
            ),
            unknown_keys: counter(
                "roomcast_unknown_keys_total",
                "Tokens with a key that this server did not know, so that it looked for new ones.",
            ),
            keys_fetched: level(
                &registry,
                "roomcast_keys_fetched_timestamp_seconds",
                "When the keys for tokens were last had, in seconds since 1970; 0 without keys.",
            ),
            key_fetches_failed: counter(
                "roomcast_key_fetches_failed_total",
                "Failed attempts to read or fetch the keys for tokens.",
            ),
            resets: counters(
                "roomcast_resets_total",
                "Gaps that could not be filled and were told to the members, by reason.",
                "reason",
                &ResetReason::ALL.map(ResetReason::as_str),
            ),
            info: info(&registry),
            registry,
        }
    }

    /// Shows with which broker the server runs.
    pub fn runs_with(&self, broker: &str) {
        self.info.with_label_values(&[broker, env!("CARGO_PKG_VERSION")]).set(1);
    }

    /// A connection ended with this close code; `None` means without one.
    pub fn disconnected(&self, code: Option<CloseCode>) {
        self.disconnects.with_label_values(&[code.map_or("lost", CloseCode::reason)]).inc();
    }

    /// An error event was sent.
    pub fn error_sent(&self, code: ErrorCode) {
        self.errors.with_label_values(&[code.as_str()]).inc();
    }

    /// A call of the API was answered with this status.
    pub fn api_answered(&self, status: u16) {
        let kind = match status {
            ..400 => API_STATUSES[0],
            400..500 => API_STATUSES[1],
            _ => API_STATUSES[2],
        };
        self.api_answers.with_label_values(&[kind]).inc();
    }

    /// A limit refused a client, or began to slow it down.
    pub fn limited(&self, limit: Limit) {
        self.limited[limit as usize].inc();
    }

    /// The same, so many times.
    pub fn limited_times(&self, limit: Limit, times: u64) {
        self.limited[limit as usize].inc_by(times);
    }

    /// A message was heard on a channel.
    pub fn envelope_heard(&self, kind: EnvelopeKind) {
        self.envelopes[kind as usize].inc();
    }

    /// This many gaps were announced for this reason.
    pub fn resets(&self, reason: ResetReason, count: u64) {
        self.resets.with_label_values(&[reason.as_str()]).inc_by(count);
    }

    /// All metrics in the text format of Prometheus.
    pub fn encode(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

fn add(registry: &Registry, collector: impl Collector + 'static) {
    registry.register(Box::new(collector)).expect("the names in this file are valid and differ");
}

fn counter(registry: &Registry, name: &str, help: &str) -> Counter {
    let counter = IntCounter::new(name, help).expect("the names in this file are valid");
    add(registry, counter.clone());
    Counter(counter)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Gauge {
    let gauge = IntGauge::new(name, help).expect("the names in this file are valid");
    add(registry, gauge.clone());
    Gauge(gauge)
}

fn level(registry: &Registry, name: &str, help: &str) -> Level {
    let level = prometheus::Gauge::new(name, help).expect("the names in this file are valid");
    add(registry, level.clone());
    Level(level)
}

fn counters(registry: &Registry, name: &str, help: &str, label: &str, values: &[&str]) -> IntCounterVec {
    let family = IntCounterVec::new(Opts::new(name, help), &[label]).expect("the names in this file are valid");
    for value in values {
        family.with_label_values(&[value]);
    }
    add(registry, family.clone());
    family
}

fn info(registry: &Registry) -> IntGaugeVec {
    let options = Opts::new("roomcast_info", "Always 1; its labels say what this server is.");
    let family = IntGaugeVec::new(options, &["broker", "version"]).expect("the names in this file are valid");
    add(registry, family.clone());
    family
}

fn histogram(registry: &Registry, name: &str, help: &str, buckets: &[f64]) -> Durations {
    let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
    let histogram = Histogram::with_opts(options).expect("the names in this file are valid");
    add(registry, histogram.clone());
    Durations(histogram)
}
