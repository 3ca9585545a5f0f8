/// How a connection's frames are written. Each connection has one, chosen when it is upgraded.
///
/// This is the one seam for encodings: the hub hands out values, and the socket writes them in the dialect of its client.
/// What goes to many is encoded once for each dialect and shared by all who speak it ([`Batch`](super::Batch)). A slimmer
/// or a compressed frame is one more variant here and one more arm where the socket encodes; the hub stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dialect {
    /// Plain JSON, each value in a text frame of its own.
    #[default]
    Json,
}

impl Dialect {
    /// How many dialects there are.
    pub(super) const COUNT: usize = 1;

    pub(super) fn index(self) -> usize {
        self as usize
    }
}
