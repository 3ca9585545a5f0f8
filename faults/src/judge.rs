//! The judge: a record in, a verdict out. It knows the promises, and nothing about how the server keeps them.
//!
//! - A member's stream of a room has consecutive numbers within an epoch; what breaks it is a `reset`, or that it
//!   joined for the first time.
//! - Nobody gets an id twice within an epoch.
//! - A position is the same message for everybody, and for the sender's `ack`. Where it was not, because a database
//!   that had lost its last writes gave numbers out again, everybody who had it must be reset into another epoch.
//! - What was acknowledged, or delivered to anybody, is delivered to every member or covered by a `reset` of it.
//! - In the end all members of a room stand at the same position, and every message that was sent is acknowledged.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    time::Duration,
};

use crate::{
    answers::Answers,
    member::{Member, show},
    record::{Client, Event, MessageId, Position, Room, What},
    verdict::{Kind, Verdict, Violation},
};

/// Judges a record. Events are in the order of their time; `healed` is when the fault was over.
pub fn judge(record: &[Event], healed: Duration) -> Verdict {
    let mut bench = Bench::default();
    record.iter().for_each(|event| bench.see(event));
    bench.judge(record, healed)
}

/// A message that is at a position, and who was told so.
type Placement = (MessageId, Vec<Client>);

#[derive(Default)]
struct Bench {
    members: BTreeMap<(Room, Client), Member>,
    /// Where each message is, as members and senders were told.
    placements: BTreeMap<(Room, Position), Vec<Placement>>,
    /// The epochs of a room, in the order in which anybody heard of them.
    epochs: HashMap<Room, Vec<u64>>,
    sent: HashSet<MessageId>,
    acked: HashMap<MessageId, Position>,
    answers: Answers,
    verdict: Verdict,
}

impl Bench {
    fn see(&mut self, event: &Event) {
        let client = event.client;
        self.answers.see(client, &event.what);
        match event.what {
            What::Joining { room, .. }
            | What::Joined { room, .. }
            | What::Left { room, .. }
            | What::Reset { room, .. }
            | What::Refused { room: Some(room), id: None, .. } => {
                self.members.entry((room, client)).or_insert_with(|| Member::new(client, room)).see(&event.what);
                if let What::Joined { position, .. } | What::Reset { position, .. } = event.what {
                    self.know(room, position);
                }
            }
            What::Delivered { room, position, id } => {
                self.members.entry((room, client)).or_insert_with(|| Member::new(client, room)).see(&event.what);
                self.place(room, position, id, client);
            }
            What::Disconnected { .. } => {
                for (_, member) in self.members.iter_mut().filter(|((_, owner), _)| *owner == client) {
                    member.see(&event.what);
                }
            }
            What::Sent { id, .. } => drop(self.sent.insert(id)),
            What::Acked { room, id, position } => {
                let first = *self.acked.entry(id).or_insert(position);
                if first.epoch == position.epoch && first.seq != position.seq {
                    let text = format!("was told that {id} is at {first}, and later that it is at {position}");
                    self.wrong(Kind::OutOfOrder, client, room, text);
                }
                self.place(room, position, id, client);
            }
            What::Nonsense { ref frame } => {
                let text = format!("got a frame that makes no sense: {frame}");
                let (client, room) = (Some(client), None);
                self.verdict.violations.push(Violation { kind: Kind::Unexpected, client, room, text });
            }
            What::Connected { .. } | What::Refused { .. } => {}
        }
    }

    fn place(&mut self, room: Room, position: Position, id: MessageId, client: Client) {
        self.know(room, position);
        let holders = self.placements.entry((room, position)).or_default();
        match holders.iter_mut().find(|(held, _)| *held == id) {
            Some((_, clients)) => clients.push(client),
            None => holders.push((id, vec![client])),
        }
    }

    fn know(&mut self, room: Room, position: Position) {
        let epochs = self.epochs.entry(room).or_default();
        if !epochs.contains(&position.epoch) {
            epochs.push(position.epoch);
        }
    }

    fn wrong(&mut self, kind: Kind, client: Client, room: Room, text: String) {
        self.verdict.violations.push(Violation::of(kind, client, room, text));
    }

    fn judge(mut self, record: &[Event], healed: Duration) -> Verdict {
        self.members.values_mut().for_each(Member::end);
        self.check_numbers();
        self.check_losses();
        self.check_convergence();
        let mut verdict = self.verdict;
        for member in self.members.values_mut() {
            verdict.delivered += member.delivered;
            verdict.replayed += member.replayed;
            verdict.interrupted += member.interrupted;
            verdict.violations.append(&mut member.violations);
        }
        verdict.sent = self.sent.len();
        verdict.acked = verdict.sent - self.answers.unanswered().count();
        verdict.live_again = live_again(record, healed, &self.members.keys().copied().collect::<Vec<_>>());
        verdict
    }

