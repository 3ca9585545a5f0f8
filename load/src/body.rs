use std::fmt::Write;

/// The content of a message's text: its publisher, its number among the publisher's messages, and when it was due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Body {
    /// The publisher's number.
    pub(super) publisher: u32,
    /// Counted from 0 for each publisher.
    pub(super) count: u32,
    /// Nanoseconds since the start of the run.
    pub(super) due: u64,
}

impl Body {
    /// Room for three numbers, for runs of up to a thousand hours.
    pub(super) const SHORTEST: usize = 40;

    /// Writes it in exactly this many bytes; at least [`Body::SHORTEST`].
    pub(super) fn write(self, bytes: usize, text: &mut String) {
        text.clear();
        let Self { publisher, count, due } = self;
        // Writing to a string cannot fail.
        let _ = write!(text, "{publisher}.{count}.{due}.");
        text.extend(std::iter::repeat_n('x', bytes.saturating_sub(text.len())));
    }

    /// Reads what [`Body::write`] wrote; `None` for any other text.
    pub(super) fn read(text: &[u8]) -> Option<Self> {
        let (publisher, rest) = number(text)?;
        let (count, rest) = number(rest)?;
        let (due, _) = number(rest)?;
        Some(Self { publisher: publisher.try_into().ok()?, count: count.try_into().ok()?, due })
    }
}

/// The number up to the next dot, and the rest after the dot.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let mut number = 0u64;
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'0'..=b'9' => number = number.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?,
            b'.' if at > 0 => return Some((number, &text[at + 1..])),
            _ => return None,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_has_its_size() {
        let mut text = String::new();
        for body in [
            Body { publisher: 0, count: 0, due: 0 },
            Body { publisher: u32::MAX, count: u32::MAX, due: 1000 * 3600 * 1_000_000_000 },
        ] {
            for bytes in [Body::SHORTEST, 128] {
                body.write(bytes, &mut text);
                assert_eq!((Body::read(text.as_bytes()), text.len()), (Some(body), bytes));
            }
        }
    }

    #[test]
    fn other_texts_are_not_read() {
        for text in ["", "hello", "1.2.3", "1..3.x", "4294967296.0.0.x", "1.2.99999999999999999999.x"] {
            assert_eq!(Body::read(text.as_bytes()), None, "{text}");
        }
    }
}
