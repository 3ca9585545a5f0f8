use std::{
    io::{self, IsTerminal},
    time::Duration,
};

use rand::{SeedableRng, rngs::StdRng};
use rustix::time::{ClockId, clock_gettime};
use serde_json::Value;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::sleep,
};

use super::{
    command::{self, Command},
    ends::Ends,
    input::Typed,
    link::{Heard, Link},
    news::News,
    options::Options,
    printer::Line,
    state::{Chat, Effect, PARTING},
    told::Told,
    words::{self, Words},
};
use crate::cli::client::{Failure, plain_json};

/// How many messages may be under way before the next line of a script is read.
const AHEAD: usize = 100;

/// How long to wait for output when a signal ends the chat.
const LAST_PRINTS: Duration = Duration::from_secs(2);

/// How often to look at the clock, because timers stop while the machine sleeps.
const LOOK: Duration = Duration::from_secs(1);

/// Talks in a room until the input ends. Returns the exit code.
///
/// # Errors
/// If the chat cannot go on, or a message is not kept.
pub(crate) async fn run(options: Options) -> Result<u8, Failure> {
    let mut signals = Vec::new();
    for (kind, number) in [(SignalKind::interrupt(), 2), (SignalKind::terminate(), 15), (SignalKind::hangup(), 1)] {
        signals.push((signal(kind)?, number));
    }
    let asked_to_end = async {
        let (arrived, ..) = futures_util::future::select_all(signals.iter_mut().map(|(signal, number)| {
            Box::pin(async move {
                signal.recv().await;
                128 + *number
            })
        }))
        .await;
        arrived
    };
    let mut talk = Talk::new(options);
    let outcome = tokio::select! {
        outcome = async {
            talk.greet().await?;
            talk.go_on().await
        } => outcome,
        code = asked_to_end => Ok(code),
    };
    talk.end(outcome).await
}

/// The time now, by a clock that goes on while the machine sleeps.
fn this_moment() -> Duration {
    #[cfg(target_os = "linux")]
    const CLOCK: ClockId = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: ClockId = ClockId::Monotonic;
    Duration::try_from(clock_gettime(CLOCK)).unwrap_or_default()
}

/// The state of one run.
struct Talk {
    options: Options,
    chat: Chat,
    link: Option<Link>,
    ends: Ends,
    words: Words,
    told: Told,
    /// Whether the input is a script, so that the chat ends with it and nobody watches.
    is_script: bool,
    /// When to end although something is not kept yet; set once the input has ended.
    ends_at: Option<Duration>,
    started: Duration,
    /// The last time at which a message was found to be kept, or the room was caught up with and none waited.
    progress: Duration,
    /// Whether the room was joined, and its replay ended, at least once.
    has_caught_up: bool,
    said: usize,
    failed: usize,
    /// Why there is no connection.
    why: String,
}

impl Talk {
    fn new(options: Options) -> Self {
        let is_script = !io::stdin().is_terminal();
        let has_colours = io::stdout().is_terminal()
            && !options.json
            && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        let ends = Ends::open(!options.json, options.room.clone());
        let mut chat = Chat::new(options.username.clone(), StdRng::from_os_rng());
        if options.json {
            chat.want_acks();
        }
        let started = this_moment();
        chat.join(started, &options.room, options.last(ends.are_of_a_person()));
        Self {
            chat,
            link: None,
            ends,
            words: Words { has_colours, has_several_rooms: false },
            told: Told::default(),
            is_script,
            ends_at: None,
            started,
            progress: started,
            has_caught_up: false,
            said: 0,
            failed: 0,
            why: String::new(),
            options,
        }
    }

    /// Tells a person what they can do, before anything else.
    async fn greet(&mut self) -> Result<(), Failure> {
        if !self.ends.are_of_a_person() {
            return Ok(());
        }
        self.note("type, and press Enter to say it; /help says what else there is").await
    }

