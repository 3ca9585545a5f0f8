/// Most bytes of an id as written in JSON; a longer one would not fit into a close frame.
const LONGEST: usize = 6 * super::wire::REASON;

/// Finds the `id` of an oversized message, so that its sender can be told which message it was.
///
/// It reads JSON as a stream, and keeps at most one name or id.
#[derive(Debug)]
pub(super) struct Oversized {
    /// How many more bytes are worth reading.
    patience: usize,
    id: Option<String>,
    depth: usize,
    is_in_string: bool,
    is_escaped: bool,
    /// Behind a colon of the outermost object.
    is_value: bool,
    /// The last name in the outermost object was `id`.
    is_id: bool,
    /// The string of the outermost object that is being read.
    string: Vec<u8>,
}

impl Oversized {
    /// Reads at most `patience` bytes.
    pub(super) fn new(patience: usize) -> Self {
        Self {
            patience,
            id: None,
            depth: 0,
            is_in_string: false,
            is_escaped: false,
            is_value: false,
            is_id: false,
            string: Vec::new(),
        }
    }

    /// Whether reading on is useless.
    pub(super) fn is_done(&self) -> bool {
        self.id.is_some() || self.patience == 0
    }

    /// Goes on with the next bytes of the message.
    pub(super) fn scan(&mut self, bytes: &[u8]) {
        self.patience = self.patience.saturating_sub(bytes.len());
        for byte in bytes {
            if self.is_in_string {
                self.within_string(*byte);
            } else {
                self.outside(*byte);
            }
        }
    }

    /// The message's id, if it was found.
    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    fn outside(&mut self, byte: u8) {
        match byte {
            b'"' => {
                self.is_in_string = true;
                self.string.clear();
            }
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            b':' if self.depth == 1 => self.is_value = true,
            b',' if self.depth == 1 => (self.is_value, self.is_id) = (false, false),
            _ => {}
        }
    }

    fn within_string(&mut self, byte: u8) {
        if byte == b'"' && !self.is_escaped {
            self.is_in_string = false;
            if self.depth == 1 {
                self.ended();
            }
            return;
        }
        self.is_escaped = byte == b'\\' && !self.is_escaped;
        if self.depth == 1 && self.string.len() <= LONGEST {
            self.string.push(byte);
        }
    }

    /// A string of the outermost object is complete.
    fn ended(&mut self) {
        if !self.is_value {
            self.is_id = self.string == b"id";
        } else if self.is_id && self.id.is_none() && self.string.len() <= LONGEST {
            let quoted = [b"\"", &self.string[..], b"\""].concat();
            let id: Option<String> = serde_json::from_slice(&quoted).ok();
            self.id = id.filter(|id| !id.chars().any(char::is_control));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It may arrive in any pieces.
    fn id(text: &str) -> Option<String> {
        let ids: Vec<_> = [1, 2, 7, text.len().max(1)]
            .map(|size| {
                let mut oversized = Oversized::new(1000);
                text.as_bytes().chunks(size).for_each(|chunk| oversized.scan(chunk));
                oversized.id().map(str::to_owned)
            })
            .into();
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        ids[0].clone()
    }

    #[test]
    fn the_id_is_found_wherever_it_stands() {
        for text in [
            r#"{"id":"m-1","text":"xxxx"#,
            r#" { "text" : "a \"id\":\"no\", \\" , "id" : "m-1" "#,
            r#"{"x":{"id":"no"},"y":["id",":"],"id":"m-1"}"#,
            r#"{"id":"m\u002d1"}"#,
            r#"{"type":"id","id":"m-1","id":"second"}"#,
        ] {
            assert_eq!(id(text).as_deref(), Some("m-1"), "{text}");
        }
    }

    #[test]
    fn what_is_no_id_is_not_taken_for_one() {
        let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(LONGEST + 1));
        for text in [
            "",
            r#"{"id":7,"room":"a"}"#,
            r#"{"id":"m-1"#,
            r#"{"id":"a\u0000"}"#,
            r#"{"id":"\ud800"}"#,
            r#"["id","m-1"]"#,
            r#"{"text":"id","room":"a"}"#,
            "}}}{\"\u{7f}\\",
            &long,
        ] {
            assert_eq!(id(text), None, "{text}");
        }
    }
}
