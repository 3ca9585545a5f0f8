//! roomcast: a WebSocket chat and room-messaging server.
//!
//! The map of this crate is the module table in `ARCHITECTURE.md`; each module may import those above it there
//! and no others, and a test holds it to that.

pub mod access;
pub mod broker;
pub mod config;
pub mod http;
pub mod hub;
pub mod order;
pub mod protocol;
pub mod server;
pub mod session;
pub mod socket;
pub mod telemetry;
