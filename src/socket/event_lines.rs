use bytes::{BufMut, Bytes, BytesMut};

use crate::protocol::{Item, Position, RoomId};

/// A comment, which clients skip: it shows proxies and clients that the stream lives.
pub(super) const BEAT: Bytes = Bytes::from_static(b":\n\n");

/// Frames as a stream of server-sent events (WHATWG HTML, 9.2): the plain frame as `data`, its type as `event` unless that
/// is `message`, and as `id` how far the stream then is, so that whoever shows it gets what follows.
///
/// With one room the id is its position, `<epoch>:<seq>`; with several it is `<room>=<epoch>:<seq>` of each, with commas
/// between them.
#[derive(Debug)]
pub struct EventLines {
    rooms: Vec<(RoomId, Option<Position>)>,
    names_rooms: bool,
    /// What goes out before anything else.
    prelude: Option<Item>,
}

impl EventLines {
    /// Of these rooms, each with the position after which it begins. With `names_rooms`, ids name them. `prelude` goes out
    /// before the first item.
    pub fn new(rooms: Vec<(RoomId, Option<Position>)>, names_rooms: bool, prelude: Option<Item>) -> Self {
        Self { rooms, names_rooms, prelude }
    }

    /// The lines of these items.
    pub(super) fn encode(&mut self, items: &[Item]) -> Bytes {
        let mut wire = BytesMut::with_capacity(items.iter().map(|item| item.len() + 64).sum());
        for item in self.prelude.take().iter().chain(items) {
            self.put(&mut wire, item);
        }
        wire.freeze()
    }

    fn put(&mut self, wire: &mut BytesMut, item: &Item) {
        let encoded;
        let frame = match item {
            Item::Message(frame) | Item::Past(frame) => frame,
            Item::Event(event) => {
                encoded = event.encode();
                &encoded
            }
        };
        let heading = frame.heading();
        let is_name = |kind: &&str| kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.:".contains(&byte));
        if let Some(kind) = heading.kind.as_deref().filter(is_name).filter(|kind| *kind != "message") {
            put_line(wire, "event", kind.as_bytes());
        }
        if let Some((room, position)) = heading.place
            && let Some((_, place)) = self.rooms.iter_mut().find(|(name, _)| name.as_str() == room)
        {
            *place = Some(position);
            put_line(wire, "id", self.id().as_bytes());
        }
        // A line break in JSON is only space between its parts.
        for line in frame.as_bytes().split(|byte| matches!(byte, b'\n' | b'\r')) {
            put_line(wire, "data", line);
        }
        wire.put_u8(b'\n');
    }

    fn id(&self) -> String {
        let places = self.rooms.iter().filter_map(|(room, place)| Some((room.as_str(), (*place)?)));
        let ids = places.map(|(room, Position { epoch, seq })| match self.names_rooms {
            true => format!("{room}={epoch}:{seq}"),
            false => format!("{epoch}:{seq}"),
        });
        ids.collect::<Vec<_>>().join(",")
    }
}

/// The last event of a stream: the code with which a WebSocket would close.
pub(super) fn goodbye(code: u16, reason: &str) -> Bytes {
    format!("event: close\ndata: {}\n\n", serde_json::json!({ "code": code, "reason": reason })).into()
}

fn put_line(wire: &mut BytesMut, field: &str, value: &[u8]) {
    wire.reserve(field.len() + value.len() + 3);
    wire.put_slice(field.as_bytes());
    wire.put_slice(b": ");
    wire.put_slice(value);
    wire.put_u8(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Epoch, Event, Frame, ResetReason};

    fn room(name: &str) -> RoomId {
        RoomId::parse(name, 128).unwrap()
    }

    fn message(json: &str) -> Item {
        Item::Message(Frame::from(json.to_owned()))
    }

    fn text(lines: &mut EventLines, items: &[Item]) -> String {
        String::from_utf8(lines.encode(items).to_vec()).unwrap()
    }

    const HEAD: &str = r#"{"epoch":"000000000000000a","seq":7,"room":"#;

    #[test]
    fn each_frame_is_an_event_whose_id_says_how_far_the_stream_is() {
        let mut lines = EventLines::new(vec![(room("a"), None)], false, Some(Item::Event(Event::Pong)));
        let said = format!(r#"{HEAD}"a","type":"message"}}"#);
        let heard = r#"{"epoch":"000000000000000b","seq":1,"type":"broadcast"}"#;
        let reset = Event::Reset {
            room: Some(room("a")),
            position: Some(Position::new(Epoch(11), 2)),
            reason: ResetReason::NewEpoch,
        };
        let encoded = String::from_utf8(reset.encode().as_bytes().to_vec()).unwrap();
        assert_eq!(
            text(&mut lines, &[message(&said), message(heard), Item::Event(reset)]),
            format!(
                "event: pong\ndata: {{\"type\":\"pong\"}}\n\nid: 000000000000000a:7\ndata: {said}\n\nevent: broadcast\ndata: \
                 {heard}\n\nevent: reset\nid: 000000000000000b:2\ndata: {encoded}\n\n"
            )
        );
    }

    #[test]
    fn with_several_rooms_the_id_names_each_that_has_a_place() {
        let after = Some(Position::new(Epoch(1), 3));
        let mut lines = EventLines::new(vec![(room("a"), None), (room("b"), after), (room("c"), None)], true, None);
        let said = format!(r#"{HEAD}"a"}}"#);
        let id = "a=000000000000000a:7,b=0000000000000001:3";
        assert_eq!(text(&mut lines, &[message(&said)]), format!("id: {id}\ndata: {said}\n\n"));
        let stranger = format!(r#"{HEAD}"x"}}"#);
        assert_eq!(text(&mut lines, &[message(&stranger)]), format!("data: {stranger}\n\n"));
    }

    #[test]
    fn nothing_in_a_frame_ends_its_line() {
        let mut lines = EventLines::new(vec![(room("a"), None)], false, None);
        let foreign = "{\"type\":\"x\\ny\",\r\n\"data\":[\n1]}";
        let written = text(&mut lines, &[message(foreign)]);
        assert_eq!(written, "data: {\"type\":\"x\\ny\",\ndata: \ndata: \"data\":[\ndata: 1]}\n\n");
    }
}
