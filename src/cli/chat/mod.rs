//! The client for the terminal: it talks in rooms, never loses its place in them, and is fit for people and for scripts.
//!
//! What to do is decided by [`state::Chat`], which knows neither sockets nor clocks; [`talk`] carries it out.

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
