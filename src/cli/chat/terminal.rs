use std::{
    io::{self, Write},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc as threads,
    },
    thread::{sleep, spawn},
    time::{Duration, Instant},
};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use rustyline::{
    Config, Context, Editor, ExternalPrinter, GraphemeClusterMode, Helper,
    completion::Completer,
    error::ReadlineError,
    highlight::Highlighter,
    hint::Hinter,
    history::DefaultHistory,
    validate::{ValidationContext, ValidationResult, Validator},
};
use tokio::{sync::mpsc, time::timeout};
use unicode_segmentation::UnicodeSegmentation;

use super::{
    input::Typed,
    printer::{Line, Printer},
};

/// Lines to keep in the editor's history.
const HISTORY: usize = 1000;

/// The width of tabs, for the editor and for counting its rows.
const TAB: u8 = 8;

/// How long an entered line waits for a print that has begun. A longer print itself waits for the next line to be
/// edited, and nothing is printed meanwhile.
const BEGUN_PRINT: Duration = Duration::from_millis(50);

/// A terminal with a line to edit at the bottom, and everything else above it.
#[derive(Debug)]
pub(super) struct Terminal {
    pub(super) printer: Printer,
    pub(super) typed: mpsc::Receiver<Typed>,
    /// The prompt of the next line; sending it asks for that line.
    prompts: Option<threads::Sender<String>>,
    is_reading: Arc<AtomicBool>,
    as_it_was: Termios,
}

impl Terminal {
    /// Takes over the terminal; `None` if there is none, or if it cannot move its cursor.
    pub(super) fn take() -> Option<Self> {
        let as_it_was = tcgetattr(io::stdin()).ok()?;
        let config = Config::builder().max_history_size(HISTORY).ok()?.auto_add_history(true).tab_stop(TAB).build();
        let mode = config.grapheme_cluster_mode();
        let gate = Arc::new(Gate::default());
        let mut editor: Editor<Watch, DefaultHistory> = Editor::with_config(config).ok()?;
        editor.set_helper(Some(Watch(gate.clone())));
        let mut above = editor.create_external_printer().ok()?;

        // What is typed between two lines must not show before the next prompt.
        let mut quiet = as_it_was.clone();
        quiet.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON);
        tcsetattr(io::stdin(), OptionalActions::Now, &quiet).ok()?;

        let printer = Printer::start({
            let gate = gate.clone();
            move |(Line::Heard(line) | Line::Note(line))| {
                gate.pass(|| above.print(line + "\n").map_err(io::Error::other))
            }
        });
        let is_reading = Arc::new(AtomicBool::new(false));
        let (typed, lines) = mpsc::channel(1);
        let (prompts, asked) = threads::channel::<String>();
        spawn({
            let is_reading = is_reading.clone();
            move || {
                for prompt in asked {
                    is_reading.store(true, Ordering::SeqCst);
                    let line = editor.readline(&prompt);
                    is_reading.store(false, Ordering::SeqCst);
                    let line = match line {
                        Ok(line) => {
                            erase(&format!("{prompt}{line}"), mode).map_or_else(Typed::failed, |()| Typed::Line(line))
                        }
                        Err(ReadlineError::Eof) => Typed::End,
                        Err(ReadlineError::Interrupted) => Typed::Interrupted,
                        Err(error) => Typed::failed(error),
                    };
                    if typed.blocking_send(line).is_err() {
                        break;
                    }
                }
                gate.open_for_good();
            }
        });
        Some(Self { printer, typed: lines, prompts: Some(prompts), is_reading, as_it_was })
    }

    /// Starts editing the next line, with this prompt.
    pub(super) fn ask(&self, prompt: String) {
        // Without the thread there is nothing to ask, and its end was reported.
        let _ = self.prompts.as_ref().map(|prompts| prompts.send(prompt));
    }

    /// No other line will be edited, so printing needs no place above one.
    pub(super) fn ask_no_more(&mut self) {
        self.prompts = None;
    }

    /// Gives the terminal back, once everything is printed or after this time.
    pub(super) async fn end(self, longest: Duration) {
        let Self { printer, typed, prompts, is_reading, as_it_was } = self;
        drop((prompts, typed));
        let _ = timeout(longest, printer.end()).await;
        if is_reading.load(Ordering::SeqCst) {
            // The editor is still editing a line, and cannot be stopped.
            let _ = io::stdout().write_all(b"\x1b[?2004l\r\n");
            let _ = io::stdout().flush();
        }
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &as_it_was);
    }
}

