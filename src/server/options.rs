//! What each part of a server needs of the settings. The parts own these types and know nothing of [`Config`].

use crate::{
    config::{Config, LogFormat},
    protocol::Limits,
    telemetry::log,
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
