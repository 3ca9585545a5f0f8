//! Every setting: its name, its default, its check and its description, in one list.
//!
//! Settings come from the environment under the prefix `ROOMCAST_`. All of them are read before any mistake is
//! reported, so that one start shows them all. `docs/configuration.md` is written from this list
//! (`roomcast settings`) and a test holds it to that.

use std::{collections::BTreeMap, ffi::OsString, fmt, net::SocketAddr, ops::RangeInclusive, time::Duration};

use serde::Deserialize;

/// What every setting's name starts with.
pub const PREFIX: &str = "ROOMCAST_";

/// How long a connection that is being closed may still take: for what is under way, and for the client's answer.
const CLOSING: Duration = Duration::from_secs(1);

/// A setting as a person sees it.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The name without the prefix, in lower case, as the field of [`Config`].
    pub field: &'static str,
    /// The value if it is not set; empty if there is none.
    pub default: &'static str,
    /// What it is for.
    pub description: &'static str,
}

impl Setting {
    /// The name in the environment.
    pub fn name(&self) -> String {
        format!("{PREFIX}{}", self.field.to_ascii_uppercase())
    }
}

/// Declares the settings once, and from that the struct, the reading and the list for people.
macro_rules! settings {
    ($( $(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:literal, $check:expr; )+) => {
        /// The settings of one server, checked. A server gets it once and never looks at the environment again.
        #[derive(Clone, Debug)]
        pub struct Config { $( $(#[doc = $doc])+ pub $field: $type, )+ }

        /// Every setting, in the order of the documentation.
        pub const SETTINGS: &[Setting] = &[ $( Setting {
            field: stringify!($field), default: $default, description: concat!($($doc, "\n"),+),
        } ),+ ];

        /// What envy reads: text only, so that no value stops it before the others are looked at.
        #[derive(Default, Deserialize)]
        struct Raw { $( $field: Option<String>, )+ }

        impl Raw {
            fn check(&self, problems: &mut Vec<Problem>) -> Option<Config> {
                // Each is checked, whether or not one before it failed.
                $( let $field = check_one(stringify!($field), self.$field.as_deref(), $default, $check, problems); )+
                Some(Config { $( $field: $field?, )+ })
            }
        }
    };
}

settings! {
    /// Address and port on which clients and probes are served. Port 0 takes a free one.
    listen: SocketAddr = "127.0.0.1:8080", parsed("an address and a port, such as 0.0.0.0:8080");
    /// Address and port of their own for `/healthz`, `/readyz` and `/metrics`, such as `0.0.0.0:8081`. They are then
    /// there and not on the clients' port, and answered by a thread that does nothing else.
    probe_listen: Option<SocketAddr> = "", optional(parsed("an address and a port, such as 0.0.0.0:8081"));
    /// Whether browsers get a page to chat on at `/`, and the client for JavaScript at `/roomcast.js`: `on` or `off`. It can do
    /// no more than any client; without it, `/` is a short text.
    page: bool = "on", switch;
    /// Name of this server in the `originServer` of its messages; no two servers on one Redis may share it. On
    /// Kubernetes, the pod's name. If it is not set: the machine's name and the port.
    origin_server: Option<String> = "", optional(origin_server);
    /// Redis that carries messages between servers, such as `redis://:password@redis:6379/0`, or `rediss://` for TLS.
    /// If it is not set, the memory broker carries them within this one process.
    redis_url: Option<Secret> = "", optional(redis_url);
    /// Password for Redis, for when it is not to stand in the URL. It takes the place of one that does.
    redis_password: Option<Secret> = "", optional(|value| Ok(Secret(value.to_owned())));
    /// First part of the names of all keys and channels in Redis. Servers that are to talk to each other share it.
    redis_prefix: String = "ws", redis_prefix;
    /// Longest time to establish a connection to Redis.
    redis_connect_timeout: Duration = "2s", duration("100ms", "1m");
    /// Longest time for one command to Redis. A message whose command takes longer is answered `unavailable`.
    redis_command_timeout: Duration = "2s", duration("50ms", "1m");
    /// From what share of its `maxmemory` on, 0 to 1, Redis counts as nearly full. New rooms are refused then, and the logs
    /// of rooms get shorter, the shorter the fuller it is. A Redis without `maxmemory` is never full.
    redis_memory_watermark: f64 = "0.8", ratio;
    /// How many messages the log of each room keeps, at least; Redis may keep two hundred more, as it trims now and
    /// then and in blocks. With 0 there is no log: messages have no order between servers, are delivered at most once,
    /// and cannot be resumed.
    history_length: usize = "1000", number(0..=1_000_000);
    /// How long the log of a room keeps a message; Redis may keep it a sixteenth longer.
    history_age: Duration = "1h", duration("1s", "30d");
    /// How many bytes the log of a room keeps; Redis may keep a sixteenth more, and always keeps the last message.
    history_bytes: usize = "4MiB", bytes(1024..=1 << 30);
    /// How many bytes of recent messages a server keeps in memory, of all rooms together. From there it brings clients that
    /// come back up to date; only what is not there it reads from Redis.
    recent_bytes: usize = "64MiB", bytes(0..=1 << 40);
    /// How many bytes the logs of all rooms and the ids of their messages take together with the memory broker. Beyond
    /// it the largest log gives up its oldest messages; new rooms are refused when there is no place for their numbering.
    memory_broker_bytes: usize = "256MiB", bytes(1 << 20..=1 << 40);
    /// Most messages that a client may ask for with `last` when it joins; more are cut to this.
    max_last: usize = "100", number(0..=100_000);
    /// How long a message id is remembered, so that sending it again makes no second message.
    dedup_window: Duration = "5m", duration("1s", "1d");
    /// How soon after a server heard something in a room it compares the room with its log, to find a last message whose
    /// push was lost. In a room that stays silent each comparison comes twice as much later, up to half an hour: a single
    /// push that is lost in a room long silent is found after as long again as the room had been silent.
    compare_interval: Duration = "5s", duration("100ms", "10m");
    /// After how long a silence the subscriber tests whether it still hears. One that hears nothing of its test for
    /// as long again makes a new connection.
    subscriber_probe_interval: Duration = "2s", duration("100ms", "10m");
    /// Most WebSocket connections; upgrades beyond get status 503. With `auto`, as many as the files that this process may
    /// open are enough for, and at most 100,000. A number that they are not enough for is warned about.
    max_connections: Option<usize> = "auto", or_auto(number(1..=10_000_000));
    /// Most rooms that one connection may be in.
    max_rooms_per_client: usize = "100", number(1..=100_000);
    /// Longest frame from a client, in bytes; a longer one closes the connection with 1009.
    max_frame_bytes: usize = "128KiB", bytes(1024..=16 << 20);
    /// Longest text of a message, in bytes of UTF-8.
    max_text_bytes: usize = "16KiB", bytes(1..=8 << 20);
    /// Longest room id, in characters.
    max_room_length: usize = "128", number(1..=512);
    /// Longest username, in characters.
    max_username_length: usize = "64", number(1..=512);
    /// Longest message id, in characters.
    max_id_length: usize = "128", number(1..=512);
    /// How many messages may wait for one client. A client that lets more pile up is closed with 4008.
    outbox_messages: usize = "1024", number(16..=1_000_000);
    /// How many bytes of messages may wait for one client.
    outbox_bytes: usize = "1MiB", bytes(64 << 10..=1 << 30);
    /// How many bytes may wait for all clients together. Beyond, those that have the most waiting are closed.
    outbox_total_bytes: usize = "256MiB", bytes(1 << 20..=1 << 40);
    /// How many bytes the system may hold on their way to one client, as asked of it; Linux takes up to twice that for
    /// them. A client far away gets at most so many in each round trip.
    send_buffer_bytes: usize = "128KiB", bytes(4 << 10..=16 << 20);
    /// How many bytes of frames that are not complete, or wait for their turn, are kept for all clients together. Beyond,
    /// those that have the most of an unfinished frame are closed with 1013.
    inbound_total_bytes: usize = "64MiB", bytes(1 << 20..=1 << 40);
    /// Longest time for a message from its first byte to its last; a client that takes longer is closed with 4002.
    message_timeout: Duration = "10s", duration("100ms", "10m");
    /// How long a client may take nothing of what waits for it; then it is closed with 4008.
    write_timeout: Duration = "5s", duration("100ms", "5m");
    /// How often a client gets a WebSocket ping. One from which nothing came for two such
    /// times, and which took nothing of what waited for it, is closed with 4001.
    ping_interval: Duration = "25s", duration("100ms", "1h");
    /// Longest time over which connections are closed after SIGTERM, SIGINT or SIGHUP. They are closed one by one and
    /// not all at once, so that their clients do not come to the other servers all at once.
    drain_time: Duration = "5s", duration("0s", "1h");
    /// Most connections that are closed in a second while draining, as long as all fit into the drain time.
    drain_rate: usize = "500", number(1..=1_000_000);
    /// Longest time from SIGTERM to the end of the process.
    shutdown_timeout: Duration = "10s", duration("100ms", "2h");
    /// What is logged: a level (`error`, `warn`, `info`, `debug`, `trace`) or a filter such as `info,roomcast::broker=debug`.
    log: String = "info", log_filter;
    /// How the log is written: `pretty` for people, `json` for collectors.
    log_format: LogFormat = "pretty", log_format;
    /// Where traces go: the base URL of an OTLP/HTTP collector, such as `http://otel-collector:4318`, without a password
    /// (`OTEL_EXPORTER_OTLP_HEADERS` is for that). If it is not set, no traces are made.
    otlp_endpoint: Option<String> = "", optional(otlp_endpoint);
    /// Share of messages that are traced, from 0 to 1.
    trace_ratio: f64 = "0.01", ratio;
}

impl Config {
    /// Reads the settings from pairs as the process environment has them. Names without the prefix are ignored.
    ///
    /// # Errors
    /// All mistakes at once, each with the setting's name and the way to mend it.
    pub fn from_env(vars: impl IntoIterator<Item = (OsString, OsString)>) -> Result<(Self, Vec<Warning>), ConfigError> {
        let mut problems = Vec::new();
        let mut pairs = BTreeMap::new();
        for (name, value) in vars {
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else { continue };
            match value.into_string() {
                Ok(value) => drop(pairs.insert(name.to_owned(), value)),
                Err(_) => problems.push(Problem { name: name.to_owned(), text: "is not UTF-8".into() }),
            }
        }
        let warnings = unknown(pairs.keys());
        // envy would take a name in lower case for the setting, too.
        pairs.retain(|name, _| SETTINGS.iter().any(|setting| setting.name() == *name));
        let raw: Raw = envy::prefixed(PREFIX).from_iter(pairs).expect("each field takes any text, or none");
        let config = raw.check(&mut problems);
        if let Some(config) = &config {
            config.check_together(&mut problems);
        }
        match config {
            Some(config) if problems.is_empty() => Ok((config, warnings)),
            _ => Err(ConfigError(problems)),
        }
    }

    /// What one setting cannot know of the others.
    fn check_together(&self, problems: &mut Vec<Problem>) {
        let mut problem = |field: &str, text: String| problems.push(Problem::new(field, text));
        // Names and quotes come on top of the text.
        if self.max_frame_bytes < self.max_text_bytes + 1024 {
            let text = format!(
                "is {} bytes, but a text of ROOMCAST_MAX_TEXT_BYTES ({}) does not fit into it; make it at least {}",
                self.max_frame_bytes,
                self.max_text_bytes,
                self.max_text_bytes + 1024
            );
            problem("max_frame_bytes", text);
        }
        if self.shutdown_timeout < self.drain_time + CLOSING {
            let text = format!(
                "is {:?}, but the last connection is closed after ROOMCAST_DRAIN_TIME ({:?}); make it at least {:?}",
                self.shutdown_timeout,
                self.drain_time,
                self.drain_time + CLOSING
            );
            problem("shutdown_timeout", text);
        }
        if self.inbound_total_bytes < 2 * self.max_frame_bytes {
            let text = format!(
                "is {} bytes, but must hold two frames of ROOMCAST_MAX_FRAME_BYTES; make it at least {}",
                self.inbound_total_bytes,
                2 * self.max_frame_bytes
            );
            problem("inbound_total_bytes", text);
        }
        if self.listen.port() != 0 && self.probe_listen == Some(self.listen) {
            problem("probe_listen", "is the address of ROOMCAST_LISTEN; take another port".to_owned());
        }
        if self.outbox_bytes < 2 * self.max_frame_bytes {
            let text = format!(
                "is {} bytes, but must hold two frames of ROOMCAST_MAX_FRAME_BYTES; make it at least {}",
                self.outbox_bytes,
                2 * self.max_frame_bytes
            );
            problem("outbox_bytes", text);
        }
    }
}

/// The reference of all settings in Markdown: what `docs/configuration.md` holds.
pub fn reference(settings: &[Setting]) -> String {
    let mut text = String::from(
        "# Settings\n\nEvery setting is read from the environment when the server starts. All mistakes are reported at once, and\n\
         the exit code is then 64. A name that starts with `ROOMCAST_` and is not listed here is warned about; an empty\n\
         value counts as not set. This page is what `roomcast settings` prints.\n\n\
         | name | default | meaning |\n|---|---|---|\n",
    );
    for setting in settings {
        let default = match setting.default {
            "" => "not set".to_owned(),
            default => format!("`{default}`"),
        };
        let description = setting.description.split_whitespace().collect::<Vec<_>>().join(" ");
        text.push_str(&format!("| `{}` | {default} | {description} |\n", setting.name()));
    }
    text
}

/// A value that must not be shown, as it may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The value itself, for the one who needs it; never for a log.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    Pretty,
    /// One JSON object a line.
    Json,
}

/// All that is wrong with the environment.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.iter().map(Problem::to_string).collect::<Vec<_>>().join("\n"))]
pub struct ConfigError(pub Vec<Problem>);

/// One mistake: the name of the setting, what is wrong with its value and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Problem {
    pub name: String,
    pub text: String,
}

impl Problem {
    fn new(field: &str, text: String) -> Self {
        Self { name: format!("{PREFIX}{}", field.to_ascii_uppercase()), text }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.text)
    }
}

/// A name in the environment that is no setting, though it looks like one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning(pub String);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn unknown<'a>(names: impl Iterator<Item = &'a String>) -> Vec<Warning> {
    let known: Vec<String> = SETTINGS.iter().map(Setting::name).collect();
    names
        .filter(|name| !known.contains(name) && !is_service_link(name))
        .map(|name| {
            let nearest = known.iter().min_by_key(|candidate| distance(name, candidate));
            let hint = nearest.filter(|candidate| distance(name, candidate) <= 3);
            let hint = hint.map_or(String::new(), |candidate| format!("; did you mean {candidate}?"));
            Warning(format!("{name} is not a setting of roomcast and has no effect{hint}"))
        })
        .collect()
}

