use std::{
    collections::HashMap,
    fmt, fs, io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sha2::{Digest, Sha256};
use tokio::time::sleep;

use super::{BadPattern, Hidden, Pattern};
use crate::protocol::RoomId;

/// How often to read the file again. Kubernetes itself takes up to a minute to bring a changed Secret to a pod.
const FILE: Duration = Duration::from_secs(5);

/// Fewest characters of a key: 24 random ones of base64 are as hard to guess as a UUID.
const SHORTEST: usize = 24;

/// Longest file, in bytes.
const LONGEST: u64 = 1 << 20;

/// What a key of the API is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Say something to rooms, and to everybody.
    Publish,
    /// Read what was said.
    Read,
    /// Take measures against users.
    Admin,
}

impl Scope {
    const ALL: [Self; 3] = [Self::Publish, Self::Read, Self::Admin];

    /// The scope as it stands in settings and errors.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

/// A key of the API: its name, which logs show, and what it is good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    name: String,
    /// Each scope with the rooms for which it holds; without patterns, for all and for what concerns no room.
    scopes: Vec<(Scope, Vec<Pattern>)>,
}

impl ApiKey {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it may do this in any room.
    pub fn has(&self, scope: Scope) -> bool {
        self.scopes.iter().any(|(has, _)| *has == scope)
    }

    /// Whether it may do this in a room or, without one, in all.
    pub fn may(&self, scope: Scope, room: Option<&RoomId>) -> bool {
        self.scopes.iter().any(|(has, patterns)| {
            let is_for = |pattern: &Pattern| room.is_some_and(|room| pattern.matches(room));
            *has == scope && (patterns.is_empty() || patterns.iter().any(is_for))
        })
    }
}

/// Why keys of the API cannot be used; the text goes on after the name of the setting, and shows no key.
#[derive(Debug, thiserror::Error)]
pub enum BadApiKeys {
    /// The file cannot be read.
    #[error("names a file that cannot be read ({0}); check its name and its rights")]
    File(#[from] io::Error),
    /// An entry is not written as it should be.
    #[error(
        "has an entry, number {number}, that cannot be used: {why}; write name:scope+scope:key, such as shop:publish+read:…"
    )]
    Entry {
        /// Counted from 1.
        number: usize,
        /// What is wrong with it.
        why: String,
    },
    /// There is none.
    #[error("has no key; write name:scope+scope:key, such as shop:publish+read:…")]
    None,
}

/// Where keys of the API come from.
#[derive(Clone, Debug)]
pub enum ApiKeySource {
    /// A setting.
    Setting(Hidden),
    /// A file, which is read again when it changes.
    File(PathBuf),
}

impl ApiKeySource {
    /// The setting that names it.
    pub fn setting(&self) -> &'static str {
        match self {
            Self::Setting(_) => "ROOMCAST_API_KEYS",
            Self::File(_) => "ROOMCAST_API_KEYS_FILE",
        }
    }

    fn read(&self) -> Result<Keys, BadApiKeys> {
        match self {
            Self::Setting(keys) => parse(&keys.0),
            // It is small, and on a volume of this machine: reading it does not hold a thread up.
            Self::File(path) if fs::metadata(path)?.len() > LONGEST => {
                Err(io::Error::other("it is longer than 1 MiB").into())
            }
            Self::File(path) => parse(&fs::read_to_string(path)?),
        }
    }
}

/// The keys by their digests: so no key is in memory for longer than it takes to read it, and looking one up takes a time that
/// tells nothing about it.
type Keys = HashMap<[u8; 32], Arc<ApiKey>>;

/// The keys of the API, kept fresh. A file that cannot be read keeps the keys that it had.
pub struct ApiKeys {
    sources: Vec<ApiKeySource>,
    kept: Mutex<Vec<Keys>>,
}

impl ApiKeys {
    /// Reads them.
    ///
    /// # Errors
    /// The first source that cannot be used.
    pub fn new(sources: Vec<ApiKeySource>) -> Result<Self, (&'static str, BadApiKeys)> {
        let read = |source: &ApiKeySource| source.read().map_err(|error| (source.setting(), error));
        let kept = sources.iter().map(read).collect::<Result<_, _>>()?;
        Ok(Self { sources, kept: Mutex::new(kept) })
    }

    /// The key that is written like this.
    pub fn find(&self, key: &str) -> Option<Arc<ApiKey>> {
        let digest = digest(key);
        self.kept().iter().find_map(|keys| keys.get(&digest)).cloned()
    }

    /// Reads files again, for ever.
    pub async fn run(&self) {
        let mut troubles = vec![None; self.sources.len()];
        loop {
            sleep(FILE).await;
            for (index, source) in self.sources.iter().enumerate() {
                if !matches!(source, ApiKeySource::File(_)) {
                    continue;
                }
                let (read, setting) = (source.read(), source.setting());
                let trouble = read.as_ref().err().map(ToString::to_string);
                if let Ok(keys) = read {
                    self.kept()[index] = keys;
                }
                if trouble != troubles[index] {
                    match &trouble {
                        Some(trouble) => tracing::warn!("{setting} {trouble}; using the keys from before"),
                        None => tracing::info!(setting, "the keys of the API can be read again"),
                    }
                    troubles[index] = trouble;
                }
            }
        }
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Keys>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ApiKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiKeys").field("sources", &self.sources).finish_non_exhaustive()
    }
}

