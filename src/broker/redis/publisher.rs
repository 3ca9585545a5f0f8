use std::time::Duration;

use bytes::Bytes;
use redis::{AsyncCommands, Script};

use super::{
    super::{EMPTY_META, PublishError, Published, READ_LIMIT, Retention, Top, Unavailable},
    keys::Keys,
    link::Link,
};
use crate::{
    config::Config,
    protocol::{Channel, Draft, Envelope, Epoch, Frame},
    room::{LogSlice, Placed, Position, ReadFrom},
};

/// What is said to Redis: publishes, and readings of logs. How it is said is the [`Link`]'s part.
#[derive(Debug)]
pub(super) struct Publisher {
    link: Link,
    keys: Keys,
    retention: Retention,
    publish: Script,
    read: Script,
}

impl Publisher {
    pub(super) fn new(link: Link, keys: Keys, config: &Config) -> Self {
        let retention = config.into();
        let script = |code| Script::new(&[&limits(&retention), include_str!("trim.lua"), code].concat());
        let (publish, read) = (script(include_str!("publish.lua")), script(include_str!("read.lua")));
        Self { link, keys, retention, publish, read }
    }

    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    pub(super) async fn publish(
        &self,
        channel: &Channel,
        draft: &Draft,
        known: Option<Position>,
    ) -> Result<Published, PublishError> {
        let name = self.keys.channel(channel);
        let mut call = self.publish.key(self.keys.meta(&name));
        call.key(self.keys.log(&name));
        if let Some(id) = draft.id() {
            call.key(self.keys.id(&name, id));
        }
        let (known_epoch, known_seq) = known.map_or((String::new(), 0), |known| (known.epoch.to_string(), known.seq));
        call.arg(name).arg(draft.tail()).arg(new_epoch()).arg(known_epoch).arg(known_seq);
        if draft.id().is_some() {
            call.arg(format!("{:016x}", draft.fingerprint()));
        }

        let answer: String = self.link.run(async |connection| call.invoke_async(connection).await).await?;
        let (outcome, epoch, seq, ts) =
            outcome(&answer).ok_or_else(|| Unavailable(format!("{answer:?} is no answer to a publish")))?;
        let position = position(epoch, seq)?;
        match outcome {
            "placed" => {
                let item = draft.numbered(position.epoch, seq, ts);
                Ok(Published::Placed(Placed { position, ts, item }))
            }
            "repeated" => Ok(Published::Repeated(position)),
            _ => Err(PublishError::IdConflict),
        }
    }

    pub(super) async fn send(&self, channel: &Channel, frame: &Frame) -> Result<(), Unavailable> {
        self.publish_on(&self.keys.channel(channel), frame.as_bytes()).await
    }

    /// Publishes on a channel of Redis by its name, and nothing else.
    pub(super) async fn publish_on(&self, name: &str, payload: &[u8]) -> Result<(), Unavailable> {
        self.link.run(async |connection| connection.publish(name, payload).await).await
    }

    pub(super) async fn read(&self, channel: &Channel, from: Option<ReadFrom>) -> Result<LogSlice<Frame>, Unavailable> {
        let name = self.keys.channel(channel);
        let mut call = self.read.key(self.keys.meta(&name));
        call.key(self.keys.log(&name)).arg(new_epoch());
        match from {
            Some(ReadFrom { position: Position { epoch, seq }, known, void }) => {
                call.arg(epoch.to_string()).arg(seq).arg(known).arg(u8::from(void));
            }
            None => {
                call.arg("").arg(0).arg(0).arg(0);
            }
        }
        call.arg(READ_LIMIT).arg(millis(EMPTY_META));

        let (epoch, top, entries): (String, u64, Vec<(u64, Bytes)>) =
            self.link.run(async |connection| call.invoke_async(connection).await).await?;
        let top = position(&epoch, top)?;
        // An entry that is none of ours is as good as lost, and its gap is told.
        let entries = entries.into_iter().filter_map(|(seq, envelope)| placed(Position::new(top.epoch, seq), envelope));
        let entries = entries.collect();
        Ok(LogSlice { top, entries })
    }

    pub(super) async fn tops(&self, channels: &[Channel]) -> Result<Vec<Option<Top>>, Unavailable> {
        let mut pipeline = redis::pipe();
        for channel in channels {
            let meta = self.keys.meta(&self.keys.channel(channel));
            // Whoever compares has members there, for whom the epoch must not be forgotten.
            pipeline.hmget(&meta, &["epoch", "seq", "ts"]).pexpire(&meta, millis(self.retention.meta) as i64).ignore();
        }
        let tops: Vec<(Option<String>, Option<u64>, Option<u64>)> =
            self.link.run(async |connection| pipeline.query_async(connection).await).await?;
        let top = |(epoch, seq, ts): (Option<String>, Option<u64>, Option<u64>)| {
            let epoch = Epoch::parse(&epoch?)?;
            Some((Position::new(epoch, seq.unwrap_or(0)), ts.unwrap_or(0)))
        };
        Ok(tops.into_iter().map(top).collect())
    }
}

/// What the scripts know of the settings. It is the same for all calls of a server, so it is a part of the scripts, which
/// Redis is sent once, and not of the calls.
fn limits(retention: &Retention) -> String {
    let Retention { length, bytes, .. } = retention;
    let [age, meta, ids] = [retention.age, retention.meta, retention.ids].map(millis);
    format!("local max_length, max_bytes, log_life, meta_life, id_life = {length}, {bytes}, {age}, {meta}, {ids}\n")
}

/// What the script for publishing returns: what became of the message, its epoch, seq and time.
fn outcome(answer: &str) -> Option<(&str, &str, u64, u64)> {
    let mut words = answer.split(' ');
    Some((words.next()?, words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

fn new_epoch() -> String {
    Epoch(rand::random()).to_string()
}

/// An entry of the log; `None` if it is not an envelope with a time.
fn placed(position: Position, envelope: Bytes) -> Option<Placed<Frame>> {
    let item = Frame::new(envelope).ok()?;
    let (_, _, ts) = Envelope::read(&item).ok()?.placed?;
    Some(Placed { position, ts, item })
}

fn position(epoch: &str, seq: u64) -> Result<Position, Unavailable> {
    let epoch =
        Epoch::parse(epoch).ok_or_else(|| Unavailable(format!("{epoch:?} in Redis is not an epoch of ours")))?;
    Ok(Position::new(epoch, seq))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
