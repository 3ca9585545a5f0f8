use std::io::Cursor;

use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

/// Longest frame to accept. A server that announces more is broken.
const LONGEST: u64 = 16 << 20;

/// The mask of all frames to servers. The protocol requires one; only browsers need one that nobody can guess.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// What a server sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming<'a> {
    Text(&'a [u8]),
    Ping(&'a [u8]),
    Pong,
    /// The code and the reason, for people.
    Close(String),
}

/// The first frame in these bytes, and its length; `None` if it is incomplete.
///
/// # Errors
/// If the server breaks the protocol.
pub(super) fn cut(bytes: &[u8]) -> Result<Option<(Incoming<'_>, usize)>, String> {
    let mut cursor = Cursor::new(bytes);
    let Some((header, length)) = FrameHeader::parse(&mut cursor).map_err(|why| why.to_string())? else {
        return Ok(None);
    };
    if length > LONGEST {
        return Err(format!("a frame of {length} bytes"));
    }
    let (start, length) = (cursor.position() as usize, length as usize);
    let Some(payload) = bytes.get(start..start + length) else { return Ok(None) };
    if !header.is_final || header.mask.is_some() || header.rsv1 {
        return Err("a frame that is a fragment, masked or compressed".to_owned());
    }
    let incoming = match header.opcode {
        OpCode::Data(Data::Text) => Incoming::Text(payload),
        OpCode::Control(Control::Ping) => Incoming::Ping(payload),
        OpCode::Control(Control::Pong) => Incoming::Pong,
        OpCode::Control(Control::Close) => Incoming::Close(close(payload)),
        other => return Err(format!("a frame of the kind {other}")),
    };
    Ok(Some((incoming, start + length)))
}

fn close(payload: &[u8]) -> String {
    match payload {
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            format!("closed with {code} {}", String::from_utf8_lossy(reason)).trim_end().to_owned()
        }
        _ => "closed without a code".to_owned(),
    }
}

/// Appends a text frame, as a client sends it.
pub(super) fn put_text(text: &[u8], out: &mut Vec<u8>) {
    put(OpCode::Data(Data::Text), text, out);
}

/// Appends a pong.
pub(super) fn put_pong(payload: &[u8], out: &mut Vec<u8>) {
    put(OpCode::Control(Control::Pong), payload, out);
}

/// Appends a close frame.
pub(super) fn put_close(out: &mut Vec<u8>) {
    put(OpCode::Control(Control::Close), &1000u16.to_be_bytes(), out);
}

fn put(opcode: OpCode, payload: &[u8], out: &mut Vec<u8>) {
    let header = FrameHeader { opcode, mask: Some(MASK), ..FrameHeader::default() };
    // Writing to a vector cannot fail.
    let _ = header.format(payload.len() as u64, out);
    out.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
}

#[cfg(test)]
mod tests {
    use tungstenite::{
        Message,
        protocol::{Role, WebSocket},
    };

    use super::*;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            length @ 0..126 => frame.push(length as u8),
            length => frame.extend([126, (length >> 8) as u8, length as u8]),
        }
        frame.extend(payload);
        frame
    }

    #[test]
    fn frames_are_cut_wherever_the_bytes_end() {
        let long = "x".repeat(300);
        let bytes = [frame(0x81, b"short"), frame(0x81, long.as_bytes()), frame(0x89, b"?")].concat();
        for end in 0..=bytes.len() {
            let (mut at, mut found) = (0, Vec::new());
            while let Some((incoming, taken)) = cut(&bytes[at..end]).unwrap() {
                found.push(incoming);
                at += taken;
            }
            let whole =
                [(7, Incoming::Text(b"short")), (311, Incoming::Text(long.as_bytes())), (314, Incoming::Ping(b"?"))];
            let expected: Vec<Incoming<'_>> =
                whole.into_iter().filter(|(last, _)| *last <= end).map(|(_, incoming)| incoming).collect();
            assert_eq!(found, expected, "of the first {end} bytes");
        }
    }

    #[test]
    fn a_close_says_why() {
        let closed = |payload: &[u8]| match cut(&frame(0x88, payload)) {
            Ok(Some((Incoming::Close(why), _))) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(closed(b"\x0f\xa8slow_consumer"), "closed with 4008 slow_consumer");
        assert_eq!(closed(b"\x03\xe8"), "closed with 1000");
        assert_eq!(closed(b""), "closed without a code");
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        for wrong in [frame(0x01, b"part"), frame(0x82, b"binary"), frame(0xc1, b"compressed"), frame(0x83, b"?")] {
            assert!(cut(&wrong).is_err(), "{wrong:?}");
        }
        assert!(cut(&[0x81, 127, 1, 0, 0, 0, 0, 0, 0, 0]).is_err());
    }

    #[test]
    fn a_library_reads_what_is_sent() {
        let mut out = Vec::new();
        put_text("a smörgåsbord".as_bytes(), &mut out);
        put_pong(b"abc", &mut out);
        put_close(&mut out);
        let mut server = WebSocket::from_raw_socket(Cursor::new(out), Role::Server, None);
        assert_eq!(server.read().unwrap(), Message::text("a smörgåsbord"));
        assert_eq!(server.read().unwrap(), Message::Pong("abc".into()));
        assert!(matches!(server.read().unwrap(), Message::Close(Some(frame)) if u16::from(frame.code) == 1000));
    }
}
