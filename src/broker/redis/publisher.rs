use std::{sync::Arc, time::Duration};

use redis::{AsyncCommands, RedisResult, Script, aio::MultiplexedConnection};

use super::{
    super::{PublishError, Published, Unavailable},
    failure::Failure,
    heartbeat::Heartbeat,
    keys::Keys,
    lines::Refusals,
    link::Link,
    memory::Memory,
    new_epoch,
    outage::Outages,
    position,
    vouching::{Vouching, digest},
};
use crate::{
    order::Publication,
    protocol::{Channel, Draft, Frame, Position, Stamp, Username},
    telemetry::Metrics,
};

/// Tells Redis what is published; [`Link`] knows how.
#[derive(Debug)]
pub(super) struct Publisher {
    link: Link,
    heartbeat: Heartbeat,
    keys: Keys,
    vouching: Arc<Vouching>,
    memory: Arc<Memory>,
    refusals: Refusals,
    signalling: Script,
    metrics: Arc<Metrics>,
}

impl Publisher {
    pub(super) fn new(
        link: Link,
        heartbeat: Heartbeat,
        keys: Keys,
        vouching: Arc<Vouching>,
        memory: Arc<Memory>,
        outages: Arc<Outages>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let refusals = Refusals::new("to publish", Duration::from_secs(1), outages);
        let signalling = Script::new(include_str!("signal.lua"));
        Self { link, heartbeat, keys, vouching, memory, refusals, signalling, metrics }
    }

    pub(super) fn is_up(&self) -> bool {
        self.link.is_up()
    }

    pub(super) async fn keep_up(&self) {
        self.link.keep_up(|connection| self.heartbeat.check(connection)).await;
    }

    /// Waits until a check finds that Redis has lost its last writes. Cancel-safe.
    pub(super) async fn writes_lost(&self) {
        self.heartbeat.writes_lost().await;
    }

    /// Runs another command that must not wait for queries.
    pub(super) async fn run<T>(
        &self,
        command: impl AsyncFnOnce(&mut MultiplexedConnection) -> RedisResult<T>,
    ) -> Result<T, Failure> {
        self.link.run(command).await
    }

    pub(super) async fn publish(
        &self,
        channel: &Channel,
        draft: &Draft,
        known: Option<Position>,
    ) -> Result<Published, PublishError> {
        let name = self.keys.channel(channel);
        let vouch = self.vouching.current();
        let mut call = vouch.script().key(self.keys.meta(&name));
        call.key(self.keys.log(&name)).key(self.keys.moderation(&name));
        if let Some(identity) = draft.identity() {
            call.key(self.keys.id(&name, identity));
        }
        let (known_epoch, known_seq) = known.map_or((String::new(), 0), |known| (known.epoch.to_string(), known.seq));
        // The script adds the closing brace, once with a checksum and once without.
        let tail = draft.tail().strip_suffix('}').unwrap_or(draft.tail());
        call.arg(&name).arg(tail).arg(new_epoch()).arg(known_epoch).arg(known_seq);
        call.arg(self.memory.share()).arg(u8::from(self.memory.takes(channel))).arg(digest(draft.tail().as_bytes()));
        call.arg(draft.speaker().map_or("", Username::as_str)).arg(u8::from(draft.is_of_moderator()));
        if let Some(identity) = draft.identity() {
            call.arg(format!("{:032x}", identity.fingerprint));
        }

        let answer: Result<String, _> = self.link.run(async |connection| call.invoke_async(connection).await).await;
        let answer = answer.inspect_err(|failure| self.refusals.log(&name, failure)).map_err(Unavailable::from)?;
        let (outcome, epoch, seq, ts) =
            outcome(&answer).ok_or_else(|| Unavailable(format!("{answer:?} is no answer to a publish")))?;
        match outcome {
            "placed" => {
                let position = position(epoch, seq)?;
                let item = draft.numbered(Stamp { position, ts });
                Ok(Published::New(Publication { position, ts, item }))
            }
            "repeated" => Ok(Published::Repeated(position(epoch, seq)?)),
            "overloaded" => {
                self.metrics.rooms_refused.inc();
                Err(PublishError::Overloaded)
            }
            "muted" => Err(PublishError::Muted(ts)),
            "banned" => Err(PublishError::Banned(ts)),
            "slow_mode" => Err(PublishError::SlowMode(Duration::from_millis(ts))),
            _ => Err(PublishError::IdConflict),
        }
    }

    pub(super) async fn signal(&self, channel: &Channel, draft: &Draft) -> Result<Frame, PublishError> {
        let name = self.keys.channel(channel);
        let mut call = self.signalling.key(self.keys.moderation(&name));
        call.arg(&name).arg(draft.tail()).arg(draft.speaker().map_or("", Username::as_str));
        let answer: Result<String, _> = self.link.run(async |connection| call.invoke_async(connection).await).await;
        let answer = answer.inspect_err(|failure| self.refusals.log(&name, failure)).map_err(Unavailable::from)?;
        let answer = outcome(&answer).ok_or_else(|| Unavailable(format!("{answer:?} is no answer to a signal")))?;
        match answer {
            ("muted", _, _, until) => Err(PublishError::Muted(until)),
            ("banned", _, _, until) => Err(PublishError::Banned(until)),
            (_, _, _, ts) => Ok(draft.unnumbered(ts)),
        }
    }

    pub(super) async fn send(&self, channel: &Channel, frame: &Frame) -> Result<(), Unavailable> {
        let name = self.keys.channel(channel);
        let sent = self.publish_on(&name, frame.as_bytes()).await;
        Ok(sent.inspect_err(|failure| self.refusals.log(&name, failure))?)
    }

    /// Publishes on the channel with this name in Redis, without a log.
    pub(super) async fn publish_on(&self, name: &str, payload: &[u8]) -> Result<(), Failure> {
        self.link.run(async |connection| connection.publish(name, payload).await).await
    }
}

/// The script's answer: what became of the message, its epoch, seq and time.
fn outcome(answer: &str) -> Option<(&str, &str, u64, u64)> {
    let mut words = answer.split(' ');
    Some((words.next()?, words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}
