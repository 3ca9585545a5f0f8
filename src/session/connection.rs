use std::{convert::Infallible, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use tokio::{
    task::yield_now,
    time::{Instant, Interval, MissedTickBehavior, interval_at},
};

use super::guest::Guest;
use crate::{
    access::Act,
    protocol::CloseCode,
    socket::{End, Inbound, Outbox, Received},
};

/// After this many frames, or this many KiB, a connection lets others take their turn.
const TURN: usize = 64;

/// One client's WebSocket.
pub(super) struct Connection {
    guest: Guest,
    inbound: Inbound,
    outbox: Arc<Outbox>,
    heartbeat: Interval,
    /// For how many heartbeats the client has given no sign of life.
    silent_beats: u32,
    /// How much was done since others had their turn.
    turn: usize,
}

impl Connection {
    /// The WebSocket of this client, whose recipient is `outbox`.
    pub(super) fn new(guest: Guest, inbound: Inbound, outbox: Arc<Outbox>) -> Self {
        let heartbeat = heartbeat(guest.context.options.ping_interval);
        Self { guest, inbound, outbox, heartbeat, silent_beats: 0, turn: 0 }
    }

    /// Serves the client until either side closes. When this returns, or is dropped, the client has left all its rooms.
    pub(super) fn run(mut self) -> BoxFuture<'static, ()> {
        // Not an `async fn`, which would hold the connection twice: as its argument and as its variable.
        Box::pin(async move {
            let Err(end) = self.serve().await;
            // Boxed, because it is large and rarely there.
            Box::pin(self.close(end)).await;
        })
    }

    async fn serve(&mut self) -> Result<Infallible, End> {
        let write_timeout = self.guest.context.options.write_timeout;
        // Its token may have been revoked since it was checked.
        self.guest.keep_to_sanctions()?;
        loop {
            while self.turn < TURN
                && !self.guest.is_slowed()
                && let Some(received) = self.inbound.next(self.guest.is_busy())?
            {
                self.turn += 1;
                self.receive(&received)?;
            }
            self.guest.send_answers();
            if self.turn >= TURN {
                self.turn = 0;
                self.inbound.answer_pings();
                // Other tasks' events come first, before this connection goes on.
                yield_now().await;
                continue;
            }
            self.guest.join_next();
            let (is_busy, is_slowed) = (self.guest.is_busy(), self.guest.is_slowed());
            tokio::select! {
                code = self.outbox.attend(write_timeout) => return Err(code.map_or(End::Lost, End::from)),
                happened = self.guest.attend() => happened?,
                length = self.inbound.read(is_busy), if !is_slowed => self.turn += length? / 1024,
                _ = self.heartbeat.tick() => self.beat()?,
            }
        }
    }

    fn receive(&mut self, received: &Received) -> Result<(), End> {
        self.guest.spend(Act::Frame)?;
        let metrics = &self.guest.context.metrics;
        match received {
            Received::Text(text) => {
                metrics.messages_received.inc();
                self.guest.act(text)?;
            }
            Received::Binary => metrics.messages_received.inc(),
            // Answers pings, and ends the connection when its time has come.
            Received::Part | Received::Ping(_) | Received::Pong | Received::Close(_) => {}
        }
        Ok(())
    }

    fn beat(&mut self) -> Result<(), End> {
        // The server does not read while a command is pending or the client is slowed, so silence then does not mean that
        // the client is dead.
        let may_read = !self.guest.is_slowed() && self.inbound.may_read(self.guest.is_busy());
        if self.inbound.is_alive() || !may_read {
            self.silent_beats = 0;
        } else {
            self.silent_beats += 1;
        }
        if self.silent_beats > 1 {
            return Err(CloseCode::Idle.into());
        }
        self.outbox.ping();
        Ok(())
    }

    /// Finishes what is under way, leaves all rooms, writes what still waits, and closes.
    async fn close(self, mut end: End) {
        let Self { mut guest, inbound, outbox, .. } = self;
        // Nobody needs to wait any more to send something to this client.
        outbox.close(CloseCode::Normal);
        // An accepted message is published even if its sender has gone; the broker's deadline bounds this. A client that has
        // closed cannot be told anything, so nothing waits for it.
        if !matches!(end, End::Closed(_)) {
            tokio::select! {
                () = guest.conclude_pending() => {}
                never = outbox.keep_writing() => match never {},
            }
        }
        let context = guest.context.clone();
        let pending = guest.leave();
        if matches!(end, End::Refused(_)) && outbox.has_overflowed() {
            end = CloseCode::SlowConsumer.into();
        }
        context.metrics.disconnected(end.code());
        let finished = async {
            if let Some(pending) = pending {
                pending.await;
            }
        };
        tokio::join!(inbound.close(&end, context.options.write_timeout), finished);
    }
}

