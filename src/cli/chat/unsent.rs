use std::{collections::VecDeque, time::Duration};

use super::backoff::Backoff;

/// Most messages that may wait in a room, and their most bytes; a further message is refused.
const MOST: usize = 1000;
const MOST_BYTES: usize = 1 << 20;

/// For how long after its first sending the server surely still knows a message's id, if it got the message. It is less
/// than the five minutes of `ROOMCAST_DEDUP_WINDOW`, because a message takes time to arrive.
pub(super) const ID_IS_KNOWN: Duration = Duration::from_secs(4 * 60);

/// A message that is not known to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) id: String,
    pub(super) text: String,
    sent: Option<Sent>,
}

/// That a message was put on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sent {
    /// When it was first sent, and how many gaps the room had had by then.
    first: Duration,
    gaps: u64,
    /// How many replays had ended when it was last sent.
    replays: u64,
}

/// What was seen of a room, as far as it shows whether a message was kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) gaps: u64,
    /// Number of replays that have ended.
    pub(super) replays: u64,
    /// Whether the server keeps the room's history, and with it the ids.
    pub(super) history: bool,
}

impl Message {
    /// Whether it was ever sent, so that it may have been kept.
    pub(super) fn may_be_kept(&self) -> bool {
        self.sent.is_some()
    }
}

/// What to do with the first message in line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<'a> {
    Nothing,
    Send(&'a Message),
    /// A replay must first show whether it was kept.
    Replay,
    /// Nobody can know any more whether it was kept, so its author must be told.
    Unknown(Message),
}

/// The messages of a room that are not known to be kept, in order. One at a time is under way, so that none overtakes
/// one that fails.
#[derive(Debug, Default)]
pub(super) struct Unsent {
    line: VecDeque<Message>,
    bytes: usize,
    is_under_way: bool,
    /// Whether the message under way has come as a message of the room, and only its `ack` is missing.
    is_seen: bool,
    /// When the first one may be sent again.
    retry_at: Option<Duration>,
    backoff: Backoff,
}

impl Unsent {
    /// Puts a message last in line; `false` if the line is full.
    pub(super) fn push(&mut self, id: String, text: String) -> bool {
        if self.line.len() >= MOST || self.bytes + text.len() > MOST_BYTES {
            return false;
        }
        self.bytes += text.len();
        self.line.push_back(Message { id, text, sent: None });
        true
    }

    pub(super) fn len(&self) -> usize {
        self.line.len()
    }

    pub(super) fn has(&self, id: &str) -> bool {
        self.line.iter().any(|message| message.id == id)
    }

