//! The rules of docs/protocol.md, "Coming back", one by one.

use std::time::Duration;

use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use super::{
    news::News,
    state::{Chat, Effect, Ending, PARTING},
};

const SECOND: Duration = Duration::from_secs(1);

/// A chat in one room, and what it wants.
struct Client {
    chat: Chat,
    now: Duration,
}

impl Client {
    /// One that has joined the room.
    fn joined() -> Self {
        let mut client = Self { chat: Chat::new("ann".into(), StdRng::seed_from_u64(7)), now: SECOND };
        client.chat.join(client.now, "den", 0);
        assert!(client.connects());
        client.open();
        client
    }

    /// Connects and joins.
    fn open(&mut self) -> Vec<Value> {
        self.chat.opened(self.now);
        let sent = self.sent();
        self.hears(
            &json!({"type": "joined", "room": "den", "epoch": "e", "seq": 5, "members": 1, "originServer": "one"}),
        );
        sent
    }

    fn hears(&mut self, frame: &Value) {
        self.chat.frame(self.now, &frame.to_string());
    }

    fn ends(&mut self, ending: Ending) {
        self.chat.closed(self.now, ending);
    }

    fn closes(&mut self, code: u16, reason: &str) {
        self.ends(Ending { close: Some((code, reason.into())), ..Ending::default() });
    }

    fn passes(&mut self, time: Duration) {
        self.now += time;
        self.chat.tick(self.now);
    }

    fn connects(&mut self) -> bool {
        self.chat.effects().contains(&Effect::Connect)
    }

    fn sent(&mut self) -> Vec<Value> {
        let frames = self.chat.effects().into_iter().filter_map(|effect| match effect {
            Effect::Send(frame) => Some(frame),
            _ => None,
        });
        frames.collect()
    }

    fn told(&mut self) -> Vec<News> {
        let news = self.chat.effects().into_iter().filter_map(|effect| match effect {
            Effect::Tell(news) => Some(news),
            _ => None,
        });
        news.collect()
    }

    /// How long it waits before it tries again.
    fn wait(&mut self) -> Duration {
        let wait = self.told().iter().find_map(|news| match news {
            News::Waiting { wait, .. } => Some(*wait),
            _ => None,
        });
        wait.expect("it waits")
    }
}

#[test]
fn a_restart_that_was_told_is_followed_at_once_and_any_other_end_after_a_random_moment() {
    let mut client = Client::joined();
    client.hears(&json!({"type": "reconnect", "after_ms": 10, "reason": "shutting_down"}));
    client.closes(1012, "service_restart");
    assert!(client.connects(), "at once");

    for code in [1000, 1001, 1009, 1011, 1012, 1013, 4001, 4002, 4008, 4321] {
        let mut client = Client::joined();
        client.closes(code, "");
        let wait = client.wait();
        assert!(!wait.is_zero() && wait < SECOND, "{code}: {wait:?}");
        client.passes(wait - Duration::from_nanos(1));
        assert!(!client.connects());
        client.passes(Duration::from_nanos(1));
        assert!(client.connects());
    }
}

#[test]
fn what_must_not_be_tried_again_is_not() {
    for code in [1002, 1003, 1007, 4010, 4500, 4999] {
        let mut client = Client::joined();
        client.closes(code, "");
        assert!(matches!(&client.told()[..], [.., News::Over { .. }]), "{code}");
        assert!(client.chat.is_over() && client.chat.deadline().is_none());
    }
    // If no server has ever answered, the user may fix the address; if one has, an ingress may be the cause.
    let refused = || Ending { remedy: Some("the path is wrong".into()), ..Ending::default() };
    let mut client = Client { chat: Chat::new("ann".into(), StdRng::seed_from_u64(7)), now: SECOND };
    client.ends(refused());
    assert!(client.chat.is_over());
    let mut client = Client::joined();
    client.closes(1012, "");
    client.ends(refused());
    assert!(!client.chat.is_over());
}

#[test]
fn a_server_that_asks_for_time_gets_it() {
    let mut client = Client::joined();
    client.closes(1012, "");
    client.passes(SECOND);
    client.told();
    client.ends(Ending { retry_after: Some(7 * SECOND), ..Ending::default() });
    assert!(client.wait() >= 7 * SECOND);
}

