//! One client's bytes: what is read from its socket, what is written to it, and how both come to an end.
//!
//! [`Inbound`] reads: a pure [`Decoder`] takes frames apart, and around it is one task's worth of reading, deadlines
//! and accounts. [`Outbox`] writes. What both may hold is bounded, for each client and for all together.
//! [`Inbound::close`] is the one way in which a connection ends.

mod backlog;
mod bounds;
mod buffers;
mod closing;
mod decoder;
mod head;
mod inbound;
#[cfg(test)]
mod memory;
mod outbox;
mod oversized;
mod phase;
mod piece;
mod total;
mod transport;
mod wire;

pub use self::{
    bounds::Bounds,
    buffers::Buffers,
    closing::End,
    decoder::{Decoder, Received, Violation},
    inbound::{Inbound, Intake},
    outbox::Outbox,
    phase::Phase,
    total::Total,
    transport::{Receiving, Sending},
};
