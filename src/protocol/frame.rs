//! The unit that travels to clients.

use bytes::{BufMut, Bytes, BytesMut};

/// One text frame: a JSON object in UTF-8, encoded once and shared by all who get it. Cloning it copies a
/// pointer, never the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame(Bytes);

impl Frame {
    /// Wraps bytes that must be UTF-8, as a text frame has to be.
    pub fn new(bytes: Bytes) -> Result<Self, std::str::Utf8Error> {
        std::str::from_utf8(&bytes)?;
        Ok(Self(bytes))
    }

    /// The frame as it goes over the socket: final, text, not masked, its length, and the text (RFC 6455, 5.2).
    pub fn to_wire(&self) -> Bytes {
        const FINAL_TEXT: u8 = 0x81;
        let mut wire = BytesMut::with_capacity(self.len() + 10);
        wire.put_u8(FINAL_TEXT);
        match (u8::try_from(self.len()), u16::try_from(self.len())) {
            (Ok(length @ ..=125), _) => wire.put_u8(length),
            (_, Ok(length)) => {
                wire.put_u8(126);
                wire.put_u16(length);
            }
            _ => {
                wire.put_u8(127);
                wire.put_u64(self.len() as u64);
            }
        }
        wire.put_slice(&self.0);
        wire.freeze()
    }

    /// The text as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// How many bytes the text has.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no text; never so for a frame of this protocol.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Frame {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tungstenite::{Message, protocol::Role};

    use super::*;

    #[test]
    fn a_client_reads_what_is_on_the_wire() {
        for length in [0, 1, 125, 126, 65_535, 65_536, 100_000] {
            let frame = Frame::from("x".repeat(length));
            let mut client =
                tungstenite::WebSocket::from_raw_socket(Cursor::new(frame.to_wire().to_vec()), Role::Client, None);
            let Message::Text(text) = client.read().unwrap() else { panic!("no text") };
            assert_eq!(text.as_bytes(), frame.as_bytes());
        }
    }
}