    /// A position that means two messages is allowed only if all who had it were told to forget it.
    fn check_numbers(&mut self) {
        let mut violations = Vec::new();
        for ((room, position), holders) in &self.placements {
            let [(first, _), (other, _), ..] = &holders[..] else { continue };
            let clients: HashSet<Client> = holders.iter().flat_map(|(_, clients)| clients.iter().copied()).collect();
            for client in clients {
                let member = self.members.get(&(*room, client));
                let was_told = member.is_some_and(|member| {
                    let later = |reset: &Position| self.rank(*room, reset.epoch) > self.rank(*room, position.epoch);
                    member.resets.iter().any(later)
                });
                if !was_told {
                    let text = format!("knows {position}, which is {first} for some and {other} for others");
                    violations.push(Violation::of(Kind::OutOfOrder, client, *room, text));
                }
            }
        }
        self.verdict.violations.append(&mut violations);
    }

    /// Everything that anybody knows to exist must have reached every member, or be covered.
    fn check_losses(&mut self) {
        let mut reported = HashSet::new();
        let mut violations = Vec::new();
        for ((room, client), member) in &self.members {
            let mut silent: HashSet<Position> = HashSet::new();
            for ((_, position), holders) in self.placements.range(of_room(*room)) {
                for (id, _) in holders {
                    if member.had.contains_key(id) || !self.owes(member, *room, *position) {
                        continue;
                    }
                    if self.covers(member, *room, *position) {
                        reported.insert((*room, *client, *id));
                    } else if silent.insert(*position) {
                        let at = show(member.at);
                        let text = format!("never got {id} at {position}; it ended at {at} and no reset covers it");
                        violations.push(Violation::of(Kind::SilentlyLost, *client, *room, text));
                    }
                }
            }
            for position in member.skipped.iter().filter(|position| !silent.contains(position)) {
                // A message that came later in a new epoch was late, not lost, but the hole was silent all the same.
                let text = format!("never got {position}, though it got what follows");
                violations.push(Violation::of(Kind::SilentlyLost, *client, *room, text));
            }
        }
        self.verdict.reported_lost = reported.len();
        self.verdict.violations.append(&mut violations);
    }

    fn owes(&self, member: &Member, room: Room, position: Position) -> bool {
        member.first.is_some_and(|first| match first.epoch == position.epoch {
            true => position.seq > first.seq,
            false => self.rank(room, position.epoch) > self.rank(room, first.epoch),
        })
    }

    /// A reset within an epoch covers all up to it, and one into an epoch all of those before.
    fn covers(&self, member: &Member, room: Room, position: Position) -> bool {
        let is_covered = member.resets.iter().any(|reset| match reset.epoch == position.epoch {
            true => position.seq <= reset.seq,
            false => self.rank(room, position.epoch) < self.rank(room, reset.epoch),
        });
        is_covered && !member.skipped.contains(&position)
    }

    fn rank(&self, room: Room, epoch: u64) -> Option<usize> {
        self.epochs.get(&room)?.iter().position(|known| *known == epoch)
    }

    fn check_convergence(&mut self) {
        let mut furthest: HashMap<Room, Position> = HashMap::new();
        for ((room, _), member) in &self.members {
            if let Some(at) = member.at {
                let rank = |position: &Position| (self.rank(*room, position.epoch), position.seq);
                let best = furthest.entry(*room).or_insert(at);
                if rank(&at) > rank(best) {
                    *best = at;
                }
            }
        }
        for ((room, client), member) in &self.members {
            let (best, at) = (furthest.get(room).copied(), member.at);
            let text = match member.is_live {
                false => "was not back in the end".to_owned(),
                true if at != best => format!("ended at {}, others at {}", show(at), show(best)),
                true => continue,
            };
            self.verdict.violations.push(Violation::of(Kind::NotConverged, *client, *room, text));
        }
        for (id, room) in self.answers.unanswered() {
            let text = format!("never got an ack for {id}");
            self.verdict.violations.push(Violation::of(Kind::NotConverged, id.client, room, text));
        }
    }
}

fn of_room(room: Room) -> std::ops::RangeInclusive<(Room, Position)> {
    (room, Position { epoch: 0, seq: 0 })..=(room, Position { epoch: u64::MAX, seq: u64::MAX })
}

/// From the healing to the first delivery of something sent after it, at the member that was last. `None` if
/// one got nothing of that kind.
fn live_again(record: &[Event], healed: Duration, members: &[(Room, Client)]) -> Option<Duration> {
    let (mut fresh, mut sent, mut first) = (HashSet::new(), HashSet::new(), HashMap::new());
    for event in record {
        match event.what {
            What::Sent { id, .. } if sent.insert(id) && event.at >= healed => drop(fresh.insert(id)),
            What::Delivered { room, id, .. } if fresh.contains(&id) => {
                first.entry((room, event.client)).or_insert(event.at - healed);
            }
            _ => {}
        }
    }
    members.iter().map(|member| first.get(member).copied()).collect::<Option<Vec<_>>>()?.into_iter().max()
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
