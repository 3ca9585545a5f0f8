use std::time::Duration;

use tokio::time::Instant;

use super::{
    claims::{Claim, Claims, Verdict},
    log_watch::LogWatch,
    recent::Recent,
    tally::Tally,
};
use crate::{
    broker::LookedUp,
    order::{Effect, LogSlice, Publication, ReadFrom, Sequencer},
    protocol::{Frame, Position},
};

/// Most publications of one channel to hold back while one before them is missing.
const HELD: usize = 256;

/// Follows the log of one channel: puts what arrives in order, and knows what is missing and when to read the log.
///
/// It returns what the members must see as effects, in order.
#[derive(Debug)]
pub(super) struct Follower {
    sequencer: Sequencer<Frame>,
    watch: LogWatch,
    claims: Claims,
}

impl Follower {
    /// A follower without a position. `compare_interval` is how soon after a message it looks up the log's top.
    pub(super) fn new(compare_interval: Duration) -> Self {
        let (sequencer, watch) = (Sequencer::new(HELD), LogWatch::new(compare_interval));
        Self { sequencer, watch, claims: Claims::default() }
    }

    /// The position up to which everything has arrived; `None` before the first reading of the log.
    pub(super) fn position(&self) -> Option<Position> {
        self.sequencer.position()
    }

    /// The highest position known to exist.
    pub(super) fn known(&self) -> Option<Position> {
        self.sequencer.known()
    }

    /// Its readings, for callers that need more from the log than the channel itself.
    pub(super) fn watch(&mut self) -> &mut LogWatch {
        &mut self.watch
    }

    /// When to read the log next.
    pub(super) fn next_reading(&self, now: Instant) -> Option<Instant> {
        self.watch.next_reading(self.has_hole(), now)
    }

    /// When to look up the log's top next.
    pub(super) fn next_look_up(&self) -> Option<Instant> {
        self.watch.next_look_up()
    }

    /// Takes a publication, in any order; the broker vouches for its place.
    pub(super) fn accept(
        &mut self,
        publication: Publication<Frame>,
        now: Instant,
        mut effect: impl FnMut(Effect<Frame>),
    ) {
        self.watch.spoke(now);
        #[cfg(feature = "sabotage")]
        if sequencer_is_off() {
            effect(Effect::Deliver(publication.clone()));
            return self.sequencer.accept(publication, |_| {});
        }
        self.sequencer.accept(publication, &mut effect);
    }

    /// Takes the position of a publication that exists, and may or may not have arrived.
    pub(super) fn observe(&mut self, position: Position, now: Instant) {
        self.sequencer.observe(position);
        self.watch.spoke(now);
    }

    /// Takes a push that claims a place for which the broker does not vouch: the log will decide. Returns false if
    /// there are too many.
    pub(super) fn claim(&mut self, claim: Claim) -> bool {
        self.watch.doubt();
        self.claims.add(claim)
    }

    /// Takes the log's top; `Ok(None)` means that there is no log any more.
    pub(super) fn looked_up(&mut self, top: LookedUp, now: Instant) {
        let succeeded = top.is_ok();
        if top.is_ok_and(|top| top.is_none_or(|top| self.sequencer.compare(top))) {
            self.watch.doubt();
        }
        self.watch.looked_up(succeeded, now);
    }

    /// Starts a reading if one is still needed: from that position, or, if it is `None`, for the log's top alone.
    pub(super) fn begin_reading(&mut self, tally: &mut Tally) -> Option<Option<ReadFrom>> {
        // A hole that another reading found may be about to close by itself.
        let is_for_hole = self.watch.begin_reading(self.has_hole())?;
        tally.holes += u64::from(is_for_hole);
        self.claims.ask();
        Some(self.sequencer.begin_read())
    }

    /// The reading failed; another follows.
    pub(super) fn reading_failed(&mut self) {
        self.watch.reading_failed();
    }

    /// Takes a page of the log.
    pub(super) fn fill(&mut self, slice: LogSlice<Frame>, effect: impl FnMut(Effect<Frame>)) {
        let before = self.position();
        self.sequencer.fill(slice, effect);
        // A long hole takes several readings, one right after the other.
        self.watch.reading_done(self.sequencer.is_behind() && self.position() != before);
    }

    /// Decides about the claims from before the last reading. Returns those that are foreign messages, in the order of
    /// arrival; members got the others from the log.
    pub(super) fn decide(&mut self, recent: &Recent) -> Vec<Frame> {
        let (at, known) = (self.sequencer.position(), self.sequencer.known());
        self.claims.decide(|claim| verdict(claim, at, known, recent))
    }

