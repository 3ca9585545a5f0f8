//! What each part of a server needs from the settings. The parts own these types and know nothing about [`Config`].

use std::{sync::Arc, time::Duration};

use crate::{
    access::Rate,
    broker::{ClientCertificate, RedisOptions, Retention},
    config::{self, Config, LogFormat},
    hub,
    protocol::Limits,
    session,
    socket::{Bounds, Buffers, Intake, Total},
    telemetry::{Metrics, log},
};

impl From<&Config> for Limits {
    fn from(config: &Config) -> Self {
        Self {
            room: config.max_room_length,
            username: config.max_username_length,
            id: config.max_id_length,
            text: config.max_text_bytes,
        }
    }
}

impl From<&Config> for log::Options {
    fn from(config: &Config) -> Self {
        let format = match config.log_format {
            LogFormat::Pretty => log::Format::Pretty,
            LogFormat::Json => log::Format::Json,
        };
        Self { filter: config.log.clone(), format, collector: config.otlp_endpoint.clone() }
    }
}

impl From<&Config> for hub::Options {
    fn from(config: &Config) -> Self {
        Self {
            history_length: config.history_length,
            history_bytes: config.history_bytes,
            history_age: config.history_age,
            recent_bytes: config.recent_bytes,
            compare_interval: config.compare_interval,
            line_messages: config.outbox_messages,
            line_bytes: config.outbox_bytes,
            max_last: config.max_last as u64,
            max_rooms: config.max_rooms,
            room_bytes: config.bytes_per_room.filter(|_| config.limits).map(rate),
            // A join waits for a subscription and a reading of the log.
            join_timeout: 2 * config.redis_command_timeout,
        }
    }
}

impl From<&Config> for Retention {
    fn from(config: &Config) -> Self {
        Self::new(config.history_length, config.history_age, config.history_bytes, config.dedup_window)
    }
}

/// A rate as a setting says it.
pub(super) fn rate(rate: config::Rate) -> Rate {
    Rate { per_second: rate.per_second as f64, burst: rate.burst as f64 }
}

/// How long a revocation must be kept; `None`: for ever, as nobody knows how long a token could be good that does not say
/// when it ends and when it was issued.
pub fn revocations_last(config: &Config) -> Option<Duration> {
    let demands = |name| config.jwt_required_claims.iter().any(|claim| claim == name);
    (demands("exp") && demands("iat")).then(|| config.jwt_max_lifetime + 2 * config.jwt_leeway)
}

/// How to use the Redis at this URL, with this password, if it is not in the URL, and this certificate.
pub fn redis(
    config: &Config,
    url: &str,
    password: Option<String>,
    client_certificate: Option<ClientCertificate>,
) -> RedisOptions {
    RedisOptions {
        url: url.to_owned(),
        client_certificate,
        password,
        prefix: config.redis_prefix.clone(),
        connect_timeout: config.redis_connect_timeout,
        command_timeout: config.redis_command_timeout,
        probe_interval: config.subscriber_probe_interval,
        memory_watermark: config.redis_memory_watermark,
        max_frame: config.max_frame_bytes,
        retention: config.into(),
    }
}

/// The options of this server's sessions.
pub fn session(config: &Config, origin_server: &str, metrics: &Metrics) -> session::Options {
    let sent = metrics.messages_sent.clone();
    session::Options {
        rules: session::Rules {
            origin_server: origin_server.into(),
            limits: config.into(),
            max_rooms: config.max_rooms_per_client,
        },
        bounds: Arc::new(Bounds::new(config.outbox_messages, config.outbox_bytes, config.outbox_total_bytes, sent)),
        intake: Intake {
            max_message: config.max_frame_bytes,
            message_timeout: config.message_timeout,
            total: Arc::new(Total::new(config.inbound_total_bytes)),
        },
        buffers: Buffers::new(config.send_buffer_bytes),
        write_timeout: config.write_timeout,
        ping_interval: config.ping_interval,
    }
}
