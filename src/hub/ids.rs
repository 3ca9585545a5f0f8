use std::hash::{Hash, Hasher};

use crate::protocol::Channel;

/// One client of this server. A server never gives the same id out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientId(pub(super) u64);

/// Distinguishes a channel from a later one with the same name: a room that empties and fills again starts anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Generation(pub(super) u64);

/// One channel of this server, in one of its lives.
#[derive(Clone, Debug)]
pub(super) struct ChannelKey {
    pub(super) channel: Channel,
    pub(super) generation: Generation,
}

impl PartialEq for ChannelKey {
    fn eq(&self, other: &Self) -> bool {
        self.generation == other.generation
    }
}

impl Eq for ChannelKey {}

impl Hash for ChannelKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.generation.hash(state);
    }
}
