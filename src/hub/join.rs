use std::{collections::hash_map::Entry, sync::Arc};

use tokio::time::{Instant, sleep, timeout};

use super::{
    Client, Hub, Membership,
    audience::CALL,
    local_room::{Admission, Claim, GRACE, LocalRoom, reset},
};
use crate::{
    broker::Unavailable,
    protocol::{Channel, History, RoomId},
    room::{LogSlice, Placed, Position, ReadFrom, ResetReason},
    socket::Batch,
};

impl Hub {
    /// Makes a client a member of a room until the membership is dropped. When this returns, the client
    /// has been sent `joined` and then the history it asked for, and gets exactly the messages that came since.
    ///
    /// # Errors
    /// If the room's channel could not be subscribed and read in time. Dropping the future undoes the join.
    pub async fn join(
        self: &Arc<Self>,
        client: &Client,
        room: &RoomId,
        history: History,
    ) -> Result<Membership, Unavailable> {
        let channel = Channel::Room(room.clone());
        self.metrics.memberships.inc();
        let membership = Membership::new(self.clone(), channel.clone(), client.number());
        let history = match history {
            History::Last(count) => History::Last(count.min(self.max_last)),
            history => history,
        };
        let claim = Claim { history, is_announced: false, is_refuted: false };
        let mut arrival = Arrival { hub: self, client, channel: &channel, room, claim };
        let mut looked_up_until = None;
        loop {
            match arrival.enter() {
                Admission::Member => return Ok(membership),
                Admission::NotYet(opened) => match timeout(self.join_timeout, opened).await {
                    Ok(Ok(())) => {}
                    _ => return Err(Unavailable(format!("the room was not open within {:?}", self.join_timeout))),
                },
                Admission::Unknown => {
                    let until = *looked_up_until.get_or_insert(Instant::now() + self.join_timeout);
                    arrival.look_up(Instant::now() < until).await?;
                }
                Admission::Missed { from, to } => {
                    if arrival.catch_up(from, to).await? && arrival.end() {
                        return Ok(membership);
                    }
                }
            }
        }
    }
}

/// A client on its way into a room.
struct Arrival<'a> {
    hub: &'a Hub,
    client: &'a Client,
    channel: &'a Channel,
    room: &'a RoomId,
    claim: Claim,
}

impl Arrival<'_> {
    /// Comes to the room, which is made if it is not there.
    fn enter(&self) -> Admission {
        let (admission, is_new) = {
            let mut rooms = self.hub.rooms(self.channel);
            let entry = rooms.entry(self.channel.clone());
            let is_new = matches!(entry, Entry::Vacant(_));
            let local = entry.or_insert_with(|| {
                self.hub.metrics.rooms.inc();
                self.hub.new_room()
            });
            (local.join(self.client.number(), self.client.outbox(), self.room, self.claim, &self.hub.metrics), is_new)
        };
        if is_new {
            self.hub.broker.interest_changed(self.channel.clone());
        }
        admission
    }

    /// Asks the log whether there is the position that the client claims. If there is, this server is behind what the
    /// client has had from another one, and is given some time to find out.
    async fn look_up(&mut self, may_wait: bool) -> Result<(), Unavailable> {
        let tops = self.hub.broker.tops(std::slice::from_ref(self.channel)).await?;
        let top = tops.into_iter().next().flatten().map(|(top, _)| top);
        let History::After(epoch, seq) = self.claim.history else { return Ok(()) };
        match top {
            Some(top) if top.epoch == epoch && seq <= top.seq && may_wait => {
                self.hub.settle(self.channel, |room| room.observe(top));
                sleep(GRACE).await;
            }
            _ => self.claim.is_refuted = true,
        }
        Ok(())
    }

    /// Sends the client what the log has after `from` and up to `to`, as fast as the client takes it. Returns false
    /// if numbering began anew meanwhile, so that it has to come in again.
    async fn catch_up(&mut self, from: ReadFrom, to: Position) -> Result<bool, Unavailable> {
        let mut at = from.position.seq;
        while at < to.seq {
            let position = Position::new(to.epoch, at);
            let LogSlice { top, mut entries } =
                self.hub.broker.read(self.channel, Some(ReadFrom { position, ..from })).await?;
            if top.epoch != to.epoch {
                self.hub.settle(self.channel, |room| {
                    room.observe(top);
                    room.leave(self.client.number());
                });
                // The room reads its log within this time and then stands in the new epoch.
                sleep(GRACE).await;
                return Ok(false);
            }
            entries.retain(|entry| entry.position.seq > at && entry.position.seq <= to.seq);
            if entries.is_empty() {
                self.announce(to, at, to.seq + 1);
                at = to.seq;
            }
            let mut caught_up = Vec::new();
            let mut bytes = 0;
            for Placed { position, item, .. } in entries {
                if !self.claim.is_announced || position.seq != at + 1 || bytes > CALL {
                    self.send(&mut caught_up).await?;
                    bytes = 0;
                }
                self.announce(to, at, position.seq);
                bytes += item.len();
                caught_up.push(Batch::from(&item));
                at = position.seq;
            }
            self.send(&mut caught_up).await?;
            self.claim.history = History::After(to.epoch, at);
        }
        self.claim.history = History::After(to.epoch, to.seq);
        Ok(true)
    }

    /// Sends what was collected, as fast as the client takes it.
    async fn send(&self, caught_up: &mut Vec<Batch>) -> Result<(), Unavailable> {
        let batch = Batch::join(caught_up.iter());
        caught_up.clear();
        if batch.messages() > 0 && !self.client.outbox().push_when_free(&batch).await {
            return Err(Unavailable("the client is being closed".into()));
        }
        Ok(())
    }

    /// Tells the client that it is in, the first time, and that there is a gap if `next` does not follow on `at`.
    fn announce(&mut self, to: Position, at: u64, next: u64) {
        let has_gap = next != at + 1;
        let claims_position = matches!(self.claim.history, History::After(..));
        if !self.claim.is_announced {
            self.claim.is_announced = true;
            let resumed = claims_position.then_some(!has_gap);
            let joined = |room: &mut LocalRoom| room.joined(self.room, to.into(), resumed);
            if let Some(joined) = self.hub.with(self.channel, joined) {
                self.client.outbox().push(&joined);
            }
        }
        // Whoever asks for the last so many takes what there is.
        if has_gap && claims_position {
            let place = Position::new(to.epoch, next - 1).into();
            self.client.outbox().push(&reset(Some(self.room), place, ResetReason::Trimmed, &self.hub.metrics));
        }
    }

    /// Makes the client a member, unless more was delivered while it caught up than could be kept for it.
    fn end(&self) -> bool {
        let end = |room: &mut LocalRoom| room.end_resuming(self.client.number(), self.client.outbox());
        self.hub.with(self.channel, end).unwrap_or(false)
    }
}
