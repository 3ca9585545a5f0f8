use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::time::Instant;

use super::{
    agenda::{Agenda, Job, Lease},
    ids::{ChannelKey, ClientId, Generation},
    local_channel::{LocalChannel, Rules, Wants},
};
use crate::{protocol::Channel, telemetry::Metrics};

/// More than the number of cores, so that channels seldom wait for the same lock.
const SHARDS: usize = 64;

type Shard = HashMap<Channel, LocalChannel>;

/// The channels of this server, each under the lock of its shard, and the work that they need.
///
/// Every act on a channel goes through here, and so does what follows from it: the channel says before and after what
/// it wants, and new wishes go on the agenda of their job. So a channel that wants something is on that agenda, or with
/// a worker that asks it again at the end.
#[derive(Debug)]
pub(super) struct Channels {
    shards: [Mutex<Shard>; SHARDS],
    hasher: RandomState,
    agendas: [Agenda; Job::ALL.len()],
    generations: AtomicU64,
    rooms: AtomicUsize,
    rules: Rules,
    metrics: Arc<Metrics>,
}

impl Channels {
    /// The broadcast channel, and no rooms.
    pub(super) fn new(rules: Rules, metrics: Arc<Metrics>) -> Self {
        let channels = Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            hasher: RandomState::new(),
            agendas: std::array::from_fn(|_| Agenda::default()),
            generations: AtomicU64::new(1),
            rooms: AtomicUsize::new(0),
            rules,
            metrics,
        };
        // Every client is its member, and it is wanted for as long as the server runs.
        let broadcast = channels.make(&Channel::Broadcast);
        channels.shard(&Channel::Broadcast).insert(Channel::Broadcast, broadcast);
        channels
    }

    /// The agenda of this job.
    pub(super) fn agenda(&self, job: Job) -> &Agenda {
        &self.agendas[job as usize]
    }

    /// Reads a channel, if it exists.
    pub(super) fn peek<T>(&self, channel: &Channel, look: impl FnOnce(&LocalChannel) -> T) -> Option<T> {
        self.shard(channel).get(channel).map(look)
    }

    /// How many rooms there are.
    pub(super) fn rooms(&self) -> usize {
        self.rooms.load(Ordering::Relaxed)
    }

    /// Acts on a channel, if it exists.
    pub(super) fn act<T>(&self, channel: &Channel, action: impl FnOnce(&mut LocalChannel, Instant) -> T) -> Option<T> {
        let mut shard = self.shard(channel);
        let acted = Acted::on(shard.get_mut(channel)?, action);
        drop(shard);
        Some(self.follow_up(channel, acted))
    }

    /// Acts on a channel, and makes it first if needed. Also returns whether it is new.
    pub(super) fn open<T>(&self, channel: &Channel, action: impl FnOnce(&mut LocalChannel, Instant) -> T) -> (T, bool) {
        let mut shard = self.shard(channel);
        let is_new = !shard.contains_key(channel);
        let local = shard.entry(channel.clone()).or_insert_with(|| self.make(channel));
        let acted = Acted::on(local, action);
        drop(shard);
        if is_new {
            self.rooms.fetch_add(1, Ordering::Relaxed);
            self.metrics.rooms.inc();
        }
        (self.follow_up(channel, acted), is_new)
    }

    /// Acts on the channel of a worker's lease, if it still exists.
    pub(super) fn act_on<T>(
        &self,
        lease: &Lease<'_>,
        action: impl FnOnce(&mut LocalChannel, Instant) -> T,
    ) -> Option<T> {
        let ChannelKey { channel, generation } = lease.key();
        let mut shard = self.shard(channel);
        let local = shard.get_mut(channel).filter(|local| local.generation() == *generation)?;
        let acted = Acted::on(local, action);
        drop(shard);
        Some(self.follow_up(channel, acted))
    }

    /// The worker's last act on a channel: it ends the lease, and the channel is due again when it wants to be.
    pub(super) fn finish<T>(
        &self,
        job: Job,
        lease: Lease<'_>,
        action: impl FnOnce(&mut LocalChannel, Instant) -> T,
    ) -> Option<T> {
        let acted = self.act_on(&lease, |local, now| (action(local, now), local.wants(now)[job as usize]));
        let (value, due) = acted.unzip();
        lease.finish(due.flatten());
        value
    }

    /// One client leaves a channel. Returns whether that removed the channel.
    pub(super) fn leave(&self, channel: &Channel, client: ClientId) -> bool {
        let mut shard = self.shard(channel);
        let Some(local) = shard.get_mut(channel) else { return false };
        let acted = Acted::on(local, |local, _| {
            local.leave(client);
            local.is_empty()
        });
        let is_gone = acted.value && *channel != Channel::Broadcast;
        if is_gone {
            shard.remove(channel);
        }
        drop(shard);
        let generation = acted.generation;
        self.follow_up(channel, acted);
        if is_gone {
            self.rooms.fetch_sub(1, Ordering::Relaxed);
            self.metrics.rooms.dec();
            self.agendas.iter().for_each(|agenda| agenda.remove(generation));
        }
        is_gone
    }

    /// Acts on all channels, one after another.
    pub(super) fn for_each(&self, mut action: impl FnMut(&Channel, &mut LocalChannel)) {
        for channel in self.all() {
            self.act(&channel, |local, _| action(&channel, local));
        }
    }

    /// Whether this channel exists.
    pub(super) fn has(&self, channel: &Channel) -> bool {
        self.shard(channel).contains_key(channel)
    }

    /// All channels that exist now.
    pub(super) fn all(&self) -> Vec<Channel> {
        let shards = self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner));
        shards.flat_map(|shard| shard.keys().cloned().collect::<Vec<_>>()).collect()
    }

    /// Applies what follows from an act, outside the lock.
    fn follow_up<T>(&self, channel: &Channel, acted: Acted<T>) -> T {
        let Acted { value, generation, before, after, tally } = acted;
        tally.count(&self.metrics);
        for (agenda, (before, after)) in self.agendas.iter().zip(before.into_iter().zip(after)) {
            if let Some(due) = after.filter(|due| before.is_none_or(|before| *due < before)) {
                agenda.add(due, &ChannelKey { channel: channel.clone(), generation });
            }
        }
        value
    }

    fn make(&self, channel: &Channel) -> LocalChannel {
        let generation = Generation(self.generations.fetch_add(1, Ordering::Relaxed));
        LocalChannel::new(channel, generation, &self.rules)
    }

    fn shard(&self, channel: &Channel) -> MutexGuard<'_, Shard> {
        let shard = usize::try_from(self.hasher.hash_one(channel) % SHARDS as u64).unwrap_or(0);
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The result of an act on a channel.
struct Acted<T> {
    value: T,
    generation: Generation,
    before: Wants,
    after: Wants,
    tally: super::tally::Tally,
}

