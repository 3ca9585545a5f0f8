use std::{collections::VecDeque, sync::Arc};

use indexmap::IndexMap;
use tokio::time::Instant;

use super::{
    ids::ClientId,
    pace::{self, Load, Pace},
    recipient::{Client, Recipient},
    stretch::CALL,
    tally::Tally,
};
use crate::protocol::{Batch, Event, Item, Username};

/// The members of a channel, and what is in line for them.
///
/// Delivering only puts an item in line. [`serve`](Self::serve) writes to a few members at a time, so that a room of
/// thousands does not keep others waiting, and what has come meanwhile goes out to each member in one call. Each member
/// has a mark up to which it has been served, so a member that joins, leaves or gets an answer in between gets exactly
/// its part.
#[derive(Debug, Default)]
pub(super) struct Audience {
    members: IndexMap<ClientId, Member>,
    /// What some members have not been served yet, oldest first.
    line: VecDeque<InLine>,
    /// How many items were delivered before those in line.
    before: u64,
    line_bytes: usize,
    round: Option<Round>,
    pace: Pace,
}

/// Something in line for all members, perhaps but for the one it comes from.
#[derive(Debug)]
struct InLine {
    item: Item,
    not_for: Option<ClientId>,
}

#[derive(Debug)]
struct Member {
    recipient: Arc<dyn Recipient>,
    user: Option<Username>,
    /// The number of the next item for it, counted from the channel's beginning, or [`DEAF`].
    mark: u64,
}

/// The mark of a member that gets nothing yet.
const DEAF: u64 = u64::MAX;

/// A round through all members, with what was in line when it began.
#[derive(Debug)]
struct Round {
    began: Instant,
    batch: Batch,
    from: u64,
    to: u64,
    /// Who gets only a part of it, sorted.
    not_all_for: Vec<ClientId>,
    /// Members from this index on have been served. The last member takes the place of one that leaves, so counting
    /// down misses nobody.
    done: usize,
}

impl Audience {
    /// Without members, to be served at this pace.
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, ..Self::default() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// How many members there are.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// What is in line.
    pub(super) fn in_line(&self) -> Load {
        Load { messages: self.line.len(), bytes: self.line_bytes }
    }

    /// Puts an item in line for all members.
    pub(super) fn deliver(&mut self, item: Item) {
        self.deliver_but(None, item);
    }

    /// Puts an item in line for all members, but for this one.
    pub(super) fn deliver_but(&mut self, not_for: Option<ClientId>, item: Item) {
        if self.members.is_empty() {
            self.before += 1;
        } else {
            self.line_bytes += item.len();
            self.line.push_back(InLine { item, not_for });
        }
    }

    /// Whether the current round gets another turn before other rooms get theirs.
    pub(super) fn goes_on(&self) -> bool {
        pace::goes_on(self.round.as_ref().map_or(0, |round| round.done))
    }

    /// When to serve its members next, if something is in line.
    pub(super) fn next_turn(&self, now: Instant) -> Option<Instant> {
        (!self.line.is_empty()).then(|| self.pace.next_turn(now))
    }

    /// Writes what is in line to at most `limit` more members, unless the room rests. Returns to how many.
    pub(super) fn serve(&mut self, limit: usize, now: Instant, tally: &mut Tally) -> usize {
        if self.pace.rests(now) {
            return 0;
        }
        let Some(mut round) = self.round.take().or_else(|| self.next_round(now)) else { return 0 };
        let top = round.done.min(self.members.len());
        round.done = top.saturating_sub(limit);
        for (id, member) in self.members.get_range_mut(round.done..top).into_iter().flatten() {
            if member.mark == round.from && round.not_all_for.binary_search(id).is_err() {
                member.recipient.deliver(&round.batch);
            } else if member.mark < round.to {
                let due = part(&self.line, member.mark - self.before, round.to - self.before, Some(*id));
                if !due.items().is_empty() {
                    member.recipient.deliver(&due);
                }
            }
            member.mark = member.mark.max(round.to);
        }
        let served = top - round.done;
        if round.done == 0 {
            self.forget(round.to);
            let took = now.saturating_duration_since(round.began);
            let messages = round.batch.items().len();
            let sent = self.members.len() * round.batch.items().iter().map(Item::len).sum::<usize>();
            let is_over = self.pace.round_over(pace::Round { took, messages, sent, left: self.in_line() }, now);
            tally.slowed += u64::from(is_over);
        } else {
            self.pace.stretched(served, round.done, now);
            self.round = Some(round);
        }
        served
    }

