use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::{LIMIT, say};
use crate::cli::client::{Failure, within};

/// Longest answer to read; Redis refuses in one short line.
const LONGEST: u64 = 1024;

/// Checks that a Redis refuses commands without a password.
///
/// # Errors
/// If it accepts one, or if something else answers, or nothing.
pub(crate) async fn redis_refuses(address: &str) -> Result<(), Failure> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(b"*1\r\n$4\r\nPING\r\n").await?;
        let mut line = String::new();
        BufReader::new(stream.take(LONGEST)).read_line(&mut line).await?;
        Ok(line)
    };
    let answer = within(LIMIT, "an answer to PING", exchange).await.map_err(|error| format!("{address}: {error}"))?;
    let answer = answer.trim_end();
    match answer.split(' ').next() {
        Some("-NOAUTH" | "-ERR") => Ok(say(&format!("{address} asks for a password: {answer}"))?),
        Some("+PONG") => Err(format!("{address} takes commands without a password; set requirepass there").into()),
        _ => Err(format!("{address} answers PING with {answer:?}; is that a Redis with a password?").into()),
    }
}
