use crate::protocol::{Frame, Position};

/// Most claims of one channel that wait for a reading of the log, and most bytes of them. What comes beyond is dropped:
/// if it is genuine, the log has it.
const MOST: usize = 64;
const MOST_BYTES: usize = 256 * 1024;

/// A push that says of itself where it stands, without Redis vouching for it.
#[derive(Clone, Debug)]
pub(super) struct Claim {
    pub(super) position: Position,
    pub(super) frame: Frame,
}

/// What the log says of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is what stands there, and members have had it.
    Genuine,
    /// Something else stands there, or nothing does.
    Foreign,
    /// Messages are still missing before it.
    Open,
}

/// Claims that the log has not been asked about yet.
///
/// Servers of a version that does not vouch make such claims, and whoever may publish on Redis can. So they are never
/// believed: each has the log read, and what the log does not bear out is treated as a message of a foreign server.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// Came after the last reading was begun.
    new: Vec<Claim>,
    /// Came before, so that the reading that is under way decides about them.
    asked: Vec<Claim>,
    bytes: usize,
}

impl Claims {
    /// Takes a claim in, for the next reading to decide about. Returns false if there are too many.
    pub(super) fn add(&mut self, claim: Claim) -> bool {
        let has_place = self.new.len() + self.asked.len() < MOST && self.bytes + claim.frame.len() <= MOST_BYTES;
        if has_place {
            self.bytes += claim.frame.len();
            self.new.push(claim);
        }
        has_place
    }

    /// The log is about to be read.
    pub(super) fn ask(&mut self) {
        self.asked.append(&mut self.new);
    }

    /// The log has been read: decides about those that were there before. Returns the foreign ones, in the order in which
    /// they came. Genuine ones have been delivered from the log.
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
