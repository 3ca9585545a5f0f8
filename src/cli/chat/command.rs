/// The meaning of a typed line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    Say(&'a str),
    Join(&'a str),
    Leave,
    Last(u64),
    Quit,
    Help,
    /// An unknown or wrong command, and what is wrong with it.
    Wrong(String),
}

pub(super) const HELP: [&str; 7] = [
    "/join ROOM   come into another room, or speak in one that you are in",
    "/leave       leave the room that you speak in",
    "/last 20     show its last 20 messages, 100 at most",
    "/quit        end, as Ctrl-D does; Ctrl-C ends without waiting for what is not kept yet",
    "/help        show this",
    "//text       say /text",
    "Anything else is said in the room that stands before what you type.",
];

impl<'a> Command<'a> {
    pub(super) fn read(line: &'a str) -> Self {
        let Some(command) = line.strip_prefix('/') else { return Self::Say(line) };
        if command.starts_with('/') {
            return Self::Say(command);
        }
        let (name, rest) = command.split_once(char::is_whitespace).unwrap_or((command, ""));
        match (name, rest.trim()) {
            ("join", "") => Self::Wrong("/join needs a room, as in `/join lobby`".to_owned()),
            ("join", room) => Self::Join(room),
            ("leave", "") => Self::Leave,
            ("leave", _) => {
                Self::Wrong("/leave leaves the room that you speak in; `/join` another one first".to_owned())
            }
            ("last", "") => Self::Last(20),
            ("last", count) => match count.parse() {
                Ok(count @ 1..) => Self::Last(count),
                _ => Self::Wrong(format!("/last needs a number, as in `/last 20`, not {count:?}")),
            },
            ("quit", "") => Self::Quit,
            ("help", _) => Self::Help,
            _ => Self::Wrong(format!(
                "there is no /{name}; /help says what there is, and //{name} would say it in the room"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_text_or_a_command() {
        for (line, command) in [
            ("hello /quit", Command::Say("hello /quit")),
            (" /quit", Command::Say(" /quit")),
            ("//quit", Command::Say("/quit")),
            ("/join  den ", Command::Join("den")),
            ("/leave", Command::Leave),
            ("/last", Command::Last(20)),
            ("/last 5", Command::Last(5)),
            ("/quit", Command::Quit),
            ("/help", Command::Help),
        ] {
            assert_eq!(Command::read(line), command, "{line}");
        }
        for line in ["/join", "/leave den", "/last 0", "/last -1", "/last many", "/Quit", "/", "/quit now"] {
            assert!(matches!(Command::read(line), Command::Wrong(_)), "{line}");
        }
    }
}
