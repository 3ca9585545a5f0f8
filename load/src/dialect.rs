//! How a load is said and heard in the protocol of some server.

use std::fmt::{self, Write};

/// One client of the load, as a [`Dialect`] needs to know it.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// Counted from 0; no two clients of a run have the same number.
    pub number: usize,
    /// The room that it joins first: letters, digits and `-`. The name is new in each run.
    pub room: &'a str,
}

/// What a text means that a server has sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard<'a> {
    /// The server wants this text for an answer: a ping of the protocol's own, or one step of a connect that has
    /// several.
    Answer(String),
    /// A room was joined.
    Joined,
    /// A room was left.
    Left,
    /// A message of a room, with the body that [`Dialect::say`] was given, byte for byte.
    Delivery(&'a [u8]),
    /// The server refuses something, for this reason.
    Refused(String),
}

/// The protocol of a kind of server. It is pure: it reads and writes nothing but the texts it is given, and keeps no
/// state between them, so one dialect serves all clients of a run.
///
/// A body is ASCII with nothing in it that JSON or a URL would escape, so it can be put between quotes as it is.
pub trait Dialect {
    /// The path of the upgrade, with its query, for a URL that names none. Starts with `/`.
    fn path(&self) -> &str;

    /// Appends the texts that a client sends when it has been upgraded. If nothing is in the way they make it a member of
    /// its room, and the server's answer is heard as [`Heard::Joined`]; a protocol that first waits for the server
    /// leaves them for [`Heard::Answer`].
    fn open(&self, client: Client<'_>, texts: &mut Vec<String>);

    /// Tells what a text means, by a call for each thing that is in it, in order; what means nothing to a load gets no
    /// call. This is the hot path: once for every delivery.
    fn hear<'a>(&self, client: Client<'_>, text: &'a [u8], heard: &mut dyn FnMut(Heard<'a>));

    /// Appends the text with which a member of a room says a body to it. The member gets its own message back.
    fn say(&self, room: &str, body: &str, text: &mut String);

    /// Appends the text with which a client joins one more room.
    fn join(&self, client: Client<'_>, room: &str, text: &mut String);

    /// Appends the text with which a client leaves a room.
    fn leave(&self, client: Client<'_>, room: &str, text: &mut String);
}

/// Appends what is formatted, for dialects.
pub fn append(text: &mut String, what: fmt::Arguments<'_>) {
    // A string takes whatever is written to it.
    let _ = text.write_fmt(what);
}
