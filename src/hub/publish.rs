use std::time::Duration;

use tokio::time::{Instant, timeout};
use tracing::{Instrument, Span};

use super::{Hub, local_channel::LocalChannel, recipient::Client};
use crate::{
    broker::{PublishError, Published, Unavailable, unix_millis},
    order::LogSlice,
    protocol::{Channel, Draft, Event, Frame, Position, RoomId},
    telemetry::trace,
};

/// How long a publisher waits, at most, for overloaded members.
const PATIENCE: Duration = Duration::from_millis(100);

/// By what a message comes.
#[derive(Clone, Copy, Debug)]
pub enum By<'a> {
    /// A client of this server.
    Client(&'a Client),
    /// A call of the API, which has this span.
    Call(&'a Span),
}

/// What became of a message that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// Its place; none without history.
    pub position: Option<Position>,
    /// When it got its place, in Unix milliseconds, if that is known.
    pub ts: Option<u64>,
    /// Whether it was kept before, so that this made no second message.
    pub is_repeated: bool,
}

impl Hub {
    /// Publishes to a channel, and delivers the message in its place to this server's members, if there are any. When
    /// this returns, the broker has the message, and it is in line for the members unless earlier messages are still
    /// missing. Without history it has no position, and is in line here before the broker has it.
    ///
    /// If the draft has an id, a client that sent it is told `ack`, after everything that was in line for it in the
    /// channel. So the answer to its next command comes after that.
    ///
    /// # Errors
    /// See [`Broker::publish`](crate::broker::Broker::publish). The sender has then not been told anything.
    pub async fn publish(&self, channel: &Channel, draft: &Draft, by: By<'_>) -> Result<Receipt, PublishError> {
        let (sender, call) = match by {
            By::Client(client) => (Some(client), None),
            By::Call(span) => (None, Some(span)),
        };
        let span = self.tracer.publish(channel, call);
        let traced = trace::traceparent(&span).map(|traceparent| {
            let mut draft = draft.clone();
            draft.set_traceparent(&traceparent);
            draft
        });
        let draft = traced.as_ref().unwrap_or(draft);
        let published = self.publish_draft(channel, draft, sender).instrument(span.clone()).await;
        match &published {
            Ok(_) => self.relieve(channel).await,
            Err(error) => trace::failed(&span, error),
        }
        published
    }

    /// Tells the members of a room but the `sender` something that is not kept, on all servers. Whoever is behind, or on a
    /// server that is cut off, misses it.
    ///
    /// # Errors
    /// If the sender may not speak in the room now, or the broker is away.
    pub async fn signal(&self, room: &RoomId, draft: &Draft, sender: Option<&Client>) -> Result<(), PublishError> {
        self.demand_sanctions()?;
        let channel = Channel::Room(room.clone());
        let frame = self.broker.signal(&channel, draft).await?;
        self.channels.act(&channel, |local, _| local.signal(frame, sender.map(|sender| sender.id)));
        Ok(())
    }

    /// Reads what was said in a room before a position, or last: an [`Event::History`]; see
    /// [`Broker::read_back`](crate::broker::Broker::read_back). Without history, there is nothing.
    ///
    /// # Errors
    /// If the broker did not answer in time.
    pub async fn history(&self, room: &RoomId, before: Option<Position>, limit: u64) -> Result<Event, Unavailable> {
        self.demand_sanctions()?;
        let limit = limit.clamp(1, self.options.max_last.max(1));
        let past = match self.rules.keeps_history {
            true => self.broker.read_back(&Channel::Room(room.clone()), before, limit).await?,
            false => None,
        };
        let (epoch, has_more) = past.as_ref().map_or((None, false), |past| (Some(past.top.epoch), past.has_more));
        let messages = past.into_iter().flat_map(|past| past.entries).map(|entry| entry.item).collect();
        Ok(Event::History { room: room.clone(), epoch, messages, has_more })
    }

    /// Reads what was said in a room after a position, and says whether some of that is gone; see
    /// [`Broker::read`](crate::broker::Broker::read).
    ///
    /// # Errors
    /// If the broker did not answer in time.
    pub async fn history_after(
        &self,
        room: &RoomId,
        after: Position,
        limit: u64,
    ) -> Result<(Event, Option<bool>), Unavailable> {
        self.demand_sanctions()?;
        let limit = limit.clamp(1, self.options.max_last.max(1));
        let slice = match self.rules.keeps_history {
            true => self.broker.read(&Channel::Room(room.clone()), after).await?,
            false => None,
        };
        let room = room.clone();
        let Some(LogSlice { top, entries }) = slice else {
            return Ok((Event::History { room, epoch: None, messages: Vec::new(), has_more: false }, Some(false)));
        };
        let seq = if top.epoch == after.epoch { after.seq } else { 0 };
        let mut entries = entries.into_iter().filter(|entry| entry.position.seq > seq).peekable();
        let first = entries.peek().map_or(top.seq.saturating_add(1), |entry| entry.position.seq);
        let is_gap = top.epoch != after.epoch || first > seq.saturating_add(1);
        let taken: Vec<_> = entries.take(usize::try_from(limit).unwrap_or(usize::MAX)).collect();
        let has_more = taken.last().is_some_and(|last| last.position.seq < top.seq);
        let messages = taken.into_iter().map(|entry| entry.item).collect();
        Ok((Event::History { room, epoch: Some(top.epoch), messages, has_more }, Some(is_gap)))
    }