/// Entries are separated by commas or lines. A line that begins with `#` is a comment.
fn parse(text: &str) -> Result<Keys, BadApiKeys> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let entries = lines.flat_map(|line| line.split(',')).map(str::trim).filter(|entry| !entry.is_empty());
    let mut keys = Keys::new();
    for (number, entry) in (1..).zip(entries) {
        let (digest, key) = parse_one(entry).map_err(|why| BadApiKeys::Entry { number, why })?;
        if keys.insert(digest, Arc::new(key)).is_some() {
            return Err(BadApiKeys::Entry { number, why: "its key is there already".into() });
        }
    }
    if keys.is_empty() { Err(BadApiKeys::None) } else { Ok(keys) }
}

/// Reads `name:scope+scope(pattern|pattern):key`. A pattern may have colons.
fn parse_one(entry: &str) -> Result<([u8; 32], ApiKey), String> {
    let (name, rest) = entry.split_once(':').ok_or("it has no colon")?;
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.len() > 64 || !name.chars().all(is_plain) {
        return Err("its name must be 1 to 64 letters, digits and -_.".into());
    }
    let mut depth = 0;
    let colon = rest.find(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ':' && depth == 0
    });
    let (scopes, key) = rest.split_at(colon.ok_or_else(|| format!("{name} has no key after its scopes"))?);
    let key = &key[1..];
    if key.chars().count() < SHORTEST || key.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(format!(
            "the key of {name} must have {SHORTEST} characters or more and no blanks; make one with: openssl rand -base64 32"
        ));
    }
    let scopes = scopes.split('+').map(scope).collect::<Result<_, _>>()?;
    Ok((digest(key), ApiKey { name: name.to_owned(), scopes }))
}

fn scope(text: &str) -> Result<(Scope, Vec<Pattern>), String> {
    let (name, patterns) = match text.strip_suffix(')').and_then(|text| text.split_once('(')) {
        Some((name, patterns)) => (name, patterns.split('|').map(Pattern::parse).collect::<Result<_, BadPattern>>()),
        None => (text, Ok(Vec::new())),
    };
    let scope = Scope::ALL.into_iter().find(|scope| scope.as_str() == name);
    let scope = scope.ok_or_else(|| format!("{name:?} is not a scope; the scopes are publish, read and admin"))?;
    Ok((scope, patterns.map_err(|why| format!("{text:?} {why}"))?))
}

fn digest(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0123456789abcdef01234567";

    fn room(name: &str) -> RoomId {
        RoomId::parse(name, 128).unwrap()
    }

    fn key(entry: &str) -> ApiKey {
        let keys = parse(entry).unwrap();
        ApiKey::clone(keys.values().next().unwrap())
    }

    #[test]
    fn a_key_is_good_for_its_scopes_in_its_rooms() {
        let shop = key(&format!("shop:publish(orders:*|news)+read:{KEY}"));
        assert_eq!(shop.name(), "shop");
        for (scope, of, may) in [
            (Scope::Publish, Some("orders:17"), true),
            (Scope::Publish, Some("news"), true),
            (Scope::Publish, Some("lobby"), false),
            (Scope::Publish, None, false),
            (Scope::Read, Some("lobby"), true),
            (Scope::Read, None, true),
            (Scope::Admin, Some("news"), false),
        ] {
            assert_eq!(shop.may(scope, of.map(room).as_ref()), may, "{scope:?} {of:?}");
        }
    }

    #[test]
    fn keys_come_in_lists_and_lines_and_may_have_any_sign_but_a_comma() {
        let other = "a:b+c/d(e)=f:g|h#i{j}k~l";
        let keys =
            parse(&format!("# of the shop\nshop:publish:{KEY}, old:read:{other}\n\nnew:admin+read:x{KEY}\n")).unwrap();
        let name = |key| keys.get(&digest(key)).map(|key| key.name().to_owned());
        assert_eq!((name(KEY), name(other)), (Some("shop".into()), Some("old".into())));
        assert_eq!(keys.len(), 3);
        assert_eq!(name("0123456789abcdef01234568"), None);
    }

    #[test]
    fn what_is_wrong_is_said_without_the_key() {
        for (text, why) in [
            ("", "has no key;"),
            ("# nothing", "has no key;"),
            ("shop", "no colon"),
            ("shop:publish", "shop has no key"),
            ("shop:publish:secretsecret", "24 characters or more"),
            ("shop:publish:secret secretsecretsecretsecret", "no blanks"),
            (":publish:secretsecretsecretsecret", "its name must be"),
            ("a b:publish:secretsecretsecretsecret", "its name must be"),
            ("shop:write:secretsecretsecretsecret", "\"write\" is not a scope"),
            ("shop:publish(a b):secretsecretsecretsecret", "publish(a b)"),
            ("shop:publish(a:secretsecretsecretsecret", "no key after"),
            ("a:read:secretsecretsecretsecret,b:read:secretsecretsecretsecret", "number 2"),
        ] {
            let error = parse(text).expect_err(text).to_string();
            assert!(error.contains(why) && !error.contains("secret"), "{text}: {error}");
        }
    }
}