    fn next_round(&mut self, began: Instant) -> Option<Round> {
        if self.members.is_empty() {
            self.forget(self.end());
        }
        let members = &self.members;
        let lagging = || members.values().filter(|member| !member.recipient.is_free()).count();
        if self.line.is_empty() || !self.pace.may_begin(began, || 2 * lagging() > members.len()) {
            return None;
        }
        let (mut bytes, mut count) = (0, 0);
        let mut not_all_for = Vec::new();
        for InLine { item, not_for } in &self.line {
            bytes += item.len();
            if count > 0 && bytes > CALL {
                break;
            }
            not_all_for.extend(not_for);
            count += 1;
        }
        not_all_for.sort_unstable();
        not_all_for.dedup();
        let (from, to) = (self.before, self.before + count);
        Some(Round { began, batch: part(&self.line, 0, count, None), from, to, not_all_for, done: members.len() })
    }

    /// Everybody has been served up to here.
    fn forget(&mut self, to: u64) {
        while self.before < to {
            self.before += 1;
            self.line_bytes -= self.line.pop_front().map_or(0, |first| first.item.len());
        }
    }

    /// The mark of a member that has been served everything.
    fn end(&self) -> u64 {
        self.before + self.line.len() as u64
    }

    /// Sends one member what is in line for it and, in the same call, an answer to its command. Returns false if it is
    /// not a member.
    pub(super) fn answer(&mut self, client: ClientId, answer: Option<Event>) -> bool {
        let end = self.end();
        let Some(member) = self.members.get_mut(&client) else { return false };
        if member.mark == DEAF {
            answer.into_iter().for_each(|answer| member.recipient.deliver(&answer.into()));
            return true;
        }
        let due = self.line.range(place(member.mark - self.before)..);
        let due = due.filter(|due| due.not_for != Some(client)).map(|due| due.item.clone());
        let items: Vec<Item> = due.chain(answer.map(Item::Event)).collect();
        member.mark = end;
        if !items.is_empty() {
            member.recipient.deliver(&Batch::new(items));
        }
        if self.members.len() == 1 {
            // Nobody else needs anything, so no worker is needed: in a room of two on two servers, for no message at
            // all.
            self.round = None;
            self.forget(end);
        }
        true
    }

    /// Adds a member: from now on it gets what is delivered.
    pub(super) fn admit(&mut self, client: &Client) {
        let mark = self.end();
        self.insert(client, mark);
    }

    /// Adds a member that gets nothing until it may hear.
    pub(super) fn admit_deaf(&mut self, client: &Client) {
        self.insert(client, DEAF);
    }

    fn insert(&mut self, client: &Client, mark: u64) {
        let Client { id, recipient, user } = client.clone();
        self.members.insert(id, Member { recipient, user, mark });
    }

    /// From now on this member gets what is delivered.
    pub(super) fn hear(&mut self, client: &Client) {
        let end = self.end();
        if let Some(member) = self.members.get_mut(&client.id) {
            member.user.clone_from(&client.user);
            if member.mark == DEAF {
                member.mark = end;
            }
        }
    }

    /// Removes a member, which first gets what has been delivered.
    pub(super) fn leave(&mut self, client: ClientId) {
        self.answer(client, None);
        self.members.swap_remove(&client);
        // A room that was full once does not keep the memory for it.
        if self.members.len() < self.members.capacity() / 4 {
            self.members.shrink_to(2 * self.members.len());
        }
    }

    /// All members.
    pub(super) fn members(&self) -> impl Iterator<Item = Client> {
        self.members.iter().map(|(id, member)| Client {
            id: *id,
            recipient: member.recipient.clone(),
            user: member.user.clone(),
        })
    }
}

/// A part of what is in line, as one batch: for one member, or for all who get all of it.
fn part(line: &VecDeque<InLine>, from: u64, to: u64, of: Option<ClientId>) -> Batch {
    let due = line.range(place(from)..place(to)).filter(|due| of.is_none() || due.not_for != of);
    Batch::new(due.map(|due| due.item.clone()).collect())
}

