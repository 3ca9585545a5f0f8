//! One connection, from the upgrade to the close.
//!
//! What a client's frames mean is decided by a pure state machine (`state.rs`); one task a connection
//! (`connection.rs`) waits, moves bytes, and does what the state machine says.

mod connection;
mod state;

pub use self::{connection::Connection, state::Rules};
