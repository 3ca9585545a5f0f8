use roomcast_load::{Client, Dialect, Heard, append};

use super::TEXT;

/// Socket.IO 4 over Engine.IO 4, with the WebSocket transport alone. The first digit of a text is Engine.IO's kind of
/// packet, and after a 4 the second is Socket.IO's.
#[derive(Clone, Copy, Debug)]
pub struct SocketIo;

impl Dialect for SocketIo {
    fn path(&self) -> &str {
        "/socket.io/?EIO=4&transport=websocket"
    }

    /// The server speaks first.
    fn open(&self, _client: Client<'_>, _texts: &mut Vec<String>) {}

    fn hear<'a>(&self, client: Client<'_>, text: &'a [u8], heard: &mut dyn FnMut(Heard<'a>)) {
        match text {
            [b'4', b'2', event @ ..] => hear_event(event, heard),
            [b'2', ..] => heard(Heard::Answer("3".to_owned())),
            [b'0', ..] => heard(Heard::Answer("40".to_owned())),
            [b'4', b'0', ..] => {
                let mut join = String::new();
                self.join(client, client.room, &mut join);
                heard(Heard::Answer(join));
            }
            [b'1', ..] | [b'4', b'1' | b'4', ..] => {
                heard(Heard::Refused(String::from_utf8_lossy(text).into_owned()));
            }
            _ => {}
        }
    }

    fn say(&self, room: &str, body: &str, text: &mut String) {
        append(text, format_args!(r#"42["message",{{"room":"{room}","text":"{body}"}}]"#));
    }

    fn join(&self, client: Client<'_>, room: &str, text: &mut String) {
        let number = client.number;
        append(text, format_args!(r#"42["join",{{"room":"{room}","username":"load-{number}"}}]"#));
    }

    fn leave(&self, _client: Client<'_>, room: &str, text: &mut String) {
        append(text, format_args!(r#"42["leave",{{"room":"{room}"}}]"#));
    }
}

fn hear_event<'a>(event: &'a [u8], heard: &mut dyn FnMut(Heard<'a>)) {
    if event.starts_with(br#"["message","#) {
        if let Some(body) = TEXT.find(event) {
            heard(Heard::Delivery(body));
        }
    } else if event.starts_with(br#"["joined","#) {
        heard(Heard::Joined);
    } else if event.starts_with(br#"["left","#) {
        heard(Heard::Left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(text: &str) -> Vec<Heard<'_>> {
        let mut all = Vec::new();
        SocketIo.hear(Client { number: 7, room: "r" }, text.as_bytes(), &mut |heard| all.push(heard));
        all
    }

    #[test]
    fn a_connection_is_made_step_by_step_and_kept_by_pongs() {
        assert_eq!(heard(r#"0{"sid":"a","pingInterval":25000}"#), [Heard::Answer("40".to_owned())]);
        let join = r#"42["join",{"room":"r","username":"load-7"}]"#;
        assert_eq!(heard(r#"40{"sid":"b"}"#), [Heard::Answer(join.to_owned())]);
        assert_eq!(heard(r#"42["joined",{"room":"r"}]"#), [Heard::Joined]);
        assert_eq!(heard("2"), [Heard::Answer("3".to_owned())]);
    }

    #[test]
    fn events_are_understood() {
        assert_eq!(
            heard(r#"42["message",{"room":"r","username":"u","text":"1.2.3.x","ts":1}]"#),
            [Heard::Delivery(b"1.2.3.x")]
        );
        assert_eq!(heard(r#"42["left",{"room":"r"}]"#), [Heard::Left]);
        assert_eq!(heard(r#"44{"message":"no"}"#), [Heard::Refused(r#"44{"message":"no"}"#.to_owned())]);
    }
}
