/// How a connection's frames are encoded. Each connection has one dialect, chosen at its upgrade.
///
/// This is the one seam for encodings: the hub hands out values, and the socket encodes them in its client's dialect.
/// What goes to many clients is encoded once for each dialect and shared ([`Batch`](super::Batch)). A compressed frame
/// would be one more variant here and one more arm in the socket's encoder, without a change to the hub.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// Plain JSON, each value in a text frame of its own.
    #[default]
    Json,
    /// The same without what such a client knows already ([`Frame::slim`](super::Frame::slim)).
    Slim,
    /// The same with the server that took each message.
    SlimWithOrigin,
}

impl Dialect {
    /// How many dialects there are.
    pub(super) const COUNT: usize = 3;

    pub(super) fn index(self) -> usize {
        self as usize
    }
}
