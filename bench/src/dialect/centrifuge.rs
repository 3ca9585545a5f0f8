use roomcast_load::{Client, Dialect, Heard, append};

use super::TEXT;

/// The JSON protocol of Centrifugo and of its library. A text may have several replies and pushes, one a line.
///
/// A reply bears the number of its command; each kind of command has one of its own here, and needs no more.
#[derive(Clone, Copy, Debug)]
pub struct Centrifuge;

impl Dialect for Centrifuge {
    fn path(&self) -> &str {
        "/connection/websocket"
    }

    fn open(&self, client: Client<'_>, texts: &mut Vec<String>) {
        let mut subscribe = String::new();
        self.join(client, client.room, &mut subscribe);
        texts.extend([r#"{"id":1,"connect":{}}"#.to_owned(), subscribe]);
    }

    fn hear<'a>(&self, _client: Client<'_>, text: &'a [u8], heard: &mut dyn FnMut(Heard<'a>)) {
        for line in text.split(|byte| *byte == b'\n') {
            hear_line(line, heard);
        }
    }

    fn say(&self, room: &str, body: &str, text: &mut String) {
        append(
            text,
            format_args!(
                r#"{{"id":3,"publish":{{"channel":"{room}","data":{{"type":"message","username":"load","text":"{body}"}}}}}}"#
            ),
        );
    }

    fn join(&self, _client: Client<'_>, room: &str, text: &mut String) {
        append(text, format_args!(r#"{{"id":2,"subscribe":{{"channel":"{room}"}}}}"#));
    }

    fn leave(&self, _client: Client<'_>, room: &str, text: &mut String) {
        append(text, format_args!(r#"{{"id":4,"unsubscribe":{{"channel":"{room}"}}}}"#));
    }
}

fn hear_line<'a>(line: &'a [u8], heard: &mut dyn FnMut(Heard<'a>)) {
    if line.starts_with(br#"{"push":"#) {
        if let Some(body) = TEXT.find(line) {
            heard(Heard::Delivery(body));
        }
    } else if line.starts_with(br#"{"id":2,"subscribe""#) {
        heard(Heard::Joined);
    } else if line.starts_with(br#"{"id":4,"unsubscribe""#) {
        heard(Heard::Left);
    } else if line == b"{}" {
        // A ping is an empty reply, and a pong an empty command.
        heard(Heard::Answer("{}".to_owned()));
    } else if memchr::memmem::find(line, br#""error":"#).is_some() {
        heard(Heard::Refused(String::from_utf8_lossy(line).into_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(text: &str) -> Vec<Heard<'_>> {
        let mut all = Vec::new();
        Centrifuge.hear(Client { number: 7, room: "r" }, text.as_bytes(), &mut |heard| all.push(heard));
        all
    }

    #[test]
    fn each_line_of_a_text_counts() {
        let text = concat!(
            r#"{"push":{"channel":"r","pub":{"data":{"text":"1.2.3.x"},"offset":1}}}"#,
            "\n",
            r#"{"id":3,"publish":{}}"#,
            "\n",
            r#"{"push":{"channel":"r","pub":{"data":{"text":"1.3.4.x"},"offset":2}}}"#,
        );
        assert_eq!(heard(text), [Heard::Delivery(b"1.2.3.x"), Heard::Delivery(b"1.3.4.x")]);
    }

    #[test]
    fn replies_and_pings_are_understood() {
        assert_eq!(heard(r#"{"id":1,"connect":{"client":"c","ping":25,"pong":true}}"#), []);
        assert_eq!(heard(r#"{"id":2,"subscribe":{"recoverable":true}}"#), [Heard::Joined]);
        assert_eq!(heard(r#"{"id":4,"unsubscribe":{}}"#), [Heard::Left]);
        assert_eq!(heard("{}"), [Heard::Answer("{}".to_owned())]);
        let refused = r#"{"id":2,"error":{"code":105,"message":"already subscribed"}}"#;
        assert_eq!(heard(refused), [Heard::Refused(refused.to_owned())]);
    }
}