#[test]
fn back_off_starts_again_only_after_a_minute() {
    let longest = |lasted: u32| {
        let mut client = Client::joined();
        for _ in 0..20 {
            client.ends(Ending::default());
            client.passes(30 * SECOND);
        }
        client.open();
        // Anything that the server sends is a sign of life.
        for _ in 0..lasted {
            client.passes(SECOND);
            client.chat.heard();
        }
        client.told();
        client.ends(Ending::default());
        client.wait()
    };
    assert!(longest(59) > SECOND);
    assert!(longest(60) < SECOND);
}

#[test]
fn a_dead_network_is_noticed_and_not_waited_for() {
    let mut client = Client::joined();
    client.sent();
    client.passes(20 * SECOND);
    assert_eq!(client.sent(), [json!({"type": "ping"})]);
    client.passes(9 * SECOND);
    client.chat.heard();
    client.passes(2 * SECOND);
    assert!(client.chat.is_open(), "any frame is a sign of life");
    client.passes(9 * SECOND);
    assert_eq!(client.sent(), [json!({"type": "ping"})]);
    client.passes(10 * SECOND);
    let effects = client.chat.effects();
    assert!(effects.contains(&Effect::Drop) && effects.contains(&Effect::Connect), "{effects:?}");
}

#[test]
fn a_room_is_joined_again_where_it_was() {
    let mut client = Client::joined();
    let message = |seq: u64| {
        json!({"type": "message", "room": "den", "epoch": "e", "seq": seq, "ts": 1, "originServer": "one",
            "username": "bob", "text": "hi"})
    };
    client.hears(&message(6));
    // An ack is not a position in the stream.
    client.hears(&json!({"type": "ack", "id": "x", "room": "den", "epoch": "e", "seq": 9}));
    client.told();
    client.hears(&message(6));
    assert!(client.told().is_empty(), "what comes twice is dropped");
    client.closes(4008, "slow_consumer");
    client.passes(SECOND);
    client.chat.opened(client.now);
    let join = json!({"type": "join", "room": "den", "username": "ann", "after": {"epoch": "e", "seq": 6}});
    assert_eq!(client.sent(), [join]);
}

#[test]
fn a_join_that_may_pass_is_sent_again_and_another_is_not() {
    for (code, again) in [
        ("unavailable", true),
        ("overloaded", true),
        ("rate_limited", true),
        ("bad_username", false),
        ("forbidden", false),
        ("new_one", false),
    ] {
        let mut client = Client { chat: Chat::new("ann".into(), StdRng::seed_from_u64(7)), now: SECOND };
        client.chat.join(client.now, "den", 3);
        client.chat.opened(client.now);
        let first = client.sent();
        assert!(client.chat.say(client.now, "den", "hello"));
        client.hears(&json!({"type": "error", "code": code, "message": "", "room": "den"}));
        let news = client.told();
        client.passes(SECOND);
        if again {
            assert_eq!(client.sent(), first, "{code}");
        } else {
            assert!(
                matches!(&news[..], [News::JoinRefused { .. }, News::Failed { maybe_kept: false, .. }]),
                "{news:?}"
            );
            assert_eq!((client.sent(), client.chat.rooms().count()), (vec![], 0), "{code}");
        }
    }
}

#[test]
fn a_membership_that_the_server_ends_is_taken_up_again_without_a_new_connection() {
    let mut client = Client::joined();
    assert!(client.chat.say(client.now, "den", "hello"));
    let message = client.sent().pop().expect("a message");
    client.hears(&json!({"type": "left", "room": "den", "reason": "unavailable"}));
    // The message crossed with that.
    client.hears(&json!({"type": "error", "code": "not_member", "message": "", "id": message["id"], "room": "den"}));
    assert!(client.sent().is_empty());
    client.passes(SECOND);
    assert_eq!(client.sent()[0]["after"], json!({"epoch": "e", "seq": 5}));
    client.hears(&json!({"type": "joined", "room": "den", "epoch": "e", "seq": 5, "until": 6, "resumed": true,
        "members": 1}));
    assert!(client.sent().is_empty(), "the replay may have it");
    client.hears(&json!({"type": "message", "room": "den", "epoch": "e", "seq": 6, "ts": 1, "originServer": "one",
        "username": "bob", "text": "hi"}));
    assert_eq!(client.sent(), [message], "the same message under the same id");
}

