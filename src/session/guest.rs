use std::{
    future::pending,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::future::BoxFuture;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    commands::{Outcome, Pending, authenticated},
    context::{Context, Refused},
    lease::{Due, Lease},
    state::Session,
};
use crate::{
    access::{Act, Allowance, Pass, Sanctions, Source, TokenError, Verdict},
    hub::{Client, Membership, Recipient},
    protocol::{Batch, CloseCode, ErrorCode, Event, Item, Rejection},
    socket::End,
};

/// The changes of what holds on all servers.
type Changes = watch::Receiver<Arc<Sanctions>>;

/// One client of this server, whatever its bytes go through: what it may do, its rooms, and what is under way for it. The
/// task that serves it asks [`attend`](Self::attend) what happens beside its bytes.
pub(super) struct Guest {
    pub(super) context: Arc<Context>,
    pub(super) client: Client,
    pub(super) session: Session<Membership>,
    pub(super) lease: Lease,
    /// What holds on all servers, as far as this client has been kept to it.
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
    _broadcasts: Membership,
    pub(super) pending: Pending,
    /// Answers that go out together, before anything else happens.
    pub(super) answers: Vec<Item>,
}

impl Guest {
    /// A client that has come in, from there, with this pass.
    pub(super) fn new(
        context: Arc<Context>,
        recipient: Arc<dyn Recipient>,
        pass: Option<Arc<Pass>>,
        source: Option<Source>,
        allowance: Allowance,
    ) -> Self {
        // Who has not said yet who it is hears nothing.
        let user = pass.as_ref().and_then(|pass| pass.user.as_ref());
        let (client, broadcasts) = context.hub.connect(recipient, user, pass.is_some());
        let (sanctions_changed, kept_to) = (changed(context.hub.sanction_changes()), context.hub.sanctions());
        let mut guest = Self {
            client,
            lease: Lease::of(pass.as_deref(), Instant::now(), SystemTime::now()),
            session: Session::new(pass),
            sanctions_changed,
            joins_under: kept_to.clone(),
            kept_to,
            source,
            allowance,
            slowed_until: None,
            _broadcasts: broadcasts,
            pending: None,
            joins_from: None,
            answers: Vec::new(),
            context,
        };
        guest.greet();
        guest
    }

    /// Waits for the next thing that happens to the client beside its bytes, and deals with it. Cancel-safe.
    ///
    /// # Errors
    /// How its connection ends.
    pub(super) async fn attend(&mut self) -> Result<(), End> {
        let next_time = self.next_time();
        tokio::select! {
            outcome = ended(&mut self.pending) => {
                self.pending = None;
                self.conclude(outcome)
            }
            changes = &mut self.sanctions_changed => {
                self.sanctions_changed = changed(changes);
                self.keep_to_sanctions()
            }
            // One timer for what is rarely there, because each takes memory of every connection.
            () = until(next_time) => self.its_time(),
        }
    }

    /// Whether something is under way for it, so that its next command has to wait.
    pub(super) fn is_busy(&self) -> bool {
        self.pending.is_some()
    }

    /// Whether it was too fast, so that nothing is read from it now.
    pub(super) fn is_slowed(&self) -> bool {
        self.slowed_until.is_some()
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
        let is_meant = |user: &str, only: Option<&str>| {
            self.session.is_of(user) && only.is_none_or(|only| only == self.context.hub.connection(&self.client))
        };
        if self.kept_to.newly_disconnects(&before, is_meant) {
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
            self.client.deliver(&Batch::new(std::mem::take(&mut self.answers)));
        }
    }

    /// Waits for what is under way, and takes its outcome in. Nothing else may be waited for meanwhile.
    pub(super) async fn conclude_pending(&mut self) {
        if let Some(pending) = self.pending.take() {
            let outcome = pending.await;
            // The connection ends anyway.
            let _ = self.conclude(outcome);
        }
    }

    /// Sends its last answers, and leaves all rooms. Returns what is still under way.
    pub(super) fn leave(mut self) -> Pending {
        self.send_answers();
        self.session.leave_all();
        self.pending.take()
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
