use std::io::{IsTerminal, Write, stdout};

/// How something looks.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Style {
    Bold,
    Dim,
    Good,
    Bad,
}

/// Where the story is told: lines that stay, and on a terminal a last one that changes.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    is_terminal: bool,
    has_colours: bool,
}

impl Screen {
    /// Standard output.
    pub fn new() -> Self {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_terminal = stdout().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        Self { is_terminal, has_colours: is_terminal && !is_set("NO_COLOR") }
    }

    /// A text in a style, where there are any.
    pub fn paint(self, style: Style, text: &str) -> String {
        let code = match style {
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Good => "32",
            Style::Bad => "1;31",
        };
        if self.has_colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// Prints lines that stay.
    pub fn say(self, text: &str) {
        self.write(&format!("{}{text}\n", self.clear()));
    }

    /// Replaces the last line, which the next one that stays takes the place of. Only on a terminal.
    pub fn live(self, text: &str) {
        if self.is_terminal {
            self.write(&format!("{}{}", self.clear(), self.paint(Style::Dim, text)));
        }
    }

    fn clear(self) -> &'static str {
        if self.is_terminal { "\r\x1b[K" } else { "" }
    }

    fn write(self, text: &str) {
        let mut out = stdout().lock();
        // Whoever reads this may have seen enough.
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}
