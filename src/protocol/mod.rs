//! What goes over the wire: commands from clients, events to clients, envelopes between servers.
//!
//! This module turns bytes into checked values and values into bytes, and knows nothing of sockets, Redis or
//! tasks. Every code that a client can see, in an `error` or in a close frame, is in [`codes`].
//! `docs/protocol.md` describes the same for people; a test parses every example on that page.

pub mod codes;
mod command;
mod envelope;
mod event;
mod frame;
mod names;
mod username;

pub use codes::{CloseCode, ErrorCode};
pub use command::{Command, History, Rejection};
pub use envelope::{Draft, Envelope, Identity};
pub use event::{Event, Place};
pub use frame::Frame;
pub use names::{Channel, Epoch, Limits, MessageId, NameError, RoomId};
pub use username::Username;
