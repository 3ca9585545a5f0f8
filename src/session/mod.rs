//! One connection, from the upgrade to the close.
//!
//! A pure state machine (`state.rs`) decides what a client's frames mean. What a client is told when something does not happen is in
//! `refusals.rs`. A `Guest` does what it says
//! (`guest.rs`, `commands.rs`). One task for each connection waits and moves bytes: of a WebSocket (`connection.rs`) or a stream
//! of events (`event_stream.rs`). To the hub, the connection is a [`Recipient`](crate::hub::Recipient) (`recipient.rs`).

mod commands;
mod connection;
mod context;
mod event_stream;
mod guest;
mod lease;
mod recipient;
mod refusals;
mod state;

pub use self::{
    context::{Arrival, Context, Options, Refused, StreamArrival},
    event_stream::EventBody,
    refusals::{banned, muted, not_published},
    state::Rules,
};
