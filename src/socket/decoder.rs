use super::{
    head::{Head, Opcode, PartialHead},
    oversized::Oversized,
    wire::REASON,
};
use crate::protocol::CloseCode;

/// How much of an oversized message the decoder still reads to find its id: this many times the limit.
const READ_ON: usize = 8;

/// Decodes what a client sends (RFC 6455): frames, messages in parts, UTF-8, control frames, close codes.
///
/// It takes bytes as they arrive and keeps those of an incomplete message. It owns as much memory as has arrived of
/// that message, up to twice that while it grows, and none between messages.
#[derive(Debug)]
pub struct Decoder {
    max_message: usize,
    head: PartialHead,
    /// The frame whose payload is arriving.
    frame: Option<Payload>,
    /// The payload of a control frame, which may stand between the parts of a message.
    control: Vec<u8>,
    message: Option<Message>,
    keeps_messages: bool,
}

/// One frame, or the end of one.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// A whole message.
    Text(String),
    /// A whole message that was not wanted, so it has been thrown away.
    Binary,
    /// A part of a message whose end has not arrived.
    Part,
    /// A ping, whose payload the client wants back.
    Ping(Vec<u8>),
    /// A pong.
    Pong,
    /// The client closes the connection, with this code and reason, which is also the answer.
    Close(Vec<u8>),
}

/// Why a client is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The close code.
    pub code: CloseCode,
    /// The `id` of the message, if it could be read.
    pub id: Option<String>,
}

impl Violation {
    /// The reason in the close frame: the code's name, and the id if there is room for it.
    pub fn reason(&self) -> String {
        let name = self.code.reason();
        let named = self.id.as_ref().map(|id| format!("{name} id={id}"));
        named.filter(|reason| reason.len() <= REASON).unwrap_or_else(|| name.to_owned())
    }
}

impl From<CloseCode> for Violation {
    fn from(code: CloseCode) -> Self {
        Self { code, id: None }
    }
}

/// What is missing of a frame.
#[derive(Debug)]
struct Payload {
    opcode: Opcode,
    is_final: bool,
    remaining: u64,
    mask: [u8; 4],
}

/// A message that is arriving.
#[derive(Debug)]
struct Message {
    /// Length of all its parts, including the one that is arriving.
    length: u64,
    body: Body,
}

#[derive(Debug)]
enum Body {
    /// It is valid UTF-8 up to `checked`.
    Text {
        bytes: Vec<u8>,
        checked: usize,
    },
    /// It is thrown away.
    Skipped,
    Oversized(Box<Oversized>),
}

impl Decoder {
    /// A decoder for messages of at most `max_message` bytes.
    pub fn new(max_message: usize) -> Self {
        Self {
            max_message,
            head: PartialHead::default(),
            frame: None,
            control: Vec::new(),
            message: None,
            keeps_messages: true,
        }
    }

    /// Takes bytes from the front of the input until a frame is complete; `None` if that needs more. After a violation,
    /// what follows has no meaning, and this must not be called again.
    pub fn next(&mut self, input: &mut &[u8]) -> Result<Option<Received>, Violation> {
        if self.frame.is_none() {
            let Some(head) = self.head.take(input)? else { return Ok(None) };
            self.begin(&head)?;
        }
        let Some(frame) = &mut self.frame else { return Ok(None) };
        let length = usize::try_from(frame.remaining).unwrap_or(usize::MAX).min(input.len());
        let (chunk, rest) = input.split_at(length);
        *input = rest;
        frame.remaining -= length as u64;
        let is_complete = frame.remaining == 0;
        if frame.opcode.is_control() {
            append(&mut self.control, chunk, &mut frame.mask);
        } else if let Some(message) = &mut self.message {
            message.append(chunk, frame)?;
        }
        match is_complete.then(|| self.frame.take()).flatten() {
            Some(frame) => self.end(&frame).map(Some),
            None => Ok(None),
        }
    }

    /// From now on, reads messages and throws them away.
    pub fn discard(&mut self) {
        self.keeps_messages = false;
        if let Some(message) = &mut self.message {
            message.body = Body::Skipped;
        }
    }

    /// Whether a frame or a message is incomplete.
    pub fn is_within(&self) -> bool {
        self.head.is_within() || self.frame.is_some() || self.message.is_some()
    }

    /// How much memory it owns.
    pub fn kept(&self) -> usize {
        let message = match &self.message {
            Some(Message { body: Body::Text { bytes, .. }, .. }) => bytes.capacity(),
            _ => 0,
        };
        self.control.capacity() + message
    }

    /// The violation of a message whose rest did not come in time, or is not awaited.
    pub fn give_up(&self) -> Violation {
        match self.oversized() {
            Some(oversized) => too_big(oversized),
            None => CloseCode::SlowSender.into(),
        }
    }

