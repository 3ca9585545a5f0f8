//! Records in which something is wrong, and the judge that must see it.

use super::*;

const OLD: u64 = 1;
const NEW: u64 = 2;
const ROOM: Room = 0;
/// Sends everything, and is a member of the room as well.
const ANN: Client = 1;
const BOB: Client = 2;

/// A record in the making: each call is a millisecond later than the one before.
#[derive(Default)]
struct Story(Vec<Event>);

fn old(seq: u64) -> Position {
    Position { epoch: OLD, seq }
}

fn new(seq: u64) -> Position {
    Position { epoch: NEW, seq }
}

fn id(number: u32) -> MessageId {
    MessageId { client: ANN, number }
}

impl Story {
    fn event(&mut self, client: Client, what: What) -> &mut Self {
        let at = Duration::from_millis(self.0.len() as u64);
        self.0.push(Event { at, client, what });
        self
    }

    fn join(&mut self, client: Client, position: Position) -> &mut Self {
        self.event(client, What::Joining { room: ROOM, after: None });
        self.event(client, What::Joined { room: ROOM, position, until: None, resumed: None })
    }

    /// Loses the connection, comes back, and hears whether it is resumed, and up to where there is something for it.
    fn come_back(&mut self, client: Client, after: Position, until: Option<u64>, resumed: Option<bool>) -> &mut Self {
        self.event(client, What::Disconnected { code: None });
        self.event(client, What::Joining { room: ROOM, after: Some(after) });
        self.event(client, What::Joined { room: ROOM, position: after, until, resumed })
    }

    fn reset(&mut self, client: Client, position: Position) -> &mut Self {
        self.event(client, What::Reset { room: ROOM, position })
    }

    fn send(&mut self, number: u32, position: Position) -> &mut Self {
        self.event(ANN, What::Sent { room: ROOM, id: id(number) });
        self.event(ANN, What::Acked { room: ROOM, id: id(number), position })
    }

    fn get(&mut self, client: Client, number: u32, position: Position) -> &mut Self {
        self.event(client, What::Delivered { room: ROOM, position, id: id(number) })
    }

    /// A message that goes well: sent, acknowledged and delivered to both.
    fn good(&mut self, number: u32, position: Position) -> &mut Self {
        self.send(number, position).get(ANN, number, position).get(BOB, number, position)
    }

    fn judged(&self) -> Verdict {
        judge(&self.0, Duration::ZERO)
    }

    /// The kinds of what was found, each once.
    fn kinds(&self) -> Vec<Kind> {
        let mut kinds: Vec<Kind> = self.judged().violations.iter().map(|violation| violation.kind).collect();
        kinds.sort_unstable();
        kinds.dedup();
        kinds
    }

    fn is_clean(&self) {
        let verdict = self.judged();
        assert!(verdict.is_clean(), "{:#?}", verdict.violations);
    }
}

/// Both have joined at 10 and got one message since.
fn begun() -> Story {
    let mut story = Story::default();
    story.join(ANN, old(10)).join(BOB, old(10)).good(1, old(11));
    story
}

#[test]
fn what_goes_well_is_clean_and_counted() {
    let mut story = begun();
    story.good(2, old(12));
    story.is_clean();
    let verdict = story.judged();
    assert_eq!((verdict.sent, verdict.acked, verdict.delivered, verdict.replayed), (2, 2, 4, 0));
    assert_eq!(verdict.reported_lost, 0);
}

#[test]
fn the_time_to_live_again_is_that_of_the_last_member_and_of_what_was_sent_later() {
    let mut story = begun();
    let healed = Duration::from_millis(story.0.len() as u64);
    story.send(2, old(12)).get(ANN, 2, old(12)).get(BOB, 2, old(12));
    assert_eq!(judge(&story.0, healed).live_again, Some(Duration::from_millis(3)));
    assert_eq!(judge(&begun().0, healed).live_again, None, "nothing was sent after it");
}