impl<T> Acted<T> {
    fn on(local: &mut LocalChannel, action: impl FnOnce(&mut LocalChannel, Instant) -> T) -> Self {
        let now = Instant::now();
        let before = local.wants(now);
        let value = action(local, now);
        Self { value, generation: local.generation(), before, after: local.wants(now), tally: local.take_tally() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        hub::{
            pace::Load,
            recent::{Budget, RecentLimits},
            recipient::{Client, tests::Listening},
        },
        order::{LogSlice, Publication},
        protocol::{Epoch, Frame, Position, RoomId},
    };

    const EPOCH: Epoch = Epoch(7);

    fn channels() -> (Channels, Arc<Metrics>) {
        let rules = Rules {
            keeps_history: true,
            compare_interval: Duration::from_secs(5),
            recent: RecentLimits { length: 100, bytes: 1 << 20, age: 1_000_000 },
            budget: Arc::new(Budget::new(1 << 20)),
            line: Load { messages: 100, bytes: 1 << 20 },
            room_bytes: None,
        };
        let metrics = Arc::new(Metrics::new());
        (Channels::new(rules, metrics.clone()), metrics)
    }

    fn room() -> Channel {
        Channel::Room(RoomId::parse("lobby", 9).unwrap())
    }

    fn publication(seq: u64) -> Publication<Frame> {
        Publication { position: Position::new(EPOCH, seq), ts: seq, item: format!("m{seq}").into() }
    }

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(3600)
    }