/// Removes an entered line, because a message is shown once it is kept.
fn erase(line: &str, mode: GraphemeClusterMode) -> io::Result<()> {
    let columns = usize::from(tcgetwinsize(io::stdout())?.ws_col).max(1);
    let rows = rows(line, columns, |character| usize::from(mode.width(character)));
    let mut out = io::stdout();
    write!(out, "\x1b[{rows}A\r\x1b[J")?;
    out.flush()
}

/// How many rows the editor used for a line, and moved down to leave it.
fn rows(line: &str, columns: usize, width: impl Fn(&str) -> usize) -> usize {
    let (mut row, mut column) = (1, 0);
    for character in line.graphemes(true) {
        let width = match character {
            "\n" => {
                (row, column) = (row + 1, 0);
                continue;
            }
            "\t" => usize::from(TAB) - column % usize::from(TAB),
            other => width(other),
        };
        column += width;
        if column > columns {
            (row, column) = (row + 1, width);
        }
    }
    // The editor goes to the next row as soon as one is full.
    row + usize::from(column == columns)
}

/// Allows printing only while the editor can put lines above what it edits, and not while an entered line is being
/// removed.
#[derive(Debug, Default)]
struct Gate {
    is_open: AtomicBool,
    /// Held while something is printed.
    printing: Mutex<()>,
    opened: Condvar,
}

impl Gate {
    fn pass(&self, print: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let printing = self.printing.lock().unwrap_or_else(PoisonError::into_inner);
        let is_shut = |(): &mut ()| !self.is_open.load(Ordering::SeqCst);
        let _printing = self.opened.wait_while(printing, is_shut).unwrap_or_else(PoisonError::into_inner);
        print()
    }

    fn open(&self) {
        if !self.is_open.swap(true, Ordering::SeqCst) {
            self.opened.notify_all();
        }
    }

    /// The editor has ended, so printing goes to no place above it.
    fn open_for_good(&self) {
        let _printing = self.printing.lock().unwrap_or_else(PoisonError::into_inner);
        self.open();
    }

    fn shut(&self) {
        self.is_open.store(false, Ordering::SeqCst);
        let start = Instant::now();
        while self.printing.try_lock().is_err() && start.elapsed() < BEGUN_PRINT {
            sleep(Duration::from_millis(1));
        }
    }
}

/// Notices when the editor begins a line, and when the line is entered.
struct Watch(Arc<Gate>);

impl Hinter for Watch {
    type Hint = String;

    fn hint(&self, _: &str, _: usize, _: &Context<'_>) -> Option<String> {
        self.0.open();
        None
    }
}

impl Validator for Watch {
    fn validate(&self, _: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        self.0.shut();
        Ok(ValidationResult::Valid(None))
    }
}

impl Completer for Watch {
    type Candidate = String;
}

impl Highlighter for Watch {}

impl Helper for Watch {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_as_the_editor_draws_them() {
        for (line, count) in [
            ("", 1),
            ("> 1234567", 1),
            ("> 12345678", 2),
            ("> 123456789", 2),
            ("> 123456781234567890", 3),
            ("> a\nb\nc", 3),
            ("> 1234567日本", 2),
            ("日本日本日", 2),
            ("\ta", 1),
            ("\tab", 2),
        ] {
            let width = |character: &str| if character.is_ascii() { 1 } else { 2 };
            assert_eq!(rows(line, 10, width), count, "{line:?}");
        }
    }

    #[test]
    fn nothing_is_printed_while_a_line_is_taken_away() {
        let gate = Arc::new(Gate::default());
        let printed = Arc::new(AtomicBool::new(false));
        gate.open();
        gate.shut();
        let print = {
            let (gate, printed) = (gate.clone(), printed.clone());
            spawn(move || {
                gate.pass(|| {
                    printed.store(true, Ordering::SeqCst);
                    Ok(())
                })
            })
        };
        sleep(Duration::from_millis(20));
        assert!(!printed.load(Ordering::SeqCst));
        gate.open_for_good();
        print.join().unwrap().unwrap();
        assert!(printed.load(Ordering::SeqCst));
    }
}
