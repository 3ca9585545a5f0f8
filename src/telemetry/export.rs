//! How spans leave the process: by OpenTelemetry, over HTTP, from the SDK's own thread, so that no collector can
//! slow or stop the server.

use std::{
    sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use opentelemetry::{KeyValue, trace::TracerProvider};
use opentelemetry_otlp::{ExporterBuildError, WithExportConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    trace::{Sampler, SdkTracerProvider, SpanData, SpanExporter},
};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer, Registry, filter::Targets};

use super::trace::TARGET;
/// Longest wait for the collector when the server ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Sends the spans of this process to the collector, if one is set.
#[derive(Debug)]
pub struct Traces(Option<SdkTracerProvider>);

impl Traces {
    pub(super) fn start(collector: Option<&str>, origin_server: &str) -> Result<Self, ExporterBuildError> {
        let Some(collector) = collector else { return Ok(Self(None)) };
        let url = format!("{collector}/v1/traces");
        let sender = opentelemetry_otlp::SpanExporter::builder().with_http().with_endpoint(url).build()?;
        let exporter = Exporter { sender, fails: AtomicBool::new(false) };
        let resource = Resource::builder()
            .with_service_name("roomcast")
            .with_attribute(KeyValue::new("service.instance.id", origin_server.to_owned()))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_resource(resource)
            // A span without a parent was chosen by chance already.
            .with_sampler(Sampler::ParentBased(Box::new(Sampler::AlwaysOn)))
            .with_batch_exporter(exporter)
            .build();
        Ok(Self(Some(provider)))
    }

    /// The layer that collects the spans of [`TARGET`] alone, whatever the log's filter says.
    pub(super) fn layer(&self) -> Option<impl Layer<Registry> + Send + Sync + use<>> {
        let tracer = self.0.as_ref()?.tracer("roomcast");
        let layer = tracing_opentelemetry::layer().with_tracer(tracer).with_context_activation(false);
        let layer = layer.with_tracked_inactivity(false).with_location(false).with_threads(false).with_target(false);
        Some(layer.with_filter(Targets::new().with_target(TARGET, LevelFilter::INFO)))
    }

    /// Sends the remaining spans, for at most `bound`; the rest is lost. It blocks, so call it outside the async
    /// runtime.
    pub fn end(self, bound: Duration) {
        let Some(provider) = self.0 else { return };
        let (done, ended) = mpsc::sync_channel(1);
        // It runs in its own thread, because the SDK waits for its HTTP client without a bound.
        thread::spawn(move || {
            let _ = provider.shutdown();
            let _ = done.send(());
        });
        if ended.recv_timeout(bound.min(FLUSH_TIMEOUT)).is_err() {
            tracing::warn!("the collector did not take the last spans in time");
        }
    }
}

/// Sends spans, and logs a failure once for each outage; the SDK would log one for every batch.
#[derive(Debug)]
struct Exporter {
    sender: opentelemetry_otlp::SpanExporter,
    fails: AtomicBool,
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let result = self.sender.export(batch).await;
        let failed_before = self.fails.swap(result.is_err(), Ordering::Relaxed);
        match result {
            Err(error) if !failed_before => {
                tracing::warn!(%error, "the collector refuses spans; roomcast drops them until it accepts them again");
            }
            Ok(()) if failed_before => tracing::info!("the collector accepts spans again"),
            _ => {}
        }
        Ok(())
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.sender.set_resource(resource);
    }
}
