//! One client's bytes: what is read from its socket, what is written to it, and how both come to an end.
//!
//! [`Inbound`] reads: a pure [`Decoder`] takes frames apart, and around it is one task's worth of reading, deadlines
//! and accounts. [`Outbox`] writes. What both may hold is bounded, for each client and for all together.
//! [`Inbound::close`] is the one way in which a connection ends.

mod batch;
mod bounds;
mod buffers;
mod closing;
mod decoder;
mod head;
mod inbound;
pub(crate) mod outbox;
mod oversized;
mod total;
mod wire;

pub use self::{
    batch::Batch,
    bounds::Bounds,
    buffers::Buffers,
    closing::End,
    decoder::{Decoder, Received, Violation},
    inbound::{Inbound, Intake},
    outbox::{Outbox, Phase},
    total::Total,
};
