//! What goes over the wire: commands from clients, events to clients, envelopes between servers.
//!
//! This module turns bytes into checked values and values into bytes, and knows nothing about sockets, Redis or tasks.
//! Every code that a client can see, in an `error` or in a close frame, is in [`codes`]. `docs/protocol.md` describes
//! the same for people; a test parses every example on that page.

mod batch;
pub mod codes;
mod command;
mod content;
mod dialect;
mod envelope;
mod event;
mod frame;
mod heading;
mod moderation;
mod names;
mod position;
mod post;
pub mod roll;
mod slim;
mod username;

pub use batch::{Batch, Item};
pub use codes::{CloseCode, ErrorCode, ResetReason, Right};
pub use command::{Command, History, Rejection};
pub use content::{BadData, Content, Data, EventName};
pub use dialect::Dialect;
pub use envelope::{Draft, Envelope, Identity};
pub use event::Event;
pub use frame::Frame;
pub use heading::Heading;
pub use moderation::{Action, Measure};
pub use names::{Channel, Epoch, Limits, MessageId, NameError, RoomId};
pub use position::{Position, Stamp};
pub use post::Post;
pub use username::Username;
