//! What operators see: metrics, logs and traces. Nothing here knows of rooms or sockets.

mod export;
pub mod log;
mod metrics;
pub mod trace;

pub use export::Traces;
pub use metrics::{EnvelopeKind, Metrics};