#[test]
fn a_lost_message_is_seen_whether_or_not_it_was_acknowledged() {
    let mut story = begun();
    story.send(2, old(12)).get(ANN, 2, old(12)).good(3, old(13));
    let verdict = story.judged();
    assert_eq!(verdict.count(Kind::SilentlyLost), 1, "{:#?}", verdict.violations);
    assert!(verdict.violations[0].to_string().contains("client 2 in room 0 never got m1-2"));

    // A number that nobody knows anything about.
    let mut story = begun();
    story.good(3, old(13));
    assert_eq!(story.judged().count(Kind::SilentlyLost), 2);
}

#[test]
fn a_missing_tail_is_seen() {
    let mut story = begun();
    story.send(2, old(12)).get(ANN, 2, old(12));
    assert_eq!(story.kinds(), [Kind::SilentlyLost, Kind::NotConverged]);

    // All members lack it, and so they agree, but the sender has an ack.
    let mut story = begun();
    story.send(2, old(12));
    assert_eq!(story.judged().count(Kind::SilentlyLost), 2);
}

#[test]
fn a_doubled_message_is_seen() {
    let mut story = begun();
    story.get(BOB, 1, old(11));
    assert_eq!(story.kinds(), [Kind::Doubled]);

    // Kept twice: the same id at two positions.
    let mut story = begun();
    story.get(ANN, 1, old(12)).get(BOB, 1, old(12));
    assert_eq!(story.judged().count(Kind::Doubled), 2);

    // A reset within the epoch is no excuse.
    let mut story = begun();
    story.reset(BOB, old(12)).get(BOB, 1, old(13));
    assert!(story.kinds().contains(&Kind::Doubled));
}

#[test]
fn swapped_messages_are_seen_and_are_not_lost() {
    let mut story = begun();
    story.send(2, old(12)).send(3, old(13)).get(ANN, 2, old(12)).get(ANN, 3, old(13));
    story.get(BOB, 3, old(13)).get(BOB, 2, old(12));
    assert_eq!(story.kinds(), [Kind::OutOfOrder]);
    assert_eq!(story.judged().count(Kind::OutOfOrder), 1);
}

#[test]
fn a_position_that_is_two_messages_is_seen() {
    let mut story = begun();
    story.send(2, old(12)).get(ANN, 2, old(12)).get(BOB, 3, old(12));
    assert!(story.kinds().contains(&Kind::OutOfOrder));

    // The ack names a position that holds another message.
    let mut story = begun();
    story.send(2, old(12)).send(3, old(12));
    story.get(ANN, 2, old(12)).get(BOB, 2, old(12));
    assert!(story.kinds().contains(&Kind::OutOfOrder));
    // One id acknowledged at two positions.
    let mut story = begun();
    story.event(ANN, What::Acked { room: ROOM, id: id(1), position: old(12) });
    assert!(story.kinds().contains(&Kind::OutOfOrder));
}

#[test]
fn a_resumed_client_gets_what_it_missed() {
    let mut story = begun();
    story.event(BOB, What::Disconnected { code: Some(1012) });
    story.send(2, old(12)).get(ANN, 2, old(12)).come_back(BOB, old(11), Some(12), Some(true)).get(BOB, 2, old(12));
    story.good(3, old(13));
    story.is_clean();
    assert_eq!(story.judged().replayed, 1);
}

