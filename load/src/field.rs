use memchr::{memchr, memmem::Finder};

/// A string in a JSON text, found by what stands before it and without reading the rest: there is one delivery after
/// another, and little time for each.
#[derive(Clone, Debug)]
pub struct Field {
    before: Finder<'static>,
}

impl Field {
    /// The string that begins after these bytes, which end with its quote. Made once, as it prepares the search.
    pub fn after(before: &'static str) -> Self {
        Self { before: Finder::new(before) }
    }

    /// What stands between the quotes. Nothing that a load looks for has an escape in it, and a quote within another
    /// field is escaped, so the name is not found there.
    pub fn find<'a>(&self, text: &'a [u8]) -> Option<&'a [u8]> {
        let start = self.before.find(text)? + self.before.needle().len();
        let length = memchr(b'"', &text[start..])?;
        Some(&text[start..start + length])
    }
}