    /// Opens the room with one member, through the agenda.
    fn open(channels: &Channels) -> Arc<Listening> {
        let (client, listening) = Listening::client(1);
        let admit = |client: &Client| channels.open(&room(), |local, _| local.admit(client));
        assert!(admit(&client).1 && !admit(&client).1, "it is made once");
        channels.act(&room(), |local, now| local.subscribed(now));
        let lease = channels.agenda(Job::Read).take(Instant::now()).expect("its log is due");
        assert_eq!(channels.act_on(&lease, |local, _| local.begin_reading()), Some(Some(None)));
        let slice = LogSlice { top: Position::new(EPOCH, 0), entries: Vec::new() };
        channels.finish(Job::Read, lease, |local, now| local.fill(slice, now));
        assert!(channels.agenda(Job::Read).take(far()).is_none(), "it has been read");
        listening
    }

    #[test]
    fn whatever_an_act_makes_a_channel_want_is_on_the_agenda_once() {
        let (channels, metrics) = channels();
        let listening = open(&channels);
        for seq in [1, 2, 4] {
            channels.act(&room(), |local, now| local.accept(publication(seq), now));
        }
        let lease = channels.agenda(Job::Serve).take(Instant::now()).expect("its members are due");
        assert!(channels.agenda(Job::Serve).take(far()).is_none(), "one worker has it in hand");
        channels.act_on(&lease, |local, now| local.serve(10, now));
        channels.finish(Job::Serve, lease, |_, _| ());
        assert_eq!(listening.texts(), ["m1", "m2"]);
        assert!(channels.agenda(Job::Serve).take(far()).is_none(), "nothing is left to serve");

        assert!(channels.agenda(Job::Read).take(Instant::now()).is_none(), "the hole may close by itself");
        let lease = channels.agenda(Job::Read).take(far()).expect("a hole");
        channels.act_on(&lease, |local, _| local.begin_reading());
        // While it is being read, more messages come; the reading fails.
        channels.act(&room(), |local, now| local.accept(publication(5), now));
        channels.finish(Job::Read, lease, |local, _| local.reading_failed());
        assert!(channels.agenda(Job::Read).take(far()).is_some(), "it is read again");
        assert_eq!(metrics.holes.get(), 1, "what is written down is counted");
    }

    #[test]
    fn a_channel_that_is_gone_is_on_no_agenda_and_a_new_one_is_another() {
        let (channels, metrics) = channels();
        open(&channels);
        channels.act(&room(), |local, now| local.accept(publication(1), now));
        let lease = channels.agenda(Job::Serve).take(Instant::now()).expect("its members are due");
        assert!(channels.leave(&room(), ClientId(1)) && !channels.leave(&room(), ClientId(1)));
        assert_eq!((channels.has(&room()), metrics.rooms.get()), (false, 0));
        channels.open(&room(), |_, _| ());
        assert!(channels.act_on(&lease, |_, _| ()).is_none(), "the room of that name is another one");
        channels.finish(Job::Serve, lease, |_, _| ());
        for job in Job::ALL {
            assert!(channels.agenda(job).take(far()).is_none(), "{job:?}");
        }
        assert!(!channels.leave(&Channel::Broadcast, ClientId(1)) && channels.has(&Channel::Broadcast));
    }
}
