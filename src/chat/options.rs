use std::time::Duration;

use tokio_tungstenite::tungstenite::http::{Uri, uri::PathAndQuery};

/// Where a server listens unless told otherwise.
const URL: &str = "ws://127.0.0.1:8080/ws";

/// How long the first answer of a server may take, and how long nothing may be acknowledged in a script.
const FIRST: Duration = Duration::from_secs(10);
const ACKS: Duration = Duration::from_secs(120);

/// How many of the last messages a person is shown first.
const LAST: u64 = 10;

pub(crate) const HELP: &str = "\
roomcast chat: talk in a room from the terminal

Usage: roomcast chat [OPTIONS] ROOM USERNAME [URL]

URL is that of any server, such as ws://127.0.0.1:8080 (which it is without one), wss://chat.example.com or
127.0.0.1:8081; http and https are taken for ws and wss, and without a path it is /ws. The certificates that the system
trusts are trusted, or those in the file that SSL_CERT_FILE names.

In a terminal, what you type is said in the room when you press Enter; /help says what else can be typed. The connection
comes back by itself, and nothing is missed meanwhile.

Without a terminal, each line of standard input is said in the room. The program ends when all lines are acknowledged,
with 0, or with 1 if some could not be. What is heard meanwhile goes to standard output, all else to standard error.

Options:
  --last N           Begin with the last N messages of the room, 100 at most; 10 in a terminal, and else none
  --json             Write every frame of the server as a line of JSON, and each change of state as one, too; what you
                     type stays plain text
  --timeout SECONDS  Give up when no server has answered for so long at the beginning (10), or when input is no terminal
                     and nothing has been acknowledged for so long (120)
  --help             Print this text

NO_COLOR=1 turns colours off.
";

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Options {
    pub(super) room: String,
    pub(super) username: String,
    pub(super) url: String,
    pub(super) json: bool,
    /// `None` is as the input wants it.
    pub(super) last: Option<u64>,
    pub(super) first_answer: Duration,
    pub(super) next_ack: Duration,
}

impl Options {
    /// Reads the arguments after `chat`; `None` if they ask for help.
    ///
    /// # Errors
    /// What is wrong with them, and how they should be.
    pub(crate) fn parse(arguments: &[&str]) -> Result<Option<Self>, String> {
        let (mut words, mut json, mut last, mut timeout) = (Vec::new(), false, None, None);
        let mut arguments = arguments.iter().copied();
        let mut only_words = false;
        while let Some(argument) = arguments.next() {
            let mut number = |least: u64| {
                let value = arguments.next().unwrap_or_default();
                let number = value.parse().ok().filter(|number| *number >= least);
                number.ok_or_else(|| format!("{argument} takes a number, such as `{argument} 20`, not {value:?}"))
            };
            match argument {
                _ if only_words => words.push(argument),
                "--help" | "-h" => return Ok(None),
                "--" => only_words = true,
                "--json" => json = true,
                "--last" => last = Some(number(0)?),
                "--timeout" => timeout = Some(Duration::from_secs(number(1)?)),
                option if option.starts_with("--") => return Err(format!("there is no option {option}")),
                word => words.push(word),
            }
        }
        let (room, username, url) = match words[..] {
            [room, username] => (room, username, URL),
            [room, username, url] => (room, username, url),
            [] => return Err("it needs a room and your name, as in `roomcast chat lobby ann`".to_owned()),
            [room] => return Err(format!("it needs your name after the room, as in `roomcast chat {room} ann`")),
            [_, _, _, more, ..] => {
                return Err(format!("{more:?} is one too many; a name with blanks is written as \"Ann B.\""));
            }
        };
        Ok(Some(Self {
            room: room.to_owned(),
            username: username.to_owned(),
            url: address(url)?,
            json,
            last,
            first_answer: timeout.unwrap_or(FIRST),
            next_ack: timeout.unwrap_or(ACKS),
        }))
    }