    /// When the message at this position got its place, in Unix milliseconds, if the log still has it.
    pub async fn time_of(&self, channel: &Channel, position: Position) -> Option<u64> {
        let slice = self.broker.read(channel, position).await.ok()??;
        slice.entries.first().filter(|entry| entry.position == position).map(|entry| entry.ts)
    }

    fn demand_sanctions(&self) -> Result<(), Unavailable> {
        let why = || Unavailable("it is not known yet what holds on all servers".into());
        self.knows_sanctions().then_some(()).ok_or_else(why)
    }

    async fn publish_draft(
        &self,
        channel: &Channel,
        draft: &Draft,
        sender: Option<&Client>,
    ) -> Result<Receipt, PublishError> {
        // Members of a channel that is not open yet could not get it.
        let local = self.channels.peek(channel, |local| (local.is_closed_to_members(), local.known()));
        let (is_closed, known) = local.unwrap_or_default();
        self.demand_sanctions()?;
        if is_closed {
            return Err(Unavailable("the channel is not open yet".into()).into());
        }
        let started = Instant::now();
        let published = if self.rules.keeps_history {
            self.publish_in_order(channel, draft, known, sender).await
        } else {
            self.publish_unplaced(channel, draft, sender).await
        };
        self.metrics.publish_duration.observe(started.elapsed());
        if matches!(published, Err(PublishError::Unavailable(_))) {
            self.metrics.publishes_failed.inc();
        }
        published
    }

    async fn publish_in_order(
        &self,
        channel: &Channel,
        draft: &Draft,
        known: Option<Position>,
        sender: Option<&Client>,
    ) -> Result<Receipt, PublishError> {
        Ok(match self.broker.publish(channel, draft, known).await? {
            Published::New(publication) => {
                let (position, ts) = (publication.position, publication.ts);
                let ack = ack(channel, draft, Some(position));
                self.deliver(channel, sender, ack, |local, now| local.accept(publication, now));
                Receipt { position: Some(position), ts: Some(ts), is_repeated: false }
            }
            Published::Repeated(position) => {
                self.metrics.publishes_repeated.inc();
                let ack = ack(channel, draft, Some(position));
                // The first answer may have been lost, and the delivery with it.
                self.deliver(channel, sender, ack, |local, now| local.observe(position, now));
                Receipt { position: Some(position), ts: None, is_repeated: true }
            }
        })
    }

    async fn publish_unplaced(
        &self,
        channel: &Channel,
        draft: &Draft,
        sender: Option<&Client>,
    ) -> Result<Receipt, PublishError> {
        let ts = unix_millis();
        let frame = draft.unnumbered(ts);
        self.deliver_unplaced(channel, &frame);
        self.broker.send(channel, &frame).await?;
        self.deliver(channel, sender, ack(channel, draft, None), |_, _| ());
        Ok(Receipt { position: None, ts: Some(ts), is_repeated: false })
    }

    /// Acts on a channel, if this server has it, and under the same lock sends the sender what is in line for it and
    /// its ack.
    fn deliver(
        &self,
        channel: &Channel,
        sender: Option<&Client>,
        ack: Option<Event>,
        action: impl FnOnce(&mut LocalChannel, Instant),
    ) {
        let sent = self.channels.act(channel, |local, now| {
            action(local, now);
            sender.is_some_and(|sender| local.answer(sender.id, ack.clone(), now))
        });
        if let (Some(sender), Some(ack), None | Some(false)) = (sender, ack, sent) {
            sender.recipient.deliver(&ack.into());
        }
    }

    /// Delivers a message without a place in the order to the members.
    pub(super) fn deliver_unplaced(&self, channel: &Channel, frame: &Frame) {
        self.channels.act(channel, |local, _| local.deliver_unplaced(frame.clone()));
    }

    /// Waits a moment while the members of a channel are overloaded. This slows those who send most, and nobody in
    /// other channels.
    async fn relieve(&self, channel: &Channel) {
        if let Some(relieved) = self.channels.act(channel, |local, _| local.relieved()).flatten() {
            let _ = timeout(PATIENCE, relieved).await;
        }
    }
}

/// The ack of a message, if its sender gave it an id.
fn ack(channel: &Channel, draft: &Draft, position: Option<Position>) -> Option<Event> {
    draft.id().map(|id| Event::Ack { id: id.clone(), room: channel.room().cloned(), position })
}
