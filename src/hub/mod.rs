//! The rooms and members of this server: who gets what, in which order, and which channels are wanted for it.
//!
//! Each channel has one owner at a time: the holder of its shard's lock. Under that lock a publication goes through the
//! channel's sequencer and into the line for all members, and a few members at a time are written to, so every member
//! sees one order. No lock is held across an await, and nothing waits under it: a [`Recipient`] takes what it is sent
//! at once.
//!
//! The types that decide know no task and no socket (`LocalChannel` and its parts). They only ask for what others must
//! do, such as reading a log; the tasks of [`Hub::run`] do it.

mod admission;
mod agenda;
mod audience;
mod channels;
mod claims;

mod feed;
mod follower;
mod hearing;
mod ids;
mod join;
mod local_channel;
mod log_readings;
mod log_watch;
mod membership;
mod moderating;
mod options;
mod pace;
mod page_requests;
mod publish;
mod recent;
mod recipient;
mod roll_call;
mod run;
mod serving;
mod stretch;
mod tally;
mod tidy;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::{Semaphore, watch};

use self::{
    channels::Channels,
    local_channel::{LocalChannel, Rules},
    pace::Load,
    recent::{Budget, RecentLimits},
};
pub use self::{
    ids::ClientId,
    join::JoinError,
    membership::Membership,
    options::Options,
    publish::{By, Receipt},
    recipient::{Client, Recipient},
    roll_call::Together,
};
use crate::{
    access::Sanctions,
    broker::{Broker, Diagnosis, Trouble, unix_millis},
    protocol::{Channel, CloseCode, Username},
    telemetry::{Metrics, trace::Tracer},
};

/// How many arrivals to handle at a time.
const ARRIVAL_TURNS: usize = 4;

/// The meeting point of this server's sessions and its broker.
pub struct Hub {
    origin_server: Arc<str>,
    broker: Arc<dyn Broker>,
    channels: Channels,
    arrival_turns: Semaphore,
    next_client: AtomicU64,
    options: Options,
    rules: Rules,
    closing: OnceLock<CloseCode>,
    sanctions: watch::Sender<Arc<Sanctions>>,
    since: u64,
    metrics: Arc<Metrics>,
    tracer: Tracer,
}

impl Hub {
    /// A hub with no clients. It hears nothing until [`Hub::run`] runs.
    pub fn new(
        origin_server: &str,
        broker: Arc<dyn Broker>,
        options: Options,
        tracer: Tracer,
        metrics: Arc<Metrics>,
    ) -> Self {
        let rules = Rules {
            keeps_history: options.history_length > 0,
            compare_interval: options.compare_interval,
            recent: RecentLimits {
                length: options.history_length,
                bytes: options.history_bytes,
                age: u64::try_from(options.history_age.as_millis()).unwrap_or(u64::MAX),
            },
            budget: Arc::new(Budget::new(options.recent_bytes)),
            room_bytes: options.room_bytes,
            line: Load { messages: options.line_messages, bytes: options.line_bytes },
        };
        Self {
            origin_server: origin_server.into(),
            broker,
            channels: Channels::new(rules.clone(), metrics.clone()),
            arrival_turns: Semaphore::new(ARRIVAL_TURNS),
            next_client: AtomicU64::new(1),
            options,
            rules,
            closing: OnceLock::new(),
            sanctions: watch::Sender::default(),
            since: unix_millis(),
            metrics,
            tracer,
        }
    }

    /// This server's name in what it publishes.
    pub fn origin_server(&self) -> &str {
        &self.origin_server
    }

    /// What makes the spans of this server.
    pub fn tracer(&self) -> &Tracer {
        &self.tracer
    }

    /// Takes in a new client, of this user if that is known, until the membership is dropped. It gets every broadcast, at once or as soon as it
    /// [may](Self::hear_broadcasts).
    pub fn connect(
        self: &Arc<Self>,
        recipient: Arc<dyn Recipient>,
        user: Option<&Username>,
        hears: bool,
    ) -> (Client, Membership) {
        let id = ClientId(self.next_client.fetch_add(1, Ordering::Relaxed));
        let client = Client { id, recipient, user: user.cloned() };
        self.channels.act(&Channel::Broadcast, |broadcast, _| {
            if hears { broadcast.admit(&client) } else { broadcast.admit_deaf(&client) }
        });
        // Either this sees that the hub is closing, or the closing hub sees the new member.
        if let Some(code) = self.closing.get() {
            client.recipient.close(*code);
        }
        let membership = Membership::new(self.clone(), Channel::Broadcast, id);
        (client, membership)
    }

    /// From now on this client, which is this user, gets every broadcast.
    pub fn hear_broadcasts(&self, client: &Client, user: &Username) {
        let client = client.known_as(user);
        self.channels.act(&Channel::Broadcast, |broadcast, _| broadcast.hear(&client));
    }

    /// All connected clients.
    pub fn clients(&self) -> Vec<Client> {
        self.channels.peek(&Channel::Broadcast, |broadcast| broadcast.members().collect()).unwrap_or_default()
    }

    /// Closes every client with this code, also those still to come, after what waits for it.
    pub fn close_all(&self, code: CloseCode) {
        let code = *self.closing.get_or_init(|| code);
        self.clients().iter().for_each(|client| client.recipient.close(code));
    }

    /// What is wrong with Redis now, for operators; see [`Broker::diagnosis`].
    pub fn diagnosis(&self) -> Option<Diagnosis> {
        self.broker.diagnosis()
    }

    /// Everything that now keeps this server from carrying messages; empty if all is well.
    pub fn troubles(&self) -> Vec<Trouble> {
        let mut troubles = self.broker.troubles();
        let is_open = self.channels.peek(&Channel::Broadcast, LocalChannel::is_open).unwrap_or(false);
        if !is_open && troubles.is_empty() {
            troubles.push(Trouble::SubscriptionsMissing);
        }
        if !self.knows_sanctions() && troubles.is_empty() {
            troubles.push(Trouble::SanctionsUnknown);
        }
        troubles
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("origin_server", &self.origin_server).finish_non_exhaustive()
    }
}
