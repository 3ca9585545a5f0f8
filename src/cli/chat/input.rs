use std::{
    fmt::Display,
    io::{self, BufRead, Read},
    thread::spawn,
};

use tokio::sync::mpsc;

/// Lines that were read but not handled yet.
const LINES: usize = 16;

/// Longest line to read. Servers accept only much shorter ones.
const LONGEST: u64 = 1 << 20;

/// Input from the user.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Typed {
    Line(String),
    /// The end of the input.
    End,
    /// Ctrl-C was pressed.
    Interrupted,
    Failed(String),
}

impl Typed {
    pub(super) fn failed(why: impl Display) -> Self {
        Self::Failed(format!("what you type cannot be read: {why}"))
    }
}

/// The lines of standard input. Reading it blocks, so a thread does that; it ends with the program.
pub(super) fn lines() -> mpsc::Receiver<Typed> {
    let (sender, receiver) = mpsc::channel(LINES);
    spawn(move || {
        let mut input = io::stdin().lock();
        for number in 1.. {
            let line = read(&mut input, number);
            let is_last = !matches!(line, Typed::Line(_));
            if sender.blocking_send(line).is_err() || is_last {
                return;
            }
        }
    });
    receiver
}

fn read(input: &mut impl BufRead, number: u64) -> Typed {
    let mut line = Vec::new();
    match input.take(LONGEST + 1).read_until(b'\n', &mut line) {
        Ok(0) => Typed::End,
        Ok(length) if length as u64 > LONGEST => Typed::Failed(format!("line {number} is longer than 1 MiB")),
        Ok(_) => {
            let line = line.strip_suffix(b"\n").unwrap_or(&line);
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let text = std::str::from_utf8(line).map(str::to_owned);
            text.map_or_else(|_| Typed::Failed(format!("line {number} is not UTF-8")), Typed::Line)
        }
        Err(error) => Typed::failed(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(mut input: &[u8]) -> Vec<Typed> {
        let mut typed = vec![read(&mut input, 1)];
        while let Some(Typed::Line(_)) = typed.last() {
            typed.push(read(&mut input, typed.len() as u64 + 1));
        }
        typed
    }

    #[test]
    fn lines_end_as_files_end_them() {
        let line = |text: &str| Typed::Line(text.to_owned());
        assert_eq!(all(b"a\r\n\nb"), [line("a"), line(""), line("b"), Typed::End]);
    }

    #[test]
    fn a_line_that_cannot_be_said_is_named() {
        assert_eq!(all(b"a\n\xff\n")[1], Typed::Failed("line 2 is not UTF-8".into()));
        let long = vec![b'x'; LONGEST as usize + 1];
        assert_eq!(all(&long), [Typed::Failed("line 1 is longer than 1 MiB".into())]);
    }
}
