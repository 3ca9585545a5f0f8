//! The client against a model of the server, with everything that can go wrong between them, in an order that a seed
//! determines.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    time::Duration,
};

use rand::{Rng, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};

use super::{
    event::Position,
    news::{Came, News},
    state::{Chat, Effect, Ending},
};

const ROOMS: [&str; 2] = ["one", "two"];
const WINDOW: Duration = Duration::from_secs(5 * 60);

#[derive(Default)]
struct Log {
    epoch: u64,
    /// Id, author and text of each; the first has the number 1.
    entries: Vec<(String, &'static str, String)>,
    /// How many of the first ones are lost.
    trimmed: u64,
    ids: HashMap<String, (u64, Duration)>,
}

impl Log {
    fn top(&self) -> u64 {
        self.entries.len() as u64
    }

    fn message(&self, room: &str, seq: u64) -> Value {
        let (id, username, text) = &self.entries[seq as usize - 1];
        json!({"type": "message", "room": room, "epoch": self.epoch.to_string(), "seq": seq, "ts": 1, "originServer": "s",
            "username": username, "text": text, "id": id})
    }
}

/// The server's side of a connection: each membership's position, and frames under way.
#[derive(Default)]
struct Connection {
    members: HashMap<String, (u64, u64)>,
    to_server: VecDeque<Value>,
    to_client: VecDeque<Value>,
    /// The reason with which it ends, for a frame that was too large.
    too_big: Option<String>,
}

struct World {
    random: StdRng,
    now: Duration,
    logs: HashMap<&'static str, Log>,
    /// Whether the server can reach Redis.
    redis: bool,
    is_wanted: bool,
    connection: Option<Connection>,
    /// Connections that the client has given up, whose last commands the server may still execute.
    ghosts: Vec<Connection>,
    chat: Chat,
    seen: HashMap<String, Seen>,
    said: usize,
    failed: HashMap<String, bool>,
    is_over: bool,
}

#[derive(Default)]
struct Seen {
    last: Option<Position>,
    covered: BTreeSet<(u64, u64)>,
    from: Option<(u64, u64)>,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut chat = Chat::new("ann".to_owned(), StdRng::seed_from_u64(seed));
        if seed % 2 == 1 {
            chat.want_acks();
        }
        ROOMS.iter().for_each(|room| chat.join(Duration::ZERO, room, 0));
        Self {
            random: StdRng::seed_from_u64(seed + 1),
            now: Duration::ZERO,
            logs: ROOMS.iter().map(|room| (*room, Log::default())).collect(),
            redis: true,
            is_wanted: false,
            connection: None,
            ghosts: Vec::new(),
            chat,
            seen: HashMap::new(),
            said: 0,
            failed: HashMap::new(),
            is_over: false,
        }
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.random.random_ratio(1, n)
    }

