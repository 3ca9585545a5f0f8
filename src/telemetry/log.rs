//! What is logged goes to standard error, as lines for people or as JSON for collectors.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, Layer, Registry, layer::SubscriberExt, util::SubscriberInitExt};

use crate::config::{Config, LogFormat};

/// Starts logging to standard error, for the whole process; to be called once.
pub fn start(config: &Config) {
    let filter = EnvFilter::new(&config.log);
    let format: Box<dyn Layer<Registry> + Send + Sync> = match config.log_format {
        LogFormat::Pretty => {
            let colours = std::io::stderr().is_terminal();
            tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(std::io::stderr).boxed()
        }
        LogFormat::Json => {
            tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed()
        }
    };
    tracing_subscriber::registry().with(format.with_filter(filter)).init();
}