/// Kubernetes sets these for each Service of the namespace: `ROOMCAST_PORT=tcp://10.0.0.1:80` for one named
/// `roomcast`, `ROOMCAST_REDIS_SERVICE_HOST` for one named `roomcast-redis`.
fn is_service_link(name: &str) -> bool {
    let words: Vec<&str> = name.split('_').collect();
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
    match &words[..] {
        [.., "SERVICE", "HOST" | "PORT"] | [.., "PORT"] => true,
        [.., "PORT", port, "TCP" | "UDP"] | [.., "PORT", port, "TCP" | "UDP", "PROTO" | "ADDR"] => is_number(port),
        words => words.windows(2).any(|pair| pair == ["SERVICE", "PORT"]),
    }
}

/// How many letters must be changed, added or left out to make one word of the other (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.bytes().enumerate() {
            let change = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Reads one value, or its default where it is not set. An empty value counts as not set, since templates often
/// leave one behind.
fn check_one<T>(
    field: &str,
    value: Option<&str>,
    default: &str,
    check: impl Fn(&str) -> Result<T, String>,
    problems: &mut Vec<Problem>,
) -> Option<T> {
    let value = value.map(str::trim).filter(|value| !value.is_empty()).unwrap_or(default);
    check(value).map_err(|text| problems.push(Problem::new(field, text))).ok()
}

