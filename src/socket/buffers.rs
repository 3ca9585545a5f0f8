use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_send_buffer_size};
use tokio::net::TcpStream;

/// How much the kernel may hold of what a client sends before the server reads it. Without this bound it would grow to some
/// MiB for a client that sends much. Linux uses up to twice as much.
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

    /// Sets the bounds of one connection. A failure does not matter: the connection works without them.
    pub fn bound(self, stream: &TcpStream) {
        let sent = set_socket_send_buffer_size(stream, self.send);
        if let Err(error) = sent.and_then(|()| set_socket_recv_buffer_size(stream, RECEIVE)) {
            tracing::debug!(%error, "cannot bound the buffers of a connection");
        }
    }
}
