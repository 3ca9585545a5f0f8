//! How a load speaks the protocol of some server.

use std::fmt::{self, Write};

/// One client of the load, as far as a [`Dialect`] needs to know it.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Counted from 0; no two clients of a run have the same number.
    pub number: usize,
    /// The room that it joins first: letters, digits and `-`. The name is new in each run.
    pub room: &'a str,
}

/// The meaning of a text from a server.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// The server wants this text as an answer: to the protocol's own ping, or as one step of a longer connect.
    Answer(String),
    /// A room was joined.
    Joined,
    /// A room was left.
    Left,
    /// A message in a room, with the exact body that was given to [`Dialect::say`].
    Delivery(&'a [u8]),
    /// The server refused something, for this reason.
    Refused(String),
}

/// The protocol of one kind of server. It is pure: it only reads and writes the texts that it is given, and keeps no
/// state, so one dialect serves all clients of a run.
///
/// A body is ASCII that neither JSON nor a URL escapes, so it may stand between quotes unchanged.
pub trait Dialect {
    /// The path of the upgrade, with its query, for a URL that names none. Starts with `/`.
    fn path(&self) -> &str;

    /// The subprotocol that clients offer, if they offer one.
    fn subprotocol(&self) -> Option<&str> {
        None
    }

    /// Appends the texts that a client sends after its upgrade to become a member of its room; the server's answer is
    /// heard as [`Heard::Joined`]. A protocol in which the server speaks first sends them with [`Heard::Answer`].
    fn open(&self, client: Client<'_>, texts: &mut Vec<String>);

    /// Reads a text, with one call for each meaning in it, in order; what a load need not know gets no call. This is
    /// the hot path: it runs once for every delivery.
    fn hear<'a>(&self, client: Client<'_>, text: &'a [u8], heard: &mut dyn FnMut(Heard<'a>));

    /// Appends the text with which a member says a body in a room. The member gets its own message back.
    fn say(&self, room: &str, body: &str, text: &mut String);

    /// Appends the text with which a client joins one more room.
    fn join(&self, client: Client<'_>, room: &str, text: &mut String);

    /// Appends the text with which a client leaves a room.
    fn leave(&self, client: Client<'_>, room: &str, text: &mut String);
}

/// Appends formatted text, for dialects.
pub fn append(text: &mut String, what: fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = text.write_fmt(what);
}
