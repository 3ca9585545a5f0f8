use std::{iter, sync::Arc};

use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{
        CanonicalCombiningClass, DefaultIgnorableCodePoint, Emoji, EmojiModifier, EmojiPresentation,
        ExtendedPictographic, GeneralCategory, Ideographic, JoiningType, NoncharacterCodePoint, VariationSelector,
    },
};
use serde::Serialize;

use super::names::{NameError, check_length};

const NON_JOINER: char = '\u{200c}';
const JOINER: char = '\u{200d}';
const TEXT_STYLE: char = '\u{fe0e}';
const EMOJI_STYLE: char = '\u{fe0f}';
const KEYCAP: char = '\u{20e3}';
const BLANK_BRAILLE: char = '\u{2800}';

/// A member's name: 1 to 64 (a setting) visible characters, with blanks between them.
///
/// It has one normal form, whatever the sender's keyboard produces: composed (NFC), with one ordinary space for any
/// blanks between words and none at the ends (the blank rules of RFC 8266). The PRECIS profiles (RFC 8265, RFC 8266)
/// are too narrow for real names: they refuse `❤️` and every joined emoji.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Username(Arc<str>);

impl Username {
    /// Normalises a name, and checks its length in characters and that each of them is visible.
    pub fn parse(name: &str, max: usize) -> Result<Self, NameError> {
        let words = name.split(|c| category(c) == GeneralCategory::SpaceSeparator).filter(|word| !word.is_empty());
        let name = words.collect::<Vec<_>>().join(" ");
        let name = ComposingNormalizerBorrowed::new_nfc().normalize(&name);
        check_length(&name, max)?;
        check_characters(&name)?;
        Ok(Self(name.into()))
    }

    /// The name as in JSON.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn check_characters(name: &str) -> Result<(), NameError> {
    if name.chars().next().is_some_and(is_mark) {
        return Err(NameError::Mark);
    }
    let previous = iter::once(None).chain(name.chars().map(Some));
    let following = name.chars().skip(1).map(Some).chain(iter::once(None));
    for ((c, before), after) in name.chars().zip(previous).zip(following) {
        match category(c) {
            GeneralCategory::Control => return Err(NameError::Control),
            _ if is_seen(c) || before.is_some_and(|before| shows(before, c, after)) => {}
            _ => return Err(NameError::Unseen),
        }
    }
    Ok(())
}

/// Whether a character is visible: it has a form, the same for everybody.
fn is_seen(c: char) -> bool {
    let has_no_form = matches!(
        category(c),
        GeneralCategory::Format
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
            | GeneralCategory::PrivateUse
    );
    let is_ignored = CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
        || CodePointSetData::new::<NoncharacterCodePoint>().contains(c);
    !has_no_form && !is_ignored && c != BLANK_BRAILLE
}

/// Whether an invisible character changes how its neighbours look, as within emoji and in the scripts that need it.
/// Elsewhere it would only let two different names look the same.
fn shows(before: char, c: char, after: Option<char>) -> bool {
    let Some(after) = after.filter(|after| *after != ' ' && (is_seen(*after) || is_selector(*after))) else {
        return is_selector(c) && varies(before, c);
    };
    match c {
        // The rules of RFC 5892, A.1 and A.2, for letters.
        NON_JOINER => is_virama(before) || (joins(before, &TO_THE_NEXT) && joins(after, &TO_THE_ONE_BEFORE)),
        JOINER => is_virama(before) || is_emoji(before) || before == EMOJI_STYLE,
        EMOJI_STYLE if after == KEYCAP => true,
        _ => varies(before, c),
    }
}

/// Whether a variation selector chooses another form of the character before it.
fn varies(before: char, selector: char) -> bool {
    let is_picture_by_itself = CodePointSetData::new::<EmojiPresentation>().contains(before);
    match selector {
        TEXT_STYLE => is_picture_by_itself,
        EMOJI_STYLE => is_emoji(before) && !is_picture_by_itself,
        '\u{180b}'..='\u{180f}' => joins(before, &TO_THE_NEXT),
        '\u{e0100}'..='\u{e01ef}' => CodePointSetData::new::<Ideographic>().contains(before),
        _ => false,
    }
}

fn is_selector(c: char) -> bool {
    CodePointSetData::new::<VariationSelector>().contains(c)
}

/// The joining types of a letter, as in Arabic and Mongolian, that join it to the next one.
const TO_THE_NEXT: [JoiningType; 2] = [JoiningType::DualJoining, JoiningType::LeftJoining];

/// The same for the one before it.
const TO_THE_ONE_BEFORE: [JoiningType; 2] = [JoiningType::DualJoining, JoiningType::RightJoining];

fn joins(c: char, how: &[JoiningType]) -> bool {
    how.contains(&CodePointMapData::<JoiningType>::new().get(c))
}

/// What joins two consonants, as in Devanagari.
fn is_virama(c: char) -> bool {
    CodePointMapData::<CanonicalCombiningClass>::new().get(c) == CanonicalCombiningClass::Virama
}

