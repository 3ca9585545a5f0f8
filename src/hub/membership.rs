use std::sync::Arc;

use super::Hub;
use crate::{
    protocol::{Channel, RoomId},
    socket::Outbox,
};

/// A client of this server.
#[derive(Debug)]
pub struct Client {
    number: u64,
    outbox: Arc<Outbox>,
}

impl Client {
    pub(super) fn new(number: u64, outbox: Outbox) -> Self {
        Self { number, outbox: Arc::new(outbox) }
    }

    /// Where everything that this client is to get goes through, so that it arrives in one order.
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

/// One client's place in one channel. Dropping it is leaving, so no member can be left behind; the client is sent
/// first what was delivered until then.
#[derive(Debug)]
pub struct Membership {
    hub: Arc<Hub>,
    channel: Channel,
    number: u64,
}

impl Membership {
    pub(super) fn new(hub: Arc<Hub>, channel: Channel, number: u64) -> Self {
        Self { hub, channel, number }
    }

    /// The room; `None` for the broadcast channel.
    pub fn room(&self) -> Option<&RoomId> {
        self.channel.room()
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.hub.leave(&self.channel, self.number);
    }
}
