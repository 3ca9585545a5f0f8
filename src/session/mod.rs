//! One connection, from the upgrade to the close.
//!
//! What a client's frames mean is decided by a pure state machine (`state.rs`); one task a connection
//! (`connection.rs`) waits, moves bytes, and does what the state machine says. To the hub the connection is a
//! [`Recipient`](crate::hub::Recipient) (`recipient.rs`).

mod connection;
mod recipient;
mod state;

pub use self::{
    connection::{Context, Options},
    state::Rules,
};