#[test]
fn a_wrong_resumed_is_seen() {
    // What was missed does not come.
    let mut story = begun();
    story.send(2, old(12)).get(ANN, 2, old(12)).come_back(BOB, old(11), Some(12), Some(true)).good(3, old(13));
    assert_eq!(story.kinds(), [Kind::SilentlyLost]);
    // The same at the end of the record.
    let mut story = begun();
    story.send(2, old(12)).get(ANN, 2, old(12)).come_back(BOB, old(11), Some(12), Some(true));
    assert_eq!(story.kinds(), [Kind::SilentlyLost, Kind::NotConverged]);
    // Another epoch cannot be resumed into.
    let mut story = begun();
    story.come_back(BOB, old(11), Some(1), Some(true)).send(2, new(1)).get(BOB, 2, new(1));
    assert!(story.kinds().contains(&Kind::OutOfOrder));
    // What was there already comes again.
    let mut story = begun();
    story.come_back(BOB, old(11), None, Some(true)).get(BOB, 1, old(11));
    assert_eq!(story.kinds(), [Kind::Doubled]);
}

#[test]
fn not_resumed_needs_a_reset() {
    for resumed in [Some(false), None] {
        let mut story = begun();
        story.send(2, old(12)).get(ANN, 2, old(12)).come_back(BOB, old(11), None, resumed).good(3, old(13));
        assert_eq!(story.kinds(), [Kind::SilentlyLost, Kind::OutOfOrder]);
    }
    let mut story = begun();
    story.send(2, old(12)).get(ANN, 2, old(12)).come_back(BOB, old(11), Some(12), Some(false));
    story.reset(BOB, old(12)).good(3, old(13));
    story.is_clean();
    assert_eq!(story.judged().reported_lost, 1);
}

#[test]
fn a_replay_that_breaks_off_goes_on_from_the_last_frame_that_had_a_position() {
    let mut story = begun();
    story.event(BOB, What::Disconnected { code: None });
    for number in 2..=5 {
        let position = old(u64::from(number) + 10);
        story.send(number, position).get(ANN, number, position);
    }
    // Cut after `joined`, then after one message; then all that is left comes.
    story.come_back(BOB, old(11), Some(15), Some(true));
    story.come_back(BOB, old(11), Some(15), Some(true)).get(BOB, 2, old(12));
    story.come_back(BOB, old(12), Some(15), Some(true));
    for number in 3..=5 {
        story.get(BOB, number, old(u64::from(number) + 10));
    }
    story.is_clean();
    assert_eq!((story.judged().replayed, story.judged().interrupted), (4, 2));
}

#[test]
fn a_joined_that_runs_ahead_of_what_follows_is_seen_and_so_is_what_it_loses() {
    let mut story = begun();
    story.event(BOB, What::Disconnected { code: None });
    for number in 2..=5 {
        let position = old(u64::from(number) + 10);
        story.send(number, position).get(ANN, number, position);
    }
    // The live position, with what was missed to come after it; and the network goes in between.
    story.event(BOB, What::Joining { room: ROOM, after: Some(old(11)) });
    story.event(BOB, What::Joined { room: ROOM, position: old(15), until: None, resumed: Some(true) });
    assert!(story.kinds().contains(&Kind::OutOfOrder));
    story.come_back(BOB, old(15), None, Some(true)).good(6, old(16));
    assert_eq!(story.judged().count(Kind::SilentlyLost), 4);
}

#[test]
fn an_error_after_joined_is_seen_and_to_be_put_out_with_a_reason_is_allowed() {
    let refused = What::Refused { code: "unavailable".into(), id: None, room: Some(ROOM) };
    let mut story = begun();
    story.event(BOB, refused.clone());
    assert_eq!(story.kinds(), [Kind::Unexpected]);
    let mut story = begun();
    story.event(BOB, What::Disconnected { code: None }).event(BOB, refused).come_back(BOB, old(11), None, Some(true));
    story.is_clean();

    for (reason, kinds) in [(Some("unavailable".to_owned()), vec![]), (None, vec![Kind::Unexpected])] {
        let mut story = begun();
        story.event(BOB, What::Left { room: ROOM, reason }).come_back(BOB, old(11), None, Some(true));
        assert_eq!(story.kinds(), kinds);
    }
    let mut story = begun();
    story.event(BOB, What::Left { room: ROOM, reason: Some("unavailable".to_owned()) });
    assert_eq!(story.kinds(), [Kind::NotConverged], "it never came back");
}

