//! Every random choice of a run comes from one number.

use rand::{SeedableRng, rngs::StdRng};

/// The seed of a run, printed with its result: the same one makes the same schedule again.
#[derive(Clone, Copy, Debug)]
pub struct Seed(pub u64);

impl Seed {
    /// A stream of choices for this purpose, independent of all others, so that one that draws more often does
    /// not change what another gets.
    pub fn rng(self, purpose: &str) -> StdRng {
        StdRng::seed_from_u64(self.of(purpose).0)
    }

    /// A seed for this purpose.
    pub fn of(self, purpose: &str) -> Self {
        // FNV-1a: stable from release to release, which the hashers of the standard library are not.
        let start = 0xcbf2_9ce4_8422_2325 ^ self.0;
        Self(purpose.bytes().fold(start, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)))
    }
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_choices_and_another_purpose_makes_others() {
        let draw = |seed, purpose| Seed(seed).rng(purpose).random::<u64>();
        assert_eq!(draw(1, "a"), draw(1, "a"));
        assert_ne!(draw(1, "a"), draw(1, "b"));
        assert_ne!(draw(1, "a"), draw(2, "a"));
    }
}
