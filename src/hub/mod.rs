//! The rooms and members of this server: who gets what, in which order, and which channels are wanted for it.
//!
//! Each channel has one owner at a time, whoever holds the lock of its shard. Under that lock a publication goes
//! through the channel's sequencer and in line for all members, and a few members at a time are written to, so every
//! member sees one order. No lock is held across an await, and under it nothing waits: a [`Recipient`] takes what it is
//! sent at once.
//!
//! Types that know no task and no socket decide (`LocalChannel` and its parts). What has to be done outside, such as reading
//! a log, they only ask for; the tasks of [`Hub::run`] do it.

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
mod options;
mod pace;
mod page_requests;
mod publish;
mod recent;
mod recipient;
mod run;
mod serving;
mod stretch;
mod tally;
mod tidy;

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::Semaphore;

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
    recipient::{Client, Recipient},
};
use crate::{
    broker::{Broker, Trouble},
    protocol::{Channel, CloseCode},
    telemetry::{Metrics, trace::Tracer},
};

/// How many clients that come in are dealt with at a time, beside all else.
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
            metrics,
            tracer,
        }
    }

    /// The name of this server in what it publishes.
    pub fn origin_server(&self) -> &str {
        &self.origin_server
    }

    /// Takes a new client in. It gets every broadcast from now on, until the membership is dropped.
    pub fn connect(self: &Arc<Self>, recipient: Arc<dyn Recipient>) -> (Client, Membership) {
        let id = ClientId(self.next_client.fetch_add(1, Ordering::Relaxed));
        let client = Client { id, recipient };
        self.channels.act(&Channel::Broadcast, |broadcast, _| broadcast.admit(&client));
        // Either this sees that the hub closes, or the hub, closing, sees the new member.
        if let Some(code) = self.closing.get() {
            client.recipient.close(*code);
        }
        let membership = Membership::new(self.clone(), Channel::Broadcast, id);
        (client, membership)
    }

    /// All clients that are connected now.
    pub fn recipients(&self) -> Vec<Arc<dyn Recipient>> {
        let all = |broadcast: &LocalChannel| broadcast.recipients().cloned().collect();
        self.channels.peek(&Channel::Broadcast, all).unwrap_or_default()
    }

    /// Has every client closed with this code, those that are still to come too, once it has been sent what waits for it.
    pub fn close_all(&self, code: CloseCode) {
        let code = *self.closing.get_or_init(|| code);
        self.recipients().iter().for_each(|recipient| recipient.close(code));
    }

    /// Everything that keeps this server from carrying messages at the moment; nothing if all is well.
    pub fn troubles(&self) -> Vec<Trouble> {
        let mut troubles = self.broker.troubles();
        let is_open = self.channels.peek(&Channel::Broadcast, LocalChannel::is_open).unwrap_or(false);
        if !is_open && troubles.is_empty() {
            troubles.push(Trouble::SubscriptionsMissing);
        }
        troubles
    }
}

impl std::fmt::Debug for Hub {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").field("origin_server", &self.origin_server).finish_non_exhaustive()
    }
}
