use std::{borrow::Cow, fmt};

use serde::{
    Serialize,
    de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;

use super::{NameError, names::check_length};

/// What somebody says: a text, any JSON or both, and perhaps what kind of thing it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content<'a> {
    /// A name for programs: what this is about.
    pub event: Option<EventName<'a>>,
    /// What a person reads.
    pub text: Option<Cow<'a, str>>,
    /// What a program reads.
    pub data: Option<Data<'a>>,
}

impl Content<'_> {
    /// How many bytes its text and its data have.
    pub fn len(&self) -> usize {
        self.text.as_ref().map_or(0, |text| text.len()) + self.data.as_ref().map_or(0, |data| data.as_str().len())
    }

    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.text.is_none() && self.data.is_none()
    }
}

impl<'a> From<&'a str> for Content<'a> {
    fn from(text: &'a str) -> Self {
        Self { text: Some(text.into()), ..Self::default() }
    }
}

/// A name for a kind of message or signal, such as `typing`: 1 to 64 characters, no control characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventName<'a>(Cow<'a, str>);

impl<'a> EventName<'a> {
    /// Most characters.
    pub const LONGEST: usize = 64;

    /// Checks the length, and that there are no control characters.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(name: Cow<'a, str>) -> Result<Self, NameError> {
        check_length(&name, Self::LONGEST)?;
        if name.chars().any(char::is_control) {
            return Err(NameError::Control);
        }
        Ok(Self(name))
    }

    /// The name as in JSON.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Any JSON that any client can read. It is kept and sent on byte for byte.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Data<'a>(&'a RawValue);

impl<'a> Data<'a> {
    /// Most arrays and objects within one another. The JSON parsers of other languages give up somewhere beyond a hundred.
    pub const DEEPEST: usize = 64;

    /// Checks what JSON's grammar allows and some parsers do not: how deep it is, how large its numbers are, and halves of
    /// surrogate pairs in its strings.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(json: &'a RawValue) -> Result<Self, BadData> {
        let mut parser = serde_json::Deserializer::from_str(json.get());
        let read = Sound { levels: Self::DEEPEST }.deserialize(&mut parser);
        read.map_err(|error| {
            let why = error.to_string();
            // What serde_json says of half of a pair, as all other escapes of a JSON text are right.
            BadData(if why.contains("hex escape") { "half of a surrogate pair".into() } else { why })
        })?;
        Ok(Self(json))
    }

    /// The JSON text.
    pub fn as_str(&self) -> &'a str {
        self.0.get()
    }
}

impl PartialEq for Data<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Data<'_> {}

/// Why some clients could not read a piece of JSON.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadData(String);

/// Reads JSON, and keeps nothing of it.
#[derive(Clone, Copy)]
struct Sound {
    /// How many more levels there may be.
    levels: usize,
}

impl Sound {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        let levels = self.levels.checked_sub(1);
        let levels = levels.ok_or_else(|| E::custom(format!("more than {} levels deep", Data::DEEPEST)))?;
        Ok(Self { levels })
    }
}

impl<'de> DeserializeSeed<'de> for Sound {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Sound {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let deeper = self.deeper()?;
        while items.next_element_seed(deeper)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let deeper = self.deeper()?;
        while fields.next_key_seed(deeper)?.is_some() {
            fields.next_value_seed(deeper)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(json: &str) -> Result<&str, String> {
        let raw: &RawValue = serde_json::from_str(json).expect("the grammar of JSON");
        Data::parse(raw).map(|data| data.as_str()).map_err(|why| why.to_string())
    }

    fn nested(levels: usize) -> String {
        format!("{}{}", "[".repeat(levels), "]".repeat(levels))
    }

    #[test]
    fn any_json_is_kept_byte_for_byte() {
        for json in [
            "null",
            "0",
            "-1.50e-7",
            "123456789012345678901234567890",
            r#"{"b":1,"a":{"b": [ ] },"a":2}"#,
            "[true,\"\\u00e9\\ud83d\\ude00\\u0000\",\n\t1.0]",
            &nested(Data::DEEPEST),
        ] {
            assert_eq!(parse(json), Ok(json));
        }
    }

    #[test]
    fn what_some_parser_would_not_take_is_refused() {
        for (json, why) in [
            (r#"{"a":["\ud83d"]}"#, "surrogate"),
            (r#"{"\ude00":1}"#, "surrogate"),
            ("[1e999]", "number out of range"),
            (&nested(Data::DEEPEST + 1), "more than 64 levels deep"),
            (&nested(100_000), "more than 64 levels deep"),
            (&format!("{}1{}", r#"{"a":"#.repeat(65), "}".repeat(65)), "more than 64 levels deep"),
        ] {
            let refused = parse(json).expect_err(json);
            assert!(refused.contains(why), "{json}: {refused}");
        }
    }

    proptest! {
        #[test]
        fn what_is_taken_a_strict_parser_reads(json in "[\\[\\]{}\",:0-9eE.\\\\ud8-f \\-truefalsn]{0,40}") {
            if let Ok(raw) = serde_json::from_str::<&RawValue>(&json)
                && Data::parse(raw).is_ok()
            {
                prop_assert!(serde_json::from_str::<serde_json::Value>(raw.get()).is_ok());
            }
        }
    }
}
