//! What operators see: metrics, logs and traces. Nothing here knows about rooms or sockets.

mod export;
mod instruments;
mod limit;
pub mod log;
mod metrics;
pub mod trace;

pub use export::Traces;
pub use instruments::{Counter, Durations, Gauge, Level};
pub use limit::Limit;
pub use metrics::{EnvelopeKind, Metrics};
