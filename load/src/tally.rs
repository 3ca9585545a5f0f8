use std::collections::HashMap;

use super::{Body, Layout};

/// Most message numbers to keep for all members together: 128 MiB.
const KEPT: usize = 32 << 20;

/// Every delivery of a run: what, to whom, and in which order.
#[derive(Debug)]
pub(super) struct Tally {
    layout: Layout,
    members: Vec<Member>,
    /// How many members each room had when its first message was published.
    sizes: Vec<u64>,
    /// How many messages each publisher has published.
    published: Vec<u32>,
    /// Most message numbers to keep for one member.
    kept: usize,
    expected: u64,
    received: u64,
    strays: u64,
}

#[derive(Clone, Debug, Default)]
struct Member {
    present: bool,
    received: u64,
    /// The messages in order of arrival, up to the bound.
    seen: Vec<u32>,
}

/// The verdict on a run's deliveries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) expected: u64,
    pub(super) received: u64,
    pub(super) missing: u64,
    pub(super) doubled: u64,
    /// Deliveries that came after a later one of the same publisher.
    pub(super) misordered: u64,
    /// Deliveries of what nobody said, or not in this room.
    pub(super) strays: u64,
    /// Members that saw a different order than most of their room.
    pub(super) other_order: u64,
    /// Deliveries beyond the bound, which were only counted.
    pub(super) unjudged: u64,
}

impl Tally {
    pub(super) fn new(layout: Layout) -> Self {
        Self {
            layout,
            members: vec![Member::default(); layout.clients],
            sizes: vec![0; layout.rooms],
            published: vec![0; layout.publishers],
            kept: KEPT / layout.clients,
            expected: 0,
            received: 0,
            strays: 0,
        }
    }

    /// A client is a member of its room, and gets what is published from now on.
    pub(super) fn joined(&mut self, client: usize) {
        self.members[client].present = true;
        self.sizes[self.layout.room(client)] += 1;
    }

    /// Counts one more message of this publisher. Returns the count before it.
    pub(super) fn published(&mut self, publisher: usize) -> u32 {
        let count = self.published[publisher];
        self.published[publisher] += 1;
        self.expected += self.sizes[self.layout.room(publisher)];
        count
    }

    /// Takes a delivery to a member.
    pub(super) fn delivered(&mut self, client: usize, body: &Body) {
        let publisher = body.publisher as usize;
        let known = self.published.get(publisher).is_some_and(|published| body.count < *published);
        if !known || self.layout.room(publisher) != self.layout.room(client) {
            self.strays += 1;
            return;
        }
        self.received += 1;
        let member = &mut self.members[client];
        member.received += 1;
        if member.seen.len() < self.kept {
            member.seen.push(self.layout.message(publisher, body.count));
        }
    }

    /// How many deliveries the messages so far should cause.
    pub(super) fn expected(&self) -> u64 {
        self.expected
    }

    /// How many there were.
    pub(super) fn received(&self) -> u64 {
        self.received
    }

    /// Judges all deliveries.
    pub(super) fn verdict(&self) -> Verdict {
        let (expected, received, strays) = (self.expected, self.received, self.strays);
        let mut verdict = Verdict { expected, received, strays, ..Verdict::default() };
        for room in 0..self.layout.rooms {
            self.judge_room(room, &mut verdict);
        }
        verdict
    }

    fn judge_room(&self, room: usize, verdict: &mut Verdict) {
        let publishers = || (room..self.layout.publishers).step_by(self.layout.rooms);
        let published: u64 = publishers().map(|publisher| u64::from(self.published[publisher])).sum();
        let longest = publishers().map(|publisher| self.published[publisher]).max().unwrap_or(0) as usize;
        let numbers = longest * self.layout.publishers_in(room);

        let mut orders = Vec::new();
        for client in (room..self.layout.clients).step_by(self.layout.rooms) {
            let member = &self.members[client];
            if !member.present {
                continue;
            }
            let order = self.first_times(room, &member.seen, numbers, &mut verdict.misordered);
            let doubled = (member.seen.len() - order.len()) as u64;
            verdict.doubled += doubled;
            verdict.missing += published.saturating_sub(member.received - doubled);
            verdict.unjudged += member.received - member.seen.len() as u64;
            orders.push(order);
        }
        let mut times = HashMap::new();
        orders.iter().for_each(|order| *times.entry(order).or_insert(0) += 1);
        let Some((reference, _)) = times.into_iter().max_by_key(|(order, times)| (*times, order.len())) else { return };
        let mut places = vec![None; numbers];
        for (place, message) in reference.iter().enumerate() {
            places[*message as usize] = Some(place);
        }
        let same = |order: &Vec<u32>| order.iter().filter_map(|message| places[*message as usize]).is_sorted();
        verdict.other_order += orders.iter().filter(|order| !same(order)).count() as u64;
    }