fn is_emoji(c: char) -> bool {
    let is_picture = CodePointSetData::new::<Emoji>().contains(c) && !c.is_ascii();
    is_picture
        || CodePointSetData::new::<ExtendedPictographic>().contains(c)
        || CodePointSetData::new::<EmojiModifier>().contains(c)
}

fn is_mark(c: char) -> bool {
    let marks = [GeneralCategory::NonspacingMark, GeneralCategory::SpacingMark, GeneralCategory::EnclosingMark];
    marks.contains(&category(c))
}

fn category(c: char) -> GeneralCategory {
    CodePointMapData::<GeneralCategory>::new().get(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(name: &str) -> Result<String, NameError> {
        Username::parse(name, 64).map(|name| name.as_str().to_owned())
    }

    #[test]
    fn what_people_call_themselves_is_taken_as_it_is() {
        let names = [
            "ann",
            "ANN",
            "Ann B. 🌻",
            "O'Neil-Smith, Jr.",
            "<b>",
            "{\"x\":1}",
            "zoë",
            "Nguyễn Thị Ánh",
            "Łukasz",
            "Ærøskøbing",
            "Γιώργος",
            "Юлия",
            "山田 太郎",
            "葛\u{e0100}城",
            "김민준",
            "สมชาย",
            "محمد",
            "علی\u{200c}رضا",
            "क\u{94d}\u{200d}ष",
            "ශ\u{dca}\u{200d}රී",
            "שׁלום",
            "❤\u{fe0f}",
            "👩\u{200d}💻",
            "👩🏽\u{200d}🚀 Ann",
            "🏳\u{fe0f}\u{200d}🌈",
            "🇩🇪",
            "1\u{fe0f}\u{20e3}",
        ];
        for name in names {
            assert_eq!(parse(name).as_deref(), Ok(name), "{}", name.escape_unicode());
        }
    }

    #[test]
    fn one_name_has_one_form() {
        let forms = [
            ("zoe\u{308}", "zoë"),
            ("\u{212b}ngstro\u{308}m", "Ångström"),
            ("ann ", "ann"),
            ("  ann", "ann"),
            ("Ann \u{a0}\u{2003} B.", "Ann B."),
            ("山田\u{3000}太郎", "山田 太郎"),
        ];
        for (name, form) in forms {
            assert_eq!(parse(name).as_deref(), Ok(form), "{}", name.escape_unicode());
        }
    }

    #[test]
    fn what_cannot_be_seen_is_refused() {
        let cases = [
            (NameError::Empty, ["", " ", "\u{a0}", "\u{3000}"].as_slice()),
            (NameError::Control, &["a\u{7f}", "a\nb", "a\tb", "ann\u{85}", "\u{1b}[31m", "\0", "\u{9b}31m"]),
            (NameError::Mark, &["\u{308}ann", "\u{20dd}", "\u{fe0f}ann"]),
            (
                NameError::Unseen,
                &[
                    // Zero-width: in the middle, at the end, alone.
                    "a\u{200b}nn",
                    "ann\u{200b}",
                    "\u{200b}",
                    "\u{feff}",
                    "\u{feff}ann",
                    "a\u{2060}nn",
                    "a\u{ad}nn",
                    "\u{3164}",
                    "\u{115f}",
                    "\u{ffa0}",
                    "\u{2800}",
                    // Directions.
                    "ann\u{202e}",
                    "\u{202e}nna",
                    "\u{2066}ann",
                    "ann\u{200e}",
                    "ann\u{200f}",
                    "ann\u{61c}",
                    // Lines, tags, annotations, private use, and noncharacters.
                    "ann\u{2028}admin",
                    "ann\u{2029}admin",
                    "\u{e0041}",
                    "ann\u{e0041}",
                    "a\u{fff9}b",
                    "\u{e000}",
                    "\u{10fffd}",
                    "\u{ffff}",
                    // Joiners and variation selectors without effect.
                    "a\u{200d}nn",
                    "a\u{200c}nn",
                    "ann\u{200d}",
                    "\u{200d}ann",
                    "🌻\u{200d}",
                    "🌻\u{200d} ann",
                    "🌻\u{200d}\u{200d}🌻",
                    "علی\u{200c}",
                    "a\u{fe0f}nn",
                    "ann\u{fe0f}",
                    "❤\u{fe0f}\u{fe0f}",
                    "ann\u{e0100}",
                    "1\u{fe0f}",
                    "محمد\u{fe0f}",
                    "山田\u{fe00}",
                    "🌻\u{fe0f}",
                    "ا\u{200c}ب",
                    "ب\u{200d}ب",
                ],
            ),
        ];
        for (why, names) in cases {
            for name in names {
                assert_eq!(parse(name).as_ref(), Err(&why), "{}", name.escape_unicode());
            }
        }
    }

    #[test]
    fn it_is_measured_in_characters_of_its_form() {
        assert!(Username::parse("日本語の名前", 6).is_ok());
        assert_eq!(Username::parse("日本語の名前です", 6), Err(NameError::TooLong(6)));
        assert!(Username::parse("  e\u{301}e\u{301}  ", 2).is_ok());
    }
}
