use std::sync::LazyLock;

use super::{Client, Dialect, Field, Heard, append};

static TYPE: LazyLock<Field> = LazyLock::new(|| Field::after(r#""type":""#));
static TEXT: LazyLock<Field> = LazyLock::new(|| Field::after(r#""text":""#));
static CODE: LazyLock<Field> = LazyLock::new(|| Field::after(r#""code":""#));

/// The protocol of `docs/protocol.md`, for every server that speaks it.
///
/// It expects JSON without blanks between tokens, which is what encoders write by default.
#[derive(Clone, Copy, Debug, Default)]
pub struct Roomcast {
    /// Whether clients offer the subprotocol, and so get slim frames.
    pub is_slim: bool,
}

impl Dialect for Roomcast {
    fn path(&self) -> &str {
        "/ws"
    }

    fn subprotocol(&self) -> Option<&str> {
        self.is_slim.then_some("roomcast.v1")
    }

    fn open(&self, client: Client<'_>, texts: &mut Vec<String>) {
        let mut join = String::new();
        self.join(client, client.room, &mut join);
        texts.push(join);
    }

    fn hear<'a>(&self, _client: Client<'_>, text: &'a [u8], heard: &mut dyn FnMut(Heard<'a>)) {
        match TYPE.find(text) {
            Some(b"message") => {
                if let Some(body) = TEXT.find(text) {
                    heard(Heard::Delivery(body));
                }
            }
            Some(b"joined") => heard(Heard::Joined),
            Some(b"left") => heard(Heard::Left),
            Some(b"error") => {
                let code = CODE.find(text).unwrap_or(text);
                heard(Heard::Refused(String::from_utf8_lossy(code).into_owned()));
            }
            _ => {}
        }
    }

    fn say(&self, room: &str, body: &str, text: &mut String) {
        append(text, format_args!(r#"{{"type":"message","room":"{room}","text":"{body}"}}"#));
    }

    fn join(&self, client: Client<'_>, room: &str, text: &mut String) {
        let number = client.number;
        append(text, format_args!(r#"{{"type":"join","room":"{room}","username":"load-{number}"}}"#));
    }

    fn leave(&self, _client: Client<'_>, room: &str, text: &mut String) {
        append(text, format_args!(r#"{{"type":"leave","room":"{room}"}}"#));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const CLIENT: Client<'static> = Client { number: 7, room: "load-1" };

    fn heard(text: &str) -> Vec<Heard<'_>> {
        let mut all = Vec::new();
        Roomcast::default().hear(CLIENT, text.as_bytes(), &mut |heard| all.push(heard));
        all
    }

    #[test]
    fn what_the_server_says_is_understood() {
        let message = r#"{"epoch":"8f3a1c5d9e7b2046","seq":42,"ts":1,"originServer":"a","type":"message","room":"r","username":"ann","text":"1.2.3.xx"}"#;
        assert_eq!(heard(message), [Heard::Delivery(b"1.2.3.xx")]);
        assert_eq!(
            heard(r#"{"type":"joined","room":"r","epoch":"8f3a1c5d9e7b2046","seq":1,"members":2}"#),
            [Heard::Joined]
        );
        assert_eq!(heard(r#"{"type":"left","room":"r"}"#), [Heard::Left]);
        let refused = r#"{"type":"error","code":"not_member","message":"no \"text\":\"x\" here"}"#;
        assert_eq!(heard(refused), [Heard::Refused("not_member".to_owned())]);
        assert_eq!(heard(r#"{"type":"reset","room":"r","reason":"new_epoch"}"#), []);
        assert_eq!(heard("not even JSON"), []);
    }

    #[test]
    fn what_it_says_is_json() {
        let mut texts = Vec::new();
        let roomcast = Roomcast::default();
        roomcast.open(CLIENT, &mut texts);
        texts.resize(3, String::new());
        roomcast.say("load-1", "1.2.3.xx", &mut texts[1]);
        roomcast.leave(CLIENT, "load-1", &mut texts[2]);
        let said: Vec<Value> = texts.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        assert_eq!(
            said,
            [
                json!({"type": "join", "room": "load-1", "username": "load-7"}),
                json!({"type": "message", "room": "load-1", "text": "1.2.3.xx"}),
                json!({"type": "leave", "room": "load-1"}),
            ]
        );
    }
}