fn optional<T>(check: impl Fn(&str) -> Result<T, String>) -> impl Fn(&str) -> Result<Option<T>, String> {
    move |value| if value.is_empty() { Ok(None) } else { check(value).map(Some) }
}

fn or_auto<T>(check: impl Fn(&str) -> Result<T, String>) -> impl Fn(&str) -> Result<Option<T>, String> {
    move |value| if value == "auto" { Ok(None) } else { check(value).map(Some).map_err(|why| why + ", or auto") }
}

fn parsed<T: std::str::FromStr>(expected: &'static str) -> impl Fn(&str) -> Result<T, String> {
    move |value| value.parse().map_err(|_| format!("is {value:?}, but must be {expected}"))
}

fn switch(value: &str) -> Result<bool, String> {
    match value {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(format!("is {value:?}, but must be on or off")),
    }
}

fn number(range: RangeInclusive<usize>) -> impl Fn(&str) -> Result<usize, String> {
    move |value| {
        let expected = || format!("is {value:?}, but must be a whole number from {} to {}", range.start(), range.end());
        value.parse().ok().filter(|number| range.contains(number)).ok_or_else(expected)
    }
}

fn bytes(range: RangeInclusive<usize>) -> impl Fn(&str) -> Result<usize, String> {
    move |value| {
        let (digits, unit) = value.split_at(value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len()));
        let scale = match unit.trim() {
            "" | "B" => Some(1),
            "KiB" => Some(1 << 10),
            "MiB" => Some(1 << 20),
            "GiB" => Some(1 << 30),
            _ => None,
        };
        let size = scale.and_then(|scale| digits.parse::<usize>().ok()?.checked_mul(scale));
        size.filter(|size| range.contains(size)).ok_or_else(|| {
            let (low, high) = (range.start(), range.end());
            format!("is {value:?}, but must be {low} to {high} bytes, written like 65536, 64KiB or 1MiB")
        })
    }
}

