use super::{Content, Limits, MessageId, Rejection, RoomId, Username, command::Fields};

/// What somebody says over HTTP: the body of a request, or one item of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "docs/api.md documents each field")]
pub struct Post<'a> {
    pub room: Option<RoomId>,
    pub username: Option<Username>,
    pub content: Content<'a>,
    pub id: Option<MessageId>,
}

impl<'a> Post<'a> {
    /// Reads a message in JSON. Unknown fields are ignored, and `null` counts as left out.
    ///
    /// # Errors
    /// The first mistake, in the words of an `error` on the WebSocket.
    pub fn decode(json: &'a str, limits: &Limits) -> Result<Self, Rejection> {
        Self::read(json, limits, |fields| fields.content(limits))
    }

    /// The same for a signal.
    ///
    /// # Errors
    /// See [`decode`](Self::decode).
    pub fn decode_signal(json: &'a str, limits: &Limits) -> Result<Self, Rejection> {
        Self::read(json, limits, |fields| fields.signal(limits))
    }

    fn read(
        json: &'a str,
        limits: &Limits,
        content: impl Fn(&Fields<'a>) -> Result<Content<'a>, Rejection>,
    ) -> Result<Self, Rejection> {
        let fields = Fields::read(json)?;
        fields.told(limits, |fields| {
            Ok(Self {
                room: fields.optional_room(limits)?,
                username: fields.optional_username(limits)?,
                id: fields.optional_id(limits)?,
                content: content(&fields)?,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ErrorCode;

    const LIMITS: Limits = Limits { room: 9, username: 9, id: 9, text: 9 };

    #[test]
    fn a_post_is_checked_like_a_command() {
        let post = Post::decode(r#"{"room":"a","username":"ann","text":"hi","id":"7","x":1}"#, &LIMITS).unwrap();
        assert_eq!((post.room.unwrap().as_str(), post.content), ("a", "hi".into()));
        assert!(Post::decode(r#"{"data":[1]}"#, &LIMITS).unwrap().username.is_none());
        for (json, code) in [
            ("[]", ErrorCode::BadJson),
            ("{", ErrorCode::BadJson),
            ("{}", ErrorCode::MissingField),
            (r#"{"text":"0123456789"}"#, ErrorCode::TextTooLong),
            (r#"{"text":7,"id":"7"}"#, ErrorCode::BadField),
            (r#"{"text":"x","username":" "}"#, ErrorCode::BadUsername),
        ] {
            assert_eq!(Post::decode(json, &LIMITS).unwrap_err().code, code, "{json}");
        }
        assert_eq!(Post::decode(r#"{"text":7,"id":"7"}"#, &LIMITS).unwrap_err().id.unwrap().as_str(), "7");
    }
}