    /// Whether a publication is known to be missing.
    fn has_hole(&self) -> bool {
        self.sequencer.position().is_some() && self.sequencer.is_behind()
    }
}

/// What the log, which has been read, says about a claim.
fn verdict(claim: &Claim, at: Option<Position>, known: Option<Position>, recent: &Recent) -> Verdict {
    let Position { epoch, seq } = claim.position;
    match (at, known) {
        (Some(at), _) if at.epoch == epoch && seq <= at.seq => match recent.get(seq) {
            Some(publication) if publication.item != claim.frame => Verdict::Foreign,
            // What is no longer kept cannot be compared. Members got the message at that position.
            _ => Verdict::Genuine,
        },
        (_, Some(known)) if known.epoch == epoch && seq <= known.seq => Verdict::Open,
        _ => Verdict::Foreign,
    }
}

/// Whether this server must break its promise of one order, to show that the fault harness notices.
#[cfg(feature = "sabotage")]
#[allow(clippy::disallowed_methods, reason = "not a setting: it is not there in any server that is for use")]
fn sequencer_is_off() -> bool {
    static IS_OFF: std::sync::LazyLock<bool> =
        std::sync::LazyLock::new(|| std::env::var("ROOMCAST_SABOTAGE").is_ok_and(|part| part == "sequencer"));
    *IS_OFF
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        hub::stretch::tests::entry,
        protocol::{Epoch, Stamp},
    };

    const EPOCH: Epoch = Epoch(7);

    fn at(seq: u64) -> Position {
        Position::new(EPOCH, seq)
    }

    /// A follower at `seq`, with nothing left to read.
    fn standing(seq: u64, now: Instant) -> Follower {
        let mut follower = Follower::new(Duration::from_secs(5));
        follower.watch().subscribed(now);
        assert_eq!(follower.begin_reading(&mut Tally::default()), Some(None));
        follower.fill(LogSlice { top: at(seq), entries: Vec::new() }, |_| panic!("nobody is owed anything"));
        assert_eq!((follower.position(), follower.next_reading(now)), (Some(at(seq)), None));
        follower
    }

    #[test]
    fn a_hole_that_stays_open_is_counted_and_read_from_where_it_begins() {
        let (now, mut tally, mut seen) = (Instant::now(), Tally::default(), Vec::new());
        let mut follower = standing(3, now);
        follower.accept(entry(5, 1), now, |_| panic!("4 comes first"));
        assert!(follower.next_reading(now).is_some_and(|due| due > now), "it may close by itself");
        let from = follower.begin_reading(&mut tally).flatten().expect("a reading");
        assert_eq!((from.position, from.known, tally.holes), (at(3), 5, 1));
        follower.fill(LogSlice { top: at(5), entries: vec![entry(4, 1)] }, |effect| seen.push(effect));
        assert_eq!(seen, [Effect::Deliver(entry(4, 1)), Effect::Deliver(entry(5, 1))]);
        assert_eq!(follower.begin_reading(&mut tally), None);
    }

    #[test]
    fn a_top_that_is_ahead_or_gone_has_the_log_read_and_one_that_fits_does_not() {
        let now = Instant::now();
        let look_up = |top| {
            let mut follower = standing(3, now);
            follower.looked_up(top, now);
            follower.next_reading(now).is_some()
        };
        let stamp = |position| Ok(Some(Stamp { position, ts: position.seq }));
        assert!(!look_up(stamp(at(3))));
        assert!(look_up(stamp(at(4))) && look_up(stamp(at(2))) && look_up(Ok(None)));
        assert!(look_up(stamp(Position::new(Epoch(8), 3))));
        assert!(!look_up(Err(crate::broker::Unavailable("away".into()))));
    }

    #[test]
    fn a_claim_has_the_log_read_which_decides() {
        let (now, mut tally) = (Instant::now(), Tally::default());
        let mut follower = standing(3, now);
        let claim = |seq, text: &str| Claim { position: at(seq), frame: Frame::from(text.to_owned()) };
        assert!(follower.claim(claim(4, "x")) && follower.claim(claim(4, "forged")) && follower.claim(claim(9, "far")));
        assert_eq!(follower.next_reading(now), Some(now));
        follower.begin_reading(&mut tally);
        let mut recent = crate::hub::recent::tests::recent(1 << 20);
        follower.fill(LogSlice { top: at(4), entries: vec![entry(4, 1)] }, |effect| match effect {
            Effect::Deliver(publication) => recent.keep(publication, now),
            Effect::Reset(..) => panic!("nothing is gone"),
        });
        assert_eq!(follower.decide(&recent), [claim(4, "forged").frame, claim(9, "far").frame]);
    }
}