    /// Talks until the end, and returns the exit code.
    async fn go_on(&mut self) -> Result<u8, Failure> {
        loop {
            self.obey().await?;
            let now = this_moment();
            if let Some(over) = self.is_over(now) {
                return over;
            }
            // A script waits for its acks; a person is told what waits, and may want to end the chat.
            let takes_lines = self.ends_at.is_none() && (self.chat.unsent() < AHEAD || self.ends.are_of_a_person());
            let until = self.chat.deadline().map_or(LOOK, |deadline| deadline.saturating_sub(now).min(LOOK));
            tokio::select! {
                biased;
                (typed, room) = self.ends.next(), if takes_lines => {
                    if let Some(code) = self.typed(typed, &room).await? {
                        return Ok(code);
                    }
                    // The room may have been refused since it was chosen. What was typed for it must not go elsewhere.
                    if !self.chat.rooms().any(|room| room == self.ends.room()) {
                        self.ends.speak_in(self.chat.rooms().last().unwrap_or_default());
                    }
                    self.ends.ask();
                }
                heard = async { self.link.as_mut()?.next().await.into() }, if self.link.is_some() => {
                    if let Some(heard) = heard {
                        self.heard(heard).await?;
                    }
                }
                () = sleep(until) => {}
            }
            self.chat.tick(this_moment());
        }
    }

    /// Whether it is over, and how.
    fn is_over(&mut self, now: Duration) -> Option<Result<u8, Failure>> {
        let unsent = self.chat.unsent();
        self.has_caught_up |= self.chat.has_caught_up();
        if unsent == 0 && self.has_caught_up {
            self.progress = now;
        }
        let fail = |why: String| Some(Err(why.into()));
        if self.chat.is_over() {
            return fail(self.why.clone());
        }
        if !self.chat.was_answered() && now >= self.started + self.options.first_answer() {
            let why =
                if self.why.is_empty() { format!("{} does not answer", self.options.url) } else { self.why.clone() };
            return fail(format!("{why}; is a roomcast server running there? `make run` starts one on port 8080"));
        }
        if self.is_script && now >= self.progress + self.options.next_ack() {
            let time = humantime::format_duration(self.options.next_ack());
            return fail(match unsent {
                0 => format!("{} could not be joined and read within {time}", self.options.room),
                _ => format!("nothing was acknowledged for {time}; {}", self.not_kept(unsent)),
            });
        }
        // A script without input still wants to know that it could join, and to read the history that it requested.
        let is_waiting = unsent > 0 || (self.is_script && !self.has_caught_up);
        if self.ends_at.is_none_or(|end| is_waiting && now < end) {
            return None;
        }
        match self.failed + unsent {
            0 => Some(Ok(0)),
            count => fail(self.not_kept(count)),
        }
    }

    fn not_kept(&self, count: usize) -> String {
        format!("{count} of {} are not known to be kept", messages(self.said))
    }

    async fn heard(&mut self, heard: Heard) -> Result<(), Failure> {
        match heard {
            Heard::Opened => self.chat.opened(this_moment()),
            Heard::Sign => self.chat.heard(),
            Heard::Frame(frame) => {
                if self.options.json {
                    self.ends.print(Line::Heard(plain_json(&frame).into_owned())).await?;
                }
                let before = self.chat.unsent();
                self.chat.frame(this_moment(), &frame);
                if self.chat.unsent() < before {
                    self.progress = this_moment();
                }
            }
            Heard::Ended(ending) => {
                self.link = None;
                self.chat.closed(this_moment(), ending);
            }
        }
        Ok(())
    }

    /// Does what the state machine asks for.
    async fn obey(&mut self) -> Result<(), Failure> {
        for effect in self.chat.effects() {
            match effect {
                Effect::Connect => self.link = Some(Link::to(self.options.url.clone())),
                Effect::Drop => self.link = None,
                Effect::Send(frame) => {
                    if let Some(link) = &self.link {
                        link.send(frame.to_string());
                    }
                }
                Effect::Tell(news) => self.tell(&news).await?,
            }
        }
        Ok(())
    }

    async fn tell(&mut self, news: &News) -> Result<(), Failure> {
        match news {
            News::Waiting { why, .. } => self.why.clone_from(why),
            News::Over { why, remedy } => self.why = format!("{why}; {remedy}"),
            News::Failed { .. } => self.failed += 1,
            News::JoinRefused { room, refusal } if self.chat.rooms().next().is_none() => {
                return Err(words::not_joined(room, refusal).into());
            }
            _ => {}
        }
        self.show(news).await
    }

