use std::collections::{BTreeSet, HashMap};

use super::{super::Retention, log::Log};
use crate::protocol::Channel;

/// Memory of an empty log beside its channel's name, in all places that hold it.
const EMPTY: usize = 2 * size_of::<(Channel, Log)>() + 2 * size_of::<(usize, Channel)>() + 64;

/// The logs of all channels, and a bound on what they take together.
///
/// Beyond the bound, the largest log gives up its oldest entries and ids, then whichever log is the largest by then. So
/// one flooded room costs the quiet ones nothing, and many that grow together end up with equal shares. An empty log
/// stays, because it holds its channel's numbering: when empty logs take half of the bound, no more logs are made.
#[derive(Debug)]
pub(super) struct Logs {
    by_channel: HashMap<Channel, Log>,
    /// The logs with something to give up, ordered by how much.
    by_weight: BTreeSet<(usize, Channel)>,
    /// What all entries and ids take.
    weight: usize,
    /// What all logs take without entries and ids.
    empty_weight: usize,
    max_bytes: usize,
}

/// There is no room for one more log.
#[derive(Debug)]
pub(super) struct NoPlace;

impl Logs {
    pub(super) fn new(max_bytes: usize) -> Self {
        Self { by_channel: HashMap::new(), by_weight: BTreeSet::new(), weight: 0, empty_weight: 0, max_bytes }
    }

    /// Acts on the log of a channel, and makes it first if there is none.
    pub(super) fn with<T>(&mut self, channel: &Channel, action: impl FnOnce(&mut Log) -> T) -> Result<T, NoPlace> {
        if !self.by_channel.contains_key(channel) {
            let empty = empty_weight(channel);
            // Everybody is on the broadcast channel, so it is there before all others.
            if channel.room().is_some() && self.empty_weight + empty > self.max_bytes / 2 {
                return Err(NoPlace);
            }
            self.empty_weight += empty;
        }
        let log = self.by_channel.entry(channel.clone()).or_insert_with(Log::new);
        let before = log.weight();
        let result = action(log);
        let after = log.weight();
        self.weighs(channel, before, after);
        self.keep_to_bound();
        Ok(result)
    }

    pub(super) fn get(&self, channel: &Channel) -> Option<&Log> {
        self.by_channel.get(channel)
    }

    pub(super) fn get_mut(&mut self, channel: &Channel) -> Option<&mut Log> {
        self.by_channel.get_mut(channel)
    }

    /// Drops what has expired.
    pub(super) fn sweep(&mut self, retention: &Retention) {
        let mut changed = Vec::new();
        self.by_channel.retain(|channel, log| {
            let before = log.weight();
            log.tidy(retention);
            let is_kept = !log.is_forgotten(retention);
            let after = if is_kept { log.weight() } else { 0 };
            if after != before {
                changed.push((channel.clone(), before, after));
            }
            if !is_kept {
                self.empty_weight -= empty_weight(channel);
            }
            is_kept
        });
        for (channel, before, after) in changed {
            self.weighs(&channel, before, after);
        }
    }

    fn keep_to_bound(&mut self) {
        while self.weight + self.empty_weight > self.max_bytes {
            let Some((before, channel)) = self.by_weight.last().cloned() else { return };
            let Some(log) = self.by_channel.get_mut(&channel) else { return };
            log.shed();
            let after = log.weight();
            self.weighs(&channel, before, after);
        }
    }

    /// Accounts for a log that has grown or shrunk.
    fn weighs(&mut self, channel: &Channel, before: usize, after: usize) {
        if before == after {
            return;
        }
        if before > 0 {
            self.by_weight.remove(&(before, channel.clone()));
        }
        if after > 0 {
            self.by_weight.insert((after, channel.clone()));
        }
        self.weight = self.weight + after - before;
    }

    #[cfg(test)]
    fn bytes(&self) -> usize {
        self.weight + self.empty_weight
    }
}

fn empty_weight(channel: &Channel) -> usize {
    EMPTY + channel.room().map_or(0, |room| room.as_str().len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        order::ReadFrom,
        protocol::{Draft, MessageId, Position, RoomId},
    };

    const BOUND: usize = 1 << 20;
    const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

    fn room(name: &str) -> Channel {
        Channel::Room(RoomId::parse(name, 128).unwrap())
    }

    fn retention() -> Retention {
        Retention::new(1000, HOUR, 4 << 20, HOUR / 12)
    }

    fn publish(logs: &mut Logs, channel: &Channel, text: &str, id: Option<String>) {
        let id = id.map(|id| MessageId::parse(&id, 512).unwrap());
        let draft = Draft::new("one", None, None, &text.into(), id.as_ref());
        logs.with(channel, |log| log.publish(&draft, None, &retention(), || Ok(())).unwrap()).unwrap();
        assert!(logs.bytes() <= BOUND, "{}", logs.bytes());
    }

    fn first_seq(logs: &mut Logs, channel: &Channel) -> u64 {
        let position = Position::new(crate::protocol::Epoch(1), 0);
        let from = Some(ReadFrom { position, known: 0, void: false });
        logs.with(channel, |log| log.recover(from, &retention())).unwrap().entries[0].position.seq
    }

    #[test]
    fn a_flooded_room_gives_up_its_oldest_and_a_quiet_one_nothing() {
        let mut logs = Logs::new(BOUND);
        let (quiet, flooded) = (room("quiet"), room("flooded"));
        publish(&mut logs, &quiet, "kept", None);
        for _ in 0..100 {
            publish(&mut logs, &flooded, &"x".repeat(50_000), None);
        }
        assert_eq!(first_seq(&mut logs, &quiet), 1);
        assert!(first_seq(&mut logs, &flooded) > 80);
    }

    #[test]
    fn many_rooms_share_the_bound() {
        let mut logs = Logs::new(BOUND);
        let rooms: Vec<Channel> = (0..50).map(|number| room(&number.to_string())).collect();
        for _ in 0..20 {
            for room in &rooms {
                publish(&mut logs, room, &"x".repeat(5_000), None);
            }
        }
        // A fiftieth of the bound holds three such entries.
        for room in &rooms {
            assert!((17..=19).contains(&first_seq(&mut logs, room)));
        }
    }

    #[test]
    fn ids_count() {
        let mut logs = Logs::new(BOUND);
        for number in 0..10_000 {
            publish(&mut logs, &room("a"), "", Some(format!("{number:0500}")));
        }
        assert!(logs.weight > BOUND / 2);
    }

    #[test]
    fn empty_logs_count_and_are_no_more_than_fit() {
        let mut logs = Logs::new(BOUND);
        let refused = (0..100_000).find(|number| logs.with(&room(&number.to_string()), |_| ()).is_err());
        assert!((500..10_000).contains(&refused.unwrap()));
        assert!(logs.bytes() <= BOUND / 2);
        logs.with(&Channel::Broadcast, |_| ()).unwrap();
        logs.with(&room("0"), |_| ()).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn the_numbering_of_a_room_with_members_outlives_their_silence() {
        let mut logs = Logs::new(BOUND);
        for (name, is_held) in [("held", true), ("left", false)] {
            logs.with(&room(name), |log| log.recover(None, &retention())).unwrap();
            if is_held {
                logs.get_mut(&room(name)).unwrap().look_up();
            }
        }
        tokio::time::advance(std::time::Duration::from_secs(35 * 60)).await;
        logs.sweep(&retention());
        assert!(logs.get_mut(&room("held")).is_some() && logs.get_mut(&room("left")).is_none());
    }
}
