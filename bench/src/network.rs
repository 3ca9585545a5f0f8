//! Ports, and the one request that a run makes.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::atomic::{AtomicU16, Ordering},
    time::Duration,
};

use crate::Result;

const ANSWER: Duration = Duration::from_secs(2);

/// Below those that the system gives to clients, of which a run has thousands.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A port that is free; not the same one twice in a row.
pub fn free_port() -> Result<u16> {
    static LAST: AtomicU16 = AtomicU16::new(0);
    // Two runs at a time begin at different places.
    let offset = std::process::id() as u16;
    for _ in PORTS {
        let step = LAST.fetch_add(1, Ordering::Relaxed).wrapping_add(offset.wrapping_mul(31));
        let port = PORTS.start + step % (PORTS.end - PORTS.start);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    Err("there is no free port".into())
}

/// Whether somebody accepts connections there.
pub fn is_open(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, ANSWER).is_ok()
}

/// The body of an answer with status 200.
pub fn get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER)?;
    stream.set_read_timeout(Some(ANSWER))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    // A server that does not close is done when it has sent what it announced.
    while body(&answer).is_none() {
        match stream.read(&mut buffer)? {
            0 => break,
            length => answer.extend_from_slice(&buffer[..length]),
        }
    }
    let answer = String::from_utf8_lossy(&answer);
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
        _ => Err(format!("{path} is answered with: {}", answer.lines().next().unwrap_or_default()).into()),
    }
}

/// The body, if its length was announced and it is all there.
fn body(answer: &[u8]) -> Option<&[u8]> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(start) = response.parse(answer).ok()? else { return None };
    let header = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case("content-length"))?;
    let length: usize = std::str::from_utf8(header.value).ok()?.parse().ok()?;
    answer.get(start..start + length)
}
