//! What operators see: metrics, logs and traces. Nothing here knows of rooms or sockets.

pub mod log;
mod metrics;

pub use metrics::{EnvelopeKind, Metrics};
