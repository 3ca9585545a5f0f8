//! One client's bytes: how its socket is read, written and closed.
//!
//! [`Inbound`] reads: around a pure [`Decoder`] of frames it has the reading, the deadlines and the accounts of one
//! client. [`Outbox`] writes. What both may hold is bounded, for each client and for all together. [`Inbound::close`]
//! is the only way to end a WebSocket. A stream of events has an [`EventOutbox`], which writes into a pipe that the body of
//! a response empties.

mod backlog;
mod bounds;
mod buffers;
mod closing;
mod decoder;
mod event_lines;
mod event_outbox;
mod head;
mod inbound;
#[cfg(test)]
mod memory;
mod outbox;
mod oversized;
mod phase;
mod piece;
mod pipe;
mod total;
mod transport;
mod wire;

pub use self::{
    bounds::Bounds,
    buffers::Buffers,
    closing::End,
    decoder::{Decoder, Received, Violation},
    event_lines::EventLines,
    event_outbox::EventOutbox,
    inbound::{Inbound, Intake},
    outbox::Outbox,
    phase::Phase,
    pipe::{PipeReceiving, PipeSending, pipe},
    total::Total,
    transport::{Receiving, Sending},
};
