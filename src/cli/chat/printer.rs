use std::{
    io::{self, Write},
    thread::{JoinHandle, spawn},
};

use tokio::sync::mpsc;

/// Lines that are not written yet; when there are more, the chat waits, and in the end the server does.
const LINES: usize = 256;

/// A line for the user.
#[derive(Debug)]
pub(super) enum Line {
    /// Something that was heard.
    Heard(String),
    /// Something about the chat itself.
    Note(String),
}

/// Writes lines on its own thread, so that a slow reader delays nothing else.
#[derive(Debug)]
pub(super) struct Printer {
    lines: mpsc::Sender<Line>,
    thread: JoinHandle<()>,
}

impl Printer {
    /// A printer that calls `write` for each line, until that fails.
    pub(super) fn start(mut write: impl FnMut(Line) -> io::Result<()> + Send + 'static) -> Self {
        let (lines, mut to_write) = mpsc::channel(LINES);
        let thread = spawn(move || while to_write.blocking_recv().is_some_and(|line| write(line).is_ok()) {});
        Self { lines, thread }
    }

    /// A printer that writes what was heard to standard output, and the rest to standard error.
    pub(super) fn plain() -> Self {
        Self::start(|line| match line {
            Line::Heard(line) => writeln!(io::stdout(), "{line}"),
            Line::Note(line) => writeln!(io::stderr(), "{line}"),
        })
    }

    /// Whether a line must wait.
    pub(super) fn is_full(&self) -> bool {
        self.lines.capacity() == 0
    }

    /// Waits until there is room for a line; fails if nobody can read it any more.
    pub(super) async fn room(&self) -> io::Result<mpsc::Permit<'_, Line>> {
        let closed = || io::Error::new(io::ErrorKind::BrokenPipe, "standard output is closed");
        self.lines.reserve().await.map_err(|_| closed())
    }

    /// Waits until all is written.
    pub(super) async fn end(self) {
        drop(self.lines);
        // The thread ends with its last line.
        let _ = tokio::task::spawn_blocking(|| self.thread.join()).await;
    }
}
