use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use crate::Result;

/// Longest time for an answer.
const ANSWER: Duration = Duration::from_secs(10);

/// Calls of an HTTP API, from connections that each have one under way.
#[derive(Clone, Debug)]
pub struct Calls {
    /// Where it is.
    pub address: SocketAddr,
    /// What is called.
    pub path: &'static str,
    /// What each call brings.
    pub body: String,
    /// The key that it shows.
    pub key: &'static str,
}

impl Calls {
    /// Calls over this many connections for so long, and returns how many calls were answered.
    pub fn run(&self, connections: usize, duration: Duration) -> Result<u64> {
        let end = Instant::now() + duration;
        thread::scope(|scope| {
            // As texts, because errors of this program stay in their thread.
            let threads: Vec<_> = (0..connections)
                .map(|_| scope.spawn(move || self.call_until(end).map_err(|error| error.to_string())))
                .collect();
            let counts = threads.into_iter().map(|thread| thread.join().map_err(|_| "a caller has panicked")?);
            Ok(counts.sum::<std::result::Result<u64, String>>()?)
        })
    }

    fn call_until(&self, end: Instant) -> Result<u64> {
        let stream = TcpStream::connect(self.address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER))?;
        let request = format!(
            "POST {} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: \
             {}\r\n\r\n{}",
            self.path,
            self.address,
            self.key,
            self.body.len(),
            self.body
        );
        let mut reader = BufReader::new(&stream);
        let mut count = 0;
        while Instant::now() < end {
            (&stream).write_all(request.as_bytes())?;
            read_answer(&mut reader)?;
            count += 1;
        }
        Ok(count)
    }
}

/// Reads a whole answer, which must be a success.
fn read_answer(reader: &mut impl BufRead) -> Result<()> {
    let (mut line, mut length) = (String::new(), 0);
    reader.read_line(&mut line)?;
    if !line.starts_with("HTTP/1.1 20") {
        return Err(format!("a call is answered {line:?}").into());
    }
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line)?;
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.trim().parse()?;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(())
}
