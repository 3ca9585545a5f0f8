use std::borrow::Cow;

use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{DefaultIgnorableCodePoint, GeneralCategory, VariationSelector},
};

/// What others said, made safe for a terminal: one line, with everything escaped as in Rust (`\n`, `\u{202e}`) that
/// would move the cursor, set colours, reverse the text's direction or be invisible.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if !text.contains(is_treacherous) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::new();
    for c in text.chars() {
        match is_treacherous(c) {
            true => shown.extend(c.escape_default()),
            false => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// A JSON frame, made safe in the same way: one line, with dangerous characters in its texts as JSON escapes, so that
/// it still means the same.
pub(crate) fn plain_json(frame: &str) -> Cow<'_, str> {
    if !frame.contains(is_treacherous) {
        return Cow::Borrowed(frame);
    }
    let mut shown = String::new();
    for c in frame.chars() {
        match c {
            // Within a text these are escaped already, so here they are only between tokens.
            '\n' | '\r' | '\t' => shown.push(' '),
            c if is_treacherous(c) => {
                shown.extend(c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
            }
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

/// Emoji and several scripts need joiners and variation selectors, which change only their neighbours.
fn is_treacherous(c: char) -> bool {
    let is_needed = matches!(c, '\u{200c}' | '\u{200d}') || CodePointSetData::new::<VariationSelector>().contains(c);
    let changes_the_line = matches!(
        CodePointMapData::<GeneralCategory>::new().get(c),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    );
    !is_needed && (changes_the_line || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_do_something_to_a_terminal_is_shown_instead() {
        let cases = [
            ("\u{1b}]0;owned\u{7}\u{1b}[2J", r"\u{1b}]0;owned\u{7}\u{1b}[2J"),
            ("a\r\n-- joined lobby\tb", r"a\r\n-- joined lobby\tb"),
            ("\u{9b}31m\u{7f}\u{8}", r"\u{9b}31m\u{7f}\u{8}"),
            ("\u{202e}nna\u{2066}\u{200f}", r"\u{202e}nna\u{2066}\u{200f}"),
            ("a\u{200b}b\u{feff}\u{ad}\u{3164}\u{e0041}", r"a\u{200b}b\u{feff}\u{ad}\u{3164}\u{e0041}"),
            ("a\u{2028}b\u{2029}c\u{85}", r"a\u{2028}b\u{2029}c\u{85}"),
        ];
        for (text, shown) in cases {
            assert_eq!(plain(text), shown);
        }
    }

    #[test]
    fn json_stays_what_it_is() {
        let frame = "{\"text\":\"a\u{9b}31m \u{202e}\u{e0041}\",\n\t\"b\":\"\\n\"}";
        let shown = plain_json(frame);
        assert_eq!(shown, r#"{"text":"a\u009b31m \u202e\udb40\udc41",  "b":"\n"}"#);
        let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        assert_eq!(read(&shown), read(frame));
    }

    #[test]
    fn what_people_write_is_left_alone() {
        for text in
            ["", "it's \"10\" \\n", "zoë 日本語 محمد", "علی\u{200c}رضا", "👩🏽\u{200d}🚀 ❤\u{fe0f}", "葛\u{e0100}城"]
        {
            assert!(matches!(plain(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }
}
