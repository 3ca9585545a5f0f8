use std::{
    io::{self, ErrorKind, Read, Write},
    net::SocketAddr,
};

use mio::net::TcpStream;
use tungstenite::{
    client::IntoClientRequest,
    handshake::{client::generate_request, derive_accept_key},
};

/// Free room in the shared buffer for one read.
const READ: usize = 64 << 10;

/// A socket that never blocks, with the bytes that it has not accepted yet and those of an incomplete frame.
#[derive(Debug)]
pub(super) struct Connection {
    stream: TcpStream,
    /// Bytes that the socket has not accepted.
    out: Vec<u8>,
    /// The beginning of an incomplete frame.
    partial: Vec<u8>,
}

/// The result of a read.
pub(super) enum Filled {
    /// The buffer has this many bytes now; the flag says whether there may be more.
    Bytes(usize, bool),
    Nothing,
    End,
}

impl Connection {
    /// Begins to connect.
    pub(super) fn to(address: SocketAddr) -> io::Result<Self> {
        Ok(Self { stream: TcpStream::connect(address)?, out: Vec::new(), partial: Vec::new() })
    }

    /// The socket, to be watched.
    pub(super) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Whether the connect has succeeded; `false` while it is under way.
    pub(super) fn connected(&self) -> io::Result<bool> {
        if let Some(why) = self.stream.take_error()? {
            return Err(why);
        }
        match self.stream.peer_addr() {
            Ok(_) => {
                self.stream.set_nodelay(true)?;
                Ok(true)
            }
            Err(why) if why.kind() == ErrorKind::NotConnected => Ok(false),
            Err(why) => Err(why),
        }
    }

    /// Sends bytes, now or as soon as the socket accepts them.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        if !self.out.is_empty() {
            self.out.extend_from_slice(bytes);
            return Ok(());
        }
        let taken = self.write(bytes)?;
        self.out.extend_from_slice(&bytes[taken..]);
        Ok(())
    }

    /// Sends as much of the waiting bytes as the socket accepts.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        let out = std::mem::take(&mut self.out);
        let taken = self.write(&out)?;
        self.out = out;
        self.out.drain(..taken);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut taken = 0;
        while taken < bytes.len() {
            match self.stream.write(&bytes[taken..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => taken += count,
                Err(why) if why.kind() == ErrorKind::WouldBlock => break,
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) => return Err(why),
            }
        }
        Ok(taken)
    }

    /// Reads into the buffer, after the beginning that is already there.
    pub(super) fn read(&mut self, buffer: &mut Vec<u8>) -> io::Result<Filled> {
        let held = self.partial.len();
        if buffer.len() < held + READ {
            buffer.resize(held + READ, 0);
        }
        loop {
            match self.stream.read(&mut buffer[held..]) {
                Ok(0) => return Ok(Filled::End),
                Ok(count) => {
                    buffer[..held].copy_from_slice(&self.partial);
                    self.partial.clear();
                    return Ok(Filled::Bytes(held + count, held + count == buffer.len()));
                }
                Err(why) if why.kind() == ErrorKind::WouldBlock => return Ok(Filled::Nothing),
                Err(why) if why.kind() == ErrorKind::Interrupted => {}
                Err(why) => return Err(why),
            }
        }
    }

    /// Keeps the bytes of an incomplete frame for the next read.
    pub(super) fn keep(&mut self, rest: &[u8]) {
        self.partial.extend_from_slice(rest);
    }
}

/// The request for an upgrade that offers this subprotocol, and its key.
pub(super) fn upgrade_request(url: &str, subprotocol: Option<&str>) -> Result<(Vec<u8>, String), String> {
    let mut request = url.into_client_request().map_err(|why| why.to_string())?;
    if let Some(subprotocol) = subprotocol {
        let subprotocol = subprotocol.parse().map_err(|_| format!("{subprotocol:?} is no subprotocol"))?;
        request.headers_mut().insert("Sec-WebSocket-Protocol", subprotocol);
    }
    generate_request(request).map_err(|why| why.to_string())
}

/// How many bytes the answer to an upgrade has; `None` if it is incomplete.
///
/// # Errors
/// If the server refuses.
pub(super) fn upgrade_answer(bytes: &[u8], key: &str) -> Result<Option<usize>, String> {
    let mut headers = [httparse::EMPTY_HEADER; 64];
    let mut response = httparse::Response::new(&mut headers);
    let length = match response.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(why) => return Err(format!("the answer to the upgrade is no HTTP ({why})")),
    };
    let header = |name: &str| {
        let found = response.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        found.map(|header| String::from_utf8_lossy(header.value))
    };
    match response.code {
        Some(101)
            if header("sec-websocket-accept").is_some_and(|accept| accept == derive_accept_key(key.as_bytes())) =>
        {
            Ok(Some(length))
        }
        Some(101) => Err("the answer to the upgrade has the wrong Sec-WebSocket-Accept".to_owned()),
        code => {
            let reason = response.reason.unwrap_or("");
            let again = header("retry-after").map(|seconds| format!("; Retry-After: {seconds}"));
            Err(format!("the upgrade was refused: {} {reason}{}", code.unwrap_or(0), again.unwrap_or_default()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upgrade_is_taken_or_refused() {
        let (request, key) = upgrade_request("ws://127.0.0.1:8080/ws?a=b", None).unwrap();
        assert!(request.starts_with(b"GET /ws?a=b HTTP/1.1\r\n"));
        let accept = derive_accept_key(key.as_bytes());
        let answer = format!("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: {accept}\r\n\r\n");
        assert_eq!(upgrade_answer(format!("{answer}\u{1}").as_bytes(), &key), Ok(Some(answer.len())));
        assert_eq!(upgrade_answer(&answer.as_bytes()[..answer.len() - 1], &key), Ok(None));
        assert!(upgrade_answer(answer.as_bytes(), "another").is_err());
        let full = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n\r\n";
        let refused = Err("the upgrade was refused: 503 Service Unavailable; Retry-After: 5".to_owned());
        assert_eq!(upgrade_answer(full, &key), refused);
        assert!(upgrade_answer(b"SSH-2.0\r\n", &key).is_err());
    }
}
