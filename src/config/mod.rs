//! Every setting: its name, its default, its check and its description, in one list.
//!
//! Settings come from the environment, under the prefix `ROOMCAST_`. All are read before a mistake is reported, so one
//! start shows all mistakes. `roomcast settings` writes `docs/configuration.md` from this list, and a test checks that
//! the page matches.

mod parse;
mod unknown;

use std::{collections::BTreeMap, ffi::OsString, fmt, net::SocketAddr, time::Duration};

use serde::Deserialize;

use self::{
    parse::{
        byte_rate, bytes, claims, duration, jwks, list, log_filter, log_format, number, optional, or_auto, or_off,
        origin_server, otlp_endpoint, parsed, rate, ratio, redis_prefix, redis_url, switch,
    },
    unknown::unknown,
};

/// What every setting's name starts with.
pub const PREFIX: &str = "ROOMCAST_";

/// How long a closing connection may still take: for what is under way, and for the client's answer.
const CLOSING: Duration = Duration::from_secs(1);

/// A setting as a person sees it.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// The name without the prefix, in lower case, as the field of [`Config`].
    pub field: &'static str,
    /// The default value; empty if there is none.
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

/// Declares each setting once, and derives the struct, the reading and the list for people.
macro_rules! settings {
    ($( $(#[doc = $doc:literal])+ $field:ident: $type:ty = $default:literal, $check:expr; )+) => {
        /// The checked settings of one server, which gets them once and never looks at the environment again.
        #[derive(Clone, Debug)]
        pub struct Config { $( $(#[doc = $doc])+ pub $field: $type, )+ }

        /// Every setting, in the order of the documentation.
        pub const SETTINGS: &[Setting] = &[ $( Setting {
            field: stringify!($field), default: $default, description: concat!($($doc, "\n"),+),
        } ),+ ];

        /// What envy reads: only text, so that no bad value stops it before it has read the others.
        #[derive(Default, Deserialize)]
        struct Raw { $( $field: Option<String>, )+ }

        impl Raw {
            fn check(&self, problems: &mut Vec<Problem>) -> Option<Config> {
                // Each is checked, even if one before it failed.
                $( let $field = check_one(stringify!($field), self.$field.as_deref(), $default, $check, problems); )+
                Some(Config { $( $field: $field?, )+ })
            }
        }
    };
}

settings! {
    /// Address and port for clients, and for probes unless `ROOMCAST_PROBE_LISTEN` is set. Port 0 picks a free one.
    listen: SocketAddr = "127.0.0.1:8080", parsed("an address and a port, such as 0.0.0.0:8080");
    /// Separate address and port for `/healthz`, `/readyz` and `/metrics`, such as `0.0.0.0:8081`. They then leave the
    /// clients' port, and a thread of their own answers them.
    probe_listen: Option<SocketAddr> = "", optional(parsed("an address and a port, such as 0.0.0.0:8081"));
    /// Address and port of the HTTP API for back ends, such as `0.0.0.0:8082`; see docs/api.md. Without it, there is no API.
    api_listen: Option<SocketAddr> = "", optional(parsed("an address and a port, such as 0.0.0.0:8082"));
    /// Keys of the API: a list with commas of `name:scopes:key`, such as `shop:publish+read:…`. The scopes are `publish`, `read` and
    /// `admin`; `publish(orders:*|news)` holds for these rooms alone. A key has 24 characters or more. Holders of a client's token
    /// need none for what their token allows.
    api_keys: Option<Secret> = "", optional(|value| Ok(Secret(value.to_owned())));
    /// File with such keys, one on each line. It is read again when it changes, so that one key can replace another.
    api_keys_file: Option<String> = "", optional(|value| Ok(value.to_owned()));
    /// Whether browsers get a chat page at `/` and the JavaScript client at `/roomcast.js`: `on` or `off`. The page can do no more
    /// than any client. With `off`, `/` is a short text.
    page: bool = "on", switch;
    /// Name of this server in the `originServer` of its messages. Each server on one Redis needs its own. On Kubernetes, use the
    /// pod's name. By default, the host's name and the port.
    origin_server: Option<String> = "", optional(origin_server);
    /// Redis that carries messages between servers, such as `redis://:password@redis:6379/0`; use `rediss://` for TLS. Without
    /// it, the memory broker carries messages within this one process.
    redis_url: Option<Secret> = "", optional(redis_url);
    /// File with that URL, for a URL with a password. It is read at the start.
    redis_url_file: Option<String> = "", optional(|value| Ok(value.to_owned()));
    /// Redis password. Overrides a password in the URL.
    redis_password: Option<Secret> = "", optional(|value| Ok(Secret(value.to_owned())));
    /// File with the Redis password. It is read at the start.
    redis_password_file: Option<String> = "", optional(|value| Ok(value.to_owned()));
    /// File with the certificate, in PEM, that this server shows to a Redis that asks for one (mutual TLS). It is read at the
    /// start, and needs `ROOMCAST_REDIS_TLS_KEY` and a `rediss://` URL.
    redis_tls_cert: Option<String> = "", optional(|value| Ok(value.to_owned()));
    /// File with the private key, in PEM, of that certificate.
    redis_tls_key: Option<String> = "", optional(|value| Ok(value.to_owned()));
    /// First part of the names of all keys and channels in Redis. Servers that talk to each other share it.
    redis_prefix: String = "ws", redis_prefix;
    /// Longest time to connect to Redis.
    redis_connect_timeout: Duration = "2s", duration("100ms", "1m");
    /// Longest time for one Redis command. If a command takes longer, its message is answered `unavailable`.
    redis_command_timeout: Duration = "2s", duration("50ms", "1m");
    /// Share of its `maxmemory`, 0 to 1, at which Redis counts as nearly full. From there on roomcast refuses new rooms and keeps
    /// shorter logs, the shorter the fuller Redis is. A Redis without `maxmemory` is never full.
    redis_memory_watermark: f64 = "0.8", ratio;
    /// How many messages the log of each room keeps. Redis may keep two hundred more, as it trims in blocks. With 0 there is no
    /// log: messages have no order between servers, arrive at most once, and cannot be resumed.
    history_length: usize = "1000", number(0..=1_000_000);
    /// How long the log of a room keeps a message. Redis may keep it a sixteenth longer.
    history_age: Duration = "1h", duration("1s", "30d");
    /// How many bytes the log of a room keeps. Redis may keep a sixteenth more, and always keeps the last message.
    history_bytes: usize = "4MiB", bytes(1024..=1 << 30);
    /// How many bytes of recent messages a server keeps in memory, for all rooms together. It brings returning clients up to
    /// date from there, and reads from Redis only what is missing there.
    recent_bytes: usize = "64MiB", bytes(0..=1 << 40);
    /// With the memory broker, how many bytes all logs and message ids take together. At the limit, the largest log drops its
    /// oldest messages. The server refuses new rooms when it has no space left to number them.
    memory_broker_bytes: usize = "256MiB", bytes(1 << 20..=1 << 40);
    /// Most messages that a client may ask for with `last` when it joins. The server cuts a larger number to this.
    max_last: usize = "100", number(0..=100_000);
    /// How long a message id is remembered. A message that is sent again within this time is not published twice.
    dedup_window: Duration = "5m", duration("1s", "1d");
    /// How soon after a message the server compares the room with its log, to find a last message whose push was lost. While the
    /// room stays silent, each comparison comes twice as late as the one before, up to half an hour. If a single push is lost in
    /// a room that has long been silent, the server finds it after as long again as the room had been silent.
    compare_interval: Duration = "5s", duration("100ms", "10m");
    /// How long the subscriber may hear nothing before it sends itself a probe through Redis. If it does not hear the probe
    /// within the same time again, it reconnects.
    subscriber_probe_interval: Duration = "2s", duration("100ms", "10m");
    /// Secret of 32 bytes at least that signs tokens (HS256, HS384, HS512), shared with whoever issues them. With this or another
    /// key, clients without a token may do only what `ROOMCAST_ANONYMOUS` says.
    jwt_secret: Option<Secret> = "", optional(|value| Ok(Secret(value.to_owned())));
    /// File with such a secret. It is read again when it changes. With both settings both secrets count, so that one can replace
    /// the other.
    jwt_secret_file: Option<String> = "", optional(|value| Ok(value.to_owned()));
    /// File with one or more public keys in PEM that check tokens: RSA (RS256 to RS512, PS256 to PS512), P-256 or P-384 (ES256,
    /// ES384), Ed25519 (EdDSA). It is read again when it changes.
    jwt_public_key_file: Option<String> = "", optional(|value| Ok(value.to_owned()));
    /// Keys that check tokens as a JSON Web Key Set: the URL of one, or a file. A URL is fetched before the server is ready, every
    /// ten minutes, and when a token names a key that is not there, but at most every 10 s. A file is read again when it changes.
    jwks: Option<String> = "", optional(jwks);
    /// What a token's `aud` must name, one of a list with commas.
    jwt_audience: Vec<String> = "", list;
    /// What a token's `iss` must be, one of a list with commas. By default, anything.
    jwt_issuer: Vec<String> = "", list;
    /// How far the clocks of the server and of the issuer may be apart: a token counts this much longer, and sooner.
    jwt_leeway: Duration = "10s", duration("0s", "10m");
    /// The longest time that a token may still be good for. A longer one is refused, so that a revocation need not be kept for
    /// longer. Tokens without `exp`, if they are taken, are revoked for ever.
    jwt_max_lifetime: Duration = "30d", duration("1m", "3650d");
    /// The claims that a token must have, beside `sub`: a list of `exp`, `aud`, `iss`, `nbf`, `iat` and `jti`, or `none`. A token
    /// without `exp` is good for ever. One without `iat` counts as issued long ago where tokens are revoked by user or by age, and
    /// a revocation then never ends.
    jwt_required_claims: Vec<String> = "exp,aud,iat", claims;
    /// The claim of a token that says what its holder may do; see docs/security.md.
    jwt_claim: String = "roomcast", |value| Ok(value.to_owned());
    /// What clients without a token may do, as the claim of a token says it, such as `{"rooms":{"lobby":["join","send"]}}`, or
    /// `nothing`. By default, nothing if the server has a key; else all but moderate and enter personal rooms.
    anonymous: Option<String> = "", optional(|value| Ok(value.to_owned()));
    /// Which web pages may connect, by the `Origin` that browsers send: a list with commas of origins such as
    /// `https://app.example.com`, `https://*.example.com` for all hosts below one, `own` for pages of the server's own host, and `*`
    /// for all. Programs send no origin and may always connect.
    allowed_origins: Vec<String> = "*", list;
    /// The proxies whose `X-Forwarded-For` says where a client comes from: a list with commas of addresses and networks such as
    /// `10.0.0.0/8`, or `private` for all private and loopback addresses. By default, none: the peer of the connection counts.
    trusted_proxies: Vec<String> = "", list;
    /// Addresses to which the limits by address do not apply, written in the same way, or `none`. By default private and loopback
    /// ones, which stand for a proxy or a node rather than for one client.
    unlimited_addresses: Vec<String> = "private", list;
    /// Whether the limits of the settings from `ROOMCAST_CONNECTIONS_PER_ADDRESS` to `ROOMCAST_MEASURES` hold: `on` or `off`. Switch
    /// them off for a load test, or where every client is trusted.
    limits: bool = "on", switch;
    /// Most connections from one address, or from one /64 of IPv6; or `off`.
    connections_per_address: Option<usize> = "2000", or_off(number(1..=10_000_000));
    /// Most connections of one user, by tokens; or `off`.
    connections_per_user: Option<usize> = "100", or_off(number(1..=10_000_000));
    /// Upgrades from one address: so many a second for long, and so many at once; or `off`.
    upgrades_per_address: Option<Rate> = "200/s burst 2000", or_off(rate);
    /// Frames of all kinds on one connection, control frames and refused ones too. A client that is faster is not read from for
    /// a while; nothing that it sent is lost. After 5 s of that it is told by `rate_limited`, and after 30 s closed with 4029.
    frames_per_connection: Option<Rate> = "100/s burst 400", or_off(rate);
    /// Messages and broadcasts on one connection; as above.
    messages_per_connection: Option<Rate> = "20/s burst 100", or_off(rate);
    /// Messages and broadcasts of one user on one server; as above.
    messages_per_user: Option<Rate> = "40/s burst 200", or_off(rate);
    /// Messages and broadcasts from one address on one server. Clients there are slowed and told, but not closed.
    messages_per_address: Option<Rate> = "200/s burst 2000", or_off(rate);
    /// Bytes of the frames of messages and broadcasts on one connection; as with messages.
    bytes_per_connection: Option<Rate> = "64KiB/s burst 1MiB", or_off(byte_rate);
    /// Bytes of one user on one server.
    bytes_per_user: Option<Rate> = "128KiB/s burst 2MiB", or_off(byte_rate);
    /// Bytes from one address on one server.
    bytes_per_address: Option<Rate> = "1MiB/s burst 16MiB", or_off(byte_rate);
    /// Bytes that a server sends to all members of one room together. A busier room is slowed: its members get what is said later,
    /// in their order, from the log if need be.
    bytes_per_room: Option<Rate> = "32MiB/s burst 128MiB", or_off(byte_rate);
    /// Joins with `after` or `last`, and `history`, on one connection. A faster client is slowed.
    histories_per_connection: Option<Rate> = "5/s burst 200", or_off(rate);
    /// Signals on one connection. Those beyond are dropped, and the client is told so every 5 s.
    signals_per_connection: Option<Rate> = "20/s burst 50", or_off(rate);
    /// New rooms of one user or, without a token, from one address, on all servers together: rooms that nobody has entered for as
    /// long as Redis keeps their log. Beyond, a join is answered `rate_limited`.
    new_rooms: Option<Rate> = "1/s burst 200", or_off(rate);
    /// Broadcasts of one user or, without a token, from one address, on all servers together. Beyond, they are answered
    /// `rate_limited`.
    broadcasts: Option<Rate> = "1/s burst 10", or_off(rate);
    /// Measures of one moderator, on all servers together. Beyond, they are answered `rate_limited`.
    measures: Option<Rate> = "1/s burst 50", or_off(rate);
    /// Most rooms with members on this server. Beyond, a join of another room is answered `overloaded`.
    max_rooms: usize = "100000", number(1..=100_000_000);
    /// Whether a token may also be in the query of the URL, as `?token=`: `on` or `off`. Proxies write it into their logs.
    token_in_query: bool = "off", switch;
    /// Most WebSocket connections; further upgrades get status 503. `auto` allows as many as this process may open files for, and
    /// at most 100,000. The server warns about a number for which it has too few files.
    max_connections: Option<usize> = "auto", or_auto(number(1..=10_000_000));
    /// Most rooms that one connection may be in.
    max_rooms_per_client: usize = "100", number(1..=100_000);
    /// Longest frame from a client, in bytes. A longer one closes the connection with 1009.
    max_frame_bytes: usize = "128KiB", bytes(1024..=16 << 20);
    /// Longest text of a message, in bytes of UTF-8.
    max_text_bytes: usize = "16KiB", bytes(1..=8 << 20);
    /// Longest room id, in characters.
    max_room_length: usize = "128", number(1..=512);
    /// Longest username, in characters.
    max_username_length: usize = "64", number(1..=512);
    /// Longest message id, in characters.
    max_id_length: usize = "128", number(1..=512);
    /// How many messages may wait for one client. The server closes a client with more waiting with 4008.
    outbox_messages: usize = "1024", number(16..=1_000_000);
    /// How many bytes of messages may wait for one client.
    outbox_bytes: usize = "1MiB", bytes(64 << 10..=1 << 30);
    /// How many bytes may wait for all clients together. At the limit, the server closes the clients with the most waiting.
    outbox_total_bytes: usize = "256MiB", bytes(1 << 20..=1 << 40);
    /// How many bytes the kernel may hold on their way to one client. Linux uses up to twice as much. A client far away gets at
    /// most this much in each round trip.
    send_buffer_bytes: usize = "128KiB", bytes(4 << 10..=16 << 20);
    /// How many bytes of unfinished and queued frames the server keeps for all clients together. At the limit, it closes the
    /// clients with the most of an unfinished frame with 1013.
    inbound_total_bytes: usize = "64MiB", bytes(1 << 20..=1 << 40);
    /// Longest time for a message from its first byte to its last. The server closes a client that takes longer with 4002.
    message_timeout: Duration = "10s", duration("100ms", "10m");
    /// How long a client may take nothing of what waits for it. Then the server closes it with 4008.
    write_timeout: Duration = "5s", duration("100ms", "5m");
    /// How often the server pings a client. It closes a client with 4001 that sent nothing for two intervals and took nothing of
    /// what waited for it.
    ping_interval: Duration = "25s", duration("100ms", "1h");
    /// How long the server waits after SIGTERM, SIGINT or SIGHUP before it closes the first client. It is unready from the
    /// signal on, and still takes clients, so that load balancers have time to notice.
    drain_delay: Duration = "0s", duration("0s", "1h");
    /// Time over which the server then closes its clients. It closes them one by one, evenly spread and at most 1 s apart, so
    /// that they do not arrive at the other servers all at once.
    drain_time: Duration = "5s", duration("0s", "1h");
    /// How long a server that was ready stays ready while Redis is away. Servers that share a Redis lose it together, and
    /// clients gain nothing if all of them leave the load balancer. A server that was never ready stays unready.
    ready_grace: Duration = "1m", duration("0s", "1h");
    /// Longest time from SIGTERM to the end of the process.
    shutdown_timeout: Duration = "10s", duration("100ms", "2h");
    /// What to log: a level (`error`, `warn`, `info`, `debug`, `trace`) or a filter such as `info,roomcast::broker=debug`.
    log: String = "info", log_filter;
    /// Log format: `pretty` for people, `json` for collectors.
    log_format: LogFormat = "pretty", log_format;
    /// Where to send traces: the base URL of an OTLP/HTTP collector, such as `http://otel-collector:4318`. Put no password into it;
    /// `OTEL_EXPORTER_OTLP_HEADERS` is for that. Without it, the server makes no traces.
    otlp_endpoint: Option<String> = "", optional(otlp_endpoint);
    /// Share of messages to trace, from 0 to 1.
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
        // envy would take a name in lower case for the setting too.
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

    /// Whether there is a key that checks tokens.
    pub fn has_keys(&self) -> bool {
        self.jwt_secret.is_some()
            || [&self.jwt_secret_file, &self.jwt_public_key_file, &self.jwks].into_iter().any(Option::is_some)
    }

    /// The checks that need several settings.
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
        let drained = self.drain_delay + self.drain_time;
        if self.shutdown_timeout < drained + CLOSING {
            let text = format!(
                "is {:?}, but the last connection is closed {drained:?} after the signal (ROOMCAST_DRAIN_DELAY + \
                 ROOMCAST_DRAIN_TIME); make it at least {:?}",
                self.shutdown_timeout,
                drained + CLOSING
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
        if self.redis_tls_cert.is_some() != self.redis_tls_key.is_some() {
            let missing = if self.redis_tls_cert.is_some() { "redis_tls_key" } else { "redis_tls_cert" };
            problem(
                missing,
                "is not set, but the certificate and its key belong together; set both or none".to_owned(),
            );
        }
        let is_plain = |url: &Secret| !url.reveal().starts_with("rediss://");
        if self.redis_tls_cert.is_some()
            && self.redis_url_file.is_none()
            && self.redis_url.as_ref().is_none_or(is_plain)
        {
            let text = "is set, but only a ROOMCAST_REDIS_URL that begins with rediss:// uses it".to_owned();
            problem("redis_tls_cert", text);
        }
        if self.redis_url.is_some() && self.redis_url_file.is_some() {
            problem("redis_url_file", "is set, and ROOMCAST_REDIS_URL too; set one of them".to_owned());
        }
        if self.redis_password.is_some() && self.redis_password_file.is_some() {
            problem("redis_password_file", "is set, and ROOMCAST_REDIS_PASSWORD too; set one of them".to_owned());
        }
        if self.anonymous.as_deref() == Some("nothing") && !self.has_keys() {
            let text = "is nothing, but without a key that checks tokens nobody could do anything; set \
                        ROOMCAST_JWT_SECRET, ROOMCAST_JWT_PUBLIC_KEY_FILE or ROOMCAST_JWKS too";
            problem("anonymous", text.to_owned());
        }
        let demands_audience = self.jwt_required_claims.iter().any(|claim| claim == "aud");
        if self.has_keys() && demands_audience && self.jwt_audience.is_empty() {
            let text = "is not set, but each token must name whom it is for; set it to what your issuer writes into \
                        `aud`, or, if it writes none, ROOMCAST_JWT_REQUIRED_CLAIMS to exp";
            problem("jwt_audience", text.to_owned());
        }
        for (field, is_set) in
            [("jwt_audience", !self.jwt_audience.is_empty()), ("jwt_issuer", !self.jwt_issuer.is_empty())]
        {
            if is_set && !self.has_keys() {
                let text = "is set, but no key that checks tokens; set ROOMCAST_JWT_SECRET, \
                            ROOMCAST_JWT_PUBLIC_KEY_FILE or ROOMCAST_JWKS too";
                problem(field, text.to_owned());
            }
        }
        if self.listen.port() != 0 && self.probe_listen == Some(self.listen) {
            problem("probe_listen", "is the address of ROOMCAST_LISTEN; take another port".to_owned());
        }
        let has_api_keys = self.api_keys.is_some() || self.api_keys_file.is_some();
        if self.api_listen.is_some() && !has_api_keys && !self.has_keys() {
            let text = "is set, but nobody could call the API; set ROOMCAST_API_KEYS or ROOMCAST_API_KEYS_FILE too";
            problem("api_listen", text.to_owned());
        }
        if self.api_listen.is_none() && has_api_keys {
            let field = if self.api_keys.is_some() { "api_keys" } else { "api_keys_file" };
            problem(
                field,
                "is set, but the API has no address; set ROOMCAST_API_LISTEN, such as 0.0.0.0:8082".to_owned(),
            );
        }
        if let Some(api) = self.api_listen.filter(|api| api.port() != 0)
            && (api == self.listen || Some(api) == self.probe_listen)
        {
            problem("api_listen", "is the address of clients or of the probes; take another port".to_owned());
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
        "# Settings\n\nThe server reads every setting from the environment when it starts. It reports all mistakes at once and exits\n\
         with 64. It warns about a name that starts with `ROOMCAST_` and is not listed here. An empty value counts as not\n\
         set. `roomcast settings` prints this page.\n\n\
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

/// A value that must not be shown, because it may hold a password.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The value itself; never for a log.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// So much a second for long, and so much at once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// A second, for long.
    pub per_second: usize,
    /// At once.
    pub burst: usize,
}

/// The format of the log.
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

/// One mistake: the setting's name, what is wrong with its value and what would be right.
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

/// A name in the environment that looks like a setting but is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning(pub String);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Reads one value, or its default if it is not set. An empty value counts as not set, because templates often leave
/// one behind.
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

#[cfg(test)]
mod tests {
    use super::{unknown::is_service_link, *};

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

    /// The library would take it for the name of a module, and log nothing at all.
    #[test]
    fn a_misspelt_log_level_is_refused() {
        for wrong in ["chatty", "wanr", "info,wanr", "roomcast", "roomcast::hub"] {
            let error = read(&[("ROOMCAST_LOG", wrong)]).unwrap_err().to_string();
            assert!(error.contains("is not a level: error, warn, info, debug, trace, off"), "{error}");
        }
        for right in
            ["info", "WARN", "off", "info,roomcast=debug", "warn,roomcast::broker=trace", "info,[publish]=debug"]
        {
            assert_eq!(read(&[("ROOMCAST_LOG", right)]).unwrap().0.log, right);
        }
    }

    #[test]
    fn settings_are_checked_against_each_other() {
        let error = read(&[("ROOMCAST_MAX_FRAME_BYTES", "16KiB"), ("ROOMCAST_MAX_TEXT_BYTES", "16KiB")]).unwrap_err();
        assert_eq!(error.0[0].name, "ROOMCAST_MAX_FRAME_BYTES");
        let error = read(&[("ROOMCAST_LISTEN", "0.0.0.0:80"), ("ROOMCAST_PROBE_LISTEN", "0.0.0.0:80")]).unwrap_err();
        assert_eq!(error.0[0].name, "ROOMCAST_PROBE_LISTEN");
        for (part, time) in [("ROOMCAST_DRAIN_TIME", "30s"), ("ROOMCAST_DRAIN_DELAY", "25s")] {
            let error = read(&[(part, time), ("ROOMCAST_SHUTDOWN_TIMEOUT", "30s")]).unwrap_err();
            assert_eq!(error.0[0].name, "ROOMCAST_SHUTDOWN_TIMEOUT");
        }
        let error = read(&[("ROOMCAST_MAX_FRAME_BYTES", "1MiB"), ("ROOMCAST_OUTBOX_BYTES", "1MiB")]).unwrap_err();
        assert_eq!(error.0[0].name, "ROOMCAST_OUTBOX_BYTES");
    }

    #[test]
    fn keys_need_an_audience_and_an_audience_needs_keys() {
        let secret = ("ROOMCAST_JWT_SECRET", "0123456789abcdef0123456789abcdef");
        for (pairs, name) in [
            (&[secret][..], "ROOMCAST_JWT_AUDIENCE"),
            (&[("ROOMCAST_JWKS", "https://x/jwks")], "ROOMCAST_JWT_AUDIENCE"),
            (&[("ROOMCAST_JWT_AUDIENCE", "chat")], "ROOMCAST_JWT_AUDIENCE"),
            (&[("ROOMCAST_JWT_ISSUER", "https://x/")], "ROOMCAST_JWT_ISSUER"),
            (&[("ROOMCAST_ANONYMOUS", "nothing")], "ROOMCAST_ANONYMOUS"),
            (&[("ROOMCAST_JWT_REQUIRED_CLAIMS", "exp, azp")], "ROOMCAST_JWT_REQUIRED_CLAIMS"),
        ] {
            assert_eq!(read(pairs).unwrap_err().0[0].name, name, "{pairs:?}");
        }
        let (config, _) = read(&[secret, ("ROOMCAST_JWT_AUDIENCE", "chat, chat.example.com")]).unwrap();
        assert_eq!(config.jwt_audience, ["chat", "chat.example.com"]);
        assert!(read(&[secret, ("ROOMCAST_JWT_REQUIRED_CLAIMS", "exp")]).is_ok());
        assert!(!format!("{config:?}").contains("0123456789abcdef"));
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
