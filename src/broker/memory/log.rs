use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::super::{EMPTY_META, PublishError, Published, READ_BYTES, READ_LIMIT, Retention, unix_millis};
use crate::{
    order::{LogSlice, Past, Publication, ReadFrom},
    protocol::{Draft, Epoch, Frame, MessageId, Position, Stamp, Username},
};

/// Memory of an entry beside its frame: two places in the queue, which grows by doubling, and the frame's own head.
const ENTRY: usize = 2 * size_of::<(Instant, Publication<Frame>)>() + 64;

/// Memory of an id beside its own bytes and its sender's, in both places that hold it.
const ID: usize = 2 * (size_of::<(Instant, Key)>() + size_of::<(Key, (Position, u128))>()) + 64;

/// Whose id it is, if its sender has a name, and the id.
type Key = (Option<Username>, MessageId);

/// One channel's numbering, its last publications and their ids.
#[derive(Debug)]
pub(super) struct Log {
    epoch: Epoch,
    top: u64,
    touched: Instant,
    /// A room with members must not lose its epoch.
    is_held: bool,
    /// When the top was assigned, in Unix milliseconds.
    ts: u64,
    entries: VecDeque<(Instant, Publication<Frame>)>,
    bytes: usize,
    ids: HashMap<Key, (Position, u128)>,
    ids_by_age: VecDeque<(Instant, Key)>,
    id_bytes: usize,
}

impl Log {
    pub(super) fn new() -> Self {
        Self {
            epoch: Epoch(rand::random()),
            top: 0,
            touched: Instant::now(),
            is_held: false,
            ts: 0,
            entries: VecDeque::new(),
            bytes: 0,
            ids: HashMap::new(),
            ids_by_age: VecDeque::new(),
            id_bytes: 0,
        }
    }

    /// About how much memory its entries and ids take.
    pub(super) fn weight(&self) -> usize {
        self.bytes + self.entries.len() * ENTRY + self.id_bytes
    }

    /// How long it may stay since it was last asked for.
    pub(super) fn is_forgotten(&self, retention: &Retention) -> bool {
        self.touched.elapsed() >= if self.top == 0 && !self.is_held { EMPTY_META } else { retention.meta }
    }

    pub(super) fn publish(
        &mut self,
        draft: &Draft,
        known: Option<Position>,
        retention: &Retention,
        may_speak: impl FnOnce() -> Result<(), PublishError>,
    ) -> Result<Published, PublishError> {
        self.start_anew_if_behind(known);
        self.expire(retention);
        if let Some(published) = self.repeated(draft)? {
            return Ok(published);
        }
        may_speak()?;
        let published = self.append(draft);
        self.expire(retention);
        Ok(published)
    }

    /// See [`Broker::recover`](crate::broker::Broker::recover).
    pub(super) fn recover(&mut self, from: Option<ReadFrom>, retention: &Retention) -> LogSlice<Frame> {
        self.start_anew_if_behind(from.map(|from| Position::new(from.position.epoch, from.known)));
        if from.is_some_and(|from| from.void && from.position.epoch == self.epoch) {
            self.start_anew();
        }
        self.expire(retention);
        self.touched = Instant::now();
        let entries = from.map_or(Vec::new(), |from| self.page(from.position, 0));
        LogSlice { top: Position::new(self.epoch, self.top), entries }
    }

    /// See [`Broker::read`](crate::broker::Broker::read).
    pub(super) fn read(&self, from: Position, retention: &Retention) -> LogSlice<Frame> {
        let expired = self.entries.partition_point(|(at, _)| at.elapsed() >= retention.age);
        LogSlice { top: Position::new(self.epoch, self.top), entries: self.page(from, expired) }
    }

    /// See [`Broker::read_back`](crate::broker::Broker::read_back).
    pub(super) fn read_back(&self, before: Option<Position>, limit: u64, retention: &Retention) -> Past<Frame> {
        let top = Position::new(self.epoch, self.top);
        if before.is_some_and(|before| before.epoch != self.epoch) {
            return Past { top, entries: Vec::new(), has_more: false };
        }
        let expired = self.entries.partition_point(|(at, _)| at.elapsed() >= retention.age);
        let end = before.map_or(self.entries.len(), |before| {
            self.entries.partition_point(|(_, entry)| entry.position.seq < before.seq)
        });
        let (mut bytes, mut start) = (0, end);
        while start > expired && ((end - start) as u64) < limit {
            bytes += self.entries[start - 1].1.item.len();
            if bytes > READ_BYTES && start < end {
                break;
            }
            start -= 1;
        }
        let entries = self.entries.range(start..end).map(|(_, entry)| entry.clone()).collect();
        Past { top, entries, has_more: start > expired }
    }