    /// The messages in order of their first arrival.
    fn first_times(&self, room: usize, seen: &[u32], numbers: usize, misordered: &mut u64) -> Vec<u32> {
        let mut known = vec![false; numbers];
        let mut last = vec![None; self.layout.publishers_in(room)];
        let first = |message: &u32| !std::mem::replace(&mut known[*message as usize], true);
        let order: Vec<u32> = seen.iter().copied().filter(first).collect();
        for message in &order {
            let (publisher, count) = self.layout.origin(room, *message);
            *misordered += u64::from(Some(count) < last[publisher]);
            last[publisher] = last[publisher].max(Some(count));
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two publishers, numbered 0 and 2, and a third member in one room of two; the numbers are publisher and count.
    fn verdict(deliveries: [&[(u32, u32)]; 3]) -> Verdict {
        let mut tally = Tally::new(Layout { clients: 6, rooms: 2, urls: 1, publishers: 4 });
        (0..6).for_each(|client| tally.joined(client));
        for _ in 0..2 {
            tally.published(0);
            tally.published(2);
        }
        for (client, deliveries) in [0, 2, 4].into_iter().zip(deliveries) {
            for &(publisher, count) in deliveries {
                tally.delivered(client, &Body { publisher, count, due: 0 });
            }
        }
        tally.verdict()
    }

    const ALL: [(u32, u32); 4] = [(0, 0), (2, 0), (0, 1), (2, 1)];

    #[test]
    fn nothing_is_wrong_when_all_see_the_same() {
        let clean = Verdict { expected: 12, received: 12, ..Verdict::default() };
        assert_eq!(verdict([&ALL, &ALL, &ALL]), clean);
    }

    #[test]
    fn what_is_missing_is_not_out_of_order() {
        let verdict = verdict([&ALL, &ALL[1..], &[ALL[0], ALL[1], ALL[3]]]);
        assert_eq!(verdict, Verdict { expected: 12, received: 10, missing: 2, ..Verdict::default() });
    }

    #[test]
    fn what_comes_twice_does_not_make_up_for_what_is_missing() {
        let verdict = verdict([&ALL, &ALL, &[ALL[0], ALL[1], ALL[1], ALL[2]]]);
        assert_eq!(verdict, Verdict { expected: 12, received: 12, missing: 1, doubled: 1, ..Verdict::default() });
    }

    #[test]
    fn another_order_of_two_publishers_is_noticed() {
        let verdict = verdict([&ALL, &[ALL[1], ALL[0], ALL[2], ALL[3]], &ALL[1..]]);
        assert_eq!(verdict, Verdict { expected: 12, received: 11, missing: 1, other_order: 1, ..Verdict::default() });
    }

    #[test]
    fn a_publisher_out_of_its_own_order_is_noticed_even_if_all_see_it_so() {
        let wrong = [ALL[2], ALL[0], ALL[1], ALL[3]];
        assert_eq!(verdict([&wrong, &wrong, &wrong]).misordered, 3);
        assert_eq!(verdict([&wrong, &wrong, &wrong]).other_order, 0);
    }

    #[test]
    fn what_was_never_said_or_is_of_another_room_is_a_stray() {
        let verdict = verdict([&[(0, 2), (1, 0), (9, 0), ALL[0]], &[], &[]]);
        assert_eq!((verdict.strays, verdict.received, verdict.missing), (3, 1, 11));
    }
}
