use crate::protocol::{Frame, Position};

/// Most claims of one channel that wait for a reading of the log, and their most bytes. Further ones are dropped: if
/// they are genuine, the log has them.
const MOST: usize = 64;
const MOST_BYTES: usize = 256 * 1024;

/// A push that claims a position for which Redis does not vouch.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) position: Position,
    pub(super) frame: Frame,
}

/// What the log says about a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The log has it at its position, and members got it from there.
    Genuine,
    /// The log has something else there, or nothing.
    Foreign,
    /// Messages before it are still missing.
    Open,
}

/// Claims that await a reading of the log.
///
/// Servers of older versions, which do not vouch, make such claims, and anybody who may publish in Redis can. So nobody
/// believes them: each causes a reading of the log, and what the log does not confirm is treated as a message of a
/// foreign server.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Claims since the last reading began.
    new: Vec<Claim>,
    /// Earlier claims, about which the current reading decides.
    asked: Vec<Claim>,
    bytes: usize,
}

impl Claims {
    /// Takes a claim, about which the next reading will decide. Returns false if there are too many.
    pub(super) fn add(&mut self, claim: Claim) -> bool {
        let has_place = self.new.len() + self.asked.len() < MOST && self.bytes + claim.frame.len() <= MOST_BYTES;
        if has_place {
            self.bytes += claim.frame.len();
            self.new.push(claim);
        }
        has_place
    }

    /// A reading of the log begins.
    pub(super) fn ask(&mut self) {
        self.asked.append(&mut self.new);
    }

    /// A reading has ended: decides about the claims from before it. Returns the foreign ones, in the order of arrival.
    /// Genuine ones were delivered from the log.
    pub(super) fn decide(&mut self, verdict: impl Fn(&Claim) -> Verdict) -> Vec<Frame> {
        let mut foreign = Vec::new();
        for claim in std::mem::take(&mut self.asked) {
            match verdict(&claim) {
                Verdict::Open => self.asked.push(claim),
                Verdict::Genuine => self.bytes -= claim.frame.len(),
                Verdict::Foreign => {
                    self.bytes -= claim.frame.len();
                    foreign.push(claim.frame);
                }
            }
        }
        foreign
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Epoch;

    fn claim(seq: u64) -> Claim {
        Claim { position: Position::new(Epoch(1), seq), frame: format!("m{seq}").into() }
    }

    #[test]
    fn a_reading_decides_only_about_what_came_before_it() {
        let mut claims = Claims::default();
        assert!(claims.add(claim(1)) && claims.add(claim(2)) && claims.add(claim(3)));
        assert!(claims.decide(|_| Verdict::Foreign).is_empty());
        claims.ask();
        claims.add(claim(4));
        let foreign = claims.decide(|claim| match claim.position.seq {
            1 => Verdict::Genuine,
            2 => Verdict::Open,
            _ => Verdict::Foreign,
        });
        assert_eq!(foreign, [claim(3).frame]);
        claims.ask();
        assert_eq!(claims.decide(|_| Verdict::Foreign), [claim(2).frame, claim(4).frame]);
        assert_eq!(claims.bytes, 0);
    }

    #[test]
    fn claims_are_bounded_by_number_and_by_bytes() {
        let mut claims = Claims::default();
        assert!((0..MOST as u64).all(|seq| claims.add(claim(seq))) && !claims.add(claim(0)));
        let mut claims = Claims::default();
        let large = Claim { frame: "x".repeat(MOST_BYTES / 2 + 1).into(), ..claim(1) };
        assert!(claims.add(large.clone()) && !claims.add(large));
    }
}