/// The number as an index; memory bounds the line, so it fits.
fn place(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::hub::recipient::tests::{Listening, message};

    #[derive(Clone, Debug)]
    enum Step {
        Deliver(Option<u64>),
        Serve(usize),
        Admit,
        AdmitDeaf,
        Hear(u64),
        Leave(u64),
        Answer(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => prop::option::weighted(0.3, 0..8_u64).prop_map(Step::Deliver),
            4 => (1..4_usize).prop_map(Step::Serve),
            2 => Just(Step::Admit),
            1 => Just(Step::AdmitDeaf),
            1 => (0..8_u64).prop_map(Step::Hear),
            1 => (0..8_u64).prop_map(Step::Leave),
            1 => (0..8_u64).prop_map(Step::Answer),
        ]
    }

    /// What one client should have got, and what it got.
    struct Expected {
        listening: Arc<Listening>,
        texts: Vec<String>,
        is_member: bool,
        hears: bool,
    }

    fn run(steps: Vec<Step>) {
        let mut audience = Audience::default();
        let mut clients: HashMap<ClientId, Expected> = HashMap::new();
        let mut delivered = 0;
        for step in steps {
            match step {
                Step::Deliver(not_for) => {
                    let (text, not_for) = (format!("m{delivered}"), not_for.map(ClientId));
                    delivered += 1;
                    audience.deliver_but(not_for, message(&text));
                    for (id, client) in clients.iter_mut().filter(|(_, client)| client.is_member && client.hears) {
                        if Some(*id) != not_for {
                            client.texts.push(text.clone());
                        }
                    }
                }
                Step::Serve(limit) => assert!(audience.serve(limit, Instant::now(), &mut Tally::default()) <= limit),
                Step::Admit => {
                    let (client, listening) = Listening::client(clients.len() as u64);
                    audience.admit(&client);
                    clients.insert(client.id, Expected { listening, texts: Vec::new(), is_member: true, hears: true });
                }
                Step::AdmitDeaf => {
                    let (client, listening) = Listening::client(clients.len() as u64);
                    audience.admit_deaf(&client);
                    clients.insert(client.id, Expected { listening, texts: Vec::new(), is_member: true, hears: false });
                }
                Step::Hear(id) => {
                    audience.hear(&Listening::client(id).0);
                    clients.entry(ClientId(id)).and_modify(|client| client.hears = true);
                }
                Step::Leave(id) => {
                    audience.leave(ClientId(id));
                    if let Some(client) = clients.get_mut(&ClientId(id)) {
                        client.is_member = false;
                    }
                }
                Step::Answer(id) => {
                    let is_member = audience.answer(ClientId(id), Some(Event::Pong));
                    let client = clients.get_mut(&ClientId(id)).filter(|client| client.is_member);
                    assert_eq!(is_member, client.is_some());
                    client.into_iter().for_each(|client| client.texts.push("pong".into()));
                }
            }
        }
        let mut now = Instant::now();
        while let Some(turn) = audience.next_turn(now) {
            now = turn;
            audience.serve(3, now, &mut Tally::default());
        }
        assert_eq!(audience.in_line(), Load::default());
        for client in clients.into_values() {
            assert_eq!(client.listening.texts(), client.texts);
        }
    }

    #[test]
    fn what_came_meanwhile_goes_out_in_one_call_for_each_member() {
        let (mut audience, now) = (Audience::default(), Instant::now());
        let (client, listening) = Listening::client(1);
        audience.admit(&client);
        (0..10).for_each(|number| audience.deliver(message(&format!("m{number}"))));
        audience.serve(1, now, &mut Tally::default());
        assert_eq!((listening.texts().len(), listening.calls()), (10, 1));
    }

    #[test]
    fn an_answer_to_the_only_member_leaves_nothing_to_serve() {
        let (mut audience, now) = (Audience::default(), Instant::now());
        let [(one, listening), (other, _)] = [1, 2].map(Listening::client);
        audience.admit(&one);
        audience.deliver(message("m1"));
        assert!(audience.answer(one.id, Some(Event::Pong)) && audience.next_turn(now).is_none());
        assert_eq!((audience.in_line(), listening.texts()), (Load::default(), vec!["m1".into(), "pong".into()]));
        audience.admit(&other);
        audience.deliver(message("m2"));
        audience.answer(one.id, None);
        assert!(audience.next_turn(now).is_some(), "the other has not had it");
    }

    #[test]
    fn a_flooded_room_goes_at_the_pace_of_most_of_its_members() {
        let (mut audience, now) = (Audience::default(), Instant::now());
        let (slow, listening) = Listening::client(1);
        audience.admit(&slow);
        (0..200).for_each(|_| audience.deliver(message(&"x".repeat(CALL))));
        assert_eq!(audience.serve(1, now, &mut Tally::default()), 1);
        listening.lags(true);
        assert_eq!(audience.serve(1, now, &mut Tally::default()), 0);
        // Half of the members are not most of them.
        audience.admit(&Listening::client(2).0);
        let now = audience.next_turn(now).expect("more is in line");
        assert_eq!(audience.serve(2, now, &mut Tally::default()), 2);
    }

    proptest! {
        #[test]
        fn each_gets_what_was_delivered_while_it_was_a_member_in_order_and_once(
            steps in proptest::collection::vec(step(), 1..60)
        ) {
            run(steps);
        }
    }
}
