use std::time::Duration;

use clap::Args;
use tokio_tungstenite::tungstenite::http::{Uri, uri::PathAndQuery};

/// Where a server listens by default.
const URL: &str = "ws://127.0.0.1:8080/ws";

/// How long a server's first answer may take, and how long a script may go without an acknowledgement.
const FIRST: Duration = Duration::from_secs(10);
const ACKS: Duration = Duration::from_secs(120);

/// How many of the last messages to show a person first.
const LAST: u64 = 10;

/// The command's options.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub(crate) struct Options {
    /// The room, such as lobby
    pub(super) room: String,
    /// Your name in the room; quote a name with spaces: "Ann B."
    pub(super) username: String,
    /// Any server: ws://127.0.0.1:8080, wss://chat.example.com or 127.0.0.1:8081
    ///
    /// http and https stand for ws and wss. Without a path, it is /ws.
    #[arg(default_value = URL, value_parser = address)]
    pub(super) url: String,
    /// Write every frame of the server, and each change of state, as a line of JSON; what you type stays plain text
    #[arg(long)]
    pub(super) json: bool,
    /// Begin with the last N messages of the room, 100 at most [default: 10 in a terminal, else 0]
    #[arg(long, value_name = "N")]
    pub(super) last: Option<u64>,
    /// Give up after this long without a first answer from a server [default: 10] or, if input is not a terminal,
    /// without an acknowledgement [default: 120]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    timeout: Option<u64>,
}

impl Options {
    /// How long a server's first answer may take.
    pub(super) fn first_answer(&self) -> Duration {
        self.timeout.map_or(FIRST, Duration::from_secs)
    }

    /// How long a script may go without an acknowledgement.
    pub(super) fn next_ack(&self) -> Duration {
        self.timeout.map_or(ACKS, Duration::from_secs)
    }

    /// How many of a room's last messages to begin with.
    pub(super) fn last(&self, is_person: bool) -> u64 {
        self.last.unwrap_or(if is_person { LAST } else { 0 })
    }
}

/// The URL of the WebSocket that an argument means.
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
    use clap::Parser;

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

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        options: Options,
    }

    fn read(arguments: &[&str]) -> Result<Options, clap::Error> {
        let words = ["chat"].iter().chain(arguments);
        Command::try_parse_from(words).map(|command| command.options)
    }

    #[test]
    fn options_stand_anywhere() {
        let options = read(&["--last", "5", "lobby", "--json", "ann", "h:1", "--timeout", "3"]).unwrap();
        assert_eq!(
            (options.room.as_str(), options.username.as_str(), options.url.as_str()),
            ("lobby", "ann", "ws://h:1/ws")
        );
        assert!(options.json && options.last(true) == 5);
        assert_eq!((options.first_answer(), options.next_ack()), (Duration::from_secs(3), Duration::from_secs(3)));
        assert_eq!(read(&["--", "lobby", "--ann"]).unwrap().username, "--ann");
        let options = read(&["l", "a"]).unwrap();
        assert_eq!((options.last(true), options.last(false), options.first_answer()), (LAST, 0, FIRST));
    }

    #[test]
    fn what_is_wrong_is_said_with_how_it_would_be_right() {
        for (arguments, says) in [
            (&[][..], "<ROOM>"),
            (&["den"], "<USERNAME>"),
            (&["den", "Ann", "B.", "h:1"], "unexpected argument 'h:1'"),
            (&["den", "ann", "ftp://h"], "ws://127.0.0.1:8080"),
            (&["den", "ann", "--jsn"], "'--json'"),
            (&["den", "ann", "--last"], "--last <N>"),
            (&["den", "ann", "--timeout", "0"], "--timeout <SECONDS>"),
        ] {
            let why = read(arguments).expect_err("wrong").to_string();
            assert!(why.contains(says), "{arguments:?}: {why}");
        }
    }
}
