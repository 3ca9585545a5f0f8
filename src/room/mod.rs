//! One order for a room: what a position is, and how publications that come over several ways are put in line.
//!
//! Everything here is a pure state machine: no I/O, no clock, no tasks.

mod position;
mod sequencer;

pub use position::Position;
pub use sequencer::{Effect, LogSlice, Placed, ReadFrom, ResetReason, Sequencer};
