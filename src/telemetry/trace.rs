//! Traces: a span on the server that publishes a message, and one on each server that hears it. The publishing server
//! decides which messages are traced, and the others follow. A call of the API has a span too, the root of its messages'.

use std::{collections::HashMap, fmt::Display};

use opentelemetry::{propagation::TextMapPropagator, trace::TraceContextExt};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::{Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::protocol::Channel;

/// The target of all traced spans and of nothing else, so that the exporter's own spans cause no further ones.
pub(super) const TARGET: &str = "roomcast::trace";

/// Makes the spans of messages. An unwanted span is [`Span::none`], which costs nothing to use or drop.
#[derive(Clone, Copy, Debug)]
pub struct Tracer {
    enabled: bool,
    ratio: f64,
    system: &'static str,
}

/// Makes a span with what both kinds have in common. It has no parent, even inside another span.
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
    /// `broker` is the broker's kind.
    pub fn new(ratio: Option<f64>, broker: &'static str) -> Self {
        // roomcast itself carries messages that stay within the server.
        let system = if broker == "memory" { "roomcast" } else { broker };
        Self { enabled: ratio.is_some(), ratio: ratio.unwrap_or(0.0), system }
    }

    /// The span of a message that a client of this server publishes, if chance chooses it. A message that comes by a call is
    /// traced if the call is, as a part of it.
    pub fn publish(&self, channel: &Channel, call: Option<&Span>) -> Span {
        if !call.map_or_else(|| self.chooses(), |call| !call.is_disabled()) {
            return Span::none();
        }
        let span = message_span!("publish", "producer", "send", self.system, channel);
        if let Some(call) = call {
            let _ = span.set_parent(call.context());
        }
        span
    }

    /// The span of a call of the API, the root of all that comes of it. If the caller says by `traceparent` whether it traces,
    /// this is a part of that trace, or there is no span; otherwise chance decides.
    pub fn call(&self, method: &str, route: &str, traceparent: Option<&str>) -> Span {
        let caller = traceparent.filter(|_| self.enabled).map(context);
        let caller = caller.filter(|caller| caller.span().span_context().is_valid());
        let is_traced = match &caller {
            Some(caller) => caller.span().span_context().is_sampled(),
            None => self.chooses(),
        };
        if !is_traced {
            return Span::none();
        }
        let span = tracing::info_span!(
            target: TARGET,
            parent: None,
            "call",
            otel.name = format!("{method} {route}"),
            otel.kind = "server",
            otel.status_code = Empty,
            http.request.method = method,
            http.route = route,
            http.response.status_code = Empty,
        );
        if let Some(caller) = caller {
            let _ = span.set_parent(caller);
        }
        span
    }

    fn chooses(&self) -> bool {
        // Chance decides before a span is made, because a span that the SDK's sampler refuses is already allocated.
        self.ratio != 0.0 && rand::random::<f64>() < self.ratio
    }

    /// The span of a message from another server, if that server traces it. It links to the publisher's span and is
    /// also its child, because a message has one publisher: both show in one trace.
    pub fn deliver(&self, channel: &Channel, traceparent: Option<&str>) -> Span {
        let Some(traceparent) = traceparent.filter(|_| self.enabled) else { return Span::none() };
        let publisher = context(traceparent);
        let context = publisher.span().span_context().clone();
        if !context.is_sampled() {
            return Span::none();
        }
        let span = message_span!("deliver", "consumer", "process", self.system, channel);
        // This fails only if nobody collects spans; then there is nothing to join.
        let _ = span.set_parent(publisher);
        span.add_link(context);
        span
    }
}

/// What this `traceparent` says; nothing if it cannot be read.
fn context(traceparent: &str) -> opentelemetry::Context {
    let carrier = HashMap::from([("traceparent".to_owned(), traceparent.to_owned())]);
    TraceContextPropagator::new().extract(&carrier)
}

/// The call of this span was answered with this status.
pub fn answered(span: &Span, status: u16) {
    span.record("http.response.status_code", status);
    if status >= 500 {
        span.record("otel.status_code", "ERROR");
    }
}

/// The reference to this span for other servers (W3C `traceparent`); `None` if it is not traced.
pub fn traceparent(span: &Span) -> Option<String> {
    if span.is_disabled() {
        return None;
    }
    let mut carrier = HashMap::new();
    let context = span.context();
    TraceContextPropagator::new().inject_context(&context, &mut carrier);
    carrier.remove("traceparent").filter(|_| context.span().span_context().is_sampled())
}

/// Marks a span as failed.
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
            (0..10_000).filter(|_| !tracer.publish(&Channel::Broadcast, None).is_disabled()).count()
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