fn duration(low: &'static str, high: &'static str) -> impl Fn(&str) -> Result<Duration, String> {
    move |value| {
        let bound = |text| humantime::parse_duration(text).expect("the bounds are written in this file");
        let expected = || format!("is {value:?}, but must be from {low} to {high}, written like 500ms, 2s or 5m");
        let range = bound(low)..=bound(high);
        humantime::parse_duration(value).ok().filter(|value| range.contains(value)).ok_or_else(expected)
    }
}

fn ratio(value: &str) -> Result<f64, String> {
    let expected = || format!("is {value:?}, but must be a number from 0 to 1");
    value.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio)).ok_or_else(expected)
}

fn origin_server(value: &str) -> Result<String, String> {
    if value.chars().count() > 253 || value.chars().any(char::is_control) {
        return Err("must have at most 253 characters and no control characters".into());
    }
    Ok(value.to_owned())
}

fn redis_prefix(value: &str) -> Result<String, String> {
    // A brace would end the hash tag that keeps a room's keys in one slot of a Redis Cluster.
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.:".contains(c);
    if value.len() > 64 || !value.chars().all(allowed) {
        return Err(format!("is {value:?}, but must be at most 64 letters, digits and -_.:"));
    }
    Ok(value.to_owned())
}

fn redis_url(value: &str) -> Result<Secret, String> {
    // The value may hold a password, so it is not shown.
    match value.split_once("://") {
        Some(("redis" | "rediss" | "unix" | "redis+unix", rest)) if !rest.is_empty() => Ok(Secret(value.to_owned())),
        _ => Err("(hidden) must be a URL such as redis://:password@redis:6379/0".into()),
    }
}

