use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use redis::{RedisResult, Script, ScriptInvocation, Value};

use super::{
    super::{EMPTY_META, LookedUp, READ_BYTES, READ_LIMIT, RecoverError, Retention, Unavailable},
    failure::Failure,
    keys::Keys,
    limits,
    lines::Refusals,
    memory::Memory,
    millis, new_epoch,
    outage::Outages,
    position,
    queries::Queries,
};
use crate::{
    order::{LogSlice, Past, Publication, ReadFrom},
    protocol::{Channel, Envelope, Epoch, Frame, Position, Stamp},
    telemetry::Metrics,
};

/// How often at most the log says what cannot be looked up. Each comparison of the rooms tries again, so each would
/// write the same line.
const LOOK_UP_LINES: Duration = Duration::from_secs(60);

/// Asks Redis for what it has; [`Queries`] knows how.
#[derive(Debug)]
pub(super) struct Reader {
    queries: Queries,
    keys: Keys,
    retention: Retention,
    recovering: Script,
    reading: Script,
    reading_back: Script,
    memory: Arc<Memory>,
    refused_reading: Refusals,
    refused_look_up: Refusals,
    metrics: Arc<Metrics>,
}

impl Reader {
    pub(super) fn new(
        queries: Queries,
        keys: Keys,
        retention: Retention,
        memory: Arc<Memory>,
        outages: &Arc<Outages>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let paging = [&limits(&retention), include_str!("trim.lua"), include_str!("page.lua")].concat();
        let recovering = Script::new(&[&paging, include_str!("recover.lua")].concat());
        let reading = Script::new(&[&paging, include_str!("read.lua")].concat());
        let back = [&limits(&retention), include_str!("trim.lua"), include_str!("back.lua")].concat();
        let reading_back = Script::new(&back);
        let refused_reading = Refusals::new("to read a log", Duration::from_secs(1), outages.clone());
        let refused_look_up = Refusals::new("to look up the top of a log", LOOK_UP_LINES, outages.clone());
        Self {
            queries,
            keys,
            retention,
            recovering,
            reading,
            reading_back,
            memory,
            refused_reading,
            refused_look_up,
            metrics,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.queries.is_up()
    }

    pub(super) async fn keep_up(&self) {
        self.queries.keep_up().await;
    }

    pub(super) async fn recover(
        &self,
        channel: &Channel,
        from: Option<ReadFrom>,
    ) -> Result<LogSlice<Frame>, RecoverError> {
        let name = self.keys.channel(channel);
        let mut call = self.recovering.key(self.keys.meta(&name));
        call.key(self.keys.log(&name)).key(self.keys.moderation(&name)).arg(new_epoch());
        match from {
            Some(ReadFrom { position: Position { epoch, seq }, known, void }) => {
                call.arg(epoch.to_string()).arg(seq).arg(known).arg(u8::from(void));
            }
            None => {
                call.arg("").arg(0).arg(0).arg(0);
            }
        }
        call.arg(READ_LIMIT).arg(READ_BYTES).arg(millis(EMPTY_META)).arg(u8::from(self.memory.takes(channel)));

        let Some(slice) = self.page(&name, &call).await? else {
            self.metrics.rooms_refused.inc();
            return Err(RecoverError::Overloaded);
        };
        Ok(slice)
    }

    pub(super) async fn read(
        &self,
        channel: &Channel,
        Position { epoch, seq }: Position,
    ) -> Result<Option<LogSlice<Frame>>, Unavailable> {
        let name = self.keys.channel(channel);
        let mut call = self.reading.key(self.keys.meta(&name));
        call.key(self.keys.log(&name)).arg(epoch.to_string()).arg(seq).arg(READ_LIMIT).arg(READ_BYTES);
        self.page(&name, &call).await
    }

    pub(super) async fn read_back(
        &self,
        channel: &Channel,
        before: Option<Position>,
        limit: u64,
    ) -> Result<Option<Past<Frame>>, Unavailable> {
        let name = self.keys.channel(channel);
        let mut call = self.reading_back.key(self.keys.meta(&name));
        let (epoch, seq) = before.map_or((String::new(), 0), |before| (before.epoch.to_string(), before.seq));
        call.key(self.keys.log(&name)).arg(epoch).arg(seq).arg(limit).arg(READ_BYTES);
        let answer = self.queries.run(async |connection| call.invoke_async(connection).await).await;
        let answer: (String, u64, Vec<(u64, Bytes)>, bool) =
            answer.inspect_err(|failure| self.refused_reading.log(&name, failure)).map_err(Unavailable::from)?;
        let (epoch, top, entries, has_more) = answer;
        if epoch.is_empty() {
            return Ok(None);
        }
        let top = position(&epoch, top)?;
        let entries = entries.into_iter().rev();
        let entries = entries.filter_map(|(seq, envelope)| placed(Position::new(top.epoch, seq), envelope)).collect();
        Ok(Some(Past { top, entries, has_more }))
    }

    /// Runs one of the reading scripts; `None` if there is no log.
    async fn page(&self, name: &str, call: &ScriptInvocation<'_>) -> Result<Option<LogSlice<Frame>>, Unavailable> {
        let answer = self.queries.run(async |connection| call.invoke_async::<Page>(connection).await).await;
        let (epoch, top, entries) =
            answer.inspect_err(|failure| self.refused_reading.log(name, failure)).map_err(Unavailable::from)?;
        if epoch.is_empty() {
            return Ok(None);
        }
        let top = position(&epoch, top)?;
        // An entry that another program wrote counts as lost, and members are told about the gap.
        let entries = entries.into_iter().filter_map(|(seq, envelope)| placed(Position::new(top.epoch, seq), envelope));
        Ok(Some(LogSlice { top, entries: entries.collect() }))
    }

    pub(super) async fn tops(&self, channels: &[Channel]) -> Result<Vec<LookedUp>, Unavailable> {
        let mut pipeline = redis::pipe();
        // One broken room must not hide the others.
        pipeline.ignore_errors();
        let metas: Vec<String> = channels.iter().map(|channel| self.keys.meta(&self.keys.channel(channel))).collect();
        for meta in &metas {
            // The room has members on this server, so it must not lose its epoch.
            pipeline.hmget(meta, &["epoch", "seq", "ts"]).pexpire(meta, millis(self.retention.meta) as i64).ignore();
        }
        let tops: Vec<RedisResult<Value>> =
            self.queries.run(async |connection| pipeline.query_async(connection).await).await?;
        let looked_up = tops.into_iter().zip(&metas).map(|(answer, meta)| {
            let top = answer.and_then(|answer| Ok(redis::from_redis_value(answer)?)).map(top).map_err(Failure::from);
            Ok(top.inspect_err(|failure| self.refused_look_up.log(meta, failure))?)
        });
        Ok(looked_up.collect())
    }
}

/// The answer of the reading scripts: epoch and seq of the top, and seq and envelope of each entry.
type Page = (String, u64, Vec<(u64, Bytes)>);

/// A channel's top, as its meta has it.
fn top((epoch, seq, ts): (Option<String>, Option<u64>, Option<u64>)) -> Option<Stamp> {
    let epoch = Epoch::parse(&epoch?)?;
    Some(Stamp { position: Position::new(epoch, seq.unwrap_or(0)), ts: ts.unwrap_or(0) })
}

/// An entry of the log; `None` if it is not an envelope with a time.
fn placed(position: Position, envelope: Bytes) -> Option<Publication<Frame>> {
    let item = Frame::new(envelope).ok()?;
    let Stamp { ts, .. } = Envelope::read(&item).ok()?.stamp?;
    Some(Publication { position, ts, item })
}
