use std::{future::poll_fn, time::Duration};

use bytes::Bytes;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::{task::yield_now, time::timeout};

use super::{Inbound, Received, Violation, wire};
use crate::protocol::CloseCode;

/// How long a client that sends nothing may take for its close frame and for the end of the connection.
const LINGER: Duration = Duration::from_secs(1);

/// How much of what a client goes on sending is read and thrown away.
const DISCARDED: usize = 16 << 20;

/// How a connection comes to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The server closes it.
    Refused(Violation),
    /// The client closed it. This is the payload of the close frame that answers its own.
    Closed(Bytes),
    /// It broke.
    Lost,
}

impl From<CloseCode> for End {
    fn from(code: CloseCode) -> Self {
        Self::Refused(code.into())
    }
}

impl End {
    /// The code that it counts as; `None` if there was none.
    pub fn code(&self) -> Option<CloseCode> {
        match self {
            Self::Refused(violation) => Some(violation.code),
            Self::Closed(_) => Some(CloseCode::Normal),
            Self::Lost => None,
        }
    }

    /// The close frame.
    fn goodbye(&self) -> Option<Bytes> {
        match self {
            Self::Refused(violation) => Some(wire::close(violation.code.code(), &violation.reason())),
            Self::Closed(payload) => Some(wire::close_with(payload)),
            Self::Lost => None,
        }
    }
}

impl Inbound {
    /// Closes the connection: writes what waits for the client, then the close frame, and waits a moment for its answer
    /// and the end of what it sends.
    ///
    /// A client that does not take that within `write_timeout` is reset, so that what the system holds for it is free at
    /// once. What it has taken from us and the system not delivered yet has as long again.
    pub async fn close(mut self, end: &End, write_timeout: Duration) {
        self.answer_pings();
        self.keep_nothing();
        if let Some(goodbye) = end.goodbye() {
            // A slow client could not take what waits in time.
            self.outbox.finish(&goodbye, end.code() == Some(CloseCode::SlowConsumer));
            if timeout(write_timeout, self.outbox.drained()).await.is_err() {
                let _ = self.socket.as_ref().set_zero_linger();
                self.outbox.shut();
                return;
            }
            let is_done = self.has_failed || matches!(end, End::Closed(_));
            if timeout(write_timeout, self.linger(is_done)).await == Ok(true) {
                return;
            }
        }
        self.outbox.shut();
        let patience = u32::try_from(write_timeout.as_millis()).unwrap_or(u32::MAX);
        let _ = set_tcp_user_timeout(self.socket.as_ref(), patience);
    }

    /// Waits for the client's close frame, says that nothing follows, and waits for the end of its side. Returns whether
    /// that came.
    ///
    /// A system resets a connection that is closed while the client still sends, and the reset takes from the client what
    /// it has not read yet: the close frame that would have told it why.
    async fn linger(&mut self, mut is_done: bool) -> bool {
        let mut discarded = 0;
        loop {
            while !is_done {
                let mut input = &self.unread[..];
                let received = self.decoder.next(&mut input);
                self.unread = self.unread.slice_ref(input);
                match received {
                    Ok(Some(Received::Close(_))) | Err(_) => is_done = true,
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                }
            }
            if is_done {
                self.outbox.shut();
            }
            match timeout(LINGER, poll_fn(|context| self.poll_read(context))).await {
                Ok(Ok(length @ 1..)) => discarded += length,
                Ok(_) => return true,
                Err(_) => return false,
            }
            if discarded > DISCARDED {
                return false;
            }
            // What comes here is of no use to anybody, so others go first.
            yield_now().await;
        }
    }
}
