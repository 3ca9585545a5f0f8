use std::{
    collections::VecDeque,
    future::pending,
    io::{self, IsTerminal},
    time::Duration,
};

use tokio::{sync::mpsc, time::timeout};

use super::{
    input::{Typed, lines},
    printer::{Line, Printer},
    terminal::Terminal,
};
use crate::cli::client::{Failure, plain};

/// How many lines a person may type while earlier output is still being printed.
const TYPED_AHEAD: usize = 64;

/// Where lines come from, and where they go.
#[derive(Debug)]
pub(super) struct Ends {
    of: Kind,
    /// The room of the next typed line.
    room: String,
    /// The room in the prompt of the line that is being edited, if there is one.
    shown: Option<String>,
    /// Lines that were typed during printing, each with the room in its prompt.
    typed_ahead: VecDeque<(Typed, String)>,
    /// How many lines were lost because there were too many.
    unread: usize,
    /// Whether the input has ended.
    is_done: bool,
}

#[derive(Debug)]
enum Kind {
    /// A person at a terminal.
    Person(Terminal),
    /// Anything else: lines come in and go out.
    Lines { typed: mpsc::Receiver<Typed>, printer: Printer },
}

impl Ends {
    /// The terminal, if it is `wanted` and both input and output are one; else standard input and output.
    pub(super) fn open(is_terminal_wanted: bool, room: String) -> Self {
        let has_terminal = is_terminal_wanted && io::stdin().is_terminal() && io::stdout().is_terminal();
        let of = match if has_terminal { Terminal::take() } else { None } {
            Some(terminal) => Kind::Person(terminal),
            None => Kind::Lines { typed: lines(), printer: Printer::plain() },
        };
        let mut ends = Self { of, room, shown: None, typed_ahead: VecDeque::new(), unread: 0, is_done: false };
        ends.ask();
        ends
    }

    pub(super) fn are_of_a_person(&self) -> bool {
        matches!(self.of, Kind::Person(_))
    }

    /// The room of the next typed line.
    pub(super) fn room(&self) -> &str {
        &self.room
    }

    /// Changes it to this room. A line that is being edited still goes to the room in its prompt.
    pub(super) fn speak_in(&mut self, room: &str) {
        room.clone_into(&mut self.room);
    }

    /// Starts editing the next line, if there is an idle editor.
    pub(super) fn ask(&mut self) {
        let Kind::Person(terminal) = &self.of else { return };
        if self.shown.is_none() && !self.is_done {
            let room = if self.room.is_empty() { "(no room)".into() } else { plain(&self.room) };
            terminal.ask(format!("{room}> "));
            self.shown = Some(self.room.clone());
        }
    }

    /// The next input, and its room. Cancel-safe.
    pub(super) async fn next(&mut self) -> (Typed, String) {
        if let Some(typed) = self.typed_ahead.pop_front() {
            return typed;
        }
        let (Kind::Person(Terminal { typed, .. }) | Kind::Lines { typed, .. }) = &mut self.of;
        match typed.recv().await {
            Some(typed) => (typed, self.shown.take().unwrap_or_else(|| self.room.clone())),
            None => pending().await,
        }
    }

    /// Writes a line. The editor prints only while it edits a line, so it gets one, and what is typed meanwhile is set
    /// aside.
    pub(super) async fn print(&mut self, line: Line) -> Result<(), Failure> {
        loop {
            let terminal = match &mut self.of {
                Kind::Lines { printer, .. } => {
                    printer.room().await?.send(line);
                    return Ok(());
                }
                Kind::Person(terminal) if self.shown.is_none() && !self.is_done && terminal.printer.is_full() => {
                    self.ask();
                    continue;
                }
                Kind::Person(terminal) => terminal,
            };
            tokio::select! {
                biased;
                room = terminal.printer.room() => {
                    room?.send(line);
                    return Ok(());
                }
                Some(typed) = terminal.typed.recv() => {
                    let room = self.shown.take().unwrap_or_default();
                    if self.typed_ahead.len() < TYPED_AHEAD || !matches!(typed, Typed::Line(_)) {
                        self.typed_ahead.push_back((typed, room));
                    } else {
                        self.unread += 1;
                    }
                }
            }
        }
    }

    /// How many lines came too fast to be read since the last call.
    pub(super) fn unread(&mut self) -> usize {
        std::mem::take(&mut self.unread)
    }

    /// The input has ended; only output follows.
    pub(super) fn take_no_more(&mut self) {
        self.is_done = true;
        if let Kind::Person(terminal) = &mut self.of {
            terminal.ask_no_more();
        }
    }

    /// Waits until everything is printed, at most this long, and gives the terminal back.
    pub(super) async fn end(mut self, longest: Duration) {
        self.take_no_more();
        match self.of {
            Kind::Person(terminal) => terminal.end(longest).await,
            Kind::Lines { printer, .. } => {
                let _ = timeout(longest, printer.end()).await;
            }
        }
    }
}
