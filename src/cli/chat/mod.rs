//! The terminal client: it talks in rooms, never loses its place in them, and serves people and scripts.
//!
//! [`state::Chat`] decides what to do, and knows neither sockets nor clocks; [`talk`] does it.

mod backoff;
mod command;
mod ends;
mod event;
#[cfg(test)]
mod fuzz;
mod input;
mod link;
mod news;
mod options;
mod printer;
mod room;
#[cfg(test)]
mod rules;
mod state;
mod talk;
mod terminal;
mod told;
mod unsent;
mod words;

pub(super) use self::{options::Options as Arguments, talk::run};
