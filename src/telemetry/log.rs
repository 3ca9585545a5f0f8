//! The log goes to standard error, as lines for people or as JSON for collectors.

use std::{
    fmt::{self, Write},
    io::IsTerminal,
};

use opentelemetry_otlp::ExporterBuildError;
use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    field::RecordFields,
    filter::{FilterExt, LevelFilter, filter_fn},
    fmt::{
        FormatFields,
        format::{DefaultFields, Writer},
    },
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use super::{Traces, trace};

/// What to log, in which format, and where spans go.
#[derive(Clone, Debug)]
pub struct Options {
    /// A level, or a filter in the syntax of `tracing`.
    pub filter: String,
    /// The format of a line.
    pub format: Format,
    /// Base URL of the collector for spans; `None` makes no spans.
    pub collector: Option<String>,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Pretty,
    /// One JSON object, for collectors.
    Json,
}

/// Starts logging to standard error and, if there is a collector, tracing, for the whole process. Call it once, outside the
/// async runtime.
///
/// # Errors
/// If the collector's URL cannot be used.
pub fn start(options: &Options, origin_server: &str) -> Result<Traces, ExporterBuildError> {
    // Without a highest level from the filter, every record of the `log` crate would be examined.
    let fits = filter_fn(fits_the_log).with_max_level_hint(LevelFilter::TRACE);
    let filter = EnvFilter::new(&options.filter).and(fits);
    let format: Box<dyn Layer<Registry> + Send + Sync> = match options.format {
        Format::Pretty => {
            let colours = std::io::stderr().is_terminal();
            let layer = tracing_subscriber::fmt::layer().fmt_fields(OneLine);
            layer.with_ansi(colours).with_writer(std::io::stderr).boxed()
        }
        Format::Json => {
            tracing_subscriber::fmt::layer().json().flatten_event(true).with_writer(std::io::stderr).boxed()
        }
    };
    let traces = Traces::start(options.collector.as_deref(), origin_server)?;
    let mut layers = vec![format.with_filter(filter).boxed()];
    layers.extend(traces.layer().map(Layer::boxed));
    tracing_subscriber::registry().with(layers).init();
    Ok(traces)
}

/// Writes an event in one line. Libraries log what clients and Redis send unchanged; line breaks and escape sequences
/// in it could imitate other lines of the log.
struct OneLine;

impl<'writer> FormatFields<'writer> for OneLine {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        DefaultFields::new().format_fields(Writer::new(&mut Escaped(&mut writer)), fields)
    }
}

/// Passes text on, with control characters and line ends escaped as in Rust.
struct Escaped<'a, W>(&'a mut W);

impl<W: Write> Write for Escaped<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
        for part in text.split_inclusive(breaks) {
            let end = part.chars().next_back().filter(|c| breaks(*c));
            self.0.write_str(&part[..part.len() - end.map_or(0, char::len_utf8)])?;
            end.map_or(Ok(()), |end| write!(self.0, "{}", end.escape_debug()))?;
        }
        Ok(())
    }
}

/// Traced spans are not logged. OpenTelemetry itself may log only warnings, and its exporter nothing, as it warns for
/// every batch: [`Traces`] says once when a collector fails.
fn fits_the_log(metadata: &Metadata<'_>) -> bool {
    let target = metadata.target();
    let from_opentelemetry = target.starts_with("opentelemetry");
    target != trace::TARGET
        && target != "opentelemetry-otlp"
        && (!from_opentelemetry || *metadata.level() <= Level::WARN)
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_is_logged_is_one_line_whatever_is_in_it() {
        let kept = Kept::default();
        let writer = kept.clone();
        let layer = tracing_subscriber::fmt::layer().fmt_fields(OneLine).with_ansi(false);
        let layer = layer.with_writer(move || writer.clone());
        let said = "one\r\n2026-11-26T00:00:00Z  INFO forged\u{1b}[2J\u{9b}31m\u{2028}é";
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(field = %said, plain = 7, "{said}");
        });
        let log = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        let shown = r"one\r\n2026-11-26T00:00:00Z  INFO forged\u{1b}[2J\u{9b}31m\u{2028}é";
        // The library escapes a message in its own way.
        let message = shown.replace(r"\u{1b}", r"\x1b");
        assert!(log.ends_with(&format!(" {message} field={shown} plain=7\n")), "{log}");
        assert_eq!(log.lines().count(), 1);
    }
}