    pub(super) fn look_up(&mut self) -> Stamp {
        (self.touched, self.is_held) = (Instant::now(), true);
        Stamp { position: Position::new(self.epoch, self.top), ts: self.ts }
    }

    /// Drops what is too old or too much, and gives back what that took.
    pub(super) fn tidy(&mut self, retention: &Retention) {
        self.expire(retention);
        self.entries.shrink_to(2 * self.entries.len());
        self.ids.shrink_to(2 * self.ids.len());
        self.ids_by_age.shrink_to(2 * self.ids_by_age.len());
    }

    /// Drops its oldest entry or id, whichever is older, even if its time has not come.
    pub(super) fn shed(&mut self) {
        let (entry, id) = (self.entries.front().map(|(at, _)| *at), self.ids_by_age.front().map(|(at, _)| *at));
        match (entry, id) {
            // An entry and its id have the same time. The id is worth more: it prevents a second copy of a message.
            (Some(entry), Some(id)) if id < entry => self.forget_id(),
            (Some(_), _) => self.forget_entry(),
            (None, _) => self.forget_id(),
        }
    }

    fn repeated(&self, draft: &Draft) -> Result<Option<Published>, PublishError> {
        let Some(identity) = draft.identity() else { return Ok(None) };
        match self.ids.get(&(identity.sender.clone(), identity.id.clone())) {
            None => Ok(None),
            Some((position, fingerprint)) if *fingerprint == identity.fingerprint => {
                Ok(Some(Published::Repeated(*position)))
            }
            Some(_) => Err(PublishError::IdConflict),
        }
    }

    fn start_anew_if_behind(&mut self, known: Option<Position>) {
        if known.is_some_and(|known| known.epoch == self.epoch && known.seq > self.top) {
            self.start_anew();
        }
    }

    fn start_anew(&mut self) {
        // No log may still hold a message of an earlier epoch, so its id proves nothing.
        *self = Self::new();
    }

    fn append(&mut self, draft: &Draft) -> Published {
        let now = Instant::now();
        self.touched = now;
        self.top += 1;
        self.ts = unix_millis();
        let position = Position::new(self.epoch, self.top);
        let placed = Publication { position, ts: self.ts, item: draft.numbered(Stamp { position, ts: self.ts }) };
        self.bytes += placed.item.len();
        self.entries.push_back((now, placed.clone()));
        if let Some(identity) = draft.identity() {
            let key = (identity.sender.clone(), identity.id.clone());
            self.id_bytes += id_weight(&key);
            self.ids.insert(key.clone(), (position, identity.fingerprint));
            self.ids_by_age.push_back((now, key));
        }
        Published::New(placed)
    }

    /// The entries from there on, without the first `expired` ones, and at most one page.
    fn page(&self, from: Position, expired: usize) -> Vec<Publication<Frame>> {
        let start = if from.epoch == self.epoch { from.seq } else { 0 };
        let start = self.entries.partition_point(|(_, entry)| entry.position.seq < start).max(expired);
        // The entry at the position itself tells nothing new, so at least one more comes with it, however long they
        // are.
        let (mut bytes, mut count) = (0, 0);
        let fits = |(_, entry): &&(Instant, Publication<Frame>)| {
            bytes += entry.item.len();
            count += 1;
            count <= 2 || bytes <= READ_BYTES
        };
        let page = self.entries.range(start..).take(READ_LIMIT).take_while(fits);
        page.map(|(_, entry)| entry.clone()).collect()
    }

    fn expire(&mut self, retention: &Retention) {
        let has_come = |at: &Instant, age: Duration| at.elapsed() >= age;
        while self.entries.len() > retention.length
            || (self.bytes > retention.bytes && self.entries.len() > 1)
            || self.entries.front().is_some_and(|(at, _)| has_come(at, retention.age))
        {
            self.forget_entry();
        }
        while self.ids_by_age.front().is_some_and(|(at, _)| has_come(at, retention.ids)) {
            self.forget_id();
        }
    }

    fn forget_entry(&mut self) {
        if let Some((_, entry)) = self.entries.pop_front() {
            self.bytes -= entry.item.len();
        }
    }

    fn forget_id(&mut self) {
        if let Some((_, key)) = self.ids_by_age.pop_front() {
            self.id_bytes -= id_weight(&key);
            self.ids.remove(&key);
        }
    }
}

fn id_weight((sender, id): &Key) -> usize {
    ID + id.as_str().len() + sender.as_ref().map_or(0, |sender| sender.as_str().len())
}
