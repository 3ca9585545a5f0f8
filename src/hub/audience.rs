use std::{collections::VecDeque, sync::Arc, time::Duration};

use indexmap::IndexMap;
use tokio::time::Instant;

use super::recent::CALL;
use crate::{
    protocol::Frame,
    socket::{Batch, Outbox},
};

/// A room in which messages come faster than a round takes rests after it for this many times as long as it took. What
/// comes meanwhile goes out together, so the busier a room or its server is, the fewer calls a message costs.
const REST: u32 = 4;

/// Rounds that were shorter than this are followed at once.
const SHORT: Duration = Duration::from_millis(1);

/// No rest is longer than this.
const LONGEST_REST: Duration = Duration::from_millis(10);

/// A flooded room goes at the pace of most of its members: while most have not taken the last round yet it rests for this
/// long, again and again, but no longer than the longest for one round. So only those who are slower than most pile up what
/// they cannot take. What comes meanwhile is not lost, but taken from memory or the log later.
const LAG_REST: Duration = Duration::from_millis(5);
const LONGEST_LAG: Duration = Duration::from_millis(500);

/// A room is flooded if more than so many messages, or more bytes than go out with one call, are left after a round.
const FLOOD: usize = 64;

/// In a round through very many, after each stretch of so many members there is a pause of so long: a room of thousands
/// takes about half of a core, and leaves the rest to other rooms.
const STRETCH: usize = 128;
const PAUSE: Duration = Duration::from_millis(1);

/// Who gets what is delivered in a room.
///
/// Delivering only puts a message in line. It is written to the members a few at a time ([`serve`](Self::serve)), so
/// that a room of thousands does not keep others waiting, and what has come meanwhile goes out in one call for each
/// member. Each member has a mark up to which it has been served, so whoever joins, leaves or has to be answered in
/// between gets exactly its part.
#[derive(Debug, Default)]
pub(super) struct Audience {
    members: IndexMap<u64, Member>,
    /// What some member has not been served yet, oldest first.
    line: VecDeque<Batch>,
    /// How many messages were delivered before those in line.
    before: u64,
    line_bytes: usize,
    round: Option<Round>,
    rests_until: Option<Instant>,
    /// Since when the next round waits for most members to take the last one.
    lags_since: Option<Instant>,
}

#[derive(Debug)]
struct Member {
    outbox: Arc<Outbox>,
    /// How many messages of the room, counted from its beginning, it has been served or does not get.
    mark: u64,
}

/// A round through all members with what was in line when it began.
#[derive(Debug)]
struct Round {
    began: Instant,
    batch: Batch,
    from: u64,
    to: u64,
    /// Members from this index on have been served. The last member takes the place of one that leaves, so going
    /// down, nobody is missed.
    done: usize,
    /// How many members have been served since the last pause.
    stretch: usize,
}

impl Audience {
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// How many members there are.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// How many messages and bytes are in line.
    pub(super) fn in_line(&self) -> (usize, usize) {
        (self.line.len(), self.line_bytes)
    }

    /// Puts a message, or several that are sent as one, in line.
    pub(super) fn deliver(&mut self, batch: Batch) {
        if self.members.is_empty() {
            self.before += 1;
        } else {
            self.line_bytes += batch.wire().len();
            self.line.push_back(batch);
        }
    }

    /// Whether something is in line for some member.
    pub(super) fn has_line(&self) -> bool {
        !self.line.is_empty()
    }

    /// How many members the round that was begun has not come to yet.
    pub(super) fn left(&self) -> usize {
        self.round.as_ref().map_or(0, |round| round.done)
    }

    /// When its members are to be served next, if something is in line.
    pub(super) fn next_turn(&self, now: Instant) -> Option<Instant> {
        self.has_line().then_some(self.rests_until.unwrap_or(now))
    }

