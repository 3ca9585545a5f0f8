//! Frames that break the WebSocket protocol or its limits, written byte by byte, and some that only look as if.

use roomcast::protocol::CloseCode::{Binary, NotUtf8, ProtocolError, TooBig};
use serde_json::json;

use super::{Case, Outcome, Sent, defaults, json::pong};
use crate::support::{frame, head};

// The first byte of a frame, after RFC 6455, section 5.2.
const FIN: u8 = 0x80;
const RSV1: u8 = 0x40;
const RSV3: u8 = 0x10;
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const BINARY: u8 = 0x2;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;

const JSON_PING: &[u8] = br#"{"type":"ping"}"#;

pub(super) fn cases() -> Vec<Case> {
    [kinds(), utf8(), sizes(), broken(), fragments(), answers(), goodbyes()].into_iter().flatten().collect()
}

fn kinds() -> Vec<Case> {
    vec![
        Case::closed("a binary frame", frame(FIN | BINARY, JSON_PING), Binary),
        Case::closed("an empty binary frame", frame(FIN | BINARY, b""), Binary),
        Case::closed("a binary frame in two parts", [frame(BINARY, b"{"), frame(FIN, b"}")].concat(), Binary),
        Case::new(
            "a ping and a pong that nobody asked for",
            Sent::Bytes([frame(FIN | PING, &[7; 125]), frame(FIN | PONG, b"unasked")].concat()),
            Outcome::Nothing,
        ),
    ]
}

fn utf8() -> Vec<Case> {
    let closed = |name, bytes: &[u8]| Case::closed(name, frame(FIN | TEXT, bytes), NotUtf8);
    let message = "{\"type\":\"message\",\"text\":\"€\"}".as_bytes();
    let split = message.iter().position(|byte| *byte == 0xe2).expect("the first byte of the euro sign") + 1;
    let halves = [frame(TEXT, &message[..split]), frame(FIN, &message[split..])];
    vec![
        closed("a byte that UTF-8 does not have", b"{\"type\":\"message\",\"text\":\"\xff\"}"),
        closed("a character that is cut off", b"{\"type\":\"message\",\"text\":\"\xe2\x82"),
        closed("a character written longer than it is", b"{\"type\":\"message\",\"text\":\"\xc0\xaf\"}"),
        closed("a surrogate in UTF-8", b"{\"type\":\"message\",\"text\":\"\xed\xa0\x80\"}"),
        closed("Latin-1", b"{\"type\":\"message\",\"text\":\"caf\xe9\"}"),
        Case::closed("bad UTF-8 in the second part", [halves[0].clone(), frame(FIN, b"\"}")].concat(), NotUtf8),
        Case::new(
            "a character split between two parts",
            Sent::Bytes(halves.concat()),
            Outcome::Events(vec![json!({"type": "message", "text": "€"})]),
        ),
    ]
}

fn sizes() -> Vec<Case> {
    let max = defaults().max_frame_bytes;
    let padded = |length: usize| [JSON_PING, &vec![b' '; length - JSON_PING.len()]].concat();
    let half = padded(max / 2);
    vec![
        is_a_ping("a frame as long as may be", frame(FIN | TEXT, &padded(max))),
        Case::closed("a frame one byte too long", frame(FIN | TEXT, &padded(max + 1)), TooBig),
        Case::closed("a frame of 1 MiB", frame(FIN | TEXT, &padded(1 << 20)), TooBig),
        Case::closed("a binary frame of 1 MiB", frame(FIN | BINARY, &vec![0; 1 << 20]), TooBig),
        is_a_ping(
            "parts that together are as long as may be",
            [frame(TEXT, &half), frame(FIN, &vec![b' '; max / 2])].concat(),
        ),
        Case::closed(
            "parts that together are one byte too long",
            [frame(TEXT, &half), frame(FIN, &vec![b' '; max / 2 + 1])].concat(),
            TooBig,
        ),
        Case::closed("the head of a frame of 1 GiB", head(FIN | TEXT, 1 << 30, true), TooBig),
        Case::closed("the head of the longest frame there is", head(FIN | TEXT, u64::MAX >> 1, true), TooBig),
    ]
}

