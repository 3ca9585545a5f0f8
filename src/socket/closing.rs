use std::{future::poll_fn, time::Duration};

use bytes::Bytes;
use tokio::{task::yield_now, time::timeout};

use super::{Inbound, Received, Receiving, Sending, Violation, wire};
use crate::protocol::CloseCode;

/// How long a silent client may take for its close frame, and for the end of the connection.
const LINGER: Duration = Duration::from_secs(1);

/// How much of what a client keeps sending is read and thrown away.
const DISCARDED: usize = 16 << 20;

/// How a connection comes to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The server closes it.
    Refused(Violation),
    /// The client closed it. This is the payload of the close frame that answers its own.
    Closed(Bytes),
    /// The connection broke.
    Lost,
}

impl From<CloseCode> for End {
    fn from(code: CloseCode) -> Self {
        Self::Refused(code.into())
    }
}

impl End {
    /// The code under which it counts; `None` if there was none.
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

impl<R: Receiving, S: Sending> Inbound<R, S> {
    /// Closes the connection: writes what waits for the client, then the close frame, and waits a moment for the
    /// client's close frame and the end of its side.
    ///
    /// A client that does not accept all this within `write_timeout` is reset, so that the system frees its buffers at
    /// once. What is in the system's buffers by then has the same time again to arrive.
    pub async fn close(mut self, end: &End, write_timeout: Duration) {
        self.answer_pings();
        self.keep_nothing();
        if let Some(goodbye) = end.goodbye() {
            // A slow client could not accept what waits in time.
            self.outbox.finish(&goodbye, end.code() == Some(CloseCode::SlowConsumer));
            if timeout(write_timeout, self.outbox.drained()).await.is_err() {
                self.socket.reset_at_end();
                self.outbox.shut();
                return;
            }
            let is_done = self.has_failed || matches!(end, End::Closed(_));
            if timeout(write_timeout, self.linger(is_done)).await == Ok(true) {
                return;
            }
        }
        self.outbox.shut();
        self.socket.give_up_after(write_timeout);
    }

    /// Waits for the client's close frame, ends this side, and waits for the end of the client's side. Returns whether
    /// that came.
    ///
    /// If a connection is closed while the client still sends, the system resets it, and the client loses what it has
    /// not read yet: the close frame that says why.
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
            // What comes here is useless, so other tasks go first.
            yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::Instant;

    use super::{
        super::{
            Bounds, Intake, Outbox, Total,
            memory::{self, MemoryReceiving, MemorySending, Peer},
        },
        *,
    };
    use crate::{
        protocol::{Batch, Dialect, Event},
        telemetry::Counter,
    };

    const TIMEOUT: Duration = Duration::from_secs(5);
    const PONG: &[u8] = b"\x81\x0f{\"type\":\"pong\"}";
    /// A masked close frame with the code 1012; the mask is zero.
    const ANSWER: &[u8] = b"\x88\x82\x00\x00\x00\x00\x03\xf4";

    struct Stage {
        inbound: Inbound<MemoryReceiving, MemorySending>,
        outbox: Arc<Outbox<MemorySending>>,
        total: Arc<Total>,
        peer: Peer,
    }

    /// A connection with at most `capacity` bytes on their way to the client.
    fn stage(capacity: usize) -> Stage {
        let ((sending, receiving), peer) = memory::connection(capacity);
        let bounds = Arc::new(Bounds::new(1000, 1 << 20, 1 << 20, Counter::default()));
        let outbox = Arc::new(Outbox::new(sending, Dialect::Json, bounds));
        let total = Arc::new(Total::new(1 << 20));
        let intake = Intake { max_message: 1000, message_timeout: TIMEOUT, total: total.clone() };
        let inbound = Inbound::new(receiving, Bytes::new(), outbox.clone(), &intake);
        Stage { inbound, outbox, total, peer }
    }

    fn goodbye(end: &End) -> Vec<u8> {
        end.goodbye().expect("a close frame").to_vec()
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_answers_ends_the_connection_at_once() {
        let Stage { inbound, outbox, peer, .. } = stage(1000);
        outbox.deliver(&Batch::from(Event::Pong));
        let (end, start) = (End::from(CloseCode::ServiceRestart), Instant::now());
        peer.send(ANSWER);
        peer.shut();
        inbound.close(&end, TIMEOUT).await;
        assert_eq!((start.elapsed(), peer.end()), (Duration::ZERO, Some(false)));
        assert_eq!(peer.take(1000), [PONG, &goodbye(&end)].concat());
        outbox.deliver(&Batch::from(Event::Pong));
        assert!(peer.take(1000).is_empty(), "nothing follows the close frame");
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_client_goes_on_sending_is_read_so_that_it_gets_the_close_frame() {
        let Stage { inbound, total, peer, .. } = stage(1000);
        let end = End::from(CloseCode::ServiceRestart);
        let talking = async {
            for _ in 0..1000 {
                peer.send(b"\x81\x82\x00\x00\x00\x00{}");
                yield_now().await;
            }
            assert_eq!(peer.take(1000), goodbye(&end));
            peer.send(ANSWER);
            peer.shut();
        };
        tokio::join!(inbound.close(&end, TIMEOUT), talking);
        assert_eq!((peer.end(), total.held()), (Some(false), (0, 0)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_is_not_waited_for_long() {
        let Stage { inbound, peer, .. } = stage(1000);
        let start = Instant::now();
        inbound.close(&CloseCode::Idle.into(), TIMEOUT).await;
        assert_eq!((start.elapsed(), peer.end()), (LINGER, Some(false)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_takes_nothing_is_reset() {
        let Stage { inbound, outbox, peer, .. } = stage(20);
        (0..10).for_each(|_| outbox.deliver(&Batch::from(Event::Pong)));
        let start = Instant::now();
        inbound.close(&CloseCode::ServiceRestart.into(), TIMEOUT).await;
        assert_eq!((start.elapsed(), peer.end()), (TIMEOUT, Some(true)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_was_too_slow_gets_the_close_frame_in_the_place_of_what_waits() {
        let Stage { inbound, outbox, peer, .. } = stage(20);
        (0..10).for_each(|_| outbox.deliver(&Batch::from(Event::Pong)));
        let end = End::from(CloseCode::SlowConsumer);
        let taking = async {
            let mut taken = Vec::new();
            while !taken.ends_with(b"slow_consumer") {
                taken.extend(peer.take(1));
                yield_now().await;
            }
            peer.shut();
            taken
        };
        let ((), taken) = tokio::join!(inbound.close(&end, TIMEOUT), taking);
        assert_eq!(taken, [PONG, PONG, &goodbye(&end)].concat());
    }

    #[tokio::test(start_paused = true)]
    async fn the_close_frame_of_a_client_is_answered_with_its_own_code() {
        let Stage { mut inbound, peer, .. } = stage(1000);
        peer.send(ANSWER);
        assert_eq!(inbound.read(false).await, Ok(ANSWER.len()));
        let end = inbound.next(false).expect_err("the end");
        assert_eq!(end, End::Closed(Bytes::from_static(b"\x03\xf4")));
        peer.shut();
        inbound.close(&end, TIMEOUT).await;
        assert_eq!(peer.take(1000), b"\x88\x02\x03\xf4");
    }
}
