//! Traces: a span on the server that publishes a message and one on each server that hears it. Which messages are
//! traced is decided when they are published, and the other servers follow.

use std::{collections::HashMap, fmt::Display};

use opentelemetry::{propagation::TextMapPropagator, trace::TraceContextExt};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::protocol::Channel;

/// The target of every span that is traced, and of nothing else: the exporter's own spans make no more of them.
pub(super) const TARGET: &str = "roomcast::trace";

/// Makes the spans of messages. A span that is not wanted is [`Span::none`], which costs nothing to use or to drop.
#[derive(Clone, Copy, Debug)]
pub struct Tracer {
    enabled: bool,
    ratio: f64,
    system: &'static str,
}

/// Makes a span with what the two kinds have in common. It has no parent, whatever span it is made in.
macro_rules! message_span {
    ($name:literal, $kind:literal, $operation:literal, $system:expr, $channel:expr) => {
        tracing::info_span!(
            target: TARGET,
            parent: None,
            $name,
            otel.kind = $kind,
            otel.status_code = Empty,
            otel.status_description = Empty,
            messaging.system = $system,
            messaging.operation.name = $name,
            "messaging.operation.type" = $operation,
            messaging.destination.name = $channel.room().map_or("broadcast", |room| room.as_str()),
        )
    };
}

impl Tracer {
    /// Makes spans for this share of the messages, 0 to 1, and for those that other servers trace; `None` makes none.
    /// `broker` is the kind of what carries the messages.
    pub fn new(ratio: Option<f64>, broker: &'static str) -> Self {
        // Messages that stay within the server are carried by roomcast itself.
        let system = if broker == "memory" { "roomcast" } else { broker };
        Self { enabled: ratio.is_some(), ratio: ratio.unwrap_or(0.0), system }
    }

    /// The span of a message that a client of this server publishes, for the share of them that is traced.
    pub fn publish(&self, channel: &Channel) -> Span {
        // The lot is drawn before there is a span: one that the SDK's sampler turns down has been allocated by then.
        if self.ratio == 0.0 || rand::random::<f64>() >= self.ratio {
            return Span::none();
        }
        message_span!("publish", "producer", "send", self.system, channel)
    }

    /// The span of a message that came from another server, if that server traces it. It links to the span of the
    /// publisher, and as there is one message and one publisher, it is also its child: both show in one trace.
    pub fn deliver(&self, channel: &Channel, traceparent: Option<&str>) -> Span {
        let Some(traceparent) = traceparent.filter(|_| self.enabled) else { return Span::none() };
        let carrier = HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
        let publisher = TraceContextPropagator::new().extract(&carrier);
        let context = publisher.span().span_context().clone();
        if !context.is_sampled() {
            return Span::none();
        }
        let span = message_span!("deliver", "consumer", "process", self.system, channel);
        // This fails only if nobody collects spans, and then there is nothing to join.
        let _ = span.set_parent(publisher);
        span.add_link(context);
        span
    }
}

/// How other servers can refer to this span (W3C `traceparent`); `None` if it is not traced.
pub fn traceparent(span: &Span) -> Option<String> {
    if span.is_disabled() {
        return None;
    }
    let mut carrier = HashMap::new();
    let context = span.context();
    TraceContextPropagator::new().inject_context(&context, &mut carrier);
    carrier.remove("traceparent").filter(|_| context.span().span_context().is_sampled())
}

/// Says in a span that what it stands for failed.
pub fn failed(span: &Span, error: &dyn Display) {
    span.record("otel.status_code", "ERROR");
    span.record("otel.status_description", tracing::field::display(error));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn_of_ten_thousand(ratio: Option<f64>) -> usize {
        let tracer = Tracer::new(ratio, "redis");
        // A subscriber that wants every span.
        tracing::subscriber::with_default(tracing_subscriber::registry(), || {
            (0..10_000).filter(|_| !tracer.publish(&Channel::Broadcast).is_disabled()).count()
        })
    }

    #[test]
    fn the_share_that_is_asked_for_is_drawn_and_nothing_without_a_collector() {
        assert_eq!(drawn_of_ten_thousand(Some(1.0)), 10_000);
        assert_eq!(drawn_of_ten_thousand(Some(0.0)), 0);
        assert_eq!(drawn_of_ten_thousand(None), 0);
        let share = drawn_of_ten_thousand(Some(0.25));
        assert!((2_200..2_800).contains(&share), "{share}");
    }
}