#[test]
fn a_message_that_is_too_large_is_named_and_taken_out() {
    for reason in ["frame_too_big id=", "frame_too_big"] {
        let mut client = Client::joined();
        let large = "x".repeat(20 << 10);
        for text in [large.as_str(), "after it"] {
            assert!(client.chat.say(client.now, "den", text));
        }
        let id = client.sent().pop().expect("a message")["id"].as_str().expect("an id").to_owned();
        client.closes(1009, &if reason.ends_with('=') { format!("{reason}{id}") } else { reason.to_owned() });
        let told = client.told();
        assert!(matches!(&told[0], News::Failed { text, maybe_kept: false, .. } if *text == large), "{told:?}");
        assert_eq!(client.chat.unsent(), 1);
    }
}

#[test]
fn a_replay_is_over_too_when_numbering_begins_anew() {
    let mut client = Client::joined();
    client.closes(4001, "idle");
    client.passes(SECOND);
    assert!(client.chat.say(client.now, "den", "hello"));
    client.chat.opened(client.now);
    client.hears(&json!({"type": "joined", "room": "den", "epoch": "e", "seq": 5, "until": 9, "resumed": true,
        "members": 1}));
    client.hears(&json!({"type": "message", "room": "den", "epoch": "e", "seq": 6, "ts": 1, "originServer": "one",
        "username": "bob", "text": "hi"}));
    assert_eq!(client.sent().len(), 1, "only the join so far");
    client.hears(&json!({"type": "reset", "room": "den", "epoch": "f", "seq": 0, "reason": "new_epoch"}));
    assert_eq!(client.sent()[0]["text"], "hello");
}

#[test]
fn a_room_is_left_when_what_was_said_there_is_kept_or_after_a_while() {
    let leave = json!({"type": "leave", "room": "den"});
    let mut client = Client::joined();
    client.sent();
    assert!(client.chat.say(client.now, "den", "last words"));
    client.chat.leave(client.now, "den");
    assert_eq!(client.chat.rooms().count(), 0);
    assert!(!client.chat.say(client.now, "den", "more"));
    let sent = client.sent();
    assert_eq!((sent.len(), &sent[0]["text"]), (1, &json!("last words")));
    client.hears(&json!({"type": "ack", "id": sent[0]["id"], "room": "den", "epoch": "e", "seq": 6}));
    assert_eq!(client.sent(), std::slice::from_ref(&leave));

    let mut client = Client::joined();
    client.sent();
    assert!(client.chat.say(client.now, "den", "last words"));
    client.chat.leave(client.now, "den");
    client.sent();
    assert_eq!(client.chat.deadline(), Some(client.now + PARTING));
    client.passes(PARTING);
    let effects = client.chat.effects();
    assert!(effects.contains(&Effect::Send(leave)), "{effects:?}");
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Tell(News::Failed { maybe_kept: true, .. }))));
    assert_eq!(client.chat.unsent(), 0);

    // A room that is joined again meanwhile stays.
    let mut client = Client::joined();
    assert!(client.chat.say(client.now, "den", "last words"));
    client.chat.leave(client.now, "den");
    client.chat.join(client.now, "den", 0);
    client.passes(PARTING);
    assert_eq!((client.chat.rooms().count(), client.chat.unsent()), (1, 1));
}

#[test]
fn a_room_can_be_left_and_entered_again_at_once() {
    let mut client = Client::joined();
    client.sent();
    client.chat.leave(client.now, "den");
    assert_eq!(client.chat.rooms().count(), 0);
    client.chat.join(client.now, "den", 0);
    assert!(client.chat.say(client.now, "den", "hello"));
    assert_eq!(client.sent(), [json!({"type": "leave", "room": "den"})]);
    client.hears(&json!({"type": "left", "room": "den"}));
    assert_eq!(client.sent(), [json!({"type": "join", "room": "den", "username": "ann"})]);
    client.hears(&json!({"type": "joined", "room": "den", "epoch": "e", "seq": 9, "members": 1}));
    assert_eq!(client.sent()[0]["text"], "hello");
}