#[test]
fn a_reset_covers_what_was_lost_with_the_epoch_and_the_same_id_may_come_again() {
    let mut story = begun();
    // Two are acknowledged, and then the database forgets both.
    story.send(2, old(12)).get(ANN, 2, old(12)).send(3, old(13));
    story.reset(ANN, new(0)).reset(BOB, new(0));
    story.good(4, new(1)).good(2, new(2));
    story.is_clean();
    // Message 3 came to neither of the two, message 2 in the end to both.
    assert_eq!(story.judged().reported_lost, 2);
}

#[test]
fn a_new_epoch_without_a_reset_is_seen() {
    let mut story = begun();
    story.reset(ANN, new(0)).good(2, new(1));
    assert_eq!(story.kinds(), [Kind::OutOfOrder]);
    // One stays behind in the old epoch for ever.
    let mut story = begun();
    story.reset(ANN, new(0)).send(2, new(1)).get(ANN, 2, new(1));
    assert_eq!(story.kinds(), [Kind::SilentlyLost, Kind::NotConverged]);
    // A reset back to what was had.
    let mut story = begun();
    story.reset(BOB, old(10)).good(2, old(12));
    assert!(story.kinds().contains(&Kind::OutOfOrder));
}

#[test]
fn a_reset_covers_nothing_that_comes_after_it_and_no_hole_from_before() {
    let mut story = begun();
    story.reset(ANN, old(12)).reset(BOB, old(12)).send(3, old(13)).get(ANN, 3, old(13)).good(4, old(14));
    assert_eq!(story.judged().count(Kind::SilentlyLost), 1);
    let mut story = begun();
    story.send(2, old(12)).get(ANN, 2, old(12)).good(3, old(13));
    story.reset(ANN, new(0)).reset(BOB, new(0)).good(4, new(1));
    assert_eq!(story.kinds(), [Kind::SilentlyLost], "the hole was silent when it happened");
}

#[test]
fn numbers_given_out_again_are_allowed_to_those_who_are_reset_afterwards() {
    let carl = 3;
    let mut story = begun();
    story.good(2, old(12));
    // A replica without message 2 is promoted, and Carl is the first there.
    story.join(carl, old(11)).event(carl, What::Sent { room: ROOM, id: id(3) });
    story.event(carl, What::Acked { room: ROOM, id: id(3), position: old(12) }).get(carl, 3, old(12));
    assert_eq!(story.judged().count(Kind::OutOfOrder), 3);
    for client in [ANN, BOB, carl] {
        story.reset(client, new(0));
    }
    story.good(4, new(1)).get(carl, 4, new(1));
    story.is_clean();
    // Message 3 at Ann and Bob, message 2 at Carl.
    assert_eq!(story.judged().reported_lost, 3);
}

#[test]
fn who_is_not_back_and_what_is_not_acknowledged_is_seen() {
    let mut story = begun();
    story.event(BOB, What::Disconnected { code: None });
    assert_eq!(story.kinds(), [Kind::NotConverged]);
    let mut story = begun();
    story.event(ANN, What::Sent { room: ROOM, id: id(2) });
    assert_eq!(story.kinds(), [Kind::NotConverged]);
    let mut story = begun();
    story.event(BOB, What::Nonsense { frame: "{}".into() });
    assert_eq!(story.kinds(), [Kind::Unexpected]);
}

#[test]
fn nobody_is_owed_what_came_before_it_joined() {
    let mut story = begun();
    let dora = 4;
    story.join(dora, old(11)).good(2, old(12)).get(dora, 2, old(12));
    story.is_clean();
    // The first join failed and was made again.
    let mut story = begun();
    story.event(dora, What::Joining { room: ROOM, after: None }).join(dora, old(11));
    story.is_clean();
}
