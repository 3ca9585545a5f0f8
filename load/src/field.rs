use memchr::{memchr, memmem::Finder};

/// A string in a JSON text, found by what stands before it without parsing the rest, because there is little time for
/// each delivery.
#[derive(Clone, Debug)]
pub struct Field {
    before: Finder<'static>,
}

impl Field {
    /// The string after these bytes, which end with its opening quote. Make it once, because it prepares the search.
    pub fn after(before: &'static str) -> Self {
        Self { before: Finder::new(before) }
    }

    /// The text between the quotes. Nothing that a load looks for has an escape, and a quote within another field is
    /// escaped, so the name cannot match there.
    pub fn find<'a>(&self, text: &'a [u8]) -> Option<&'a [u8]> {
        let start = self.before.find(text)? + self.before.needle().len();
        let length = memchr(b'"', &text[start..])?;
        Some(&text[start..start + length])
    }
}