    /// What to send in a joined room whose replay has ended. A server remembers an id only for a while; an older
    /// message goes out again only if a replay since then, without a gap, has shown that it did not arrive.
    pub(super) fn next(&mut self, now: Duration, seen: Seen) -> Next<'_> {
        if self.is_under_way || self.retry_at.is_some_and(|at| now < at) {
            return Next::Nothing;
        }
        let Some(message) = self.line.front_mut() else { return Next::Nothing };
        let fresh = Sent { first: now, gaps: seen.gaps, replays: seen.replays };
        message.sent = Some(match message.sent {
            Some(sent) if seen.history && now < sent.first + ID_IS_KNOWN => Sent { replays: seen.replays, ..sent },
            Some(sent) if !seen.history || sent.gaps != seen.gaps => {
                return self.take_first().map_or(Next::Nothing, Next::Unknown);
            }
            Some(sent) if sent.replays == seen.replays => return Next::Replay,
            None | Some(_) => fresh,
        });
        (self.is_under_way, self.retry_at) = (true, None);
        self.line.front().map_or(Next::Nothing, Next::Send)
    }

    /// When `next` may return something that it does not return now.
    pub(super) fn deadline(&self) -> Option<Duration> {
        self.retry_at.filter(|_| !self.is_under_way && !self.line.is_empty())
    }

    /// Takes out a message that is kept, or never will be.
    pub(super) fn remove(&mut self, id: &str) -> Option<Message> {
        let at = self.line.iter().position(|message| message.id == id)?;
        if at == 0 {
            return self.take_first();
        }
        let message = self.line.remove(at)?;
        self.bytes -= message.text.len();
        Some(message)
    }

    /// The message has come in the room, so it is kept: takes it out, unless its `ack` is wanted and still under way.
    pub(super) fn seen(&mut self, id: &str, is_ack_wanted: bool) -> Option<Message> {
        if is_ack_wanted && self.is_under_way && self.line.front().is_some_and(|message| message.id == id) {
            self.is_seen = true;
            return None;
        }
        self.remove(id)
    }

    /// Whether this message waits only for its `ack`.
    pub(super) fn is_seen(&self, id: &str) -> bool {
        self.is_seen && self.line.front().is_some_and(|message| message.id == id)
    }

    fn take_first(&mut self) -> Option<Message> {
        let message = self.line.pop_front()?;
        self.bytes -= message.text.len();
        (self.is_under_way, self.is_seen, self.retry_at) = (false, false, None);
        self.backoff = Backoff::default();
        Some(message)
    }

    /// The message under way failed for a reason that may pass. Returns how long to wait.
    pub(super) fn delay(&mut self, now: Duration, random: f64) -> Duration {
        let wait = self.backoff.next(Duration::ZERO, random);
        (self.is_under_way, self.retry_at) = (false, Some(now + wait));
        wait
    }

    /// The connection, or the membership, is gone: what was under way gets no answer.
    pub(super) fn cut_off(&mut self) {
        if self.is_seen {
            self.take_first();
        }
        (self.is_under_way, self.retry_at) = (false, None);
    }

    /// Takes out the messages for which a server closed the connection without saying which: those longer than servers
    /// accept by default, or else the one under way.
    pub(super) fn take_too_large(&mut self, longest: usize) -> Vec<Message> {
        if self.is_seen {
            self.take_first();
        }
        let mut large: Vec<String> =
            self.line.iter().filter(|m| m.text.len() > longest).map(|m| m.id.clone()).collect();
        if large.is_empty() && self.is_under_way {
            large.extend(self.line.front().map(|message| message.id.clone()));
        }
        large.iter().filter_map(|id| self.remove(id)).collect()
    }

    /// Takes out all messages.
    pub(super) fn take_all(&mut self) -> Vec<Message> {
        self.cut_off();
        std::iter::from_fn(|| self.take_first()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Duration = ID_IS_KNOWN;

    fn seen(gaps: u64, replays: u64) -> Seen {
        Seen { gaps, replays, history: true }
    }

    fn with(texts: &[&str]) -> Unsent {
        let mut unsent = Unsent::default();
        assert!(texts.iter().all(|text| unsent.push(format!("id-{text}"), (*text).to_owned())));
        unsent
    }

    fn sent<'a>(next: &'a Next<'_>) -> &'a str {
        match next {
            Next::Send(message) => &message.text,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_is_on_its_way_at_a_time_and_nothing_overtakes_one_that_failed() {
        let mut unsent = with(&["a", "b"]);
        let now = Duration::ZERO;
        assert_eq!(sent(&unsent.next(now, seen(0, 0))), "a");
        assert_eq!(unsent.next(now, seen(0, 0)), Next::Nothing);
        assert_eq!(unsent.delay(now, 0.5), Duration::from_millis(500));
        assert_eq!(unsent.next(Duration::from_millis(499), seen(0, 0)), Next::Nothing);
        assert_eq!(unsent.deadline(), Some(Duration::from_millis(500)));
        assert_eq!(sent(&unsent.next(Duration::from_millis(500), seen(0, 0))), "a");
        assert!(unsent.remove("id-a").is_some());
        assert_eq!(sent(&unsent.next(now, seen(0, 0))), "b");
    }

    #[test]
    fn an_old_id_goes_out_again_only_after_a_replay_without_a_gap() {
        let old = || {
            let mut unsent = with(&["a"]);
            assert_eq!(sent(&unsent.next(Duration::ZERO, seen(7, 1))), "a");
            unsent.cut_off();
            unsent
        };
        assert_eq!(old().next(LATER, seen(7, 1)), Next::Replay);
        assert_eq!(sent(&old().next(LATER, seen(7, 2))), "a");
        assert!(matches!(old().next(LATER, seen(8, 2)), Next::Unknown(message) if message.may_be_kept()));
        // A young message goes out in any case, because the server still knows its id.
        let mut unsent = old();
        assert_eq!(sent(&unsent.next(LATER - Duration::from_millis(1), seen(9, 2))), "a");
        // Sending it again does not make its id younger, because the first sending may be the one that counts.
        unsent.cut_off();
        assert!(matches!(unsent.next(LATER, seen(9, 3)), Next::Unknown(_)));
        // But proof that it did not arrive does.
        let mut unsent = old();
        unsent.next(LATER, seen(7, 2));
        unsent.cut_off();
        assert_eq!(sent(&unsent.next(LATER + Duration::from_secs(1), seen(9, 2))), "a");
    }

    #[test]
    fn what_no_server_remembers_is_never_sent_twice() {
        let mut unsent = with(&["a"]);
        let forgetful = Seen { gaps: 0, replays: 0, history: false };
        assert_eq!(sent(&unsent.next(Duration::ZERO, forgetful)), "a");
        unsent.cut_off();
        assert!(matches!(unsent.next(Duration::ZERO, forgetful), Next::Unknown(_)));
    }

    #[test]
    fn one_that_was_seen_waits_for_its_ack_only_where_that_is_wanted_and_can_come() {
        let on_its_way = || {
            let mut unsent = with(&["a", "b"]);
            assert_eq!(sent(&unsent.next(Duration::ZERO, seen(0, 0))), "a");
            unsent
        };
        assert!(on_its_way().seen("id-a", false).is_some());
        let mut unsent = on_its_way();
        assert_eq!((unsent.seen("id-a", true), unsent.is_seen("id-a")), (None, true));
        assert_eq!(unsent.next(Duration::ZERO, seen(0, 0)), Next::Nothing);
        assert!(unsent.remove("id-a").is_some() && !unsent.is_seen("id-b"));
        assert_eq!(sent(&unsent.next(Duration::ZERO, seen(0, 0))), "b");
        // What was lost with the connection, or refused, gets none.
        let mut unsent = on_its_way();
        assert_eq!(unsent.seen("id-a", true), None);
        unsent.cut_off();
        assert_eq!(sent(&unsent.next(Duration::ZERO, seen(0, 0))), "b");
        let mut unsent = on_its_way();
        unsent.delay(Duration::ZERO, 1.0);
        assert!(unsent.seen("id-a", true).is_some());
    }

    #[test]
    fn the_line_is_bounded() {
        let mut unsent = Unsent::default();
        assert!((0..MOST).all(|n| unsent.push(n.to_string(), String::new())));
        assert!(!unsent.push("one more".into(), String::new()));
        let mut unsent = Unsent::default();
        assert!(unsent.push("a".into(), "x".repeat(MOST_BYTES)));
        assert!(!unsent.push("b".into(), "x".into()));
        assert!(unsent.remove("a").is_some());
        assert!(unsent.push("b".into(), "x".into()));
    }

    #[test]
    fn a_message_that_is_too_large_is_found_by_its_length_or_by_being_on_its_way() {
        let mut unsent = with(&["short", "far too long", "short as well"]);
        unsent.next(Duration::ZERO, seen(0, 0));
        let texts = |taken: Vec<Message>| taken.into_iter().map(|message| message.text).collect::<Vec<_>>();
        assert_eq!(texts(unsent.take_too_large(11)), ["far too long", "short as well"]);
        assert_eq!(texts(unsent.take_too_large(11)), ["short"]);
        assert_eq!(unsent.len(), 0);
    }
}