/// It starts at a random phase, so that pings to clients that came together do not go out together.
pub(super) fn heartbeat(period: Duration) -> Interval {
    let mut heartbeat = interval_at(Instant::now() + period.mul_f64(rand::random_range(0.5..1.0)), period);
    heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    heartbeat
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::{
        io::{AsyncWriteExt, copy, sink},
        net::{TcpListener, TcpStream},
    };
    use tokio_util::task::TaskTracker;

    use super::{
        super::{Arrival, Context},
        *,
    };
    use crate::{
        broker::MemoryBroker,
        hub::Hub,
        protocol::Dialect,
        telemetry::{Metrics, trace::Tracer},
    };

    /// A masked frame; the mask is zero, so that the payload stays as it is.
    fn frame(first: u8, payload: &str) -> Vec<u8> {
        let head = [first, 0x80 | u8::try_from(payload.len()).unwrap(), 0, 0, 0, 0];
        [&head, payload.as_bytes()].concat()
    }

    /// A server without settings.
    fn context(metrics: &Arc<Metrics>) -> Arc<Context> {
        let unlimited = [("ROOMCAST_LIMITS".into(), "off".into())];
        let config = crate::config::Config::from_env(unlimited).unwrap().0;
        let broker = Arc::new(MemoryBroker::new((&config).into(), config.memory_broker_bytes));
        let hub = Hub::new("a:1", broker, (&config).into(), Tracer::new(None, "none"), metrics.clone());
        let options = crate::server::options::session(&config, "a:1", metrics);
        let door = Arc::new(crate::server::door(&config, metrics).unwrap());
        Arc::new(Context::new(Arc::new(hub), door, options, metrics.clone()))
    }

    /// The most messages of these frames that are handled between two turns of others.
    async fn longest_turn(frames: Vec<u8>, messages: u64) -> u64 {
        let metrics = Arc::new(Metrics::new());
        let connection = context(&metrics);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        client.write_all(&frames).await.unwrap();
        let (mut answers, _sending) = client.split();
        let watching = async {
            let (mut before, mut longest) = (0, 0);
            while before < messages {
                yield_now().await;
                let now = metrics.messages_received.get();
                longest = longest.max(now - before);
                before = now;
            }
            longest
        };
        let arrival =
            Arrival { admission: Ok(connection.door().anonymous()), source: None, seat: None, dialect: Dialect::Json };
        let serving = TaskTracker::new().spawn(connection.serve(stream, Bytes::new(), arrival));
        let mut nowhere = sink();
        let longest = tokio::select! {
            longest = watching => longest,
            _ = copy(&mut answers, &mut nowhere) => panic!("the connection has ended"),
        };
        serving.abort();
        longest
    }

    #[tokio::test]
    async fn others_have_their_turn_after_some_frames_of_whatever_kind() {
        let text = |text| frame(0x81, text);
        for command in ["{}", "[", r#"{"type":"ping"}"#, r#"{"type":"broadcast","text":""}"#] {
            let longest = longest_turn(text(command).repeat(1000), 1000).await;
            assert!(longest <= 2 * TURN as u64, "{longest} of {command}");
        }
        let control_frames = [frame(0x89, "").repeat(20), frame(0x8a, "x").repeat(11)].concat();
        let longest = longest_turn([control_frames, text("{}")].concat().repeat(300), 300).await;
        assert!(longest <= 2 * TURN as u64 / 32, "{longest}");
        let parts = [frame(0x01, ""), frame(0x00, "").repeat(30), frame(0x80, "{}")].concat();
        let longest = longest_turn(parts.repeat(300), 300).await;
        assert!(longest <= 2 * TURN as u64 / 32, "{longest}");
    }
}