    fn room(&mut self) -> &'static str {
        ROOMS[self.random.random_range(0..ROOMS.len())]
    }

    fn publish(&mut self, room: &'static str, id: String, username: &'static str, text: String) -> u64 {
        let now = self.now;
        let log = self.logs.get_mut(room).unwrap();
        if let Some((seq, kept_at)) = log.ids.get(&id)
            && now < *kept_at + WINDOW
        {
            return *seq;
        }
        log.entries.push((id.clone(), username, text));
        let top = log.top();
        log.ids.insert(id, (top, now));
        top
    }

    /// Sends members what they do not have yet.
    fn deliver(&mut self) {
        let (Some(connection), true) = (&mut self.connection, self.redis) else { return };
        for (room, log) in &self.logs {
            let Some((epoch, seq)) = connection.members.get_mut(*room) else { continue };
            let reset = |seq, reason| json!({"type": "reset", "room": room, "epoch": log.epoch.to_string(), "seq": seq, "reason": reason});
            if *epoch != log.epoch {
                (*epoch, *seq) = (log.epoch, log.trimmed);
                connection.to_client.push_back(reset(log.trimmed, "new_epoch"));
            } else if *seq < log.trimmed {
                *seq = log.trimmed;
                connection.to_client.push_back(reset(log.trimmed, "trimmed"));
            }
            while *seq < log.top() {
                *seq += 1;
                connection.to_client.push_back(log.message(room, *seq));
            }
        }
    }

    /// Executes one command of a connection, and sends the answers.
    fn carry_out(&mut self, connection: &mut Connection) {
        if connection.too_big.is_some() {
            return connection.to_server.clear();
        }
        let Some(command) = connection.to_server.pop_front() else { return };
        if command["text"].as_str().is_some_and(|text| text.ends_with("50")) {
            connection.too_big = Some(format!("frame_too_big id={}", command["id"].as_str().unwrap()));
            return connection.to_server.clear();
        }
        let name = command["room"].as_str().unwrap_or_default().to_owned();
        let error =
            |code: &str| json!({"type": "error", "code": code, "message": "", "room": name, "id": command["id"]});
        let unavailable = !self.redis && command["type"] != "ping" && command["type"] != "leave";
        let answer = match command["type"].as_str().unwrap() {
            "ping" => json!({"type": "pong"}),
            "leave" if connection.members.remove(&name).is_none() => error("not_member"),
            "leave" => json!({"type": "left", "room": name}),
            "join" if unavailable => error("unavailable"),
            "join" => return self.join(connection, &name, &command),
            _ if !connection.members.contains_key(&name) => error("not_member"),
            _ if unavailable && self.one_in(2) => error("unavailable"),
            _ => {
                let room = ROOMS.into_iter().find(|room| *room == name).unwrap();
                let (id, text) = (command["id"].as_str().unwrap(), command["text"].as_str().unwrap());
                let seq = self.publish(room, id.to_owned(), "ann", text.to_owned());
                let epoch = self.logs[room].epoch.to_string();
                // When Redis does not answer, nobody knows whether it was kept.
                match unavailable {
                    true => error("unavailable"),
                    false => json!({"type": "ack", "id": id, "room": room, "epoch": epoch, "seq": seq}),
                }
            }
        };
        connection.to_client.push_back(answer);
    }

    fn join(&mut self, connection: &mut Connection, name: &str, command: &Value) {
        let log = &self.logs[name];
        let (epoch, top) = (log.epoch, log.top());
        let mut joined = json!({"type": "joined", "room": name, "members": 1, "epoch": epoch.to_string(), "seq": top});
        let mut from = top;
        if let Some(after) = command.get("after") {
            let seq = after["seq"].as_u64().unwrap();
            let resumes = after["epoch"] == *epoch.to_string() && (log.trimmed..=top).contains(&seq);
            (joined["epoch"], joined["seq"], joined["resumed"]) = (after["epoch"].clone(), seq.into(), resumes.into());
            from = if resumes { seq } else { log.trimmed };
            if !resumes || seq < top {
                joined["until"] = top.into();
            }
            connection.to_client.push_back(joined);
            if !resumes {
                let reset = json!({"type": "reset", "room": name, "epoch": epoch.to_string(), "seq": from,
                    "reason": "unknown_position"});
                connection.to_client.push_back(reset);
            }
        } else {
            if let Some(last) = command["last"].as_u64() {
                from = top.saturating_sub(last).max(log.trimmed);
                joined["seq"] = from.into();
                if from < top {
                    joined["until"] = top.into();
                }
            }
            connection.to_client.push_back(joined);
        }
        // Redis may fail during a replay.
        let cut = if self.random.random_ratio(1, 8) { self.random.random_range(from..=top) } else { top };
        let log = &self.logs[name];
        connection.to_client.extend((from + 1..=cut).map(|seq| log.message(name, seq)));
        if cut < top {
            connection.to_client.push_back(json!({"type": "left", "room": name, "reason": "unavailable"}));
        } else {
            connection.members.insert(name.to_owned(), (epoch, top));
        }
    }

    /// One step, of a world in which nothing is safe.
    fn step(&mut self) {
        match self.random.random_range(0..100) {
            0..20 => {
                let (room, text) = (self.room(), format!("{:06}", self.said));
                self.said += 1;
                assert!(self.chat.say(self.now, room, &text));
            }
            20..35 => {
                let (room, number) = (self.room(), self.random.random::<u32>());
                if self.redis {
                    self.publish(room, format!("bob-{number}"), "bob", "hi".into());
                }
                self.deliver();
            }
            35..70 => self.work(),
            70..76 => self.end_connection(),
            76..82 => {
                self.redis = !self.redis;
                self.deliver();
            }
            82 => {
                let log = self.logs.get_mut(ROOMS[self.random.random_range(0..2)]).unwrap();
                *log = Log { epoch: log.epoch + 1, ..Log::default() };
                self.deliver();
            }
            83..85 => {
                let room = self.room();
                let log = self.logs.get_mut(room).unwrap();
                log.trimmed = self.random.random_range(log.trimmed..=log.top());
            }
            85..87 => {
                let room = self.room();
                let count = self.random.random_range(0..10);
                self.chat.show_last(room, count);
            }
            other => {
                let milliseconds = if other == 87 { 100_000..500_000 } else { 0..5_000 };
                let time = self.random.random_range(milliseconds);
                self.pass(Duration::from_millis(time));
            }
        }
        self.obey();
    }

    /// Delivers some of what is under way.
    fn work(&mut self) {
        if self.is_wanted && self.connection.is_none() {
            self.is_wanted = false;
            if self.one_in(3) {
                self.chat.closed(self.now, Ending { why: "refused".into(), ..Ending::default() });
                return self.obey();
            }
            self.connection = Some(Connection::default());
            self.chat.opened(self.now);
            self.obey();
        }
        for mut ghost in std::mem::take(&mut self.ghosts) {
            self.carry_out(&mut ghost);
            if !ghost.to_server.is_empty() {
                self.ghosts.push(ghost);
            }
        }
        if let Some(mut connection) = self.connection.take() {
            for _ in 0..self.random.random_range(0..4) {
                self.carry_out(&mut connection);
            }
            self.connection = Some(connection);
        }
        self.deliver();
        for _ in 0..self.random.random_range(0..12) {
            let frame = self.connection.as_mut().and_then(|connection| connection.to_client.pop_front());
            let Some(frame) = frame else { break };
            self.chat.frame(self.now, &frame.to_string());
            self.obey();
        }
        if let Some(connection) =
            self.connection.take_if(|connection| connection.to_client.is_empty() && connection.too_big.is_some())
            && let Some(reason) = &connection.too_big
        {
            let close = Some((1009, reason.clone()));
            self.chat.closed(self.now, Ending { why: "closed".into(), close, ..Ending::default() });
            self.obey();
        }
    }

    fn end_connection(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let code = [None, Some(1012), Some(4008), Some(4001)][self.random.random_range(0..4)];
        if code == Some(1012) && self.one_in(2) {
            self.chat.frame(self.now, r#"{"type":"reconnect","after_ms":1,"reason":"shutting_down"}"#);
        }
        let close = code.map(|code| (code, String::new()));
        self.ghosts.push(connection);
        self.chat.closed(self.now, Ending { why: "closed".into(), close, ..Ending::default() });
    }

    fn pass(&mut self, time: Duration) {
        // Nothing stays on the wire for minutes, whether or not the connection has ended.
        if time > Duration::from_secs(10)
            && let Some(mut connection) = self.connection.take()
        {
            while !connection.to_server.is_empty() {
                self.carry_out(&mut connection);
            }
            self.connection = Some(connection);
        }
        for mut ghost in std::mem::take(&mut self.ghosts) {
            if time > Duration::from_secs(10) {
                while !ghost.to_server.is_empty() {
                    self.carry_out(&mut ghost);
                }
            } else {
                self.ghosts.push(ghost);
            }
        }
        self.now += time;
        self.chat.tick(self.now);
    }

    /// Does what the client wants, and checks what it reports.
    fn obey(&mut self) {
        for effect in self.chat.effects() {
            match effect {
                Effect::Connect => {
                    assert!(self.connection.is_none(), "one connection at a time");
                    self.is_wanted = true;
                }
                Effect::Send(frame) => self.connection.as_mut().expect("a connection").to_server.push_back(frame),
                Effect::Drop => self.ghosts.extend(self.connection.take()),
                Effect::Tell(news) => self.told(news),
            }
        }
    }

    fn told(&mut self, news: News) {
        let place = |position: &Position| (position.epoch.parse::<u64>().unwrap(), position.seq);
        match news {
            News::Joined { room, came, .. } => {
                let log = &self.logs[room.as_str()];
                let seen = self.seen.entry(room).or_default();
                match came {
                    Came::New { .. } => seen.from = Some((log.epoch, log.top())),
                    Came::ForLast { .. } => seen.last = None,
                    Came::Back { .. } | Came::BackWithGap => {}
                    Came::BackUnkept | Came::ForLastUnkept => unreachable!("this server keeps all"),
                }
            }
            News::Said { room, said } => {
                let (position, seen) = (said.position.expect("a place"), self.seen.get_mut(&room).unwrap());
                // An own message from a gap has no time, and is out of place.
                if said.ts.is_some() {
                    if let Some(last) = &seen.last {
                        assert_eq!(
                            (&position.epoch, position.seq),
                            (&last.epoch, last.seq + 1),
                            "twice, or a silent gap"
                        );
                    }
                    seen.last = Some(position.clone());
                }
                seen.covered.insert(place(&position));
            }
            News::Gap { room, after, up_to, reason } => {
                // The server tells every gap, except when the client itself left for a moment.
                assert!(reason != "missed" || self.seen[&room].last.is_none(), "it lost its place");
                let (up_to, seen) = (up_to.expect("a place"), self.seen.get_mut(&room).unwrap());
                let from = after.filter(|after| after.epoch == up_to.epoch).map_or(0, |after| after.seq);
                seen.covered.extend((from..=up_to.seq).map(|seq| (place(&up_to).0, seq)));
                seen.last = Some(up_to);
            }
            News::Failed { text, maybe_kept, .. } => {
                assert!(self.failed.insert(text, maybe_kept).is_none(), "failed twice");
            }
            News::Over { .. } => self.is_over = true,
            _ => {}
        }
    }

    /// Lets everything finish, and judges the result.
    fn settle(&mut self) {
        self.redis = true;
        for round in 0.. {
            assert!(round < 100_000, "it never comes to rest: {:?}", self.chat);
            self.work();
            self.obey();
            let is_quiet = self.connection.as_ref().is_some_and(|c| c.to_client.is_empty() && c.to_server.is_empty());
            if is_quiet && self.chat.unsent() == 0 && self.ghosts.is_empty() && self.chat.deadline() > Some(self.now) {
                break;
            }
            if is_quiet || self.connection.is_none() {
                let time = self.chat.deadline().map_or(Duration::ZERO, |at| at.saturating_sub(self.now));
                self.pass(time.min(Duration::from_secs(1)));
                self.obey();
            }
        }
        assert!(!self.is_over);
        let mut times: HashMap<&str, usize> = HashMap::new();
        for log in self.logs.values() {
            let own: Vec<&str> =
                log.entries.iter().filter(|entry| entry.1 == "ann").map(|entry| entry.2.as_str()).collect();
            assert!(own.is_sorted(), "out of order: {own:?}");
            own.iter().for_each(|text| *times.entry(text).or_default() += 1);
        }
        let has_reset = self.logs.values().any(|log| log.epoch > 0);
        for number in 0..self.said {
            let text = format!("{number:06}");
            let count = times.get(text.as_str()).copied().unwrap_or(0);
            match self.failed.get(&text) {
                Some(true) => assert!(count <= 1, "{text} was doubled"),
                Some(false) => assert_eq!(count, 0, "{text} is said not to be kept"),
                None => assert!(count == 1 || count == 0 && has_reset, "{text} is kept {count} times"),
            }
        }
        for (room, log) in &self.logs {
            let seen = &self.seen[*room];
            let from = seen.from.filter(|(epoch, _)| *epoch == log.epoch).map_or(0, |(_, seq)| seq);
            for seq in from + 1..=log.top() {
                assert!(
                    seen.covered.contains(&(log.epoch, seq)),
                    "{seq} of {room} was neither shown nor told to be missing"
                );
            }
        }
    }
}

#[test]
fn nothing_is_lost_doubled_or_misordered_whatever_breaks() {
    let (mut failed, mut gaps) = (0, 0);
    for seed in 0..300 {
        let outcome = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            world.obey();
            (0..400).for_each(|_| world.step());
            world.settle();
            (world.failed.len(), world.logs.values().filter(|log| log.epoch > 0).count())
        });
        let Ok((lost, resets)) = outcome else { panic!("with the seed {seed}") };
        failed += lost;
        gaps += resets;
    }
    // Otherwise this would prove less than it seems to.
    assert!(failed > 0 && gaps > 0);
}
