use std::{
    convert::Infallible,
    future::pending,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future::BoxFuture;
use tokio::{
    sync::watch,
    task::yield_now,
    time::{Instant, Interval, MissedTickBehavior, interval_at, sleep_until},
};

use super::{
    commands::{Outcome, Pending, authenticated},
    context::{Context, Refused},
    lease::{Due, Lease},
    state::Session,
};
use crate::{
    access::{Act, Allowance, Pass, Sanctions, Source, TokenError, Verdict},
    hub::{Client, Membership},
    protocol::{Batch, CloseCode, ErrorCode, Event, Item, Rejection},
    socket::{End, Inbound, Outbox, Received},
};

/// After this many frames, or this many KiB, a connection lets others take their turn.
const TURN: usize = 64;

/// The changes of what holds on all servers.
type Changes = watch::Receiver<Arc<Sanctions>>;

/// One client's connection.
pub(super) struct Connection {
    pub(super) context: Arc<Context>,
    inbound: Inbound,
    outbox: Arc<Outbox>,
    pub(super) client: Client,
    pub(super) session: Session<Membership>,
    pub(super) lease: Lease,
    /// What holds on all servers, as far as this connection has kept to it.
    pub(super) kept_to: Arc<Sanctions>,
    /// Ends when that changes. It is there for long, as each new one would take locks that all connections share.
    sanctions_changed: BoxFuture<'static, Changes>,
    /// What held when the join began that is under way.
    pub(super) joins_under: Arc<Sanctions>,
    /// From where it comes, if limits by address apply to it.
    pub(super) source: Option<Source>,
    pub(super) allowance: Allowance,
    /// Until when not to read from the client, which was too fast.
    slowed_until: Option<Instant>,
    /// Until when not to join rooms for the client, after it failed.
    pub(super) joins_from: Option<Instant>,
    /// Every client is a member of the broadcast channel, if perhaps a deaf one.
    broadcasts: Membership,
    pub(super) pending: Pending,
    /// Answers that go out together, before anything else happens.
    pub(super) answers: Vec<Item>,
    heartbeat: Interval,
    /// For how many heartbeats the client has given no sign of life.
    silent_beats: u32,
    /// How much was done since others had their turn.
    turn: usize,
}

impl Connection {
    /// A client that has come in, from there, with this pass.
    pub(super) fn new(
        context: Arc<Context>,
        inbound: Inbound,
        outbox: Arc<Outbox>,
        pass: Option<Arc<Pass>>,
        source: Option<Source>,
        allowance: Allowance,
    ) -> Self {
        // Who has not said yet who it is hears nothing.
        let (client, broadcasts) = context.hub.connect(outbox.clone(), pass.is_some());
        let (sanctions_changed, kept_to) = (changed(context.hub.sanction_changes()), context.hub.sanctions());
        Self {
            client,
            outbox,
            heartbeat: heartbeat(context.options.ping_interval),
            silent_beats: 0,
            turn: 0,
            lease: Lease::of(pass.as_deref(), Instant::now(), SystemTime::now()),
            session: Session::new(pass),
            sanctions_changed,
            joins_under: kept_to.clone(),
            kept_to,
            source,
            allowance,
            slowed_until: None,
            broadcasts,
            pending: None,
            joins_from: None,
            answers: Vec::new(),
            inbound,
            context,
        }
    }

    /// Serves the client until either side closes. When this returns, or is dropped, the client has left all its rooms.
    pub(super) fn run(mut self) -> BoxFuture<'static, ()> {
        // Not an `async fn`, which would hold the connection twice: as its argument and as its variable.
        Box::pin(async move {
            self.greet();
            let Err(end) = self.serve().await;
            // Boxed, because it is large and rarely there.
            Box::pin(self.close(end)).await;
        })
    }

    async fn serve(&mut self) -> Result<Infallible, End> {
        // Its token may have been revoked since it was checked.
        self.keep_to_sanctions()?;
        loop {
            while self.turn < TURN
                && self.slowed_until.is_none()
                && let Some(received) = self.inbound.next(self.pending.is_some())?
            {
                self.turn += 1;
                self.receive(&received)?;
            }
            self.send_answers();
            if self.turn >= TURN {
                self.turn = 0;
                self.inbound.answer_pings();
                // Other tasks' events come first, before this connection goes on.
                yield_now().await;
                continue;
            }
            self.join_next();
            let (is_busy, next_time) = (self.pending.is_some(), self.next_time());
            tokio::select! {
                code = self.outbox.attend(self.context.options.write_timeout) => return Err(code.map_or(End::Lost, End::from)),
                outcome = ended(&mut self.pending) => {
                    self.pending = None;
                    self.conclude(outcome)?;
                }
                length = self.inbound.read(is_busy), if self.slowed_until.is_none() => self.turn += length? / 1024,
                _ = self.heartbeat.tick() => self.beat()?,
                changes = &mut self.sanctions_changed => {
                    self.sanctions_changed = changed(changes);
                    self.keep_to_sanctions()?;
                }
                // One timer for what is rarely there, because each takes memory of every connection.
                () = until(next_time) => self.its_time()?,
            }
        }
    }

    /// Tells a client who it is, if its token came with its upgrade.
    fn greet(&mut self) {
        let pass = self.session.pass().filter(|pass| pass.user.is_some()).cloned();
        if let Some(pass) = pass {
            self.answers.push(Item::Event(authenticated(&pass)));
        }
    }

    /// When something is due that most connections never have.
    fn next_time(&self) -> Option<Instant> {
        [self.slowed_until, self.joins_from, self.lease.next()].into_iter().flatten().min()
    }

    /// Does what is due.
    fn its_time(&mut self) -> Result<(), End> {
        let now = Instant::now();
        for pause in [&mut self.slowed_until, &mut self.joins_from] {
            pause.take_if(|until| *until <= now);
        }
        self.keep_lease()
    }

    /// The client's token ends, or its time to show one.
    fn keep_lease(&mut self) -> Result<(), End> {
        match self.lease.due(Instant::now()) {
            Some(Due::Warning(left)) => self.answers.push(Item::Event(Event::Expiring { in_ms: millis(left) })),
            Some(Due::End(code)) => {
                if code == CloseCode::Unauthorized {
                    self.refuse(Rejection::new(ErrorCode::Unauthorized, "no token came in time"));
                }
                return Err(code.into());
            }
            None => {}
        }
        Ok(())
    }

    /// Keeps to what holds on all servers now.
    ///
    /// # Errors
    /// If the client's token is revoked, or somebody ends its connection.
    pub(super) fn keep_to_sanctions(&mut self) -> Result<(), End> {
        let now = self.context.hub.sanctions();
        if self.session.pass().is_some_and(|pass| now.revoke(pass, SystemTime::now())) {
            self.turn_away(&Refused::Token(TokenError::Revoked))?;
        }
        let before = std::mem::replace(&mut self.kept_to, now);
        if self.kept_to.newly_disconnects(&before, |user| self.session.is_of(user)) {
            return Err(CloseCode::Disconnected.into());
        }
        self.kick(&before);
        Ok(())
    }

    /// Ends the memberships from which the client was kicked since then.
    pub(super) fn kick(&mut self, since: &Sanctions) {
        for (membership, left) in self.session.kick(since, &self.kept_to) {
            drop(membership);
            self.answers.push(Item::Event(left));
        }
    }

    fn receive(&mut self, received: &Received) -> Result<(), End> {
        self.spend(Act::Frame)?;
        match received {
            Received::Text(text) => {
                self.context.metrics.messages_received.inc();
                self.act(text)?;
            }
            Received::Binary => self.context.metrics.messages_received.inc(),
            // Answers pings, and ends the connection when its time has come.
            Received::Part | Received::Ping(_) | Received::Pong | Received::Close(_) => {}
        }
        Ok(())
    }

    /// The client does something that is limited. It may be slowed, and told.
    ///
    /// # Errors
    /// If it has been too fast for long.
    pub(super) fn spend(&mut self, act: Act) -> Result<(), End> {
        let now = Instant::now();
        match self.allowance.spend(act, now) {
            Verdict::Fine => Ok(()),
            Verdict::Slow { limit, wait, begins, tell } => {
                self.slowed_until = self.slowed_until.max(Some(now + wait));
                if begins {
                    self.context.metrics.limited(limit);
                }
                if tell {
                    self.refuse(Rejection::too_fast(limit.as_str(), wait));
                }
                Ok(())
            }
            Verdict::Close(limit) => {
                self.refuse(Rejection::too_fast(limit.as_str(), Duration::ZERO));
                Err(CloseCode::TooFast.into())
            }
        }
    }

    /// Tells the client why its token is refused.
    ///
    /// # Errors
    /// If that ends the connection.
    pub(super) fn turn_away(&mut self, why: &Refused) -> Result<(), End> {
        let (code, rejection) = self.context.refusal(why);
        self.refuse(rejection);
        code.map_or(Ok(()), |code| Err(End::from(code)))
    }

    pub(super) fn refuse(&mut self, rejection: Rejection) {
        self.context.metrics.error_sent(rejection.code);
        self.answers.push(Item::Event(rejection.into_event()));
    }

    pub(super) fn send_answers(&mut self) {
        if !self.answers.is_empty() {
            self.outbox.deliver(&Batch::new(std::mem::take(&mut self.answers)));
        }
    }

    fn beat(&mut self) -> Result<(), End> {
        // The server does not read while a command is pending or the client is slowed, so silence then does not mean that
        // the client is dead.
        let may_read = self.slowed_until.is_none() && self.inbound.may_read(self.pending.is_some());
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
    async fn close(mut self, mut end: End) {
        let outbox = self.outbox.clone();
        // Nobody needs to wait any more to send something to this client.
        outbox.close(CloseCode::Normal);
        // An accepted message is published even if its sender has gone; the broker's deadline bounds this.
        let mut pending = self.pending.take();
        if !matches!(end, End::Closed(_))
            && let Some(pending) = pending.take()
        {
            let outcome = tokio::select! {
                outcome = pending => outcome,
                never = outbox.keep_writing() => match never {},
            };
            // The connection ends anyway.
            let _ = self.conclude(outcome);
        }
        self.send_answers();
        self.session.leave_all();
        drop(self.broadcasts);
        if matches!(end, End::Refused(_)) && outbox.has_overflowed() {
            end = CloseCode::SlowConsumer.into();
        }
        self.context.metrics.disconnected(end.code());
        // A client that has closed cannot be told anything, so nothing waits for it.
        let finished = async {
            if let Some(pending) = pending {
                pending.await;
            }
        };
        tokio::join!(self.inbound.close(&end, self.context.options.write_timeout), finished);
    }
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Waits for the next change.
fn changed(mut changes: Changes) -> BoxFuture<'static, Changes> {
    Box::pin(async move {
        if changes.changed().await.is_err() {
            // The hub is gone, so nothing changes any more.
            pending::<()>().await;
        }
        changes
    })
}

/// Waits until this time; for ever if there is none.
async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}

async fn ended(pending_outcome: &mut Pending) -> Outcome {
    match pending_outcome {
        Some(outcome) => outcome.await,
        None => pending().await,
    }
}

/// It starts at a random phase, so that pings to clients that came together do not go out together.
fn heartbeat(period: Duration) -> Interval {
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

    use super::{super::Arrival, *};
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
