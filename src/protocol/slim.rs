use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Serializer,
    de::{Deserializer, MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::value::RawValue;

use super::Frame;

impl Frame {
    /// The envelope for a client that has been told the room's epoch: without the epoch if it is of a room, without
    /// `originServer` unless `keeps_origin`, without what is for servers alone, and without its `id` unless `keeps_id` says so
    /// of it. What has no place in the order keeps its `id`, as nothing else tells its sender which of its messages it is.
    pub fn slim(&self, keeps_origin: bool, keeps_id: impl Fn(&str) -> bool) -> Self {
        let Ok(Fields(fields)) = serde_json::from_slice(self.as_bytes()) else { return self.clone() };
        let has = |name| fields.iter().any(|(field, _)| field == name);
        let (is_placed, is_of_room) = (has("seq") && has("epoch"), has("room"));
        let is_kept = |(name, value): &&(Cow<'_, str>, &RawValue)| match &**name {
            "epoch" => !(is_placed && is_of_room),
            "id" if is_placed => serde_json::from_str(value.get()).is_ok_and(|id: Cow<'_, str>| keeps_id(&id)),
            "originServer" => keeps_origin,
            name => name != "traceparent",
        };
        let json = write(fields.iter().filter(is_kept), self.len());
        json.ok().and_then(|json| String::from_utf8(json).ok()).map_or_else(|| self.clone(), Self::from)
    }
}

fn write<'a>(
    fields: impl Iterator<Item = &'a (Cow<'a, str>, &'a RawValue)>,
    most: usize,
) -> Result<Vec<u8>, serde_json::Error> {
    let mut json = Vec::with_capacity(most);
    let mut writer = serde_json::Serializer::new(&mut json);
    let mut map = writer.serialize_map(None)?;
    for (name, value) in fields {
        map.serialize_entry(name, value)?;
    }
    map.end()?;
    Ok(json)
}

/// The fields of a JSON object, in their order, each with its value as it was written.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reading;

        impl<'de> Visitor<'de> for Reading {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Vec::with_capacity(12);
                while let Some(name) = map.next_key::<Name<'de>>()? {
                    fields.push((name.0, map.next_value()?));
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Reading)
    }
}

/// A name, without a copy if it has no escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    fn slim(json: &str, own: &str) -> String {
        let frame = Frame::from(json.to_owned()).slim(false, |id| id == own);
        String::from_utf8(frame.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn what_a_client_knows_or_does_not_need_is_left_out() {
        let head = r#"{"epoch":"0000000000000abc","seq":3,"ts":17,"originServer":"a:1","type":"message","room":"r","#;
        let data = r#"{ "id":1,"epoch" : "x" }"#;
        let whole =
            format!(r#"{head}"username":"ann","text":"\u00e9","data":{data},"id":"m-1","traceparent":"00-1"}}"#);
        let rest =
            format!(r#"{{"seq":3,"ts":17,"type":"message","room":"r","username":"ann","text":"\u00e9","data":{data}"#);
        assert_eq!(slim(&whole, ""), format!("{rest}}}"));
        assert_eq!(slim(&whole, "m-1"), format!(r#"{rest},"id":"m-1"}}"#));
        let with_origin = Frame::from(whole).slim(true, |_| false);
        let json: serde_json::Value = serde_json::from_slice(with_origin.as_bytes()).unwrap();
        assert_eq!((&json["originServer"], json.get("traceparent")), (&serde_json::json!("a:1"), None));
    }

    #[test]
    fn a_broadcast_keeps_its_epoch_and_what_has_no_place_its_id() {
        for (json, expected) in [
            (
                r#"{"epoch":"0000000000000abc","seq":3,"originServer":"a:1","type":"broadcast","text":"x","id":"1"}"#,
                r#"{"epoch":"0000000000000abc","seq":3,"type":"broadcast","text":"x"}"#,
            ),
            (
                r#"{"ts":7,"originServer":"a","room":"r","id":"1","text":"x"}"#,
                r#"{"ts":7,"room":"r","id":"1","text":"x"}"#,
            ),
            (r#"{"originServer":"old","epoch":7,"x\ny":[1]}"#, r#"{"epoch":7,"x\ny":[1]}"#),
        ] {
            assert_eq!(slim(json, ""), expected);
        }
        assert_eq!(slim("[1]", ""), "[1]");
    }
}
