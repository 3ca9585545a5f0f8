use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};
use tokio::net::TcpStream;

/// How much the system may hold of what a client sends and the server does not read, as asked of it. It is what it
/// begins with; without a bound it would grow to some MiB for a client that has sent much. Linux takes up to twice that.
const RECEIVE: usize = 64 * 1024;

/// How much the system may hold for one client. It is memory of the server that no bound of its own counts.
#[derive(Clone, Copy, Debug)]
pub struct Buffers {
    send: usize,
}

impl Buffers {
    /// So many bytes on their way to the client.
    pub fn new(send: usize) -> Self {
        Self { send }
    }

    /// Sets the bounds of one connection. It works without them, too.
    pub fn bound(self, stream: &TcpStream) {
        let sent = set_socket_send_buffer_size(stream, self.send);
        if let Err(error) = sent.and_then(|()| set_socket_recv_buffer_size(stream, RECEIVE)) {
            tracing::debug!(%error, "cannot bound the buffers of a connection");
        }
    }
}