fn broken() -> Vec<Case> {
    let closed = |name, bytes| Case::closed(name, bytes, ProtocolError);
    vec![
        closed("a frame without a mask", [head(FIN | TEXT, 15, false), JSON_PING.to_vec()].concat()),
        closed("the first reserved bit", frame(FIN | RSV1 | TEXT, JSON_PING)),
        closed("the last reserved bit", frame(FIN | RSV3 | TEXT, JSON_PING)),
        closed("a reserved data opcode", frame(FIN | 0x3, JSON_PING)),
        closed("a reserved control opcode", frame(FIN | 0xb, b"")),
        closed("a ping that is too long", frame(FIN | PING, &[0; 126])),
        closed("a ping in parts", frame(PING, b"a")),
        closed("a close frame that is too long", frame(FIN | CLOSE, &[&[3, 232], &[b'a'; 124][..]].concat())),
        closed("a close frame with half a code", frame(FIN | CLOSE, &[3])),
        Case::closed("a close frame with bad UTF-8", frame(FIN | CLOSE, &[3, 232, 0xff]), NotUtf8),
        closed("HTTP", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
    ]
}

fn fragments() -> Vec<Case> {
    let closed = |name, bytes| Case::closed(name, bytes, ProtocolError);
    let (start, end) = JSON_PING.split_at(4);
    let one_by_one = JSON_PING.iter().map(|byte| frame(CONTINUATION, &[*byte])).collect::<Vec<_>>().concat();
    vec![
        is_a_ping("a message in two parts", [frame(TEXT, start), frame(FIN, end)].concat()),
        is_a_ping(
            "a message byte by byte, with empty parts",
            [frame(TEXT, b""), one_by_one, frame(CONTINUATION, b""), frame(FIN, b"")].concat(),
        ),
        is_a_ping("a ping between two parts", [frame(TEXT, start), frame(FIN | PING, b""), frame(FIN, end)].concat()),
        closed("a part without a beginning", frame(FIN | CONTINUATION, end)),
        closed("a message within a message", [frame(TEXT, start), frame(FIN | TEXT, JSON_PING)].concat()),
    ]
}

/// Commands that came before a bad frame are answered before the socket is closed for it.
fn answers() -> Vec<Case> {
    let bad_frames = [
        ("a binary frame after good ones", frame(FIN | BINARY, b""), Binary),
        ("bad UTF-8 after good frames", frame(FIN | TEXT, b"\xff"), NotUtf8),
        ("a frame that is too long after good ones", head(FIN | TEXT, 1 << 30, true), TooBig),
        ("a reserved opcode after good frames", frame(FIN | 0x3, b""), ProtocolError),
    ];
    let case = |(name, bad_frame, code)| {
        let message = json!({"type": "message", "text": "a", "id": name});
        let good_frames = [JSON_PING, message.to_string().as_bytes()].map(|json| frame(FIN | TEXT, json)).concat();
        let events = [pong(), message, json!({"type": "ack", "id": name})];
        Case::closed(name, Vec::new(), code).after_bytes([good_frames, bad_frame].concat(), events)
    };
    bad_frames.map(case).into()
}

fn goodbyes() -> Vec<Case> {
    let goodbye = |name, payload: &[u8], answer| {
        Case::new(name, Sent::Bytes(frame(FIN | CLOSE, payload)), Outcome::Goodbye(answer))
    };
    let reserved = [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, u16::MAX].map(|code: u16| {
        let name = format!("a close frame with code {code}, which must not be sent");
        Case::closed(name, frame(FIN | CLOSE, &code.to_be_bytes()), ProtocolError)
    });
    let hang_up = |name, bytes| Case::new(name, Sent::HangUp(bytes), Outcome::Nothing);
    let mut cases = vec![
        goodbye("a close frame with a code of the client's own", &4321_u16.to_be_bytes(), 4321),
        goodbye("a close frame with a registered code and a reason", &[&[3, 245][..], "aé".as_bytes()].concat(), 1013),
        hang_up("a connection that ends without a word", Vec::new()),
        hang_up("a connection that ends within a frame", frame(FIN | TEXT, JSON_PING)[..9].to_vec()),
        hang_up("a connection that ends within a message", frame(TEXT, JSON_PING)),
    ];
    cases.extend(reserved);
    cases
}

/// Frames that are a JSON `ping`.
fn is_a_ping(name: &str, bytes: Vec<u8>) -> Case {
    Case::new(name, Sent::Bytes(bytes), Outcome::Events(vec![pong()]))
}
