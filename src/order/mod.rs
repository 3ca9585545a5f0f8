//! One order for a channel: how publications that arrive by several ways are put in line.
//!
//! Everything here is a pure state machine: no I/O, no clock, no tasks.

mod sequencer;

pub use sequencer::{Effect, LogSlice, Past, Publication, ReadFrom, Sequencer};
