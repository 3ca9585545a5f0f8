use std::time::Duration;

use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size, set_tcp_user_timeout};
use tokio::net::TcpStream;

/// How much the kernel may hold of what a client sends before the server reads it. Without a bound it would grow to
/// some MiB for a client that sends a lot. Linux uses up to twice as much.
const RECEIVE: usize = 64 * 1024;

/// How much the system may hold for one client. This memory counts for the server's container, but in none of its own
/// bounds.
#[derive(Clone, Copy, Debug)]
pub struct Buffers {
    send: usize,
}

impl Buffers {
    /// At most this many bytes on their way to the client.
    pub fn new(send: usize) -> Self {
        Self { send }
    }

    /// Bounds one connection. A failure does not matter: the connection works without.
    pub fn bound(self, stream: &TcpStream) {
        let sent = set_socket_send_buffer_size(stream, self.send);
        if let Err(error) = sent.and_then(|()| set_socket_recv_buffer_size(stream, RECEIVE)) {
            tracing::debug!(%error, "cannot bound the buffers of a connection");
        }
    }

    /// The same for a connection from which nothing more is read: the system gives it up if the client acknowledges nothing
    /// for so long, as nobody else would notice that it is gone.
    pub fn bound_for(self, stream: &TcpStream, patience: Duration) {
        self.bound(stream);
        let patience = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
        if let Err(error) = set_tcp_user_timeout(stream, patience) {
            tracing::debug!(%error, "cannot bound the silence of a connection");
        }
    }
}