    /// Whether the arriving message is too long already, and is read only for its id.
    pub fn is_oversized(&self) -> bool {
        self.oversized().is_some()
    }

    fn oversized(&self) -> Option<&Oversized> {
        match &self.message {
            Some(Message { body: Body::Oversized(oversized), .. }) => Some(oversized),
            _ => None,
        }
    }

    /// A frame begins.
    fn begin(&mut self, head: &Head) -> Result<(), Violation> {
        let Head { is_final, opcode, length, mask } = *head;
        self.frame = Some(Payload { opcode, is_final, remaining: length, mask });
        if opcode.is_control() {
            return Ok(());
        }
        // Only parts of the same kind continue a message.
        if self.message.is_some() != (opcode == Opcode::Continuation) {
            return Err(CloseCode::ProtocolError.into());
        }
        let is_kept = opcode == Opcode::Text && self.keeps_messages;
        let message = self.message.get_or_insert_with(|| Message::new(is_kept));
        message.grow(length, self.max_message)
    }

    /// A frame is complete.
    fn end(&mut self, frame: &Payload) -> Result<Received, Violation> {
        match frame.opcode {
            Opcode::Ping => Ok(Received::Ping(std::mem::take(&mut self.control))),
            Opcode::Pong => {
                self.control = Vec::new();
                Ok(Received::Pong)
            }
            Opcode::Close => close(std::mem::take(&mut self.control)),
            Opcode::Continuation | Opcode::Text | Opcode::Binary => match self.message.take() {
                Some(message) if frame.is_final => message.end(),
                message => {
                    self.message = message;
                    Ok(Received::Part)
                }
            },
        }
    }
}

impl Message {
    fn new(is_kept: bool) -> Self {
        let body = if is_kept { Body::Text { bytes: Vec::new(), checked: 0 } } else { Body::Skipped };
        Self { length: 0, body }
    }

    /// A part of this length begins.
    fn grow(&mut self, length: u64, max: usize) -> Result<(), Violation> {
        self.length = self.length.saturating_add(length);
        if self.length <= max as u64 {
            return Ok(());
        }
        match &self.body {
            Body::Text { bytes, .. } => {
                let mut oversized = Box::new(Oversized::new(READ_ON.saturating_mul(max)));
                oversized.scan(bytes);
                self.body = Body::Oversized(oversized);
                Ok(())
            }
            Body::Oversized(_) => Ok(()),
            Body::Skipped => Err(CloseCode::TooBig.into()),
        }
    }

    /// Takes more of a frame's payload, which `frame` no longer counts as remaining.
    fn append(&mut self, chunk: &[u8], frame: &mut Payload) -> Result<(), Violation> {
        match &mut self.body {
            Body::Skipped => Ok(()),
            Body::Text { bytes, checked } => {
                reserve(bytes, chunk.len(), frame.remaining);
                append(bytes, chunk, &mut frame.mask);
                // The end of a message completes the check of its UTF-8.
                if frame.remaining == 0 && frame.is_final { Ok(()) } else { check(bytes, checked) }
            }
            Body::Oversized(oversized) => {
                let mut plain = Vec::with_capacity(chunk.len());
                append(&mut plain, chunk, &mut frame.mask);
                oversized.scan(&plain);
                if oversized.is_done() { Err(too_big(oversized)) } else { Ok(()) }
            }
        }
    }

    fn end(self) -> Result<Received, Violation> {
        match self.body {
            Body::Text { bytes, .. } => {
                String::from_utf8(bytes).map(Received::Text).map_err(|_| CloseCode::NotUtf8.into())
            }
            Body::Skipped => Ok(Received::Binary),
            Body::Oversized(oversized) => Err(too_big(&oversized)),
        }
    }
}

fn too_big(oversized: &Oversized) -> Violation {
    Violation { code: CloseCode::TooBig, id: oversized.id().map(str::to_owned) }
}

/// Makes room for what has arrived. A frame's announced length is not allocated in advance, but it is the upper bound:
/// a buffer doubles until the whole frame fits.
fn reserve(bytes: &mut Vec<u8>, come: usize, remaining: u64) {
    if bytes.capacity() - bytes.len() < come {
        let ahead = usize::try_from(remaining).unwrap_or(usize::MAX).min(bytes.len());
        bytes.reserve_exact(come + ahead);
    }
}

/// Adds a part of a payload without its mask, and turns the mask to where the next part begins.
fn append(bytes: &mut Vec<u8>, chunk: &[u8], mask: &mut [u8; 4]) {
    let from = bytes.len();
    bytes.extend_from_slice(chunk);
    let mut words = bytes[from..].chunks_exact_mut(4);
    for word in &mut words {
        word.iter_mut().zip(*mask).for_each(|(byte, key)| *byte ^= key);
    }
    words.into_remainder().iter_mut().zip(*mask).for_each(|(byte, key)| *byte ^= key);
    mask.rotate_left(chunk.len() % 4);
}