fn otlp_endpoint(value: &str) -> Result<String, String> {
    // Somebody may have put a password into it, so it is not shown.
    match value.split_once("://") {
        Some(("http", rest)) if !rest.is_empty() && !rest.contains('@') => Ok(value.trim_end_matches('/').to_owned()),
        _ => Err("(hidden) must be a URL such as http://otel-collector:4318, without a name and a password; \
                  OTEL_EXPORTER_OTLP_HEADERS is for those"
            .into()),
    }
}

fn log_filter(value: &str) -> Result<String, String> {
    let filter = value.parse::<tracing_subscriber::EnvFilter>();
    filter.map(|_| value.to_owned()).map_err(|why| {
        format!("is {value:?}, which is not a filter ({why}); write a level such as info, or info,roomcast=debug")
    })
}

fn log_format(value: &str) -> Result<LogFormat, String> {
    match value {
        "pretty" => Ok(LogFormat::Pretty),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("is {value:?}, but must be pretty or json")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<(Config, Vec<Warning>), ConfigError> {
        Config::from_env(pairs.iter().map(|(name, value)| (name.into(), value.into())))
    }

    #[test]
    fn the_defaults_pass_their_own_checks() {
        let (config, warnings) =
            read(&[("PATH", "/bin"), ("ROOMCAST_OUTBOX_BYTES", " 2MiB "), ("ROOMCAST_LISTEN", "")]).unwrap();
        assert!(warnings.is_empty());
        assert_eq!(config.listen, "127.0.0.1:8080".parse().unwrap());
        assert_eq!(config.outbox_bytes, 2 << 20);
        assert_eq!(config.redis_command_timeout, Duration::from_secs(2));
    }

    #[test]
    fn all_mistakes_come_at_once_with_name_value_and_remedy() {
        let error = read(&[
            ("ROOMCAST_LISTEN", "8080"),
            ("ROOMCAST_HISTORY_LENGTH", "many"),
            ("ROOMCAST_WRITE_TIMEOUT", "1h"),
            ("ROOMCAST_MAX_FRAME_BYTES", "64kb"),
            ("ROOMCAST_REDIS_URL", "http://:hunter2@redis"),
            ("ROOMCAST_LOG", "roomcast=loud"),
            ("ROOMCAST_LOG_FORMAT", "xml"),
            ("ROOMCAST_TRACE_RATIO", "2"),
            ("ROOMCAST_REDIS_PREFIX", "a{b"),
            ("ROOMCAST_PAGE", "true"),
        ])
        .unwrap_err();
        let text = error.to_string();
        assert_eq!(error.0.len(), 10, "{text}");
        for part in
            ["ROOMCAST_LISTEN is \"8080\"", "0.0.0.0:8080", "\"many\"", "0 to 1000000", "from 100ms to 5m", "64KiB"]
        {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn settings_are_checked_against_each_other() {
        let error = read(&[("ROOMCAST_MAX_FRAME_BYTES", "16KiB"), ("ROOMCAST_MAX_TEXT_BYTES", "16KiB")]).unwrap_err();
        assert_eq!(error.0[0].name, "ROOMCAST_MAX_FRAME_BYTES");
        let error = read(&[("ROOMCAST_LISTEN", "0.0.0.0:80"), ("ROOMCAST_PROBE_LISTEN", "0.0.0.0:80")]).unwrap_err();
        assert_eq!(error.0[0].name, "ROOMCAST_PROBE_LISTEN");
        let error = read(&[("ROOMCAST_DRAIN_TIME", "30s"), ("ROOMCAST_SHUTDOWN_TIMEOUT", "30s")]).unwrap_err();
        assert_eq!(error.0[0].name, "ROOMCAST_SHUTDOWN_TIMEOUT");
        let error = read(&[("ROOMCAST_MAX_FRAME_BYTES", "1MiB"), ("ROOMCAST_OUTBOX_BYTES", "1MiB")]).unwrap_err();
        assert_eq!(error.0[0].name, "ROOMCAST_OUTBOX_BYTES");
    }

    #[test]
    fn a_slip_is_warned_about_and_a_service_link_is_not() {
        let (_, warnings) = read(&[
            ("ROOMCAST_LISEN", "x"),
            ("ROOMCAST_FAVOURITE_COLOUR", "blue"),
            ("ROOMCAST_PORT", "tcp://10.0.0.1:80"),
            ("ROOMCAST_PORT_8080_TCP", "tcp://10.0.0.1:80"),
            ("ROOMCAST_PORT_8080_TCP_ADDR", "10.0.0.1"),
            ("ROOMCAST_SERVICE_HOST", "10.0.0.1"),
            ("ROOMCAST_SERVICE_PORT_HTTP", "80"),
            ("ROOMCAST_REDIS_SERVICE_PORT", "6379"),
            ("ROOMCAST_REDIS_PORT", "tcp://10.0.0.1:6379"),
        ])
        .unwrap();
        let texts: Vec<String> = warnings.iter().map(Warning::to_string).collect();
        assert_eq!(texts.len(), 2, "{texts:?}");
        assert!(texts.iter().any(|text| text.contains("did you mean ROOMCAST_LISTEN?")), "{texts:?}");
    }

    #[test]
    fn a_name_in_lower_case_is_no_setting() {
        let (config, warnings) =
            read(&[("ROOMCAST_listen", "127.0.0.1:1"), ("ROOMCAST_LISTEN", "127.0.0.1:2")]).unwrap();
        assert_eq!((config.listen.port(), warnings.len()), (2, 1));
        let (config, warnings) = read(&[("ROOMCAST_listen", "127.0.0.1:1")]).unwrap();
        assert_eq!((config.listen.port(), warnings.len()), (8080, 1));
    }

    #[test]
    fn no_setting_can_be_taken_for_a_service_link() {
        for setting in SETTINGS {
            assert!(!is_service_link(&setting.name()), "{}", setting.name());
        }
    }

    #[test]
    fn a_secret_does_not_show() {
        let (config, _) =
            read(&[("ROOMCAST_REDIS_URL", "redis://:hunter2@redis:6379"), ("ROOMCAST_REDIS_PASSWORD", "hunter2")])
                .unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
