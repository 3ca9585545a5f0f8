//! Frames as a server writes them (RFC 6455, 5.2): final and not masked.

use bytes::{BufMut, Bytes, BytesMut};

use super::head::Opcode;
use crate::protocol::{Dialect, Event, Frame, Item};

const FINAL: u8 = 0x80;

/// Most bytes in front of a payload.
const HEAD: usize = 10;

/// Most bytes of the reason in a close frame.
pub(super) const REASON: usize = 123;

/// Encodes items in this dialect: the one place where values become bytes.
pub(super) fn encode(dialect: Dialect, items: &[Item]) -> Bytes {
    let keeps_origin = dialect == Dialect::SlimWithOrigin;
    let mut wire = BytesMut::with_capacity(items.iter().map(|item| item.len() + HEAD).sum());
    for item in items {
        match (dialect, item) {
            // A message is the frame that other servers got; only the server's own events still need encoding.
            (Dialect::Json, Item::Message(frame) | Item::Past(frame)) => put_text(&mut wire, frame),
            (_, Item::Message(frame)) => {
                put_text(&mut wire, &frame.slim(keeps_origin, |id| acknowledges(items, id)));
            }
            (_, Item::Past(frame)) => put_text(&mut wire, &frame.slim(keeps_origin, |_| true)),
            (
                Dialect::Slim | Dialect::SlimWithOrigin,
                Item::Event(Event::History { room, epoch, messages, has_more }),
            ) => {
                let messages = messages.iter().map(|message| message.slim(keeps_origin, |_| true)).collect();
                let slim = Event::History { room: room.clone(), epoch: *epoch, messages, has_more: *has_more };
                put_text(&mut wire, &slim.encode());
            }
            (_, Item::Event(event)) => put_text(&mut wire, &event.encode()),
        }
    }
    wire.freeze()
}

/// Whether one of these tells its recipient that its message with this id is kept. The message is then its own.
fn acknowledges(items: &[Item], own: &str) -> bool {
    items.iter().any(|item| matches!(item, Item::Event(Event::Ack { id, .. }) if id.as_str() == own))
}

/// Adds a message to the client.
fn put_text(wire: &mut BytesMut, frame: &Frame) {
    wire.reserve(frame.len() + HEAD);
    wire.put_u8(FINAL | Opcode::Text as u8);
    match (u8::try_from(frame.len()), u16::try_from(frame.len())) {
        (Ok(length @ ..=125), _) => wire.put_u8(length),
        (_, Ok(length)) => {
            wire.put_u8(126);
            wire.put_u16(length);
        }
        _ => {
            wire.put_u8(127);
            wire.put_u64(frame.len() as u64);
        }
    }
    wire.put_slice(frame.as_bytes());
}

/// A ping without a payload.
pub(super) const PING: Bytes = Bytes::from_static(&[FINAL | Opcode::Ping as u8, 0]);

/// Adds a pong with this payload.
pub(super) fn put_pong(wire: &mut BytesMut, payload: &[u8]) {
    put_control(wire, Opcode::Pong, payload);
}

/// Whether these bytes begin a pong.
pub(super) fn is_pong(wire: &[u8]) -> bool {
    wire.first() == Some(&(FINAL | Opcode::Pong as u8))
}

/// A close frame with a code and a reason, which has at most [`REASON`] bytes.
pub(super) fn close(code: u16, reason: &str) -> Bytes {
    close_with(&[&code.to_be_bytes(), reason.as_bytes()].concat())
}

/// A close frame with this payload.
pub(super) fn close_with(payload: &[u8]) -> Bytes {
    let mut wire = BytesMut::new();
    put_control(&mut wire, Opcode::Close, payload);
    wire.freeze()
}

fn put_control(wire: &mut BytesMut, opcode: Opcode, payload: &[u8]) {
    debug_assert!(payload.len() <= 125, "a control frame has a short length");
    wire.reserve(payload.len() + 2);
    wire.put_u8(FINAL | opcode as u8);
    wire.put_u8(payload.len() as u8);
    wire.put_slice(payload);
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tungstenite::{Message, protocol::Role};

    use super::*;

    fn read(wire: &[u8]) -> Message {
        tungstenite::WebSocket::from_raw_socket(Cursor::new(wire.to_vec()), Role::Client, None).read().unwrap()
    }

    #[test]
    fn a_client_reads_what_is_on_the_wire() {
        for length in [0, 1, 125, 126, 65_535, 65_536, 100_000] {
            let frame = Frame::from("x".repeat(length));
            let Message::Text(message) = read(&encode(Dialect::Json, &[Item::Message(frame.clone())])) else {
                panic!("no text")
            };
            assert_eq!(message.as_bytes(), frame.as_bytes());
        }
        assert_eq!(read(&PING), Message::Ping(Bytes::new()));
        let mut pong = BytesMut::new();
        put_pong(&mut pong, &[7; 125]);
        assert_eq!(read(&pong), Message::Pong(Bytes::from_static(&[7; 125])));
        let Message::Close(Some(frame)) = read(&close(4001, "idle")) else { panic!("no close frame") };
        assert_eq!((u16::from(frame.code), frame.reason.as_str()), (4001, "idle"));
    }
}
