//! What is logged goes to standard error, as lines for people or as JSON for collectors.

use std::io::IsTerminal;

use opentelemetry_otlp::ExporterBuildError;
use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    filter::{FilterExt, LevelFilter, filter_fn},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use super::{Traces, trace};
use crate::config::{Config, LogFormat};

/// Starts logging to standard error and, if a collector is set, tracing, for the whole process; to be called once
/// and outside the async runtime.
///
/// # Errors
/// If the collector's URL cannot be put to use.
pub fn start(config: &Config, origin_server: &str) -> Result<Traces, ExporterBuildError> {
    // A filter that gave no level as its highest would have every record of the `log` crate looked at.
    let fits = filter_fn(fits_the_log).with_max_level_hint(LevelFilter::TRACE);
    let filter = EnvFilter::new(&config.log).and(fits);
    let format: Box<dyn Layer<Registry> + Send + Sync> = match config.log_format {
        LogFormat::Pretty => {
            let colours = std::io::stderr().is_terminal();
            tracing_subscriber::fmt::layer().with_ansi(colours).with_writer(std::io::stderr).boxed()
        }
        LogFormat::Json => {
            tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed()
        }
    };
    let traces = Traces::start(config, origin_server)?;
    let mut layers = vec![format.with_filter(filter).boxed()];
    layers.extend(traces.layer().map(Layer::boxed));
    tracing_subscriber::registry().with(layers).init();
    Ok(traces)
}

/// Spans that are traced are not logged. Of OpenTelemetry itself only warnings are, and nothing of its exporter,
/// which warns for every batch: [`Traces`] says once when a collector fails.
fn fits_the_log(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let from_opentelemetry = target.starts_with("opentelemetry");
    target != trace::TARGET
        && target != "opentelemetry-otlp"
        && (!from_opentelemetry || *metadata.level() <= Level::WARN)
}
