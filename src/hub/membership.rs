use std::sync::Arc;

use super::{ClientId, Hub};
use crate::protocol::Channel;

/// One client's place in one channel. Dropping it leaves the channel, so no member can be forgotten; the client first
/// gets what was delivered until then.
#[derive(Debug)]
pub struct Membership {
    hub: Arc<Hub>,
    channel: Channel,
    client: ClientId,
}

impl Membership {
    pub(super) fn new(hub: Arc<Hub>, channel: Channel, client: ClientId) -> Self {
        if channel != Channel::Broadcast {
            hub.metrics.memberships.inc();
        }
        Self { hub, channel, client }
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        if self.channel != Channel::Broadcast {
            self.hub.metrics.memberships.dec();
        }
        if self.hub.channels.leave(&self.channel, self.client) {
            self.hub.broker.interest_changed(self.channel.clone());
        }
    }
}
