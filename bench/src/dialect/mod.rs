//! The protocols of those peers that have one of their own.

mod centrifuge;
mod socket_io;

pub use self::{centrifuge::Centrifuge, socket_io::SocketIo};

/// What stands between the quotes after `name`. Nothing that a load looks for has an escape in it.
fn field<'a>(text: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let start = memchr::memmem::find(text, name)? + name.len();
    let length = memchr::memchr(b'"', &text[start..])?;
    Some(&text[start..start + length])
}