    /// Writes what is in line to some more members, to so many at most. Returns how many it was.
    pub(super) fn serve(&mut self, limit: usize, now: Instant) -> usize {
        if self.round.is_none() && self.lags(now) {
            self.rests_until = Some(now + LAG_REST);
            return 0;
        }
        let Some(mut round) = self.round.take().or_else(|| self.next_round(now)) else { return 0 };
        let top = round.done.min(self.members.len());
        round.done = top.saturating_sub(limit);
        for (_, member) in self.members.get_range_mut(round.done..top).into_iter().flatten() {
            if member.mark == round.from {
                member.outbox.push_batch(&round.batch);
            } else if member.mark < round.to {
                member.outbox.push_batch(&part(&self.line, member.mark - self.before, round.to - self.before));
            }
            member.mark = member.mark.max(round.to);
        }
        let served = top - round.done;
        if round.done == 0 {
            self.forget(round.to);
            let took = now.saturating_duration_since(round.began);
            let is_busy = took >= SHORT && (round.batch.messages() > 1 || self.has_line());
            let rest = if is_busy { took.saturating_mul(REST).min(LONGEST_REST) } else { Duration::ZERO };
            let is_flooded = self.line.len() > FLOOD || self.line_bytes > CALL;
            self.lags_since = is_flooded.then_some(now);
            self.rests_until = (!rest.is_zero()).then(|| now + rest);
        } else {
            round.stretch += served;
            self.rests_until = (round.stretch >= STRETCH).then(|| now + PAUSE);
            round.stretch %= STRETCH;
            self.round = Some(round);
        }
        served
    }

    /// Whether a flooded room has to wait for most of its members.
    fn lags(&mut self, now: Instant) -> bool {
        self.lags_since.take_if(|since| now.saturating_duration_since(*since) >= LONGEST_LAG);
        let stuck = || self.members.values().filter(|member| !member.outbox.is_free()).count();
        let lags = self.lags_since.is_some() && 2 * stuck() > self.members.len();
        self.lags_since.take_if(|_| !lags);
        lags
    }

    fn next_round(&mut self, began: Instant) -> Option<Round> {
        if self.members.is_empty() {
            self.forget(self.end());
        }
        let (mut bytes, mut count) = (0, 0);
        for batch in &self.line {
            bytes += batch.wire().len();
            if count > 0 && bytes > CALL {
                break;
            }
            count += 1;
        }
        let (from, to) = (self.before, self.before + count);
        let (batch, done) = (part(&self.line, 0, count), self.members.len());
        (count > 0).then_some(Round { began, batch, from, to, done, stretch: 0 })
    }

    /// Everybody has been served up to there.
    fn forget(&mut self, to: u64) {
        while self.before < to {
            self.before += 1;
            self.line_bytes -= self.line.pop_front().map_or(0, |batch| batch.wire().len());
        }
    }

    /// The mark of one who has been served everything.
    fn end(&self) -> u64 {
        self.before + self.line.len() as u64
    }

    /// Writes to one member what is in line for it, and then, in the same call, an answer to something it said. Returns
    /// false if it is no member.
    pub(super) fn answer(&mut self, number: u64, answer: Option<&Frame>) -> bool {
        let end = self.end();
        let Some(member) = self.members.get_mut(&number) else { return false };
        let due = self.line.range(place(member.mark - self.before)..).cloned();
        let batches: Vec<Batch> = due.chain(answer.map(Batch::from)).collect();
        member.mark = end;
        if !batches.is_empty() {
            member.outbox.push_batch(&Batch::join(batches.iter()));
        }
        true
    }

    /// From now on this client gets what is delivered.
    pub(super) fn admit(&mut self, number: u64, outbox: Arc<Outbox>) {
        let mark = self.end();
        self.members.insert(number, Member { outbox, mark });
    }

    /// This client gets what has been delivered, and nothing more.
    pub(super) fn leave(&mut self, number: u64) {
        self.answer(number, None);
        self.members.swap_remove(&number);
        // A room that was full for once does not keep the memory for it.
        if self.members.len() < self.members.capacity() / 4 {
            self.members.shrink_to(2 * self.members.len());
        }
    }

    /// The outboxes of all members.
    pub(super) fn outboxes(&self) -> Vec<Arc<Outbox>> {
        self.members.values().map(|member| member.outbox.clone()).collect()
    }
}

