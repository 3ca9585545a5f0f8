//! The protocols of those peers that have one of their own.

mod centrifuge;
mod socket_io;

use std::sync::LazyLock;

use roomcast_load::Field;

pub use self::{centrifuge::Centrifuge, socket_io::SocketIo};

/// The body of a delivery.
static TEXT: LazyLock<Field> = LazyLock::new(|| Field::after(r#""text":""#));
