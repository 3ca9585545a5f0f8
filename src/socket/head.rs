use super::Violation;
use crate::protocol::CloseCode;

/// The kind of a frame, with its number on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xa,
}

impl Opcode {
    fn read(number: u8) -> Option<Self> {
        [Self::Continuation, Self::Text, Self::Binary, Self::Close, Self::Ping, Self::Pong]
            .into_iter()
            .find(|opcode| *opcode as u8 == number)
    }

    pub(super) fn is_control(self) -> bool {
        self as u8 >= Self::Close as u8
    }
}

/// What comes before a frame's payload (RFC 6455, 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) is_final: bool,
    pub(super) opcode: Opcode,
    pub(super) length: u64,
    pub(super) mask: [u8; 4],
}

impl Head {
    /// Reads a complete head.
    fn read(bytes: &[u8]) -> Result<Self, Violation> {
        let opcode = Opcode::read(bytes[0] & 0x0f).ok_or(CloseCode::ProtocolError)?;
        let (length, mask) = bytes[1..].split_at(bytes.len() - 1 - MASK);
        let (length, least) = match length {
            [short] => (u64::from(short & 0x7f), 0),
            [_, long @ ..] => {
                let least = if long.len() == 2 { 126 } else { 1 << 16 };
                (long.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)), least)
            }
            [] => (0, 0),
        };
        // The length must take as few bytes as possible, and its first bit must be 0.
        if !(least..1 << 63).contains(&length) {
            return Err(CloseCode::ProtocolError.into());
        }
        let mask = mask.try_into().unwrap_or_default();
        Ok(Self { is_final: bytes[0] & 0x80 != 0, opcode, length, mask })
    }
}

const MASK: usize = 4;

/// The head of a frame as it arrives, perhaps byte by byte.
#[derive(Debug, Default)]
pub(super) struct PartialHead {
    bytes: [u8; 2 + 8 + MASK],
    count: usize,
}

impl PartialHead {
    /// Whether a part of a head has arrived.
    pub(super) fn is_within(&self) -> bool {
        self.count > 0
    }

    /// Takes from the input until the head is complete, and checks what needs no other frame.
    pub(super) fn take(&mut self, input: &mut &[u8]) -> Result<Option<Head>, Violation> {
        while self.count < self.size() {
            let Some((byte, rest)) = input.split_first() else { return Ok(None) };
            *input = rest;
            self.bytes[self.count] = *byte;
            self.count += 1;
            if self.count == 2 {
                check(self.bytes[0], self.bytes[1])?;
            }
        }
        let head = Head::read(&self.bytes[..self.count])?;
        self.count = 0;
        Ok(Some(head))
    }

    /// How many bytes the head has, as far as is known.
    fn size(&self) -> usize {
        let long = match self.bytes[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if self.count < 2 { 2 } else { 2 + long + MASK }
    }
}

/// A mistake is reported as soon as the first two bytes show it.
fn check(first: u8, second: u8) -> Result<(), Violation> {
    let (is_final, has_reserved_bits) = (first & 0x80 != 0, first & 0x70 != 0);
    let (is_masked, length) = (second & 0x80 != 0, second & 0x7f);
    let is_right = match Opcode::read(first & 0x0f) {
        Some(opcode) if opcode.is_control() => is_final && length <= 125,
        opcode => opcode.is_some(),
    };
    if has_reserved_bits || !is_masked || !is_right { Err(CloseCode::ProtocolError.into()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_written_in_as_few_bytes_as_it_takes() {
        let read = |length: &[u8]| {
            let bytes = [&[0x81], length, &[0; MASK]].concat();
            PartialHead::default().take(&mut &bytes[..]).map(|head| head.expect("a complete head").length)
        };
        for (length, expected) in [
            (&[0x80 | 125][..], Some(125)),
            (&[0x80 | 126, 0, 126], Some(126)),
            (&[0x80 | 126, 0, 125], None),
            (&[0x80 | 127, 0, 0, 0, 0, 0, 1, 0, 0], Some(65_536)),
            (&[0x80 | 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff], None),
            (&[0x80 | 127, 0x80, 0, 0, 0, 0, 0, 0, 0], None),
        ] {
            assert_eq!(read(length).ok(), expected, "{length:?}");
        }
    }
}