/// A part of what is in line, as one batch.
fn part(line: &VecDeque<Batch>, from: u64, to: u64) -> Batch {
    Batch::join(line.range(place(from)..place(to)))
}

/// A place in line, of which there are never more than memory has room for.
fn place(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use tokio::net::TcpStream;

    use super::*;
    use crate::socket::outbox::tests::{connect, received, wide};

    #[derive(Clone, Debug)]
    enum Step {
        Deliver,
        Serve(usize),
        Admit,
        Leave(usize),
        Answer(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => Just(Step::Deliver),
            4 => (1..4_usize).prop_map(Step::Serve),
            2 => Just(Step::Admit),
            1 => (0..8_usize).prop_map(Step::Leave),
            1 => (0..8_usize).prop_map(Step::Answer),
        ]
    }

    /// What one client is to have got, and the socket it gets it from.
    struct Expected {
        client: TcpStream,
        outbox: Arc<Outbox>,
        texts: Vec<String>,
        is_member: bool,
    }

    async fn run(steps: Vec<Step>) {
        let (mut audience, bounds) = (Audience::default(), wide());
        let mut clients: HashMap<u64, Expected> = HashMap::new();
        let mut delivered = 0;
        for step in steps {
            match step {
                Step::Deliver => {
                    let text = format!("m{delivered}");
                    delivered += 1;
                    audience.deliver(Batch::from(&text.clone().into()));
                    for client in clients.values_mut().filter(|client| client.is_member) {
                        client.texts.push(text.clone());
                    }
                }
                Step::Serve(limit) => assert!(audience.serve(limit, Instant::now()) <= limit),
                Step::Admit => {
                    let (outbox, client) = connect(&bounds).await;
                    let (outbox, number) = (Arc::new(outbox), clients.len() as u64);
                    audience.admit(number, outbox.clone());
                    clients.insert(number, Expected { client, outbox, texts: Vec::new(), is_member: true });
                }
                Step::Leave(number) => {
                    audience.leave(number as u64);
                    if let Some(client) = clients.get_mut(&(number as u64)) {
                        client.is_member = false;
                    }
                }
                Step::Answer(number) => {
                    let is_member = audience.answer(number as u64, Some(&"answer".to_owned().into()));
                    let client = clients.get_mut(&(number as u64)).filter(|client| client.is_member);
                    assert_eq!(is_member, client.is_some());
                    client.into_iter().for_each(|client| client.texts.push("answer".into()));
                }
            }
        }
        while audience.serve(3, Instant::now()) > 0 {}
        assert_eq!((audience.has_line(), audience.in_line()), (false, (0, 0)));
        for mut client in clients.into_values() {
            client.outbox.shut();
            assert_eq!(received(&mut client.client).await, client.texts);
        }
    }

    /// A flood of messages that are large for sockets as small as these.
    fn flood(audience: &mut Audience) {
        (0..2 * FLOOD).for_each(|_| audience.deliver(Batch::from(&"x".repeat(CALL).into())));
    }

    #[tokio::test]
    async fn a_flooded_room_goes_at_the_pace_of_most_of_its_members() {
        let (bounds, now) = (wide(), Instant::now());
        let mut audience = Audience::default();
        let (slow, _slow) = connect(&bounds).await;
        audience.admit(1, Arc::new(slow));
        flood(&mut audience);
        while audience.members[&1].outbox.is_free() {
            assert_eq!(audience.serve(1, now), 1);
        }
        for step in 0..3 {
            let now = now + LAG_REST * step;
            assert_eq!(audience.serve(1, now), 0);
            assert_eq!(audience.next_turn(now), Some(now + LAG_REST));
        }
        assert_eq!(audience.serve(1, now + LONGEST_LAG), 1, "no round is kept waiting for ever");
        // Half of the members are not most of them.
        let (gone, _gone) = connect(&bounds).await;
        gone.shut();
        audience.admit(2, Arc::new(gone));
        assert_eq!(audience.serve(2, now + LONGEST_LAG), 2);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn each_gets_what_was_delivered_while_it_was_a_member_in_order_and_once(
            steps in proptest::collection::vec(step(), 1..60)
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
            runtime.block_on(run(steps));
        }
    }
}