    /// How many of the last messages of a room to begin with.
    pub(super) fn last(&self, is_person: bool) -> u64 {
        self.last.unwrap_or(if is_person { LAST } else { 0 })
    }
}

/// The URL of the WebSocket that somebody means.
fn address(text: &str) -> Result<String, String> {
    let wrong =
        || format!("{text:?} is no URL of a server; write it like ws://127.0.0.1:8080 or wss://chat.example.com");
    let full = if text.contains("://") { text.to_owned() } else { format!("ws://{text}") };
    let uri: Uri = full.parse().map_err(|_| wrong())?;
    let scheme = match uri.scheme_str() {
        Some("ws" | "http") => "ws",
        Some("wss" | "https") => "wss",
        _ => return Err(wrong()),
    };
    let authority = uri.authority().ok_or_else(wrong)?;
    let port = authority.as_str().rsplit_once(authority.host()).map_or("", |(_, port)| port);
    if authority.host().is_empty() || (!port.is_empty() && authority.port_u16().is_none()) {
        return Err(wrong());
    }
    let path = match uri.path_and_query().map_or("/", PathAndQuery::as_str) {
        "/" => "/ws",
        path => path,
    };
    Ok(format!("{scheme}://{authority}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_found_however_it_is_written() {
        for (text, url) in [
            ("ws://127.0.0.1:8080/ws", "ws://127.0.0.1:8080/ws"),
            ("ws://127.0.0.1:8080", "ws://127.0.0.1:8080/ws"),
            ("ws://127.0.0.1:8080/", "ws://127.0.0.1:8080/ws"),
            ("http://localhost:8081", "ws://localhost:8081/ws"),
            ("https://chat.example.com/live", "wss://chat.example.com/live"),
            ("wss://chat.example.com", "wss://chat.example.com/ws"),
            ("127.0.0.1:8081", "ws://127.0.0.1:8081/ws"),
            ("localhost:8081", "ws://localhost:8081/ws"),
            ("localhost", "ws://localhost/ws"),
            ("[::1]:8080", "ws://[::1]:8080/ws"),
            ("ws://h/ws?token=a", "ws://h/ws?token=a"),
        ] {
            assert_eq!(address(text).as_deref(), Ok(url), "{text}");
        }
        for text in ["", "ftp://h", "ws://", "ws://:80", "a b", "ws://h:port"] {
            assert!(address(text).is_err_and(|why| why.contains("ws://127.0.0.1:8080")), "{text}");
        }
    }

    #[test]
    fn options_stand_anywhere() {
        let read = |arguments: &[&str]| Options::parse(arguments).expect("right").expect("no help");
        let options = read(&["--last", "5", "lobby", "--json", "ann", "h:1", "--timeout", "3"]);
        assert_eq!(
            (options.room.as_str(), options.username.as_str(), options.url.as_str()),
            ("lobby", "ann", "ws://h:1/ws")
        );
        assert!(options.json && options.last(true) == 5);
        assert_eq!((options.first_answer, options.next_ack), (Duration::from_secs(3), Duration::from_secs(3)));
        assert_eq!(read(&["--", "lobby", "--ann"]).username, "--ann");
        assert_eq!((read(&["l", "a"]).last(true), read(&["l", "a"]).last(false)), (LAST, 0));
        assert_eq!(Options::parse(&["lobby", "--help"]), Ok(None));
    }

    #[test]
    fn what_is_wrong_is_said_with_how_it_would_be_right() {
        for (arguments, says) in [
            (&[][..], "`roomcast chat lobby ann`"),
            (&["den"], "`roomcast chat den ann`"),
            (&["den", "Ann", "B.", "h:1"], "\"Ann B.\""),
            (&["den", "ann", "--color"], "--color"),
            (&["den", "ann", "--last"], "`--last 20`"),
            (&["den", "ann", "--timeout", "0"], "`--timeout 20`"),
        ] {
            let why = Options::parse(arguments).expect_err("wrong");
            assert!(why.contains(says), "{arguments:?}: {why}");
        }
    }
}