    async fn show(&mut self, news: &News) -> Result<(), Failure> {
        if self.options.json {
            let line = words::json(news).map(|line: Value| plain_json(&line.to_string()).into_owned());
            return match line {
                Some(line) => self.ends.print(Line::Heard(line)).await,
                None => Ok(()),
            };
        }
        if !self.told.note(news) {
            return Ok(());
        }
        let words = Words { has_several_rooms: self.chat.rooms().nth(1).is_some(), ..self.words };
        let line = match news {
            News::Waiting { why, wait } => {
                let why = self.told.with_url_once(why, &self.options.url);
                words.line(&News::Waiting { why, wait: *wait })
            }
            _ => words.line(news),
        };
        match (line, news) {
            (Some(line), News::Said { .. } | News::Broadcast(_)) => self.ends.print(Line::Heard(line)).await,
            (Some(line), _) => self.ends.print(Line::Note(line)).await,
            (None, _) => Ok(()),
        }
    }

    async fn note(&mut self, text: &str) -> Result<(), Failure> {
        self.ends.print(Line::Note(self.words.note(text))).await
    }

    /// Handles a typed line, with this room in its prompt. Returns the exit code if the line ends the chat at once.
    async fn typed(&mut self, typed: Typed, room: &str) -> Result<Option<u8>, Failure> {
        match typed {
            Typed::Failed(why) => return Err(why.into()),
            Typed::Interrupted => return Ok(Some(130)),
            Typed::End => self.ends_soon(),
            // A script's lines are texts, whatever they begin with; so are a person's when a program reads the output.
            Typed::Line(line) if !self.ends.are_of_a_person() => self.say(&line, room).await?,
            Typed::Line(line) => {
                // A pasted text may have several lines, each of which is a message.
                for line in line.lines() {
                    self.carry_out(Command::read(line), room).await?;
                }
            }
        }
        let unread = self.ends.unread();
        if unread > 0 {
            self.note(&format!("too much was typed at once; {unread} lines of it were not read")).await?;
        }
        Ok(None)
    }

    fn ends_soon(&mut self) {
        self.ends.take_no_more();
        self.ends_at = Some(if self.is_script { Duration::MAX } else { this_moment() + PARTING });
    }

    async fn carry_out(&mut self, command: Command<'_>, here: &str) -> Result<(), Failure> {
        match command {
            Command::Say(text) => return self.say(text, here).await,
            Command::Quit => self.ends_soon(),
            Command::Help => {
                for line in command::HELP {
                    self.note(line).await?;
                }
            }
            Command::Wrong(why) => self.note(&why).await?,
            Command::Join(room) => {
                self.chat.join(this_moment(), room, self.options.last(true));
                self.ends.speak_in(room);
            }
            Command::Leave | Command::Last(_) if here.is_empty() => self.note("you are in no room; /join one").await?,
            Command::Leave => {
                self.chat.leave(this_moment(), here);
            }
            Command::Last(count) => {
                if !self.chat.show_last(here, count) {
                    self.note("there is no connection to that room at the moment; try again when you are back").await?;
                }
            }
        }
        // The prompt of the next line names its room.
        self.obey().await
    }

    async fn say(&mut self, text: &str, room: &str) -> Result<(), Failure> {
        if text.is_empty() {
            return Ok(());
        }
        self.said += 1;
        if !self.chat.say(this_moment(), room, text) {
            self.failed += 1;
            let is_in = self.chat.rooms().any(|known| known == room);
            let why = if is_in { "too much waits to be sent already" } else { "/join a room first" };
            return self.note(&format!("not said: {}: {why}", words::start(text))).await;
        }
        if self.ends.are_of_a_person() && !self.chat.is_open() {
            let count = self.chat.unsent();
            let wait = if count == 1 { "waits" } else { "wait" };
            self.note(&format!("{} {wait} for the connection", messages(count))).await?;
        }
        Ok(())
    }

    /// Ends properly: closes the connection, prints everything, and restores the terminal.
    async fn end(mut self, outcome: Result<u8, Failure>) -> Result<u8, Failure> {
        let unsent = self.chat.unsent();
        if matches!(outcome, Ok(1..)) && !self.options.json {
            let unsent = if unsent > 0 { format!("; {}", self.not_kept(unsent)) } else { String::new() };
            // If the output is closed, nobody can be told anything.
            let _ = self.note(&format!("closing{unsent}")).await;
        }
        if let Some(link) = self.link.take() {
            link.close().await;
        }
        // A slow reader gets everything, unless a signal ended the chat.
        let was_called_off = matches!(outcome, Ok(1..));
        self.ends.end(if was_called_off { LAST_PRINTS } else { Duration::MAX }).await;
        outcome
    }
}

fn messages(count: usize) -> String {
    if count == 1 { "1 message".to_owned() } else { format!("{count} messages") }
}
