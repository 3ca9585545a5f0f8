use std::{
    fmt::Write,
    sync::{Arc, Mutex, PoisonError},
};

use memchr::memchr_iter;
use redis::Script;
use sha1::{Digest, Sha1};

use super::super::Retention;

/// The end of a vouched push, in the place of its closing brace.
const HEAD: &[u8] = br#","mac":""#;
const DIGITS: usize = 16;

/// Number of hexadecimal digits of a whole digest.
const DIGEST: usize = 40;

const END: &[u8] = br#""}"#;

/// How servers tell a push whose place Redis assigned from one that somebody else has published.
///
/// The servers of one Redis share a secret, which Redis keeps. The publishing script has it in its text and adds a
/// checksum to each push. Who may publish but not read that key cannot make one.
pub(super) struct Vouching {
    /// The beginning of the publishing script, without the secret.
    limits: String,
    current: Mutex<Arc<Vouch>>,
}

/// A secret, and the publishing script that vouches with it.
pub(super) struct Vouch {
    secret: String,
    script: Script,
}

impl Vouching {
    /// Begins with a secret of this server's own.
    pub(super) fn new(retention: &Retention) -> Self {
        let limits = super::limits(retention);
        let vouch = Vouch::new(&limits, format!("{:032x}", rand::random::<u128>()));
        Self { limits, current: Mutex::new(Arc::new(vouch)) }
    }

    pub(super) fn current(&self) -> Arc<Vouch> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// From now on, vouches with the secret in Redis. Returns whether that is a new one.
    pub(super) fn adopt(&self, secret: &str) -> bool {
        // It becomes part of a script, so only digits are allowed.
        let is_valid = !secret.is_empty() && secret.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_valid || self.current().secret == secret {
            return false;
        }
        let vouch = Arc::new(Vouch::new(&self.limits, secret.to_owned()));
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = vouch;
        true
    }
}

impl Vouch {
    fn new(limits: &str, secret: String) -> Self {
        let secret_line = format!("local secret = '{secret}'\n");
        let script = [limits, &secret_line, include_str!("trim.lua"), include_str!("publish.lua")].concat();
        Self { secret, script: Script::new(&script) }
    }

    pub(super) fn secret(&self) -> &str {
        &self.secret
    }

    /// The publishing script.
    pub(super) fn script(&self) -> &Script {
        &self.script
    }

    /// Whether Redis vouches for what was pushed on a channel; if so, removes the checksum.
    pub(super) fn check(&self, channel: &[u8], payload: &mut Vec<u8>) -> bool {
        let Some(length) = payload.len().checked_sub(HEAD.len() + DIGITS + END.len()) else { return false };
        let Some((digits, END)) = payload[length..].strip_prefix(HEAD).map(|rest| rest.split_at(DIGITS)) else {
            return false;
        };
        // The head ends with the third comma, after the epoch, the number and the time.
        let Some(tail) = memchr_iter(b',', &payload[..length]).nth(2).map(|comma| comma + 1) else { return false };
        let digest = hex(&[&payload[tail..length], b"}"], DIGEST);
        let is_vouched = digits == self.checksum(channel, &payload[..tail], &digest).as_bytes();
        if is_vouched {
            payload.truncate(length);
            payload.push(b'}');
        }
        is_vouched
    }

    /// The checksum as `publish.lua` makes it.
    fn checksum(&self, channel: &[u8], head: &[u8], digest: &str) -> String {
        let secret = self.secret.as_bytes();
        hex(&[secret, channel, b"\n", head, digest.as_bytes(), secret], DIGITS)
    }
}

/// The digest of the part of a message that the script does not make itself.
pub(super) fn digest(tail: &[u8]) -> String {
    hex(&[tail], DIGEST)
}

/// The first digits of the SHA-1 of all parts, in hexadecimal.
fn hex(parts: &[&[u8]], digits: usize) -> String {
    let hash = parts.iter().fold(Sha1::new(), |hash, part| hash.chain_update(part)).finalize();
    let mut text = String::with_capacity(2 * hash.len());
    hash.iter().take(digits / 2).for_each(|byte| _ = write!(text, "{byte:02x}"));
    text
}

impl std::fmt::Debug for Vouching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vouching").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = r#"{"epoch":"a","seq":1,"ts":2,"#;
    const TAIL: &str = r#""text":"hi, you"}"#;

    fn vouch() -> Vouch {
        Vouch::new("", "5ec2e7".into())
    }

    fn check(channel: &str, push: &str) -> (bool, String) {
        let mut payload = push.as_bytes().to_vec();
        let is_vouched = vouch().check(channel.as_bytes(), &mut payload);
        (is_vouched, String::from_utf8(payload).unwrap())
    }

    #[test]
    fn only_what_is_as_it_was_is_vouched_for_on_its_own_channel() {
        let sha1 = |text: &str| Sha1::digest(text).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let mac = sha1(&format!("5ec2e7ws:room:a\n{HEAD}{}5ec2e7", sha1(TAIL)))[..16].to_owned();
        let push = format!(r#"{HEAD}"text":"hi, you","mac":"{mac}"}}"#);
        assert_eq!(check("ws:room:a", &push), (true, format!("{HEAD}{TAIL}")));
        for (channel, other) in [
            ("ws:room:b", push.clone()),
            ("ws:room:a", push.replace("hi", "ho")),
            ("ws:room:a", push.replace(":1,", ":2,")),
            ("ws:room:a", push.replace(":2,", ":3,")),
            ("ws:room:a", push.replace(&mac, "0123456789abcdef")),
            ("ws:room:a", push.replace(&mac, &mac.to_uppercase()).replace("HI", "hi")),
            ("ws:room:a", r#"{"seq":1,"text":"hi"}"#.into()),
            ("ws:room:a", String::new()),
            ("ws:room:a", r#","mac":"0123456789abcdef"}"#.into()),
        ] {
            if other != push || channel != "ws:room:a" {
                assert_eq!(check(channel, &other), (false, other.clone()), "{channel} {other}");
            }
        }
    }

    #[test]
    fn a_secret_from_redis_is_adopted_and_nothing_else() {
        let vouching = Vouching { limits: String::new(), current: Mutex::new(Arc::new(vouch())) };
        for nonsense in ["", "'", "0 or redis.call('FLUSHALL')", "5ec2e7"] {
            assert!(!vouching.adopt(nonsense), "{nonsense}");
        }
        assert!(vouching.adopt("abc123"));
        assert_eq!(vouching.current().secret(), "abc123");
    }
}