/// Checks what has not been checked yet, except a character that is still incomplete.
fn check(bytes: &[u8], checked: &mut usize) -> Result<(), Violation> {
    match std::str::from_utf8(&bytes[*checked..]) {
        Ok(_) => *checked = bytes.len(),
        Err(error) if error.error_len().is_none() => *checked += error.valid_up_to(),
        Err(_) => return Err(CloseCode::NotUtf8.into()),
    }
    Ok(())
}

/// Reads a close frame, which may have a code, and then a reason.
fn close(payload: Vec<u8>) -> Result<Received, Violation> {
    match payload.split_first_chunk() {
        Some((code, _)) if !may_be_sent(u16::from_be_bytes(*code)) => Err(CloseCode::ProtocolError.into()),
        Some((_, reason)) if std::str::from_utf8(reason).is_err() => Err(CloseCode::NotUtf8.into()),
        None if !payload.is_empty() => Err(CloseCode::ProtocolError.into()),
        _ => Ok(Received::Close(payload)),
    }
}

/// Whether a code may be in a close frame: the registered ones, and those of libraries and applications. The others are
/// only for reports (1005, 1006, 1015) or have no meaning.
fn may_be_sent(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read, Write};

    use bytes::Bytes;
    use proptest::prelude::*;
    use tungstenite::{
        Message as Theirs, WebSocket,
        protocol::{
            Role, WebSocketConfig,
            frame::{Frame, coding::Data, coding::OpCode},
        },
    };

    use super::*;

    const MAX: usize = 1000;

    /// What another library's client writes for these messages; long ones are in parts with a ping in between.
    fn written(texts: &[String]) -> Vec<u8> {
        let mut client = WebSocket::from_raw_socket(Cursor::new(Vec::new()), Role::Client, None);
        for text in texts {
            let mut part = |part: &[u8], opcode, is_final| {
                let frame = Frame::message(Bytes::copy_from_slice(part), OpCode::Data(opcode), is_final);
                client.send(Theirs::Frame(frame)).unwrap();
            };
            match text.as_bytes() {
                [] => part(b"", Data::Text, true),
                [first, middle @ .., last] if text.len() > 20 => {
                    part(&[*first], Data::Text, false);
                    part(middle, Data::Continue, false);
                    part(&[*last], Data::Continue, true);
                    client.send(Theirs::Ping(Bytes::copy_from_slice(&[*last]))).unwrap();
                }
                whole => part(whole, Data::Text, true),
            }
        }
        client.get_ref().get_ref().clone()
    }

    /// What the decoder makes of bytes in pieces of this size, up to the first violation.
    fn decoded(bytes: &[u8], size: usize) -> (Vec<Received>, Option<Violation>) {
        let (mut decoder, mut all) = (Decoder::new(MAX), Vec::new());
        for mut piece in bytes.chunks(size) {
            loop {
                match decoder.next(&mut piece) {
                    Ok(Some(received)) => all.push(received),
                    Ok(None) => break,
                    Err(violation) => return (all, Some(violation)),
                }
            }
            assert!(piece.is_empty(), "all that came is taken in");
        }
        (all, None)
    }

    fn texts(received: &[Received]) -> Vec<&str> {
        let is_open = |received: &&Received| !matches!(received, Received::Close(_) | Received::Binary);
        let texts = received.iter().take_while(is_open).filter_map(|received| match received {
            Received::Text(text) => Some(text.as_str()),
            _ => None,
        });
        texts.collect()
    }

    /// The texts that another library's server reads.
    fn read_by_another(bytes: &[u8]) -> Vec<String> {
        struct Wire(Cursor<Vec<u8>>);
        impl Read for Wire {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                self.0.read(buffer)
            }
        }
        impl Write for Wire {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let config = WebSocketConfig::default().max_message_size(Some(MAX)).max_frame_size(Some(MAX));
        let mut server = WebSocket::from_raw_socket(Wire(Cursor::new(bytes.to_vec())), Role::Server, Some(config));
        let mut texts = Vec::new();
        while let Ok(message) = server.read() {
            match message {
                Theirs::Text(text) => texts.push(text.to_string()),
                Theirs::Binary(_) | Theirs::Close(_) => break,
                Theirs::Ping(_) | Theirs::Pong(_) | Theirs::Frame(_) => {}
            }
        }
        texts
    }

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mask = [1, 2, 3, 4];
        let mut bytes = vec![first];
        match u8::try_from(payload.len()) {
            Ok(length @ ..=125) => bytes.push(0x80 | length),
            _ => {
                bytes.push(0x80 | 126);
                bytes.extend((payload.len() as u16).to_be_bytes());
            }
        }
        bytes.extend(mask);
        bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
        bytes
    }

    proptest! {
        #[test]
        fn what_a_client_writes_is_read_in_whatever_pieces_it_comes(
            sent in prop::collection::vec("\\PC{0,30}", 0..6), size in 1_usize..40,
        ) {
            let bytes = written(&sent);
            let (received, violation) = decoded(&bytes, size);
            prop_assert_eq!(violation, None);
            prop_assert_eq!(texts(&received), sent);
        }

        #[test]
        fn bytes_that_were_changed_on_the_way_are_read_as_others_read_them(
            sent in prop::collection::vec("\\PC{0,30}", 1..5),
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
            size in 1_usize..40,
        ) {
            let mut bytes = written(&sent);
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            let whole = decoded(&bytes, usize::MAX);
            prop_assert_eq!(texts(&whole.0), read_by_another(&bytes));
            prop_assert_eq!(&decoded(&bytes, size), &whole);
        }

        #[test]
        fn any_bytes_are_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..100), size in 1_usize..9) {
            prop_assert_eq!(decoded(&bytes, size), decoded(&bytes, usize::MAX));
        }
    }

    #[test]
    fn it_keeps_what_has_come_of_a_message_and_nothing_between_two() {
        let mut decoder = Decoder::new(1 << 17);
        let mut head: &[u8] = &[0x81, 0xff, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0];
        assert_eq!(decoder.next(&mut head), Ok(None));
        assert_eq!(decoder.kept(), 0, "an announced length is not believed");
        for come in 1..=1 << 14 {
            let mut bytes: &[u8] = &[b'x'; 8];
            let received = decoder.next(&mut bytes).unwrap();
            assert_eq!(received.is_some(), come == 1 << 14);
            assert!(decoder.kept() <= (16 * come).min(1 << 17), "{} after {come}", decoder.kept());
        }
        assert_eq!((decoder.kept(), decoder.is_within()), (0, false));
        let mut ping = &frame(0x89, &[b'x'; 126])[..];
        assert!(decoder.next(&mut ping).is_err(), "a control frame has a short length");
    }

    #[test]
    fn bad_utf8_is_seen_before_a_message_ends() {
        let (received, violation) = decoded(&frame(0x01, b"{\xff"), usize::MAX);
        assert_eq!((received, violation), (vec![], Some(CloseCode::NotUtf8.into())));
        let euro = "€".as_bytes();
        let bytes = [frame(0x01, &euro[..1]), frame(0x00, &euro[1..2]), frame(0x80, &euro[2..])].concat();
        let expected = vec![Received::Part, Received::Part, Received::Text("€".into())];
        assert_eq!(decoded(&bytes, 1), (expected, None));
    }

    #[test]
    fn a_message_that_is_too_long_is_read_on_for_its_id() {
        let too_big = |id: Option<&str>| Some(Violation { code: CloseCode::TooBig, id: id.map(str::to_owned) });
        let text = format!(r#"{{"text":"{}","id":"m-1","more":1}}"#, "x".repeat(3 * MAX));
        for size in [1, 100, usize::MAX] {
            assert_eq!(decoded(&frame(0x81, text.as_bytes()), size).1, too_big(Some("m-1")));
            let (start, end) = text.as_bytes().split_at(MAX / 2);
            let parts = [frame(0x01, start), frame(0x80, end)].concat();
            assert_eq!(decoded(&parts, size), (vec![Received::Part], too_big(Some("m-1"))));
        }
        let without = [b'x'; 3 * MAX];
        assert_eq!(decoded(&frame(0x81, &without), 100).1, too_big(None));
        assert_eq!(decoded(&frame(0x82, &without), 100).1, too_big(None));
        // A message that never ends is not read for ever, and none of it is kept.
        let mut decoder = Decoder::new(MAX);
        let mut head: &[u8] = &[0x81, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(decoder.next(&mut head), Ok(None));
        let mut read = 0;
        while let Ok(received) = decoder.next(&mut &without[..100]) {
            assert_eq!((received, decoder.kept(), decoder.is_oversized()), (None, 0, true));
            read += 100;
        }
        assert!(read <= READ_ON * MAX, "{read}");
    }

    #[test]
    fn the_reason_names_the_id_where_it_fits() {
        let reason = |id: Option<&str>| Violation { code: CloseCode::TooBig, id: id.map(str::to_owned) }.reason();
        assert_eq!(reason(None), "frame_too_big");
        assert_eq!(reason(Some("m-1")), "frame_too_big id=m-1");
        assert_eq!(reason(Some(&"x".repeat(106))).len(), REASON);
        assert_eq!(reason(Some(&"é".repeat(54))), "frame_too_big");
    }
}
