use std::time::Duration;

use tokio::time::Instant;

/// How long Redis keeps a mark.
pub(super) const LIFE: Duration = Duration::from_secs(60);

/// A mark of this age may have expired when the next one replaces it.
const CERTAIN: Duration = Duration::from_secs(50);

/// How often in a row a server must find another process' mark before it counts as another server. A process that was
/// just replaced may have written its last mark late.
const OTHERS: u32 = 3;

/// What a server learns from the marks that it leaves in Redis under its name, each in the place of the one before.
///
/// Each time, it should find the mark that it left last. An earlier one, or none, means that Redis has lost its last
/// writes. Another process' mark, several times in a row, means that another server has the same name.
#[derive(Debug)]
pub(super) struct Marks {
    /// Distinguishes this process from others.
    process: u64,
    left: u64,
    /// The last mark that Redis has confirmed, and when.
    taken: Option<(u64, Instant)>,
    /// How often in a row another process' mark was there.
    others: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// All is well.
    Fine,
    /// Redis has lost its last writes.
    WritesLost,
    /// There is another process' mark: either Redis went back to a time before this server, or another server has taken
    /// this name.
    OtherFound,
    /// Another server has the same name.
    NameShared,
}

impl Marks {
    pub(super) fn new(process: u64) -> Self {
        Self { process, left: 0, taken: None, others: 0 }
    }

    /// The next mark to leave, and its number.
    pub(super) fn next(&mut self) -> (String, u64) {
        self.left += 1;
        (format!("{:016x} {}", self.process, self.left), self.left)
    }

    /// Redis took the mark with this number, in the place of `found`.
    pub(super) fn took(&mut self, number: u64, found: Option<&str>, now: Instant) -> Finding {
        // What this process' first mark replaces is an earlier process' mark.
        let Some((taken, at)) = self.taken.replace((number, now)) else { return Finding::Fine };
        let Some(found) = found else {
            return if now.saturating_duration_since(at) < CERTAIN { Finding::WritesLost } else { Finding::Fine };
        };
        let own = found.strip_prefix(&format!("{:016x} ", self.process)).and_then(|number| number.parse::<u64>().ok());
        match own {
            Some(own) => {
                self.others = self.others.saturating_sub(1);
                // A mark later than the last confirmed one: Redis took it, but its answer was lost.
                if own < taken { Finding::WritesLost } else { Finding::Fine }
            }
            None => {
                self.others = (self.others + 1).min(2 * OTHERS);
                match self.others {
                    1 => Finding::OtherFound,
                    OTHERS.. => Finding::NameShared,
                    _ => Finding::Fine,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Replaces a mark; returns the new one and what the old one shows.
    fn leave(marks: &mut Marks, found: Option<&str>, now: Instant) -> (String, Finding) {
        let (mark, number) = marks.next();
        let finding = marks.took(number, found, now);
        (mark, finding)
    }

    #[test]
    fn a_mark_that_is_gone_or_older_than_the_last_one_shows_that_writes_were_lost() {
        let (mut marks, mut now) = (Marks::new(1), Instant::now());
        // An earlier process of this name may have left a mark.
        let (first, finding) = leave(&mut marks, Some("00000000000000ff 7"), now);
        assert_eq!(finding, Finding::Fine);
        let (second, finding) = leave(&mut marks, Some(&first), now);
        assert_eq!(finding, Finding::Fine);
        assert_eq!(leave(&mut marks, Some(&first), now).1, Finding::WritesLost, "the second was lost");
        assert_eq!(leave(&mut marks, None, now).1, Finding::WritesLost);
        // Nobody knows whether Redis took this one, so neither it nor the one before shows a loss.
        let (unknown, _) = marks.next();
        assert_eq!(leave(&mut marks, Some(&unknown), now).1, Finding::Fine);
        now += LIFE;
        assert_eq!(leave(&mut marks, None, now).1, Finding::Fine, "it has expired");
        assert_ne!(first, second);
    }

    #[test]
    fn two_servers_of_one_name_find_each_others_marks() {
        let (mut one, mut two, now) = (Marks::new(1), Marks::new(2), Instant::now());
        let mut last = None;
        let mut findings = Vec::new();
        for _ in 0..6 {
            for marks in [&mut one, &mut two] {
                let (mark, finding) = leave(marks, last.as_deref(), now);
                last = Some(mark);
                findings.push(finding);
            }
        }
        assert_eq!(findings.iter().filter(|finding| **finding == Finding::NameShared).count(), 6, "{findings:?}");
        assert_eq!(&findings[8..], [Finding::NameShared; 4]);
        // The other server stops, and this one finds its own mark again.
        for _ in 0..10 {
            let (mark, finding) = leave(&mut one, last.as_deref(), now);
            last = Some(mark);
            findings.push(finding);
        }
        assert_eq!(findings.last(), Some(&Finding::Fine));
    }

    #[test]
    fn one_that_was_replaced_is_not_taken_for_another() {
        let (mut marks, now) = (Marks::new(2), Instant::now());
        let (mut last, _) = leave(&mut marks, Some("0000000000000001 9"), now);
        for _ in 0..10 {
            let (mark, finding) = leave(&mut marks, Some(&last), now);
            assert_eq!(finding, Finding::Fine);
            last = mark;
        }
    }
}
