//! Frames byte by byte, for what no WebSocket library would write or tell.

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};

use super::DEADLINE;

/// A frame as a client has to write it: masked.
pub fn frame(first_byte: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(first_byte, payload.len() as u64, true);
    let mask: [u8; 4] = *bytes.last_chunk().expect("a mask");
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// What comes before a payload of this length.
pub fn head(first_byte: u8, length: u64, is_masked: bool) -> Vec<u8> {
    let mut bytes = vec![first_byte];
    let mask_bit = if is_masked { 0x80 } else { 0 };
    match length {
        0..126 => bytes.push(mask_bit | length as u8),
        126..65536 => {
            bytes.push(mask_bit | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(mask_bit | 127);
            bytes.extend(length.to_be_bytes());
        }
    }
    if is_masked {
        bytes.extend([0x12, 0x34, 0x56, 0x78]);
    }
    bytes
}

/// The next frame of a server: its first byte and its payload. `None` at the end of the connection.
pub async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> Option<(u8, Vec<u8>)> {
    let reading = async {
        let first = stream.read_u8().await.ok()?;
        let length = match stream.read_u8().await.ok()? {
            126 => u64::from(stream.read_u16().await.ok()?),
            127 => stream.read_u64().await.ok()?,
            short => u64::from(short),
        };
        let mut payload = vec![0; usize::try_from(length).expect("a length that memory has room for")];
        stream.read_exact(&mut payload).await.ok()?;
        Some((first, payload))
    };
    timeout(DEADLINE, reading).await.expect("a frame in time")
}

/// The code and the reason in the payload of a close frame.
pub fn read_close(payload: &[u8]) -> (u16, &str) {
    let (code, reason) = payload.split_first_chunk().expect("a code");
    (u16::from_be_bytes(*code), std::str::from_utf8(reason).expect("a reason in UTF-8"))
}
