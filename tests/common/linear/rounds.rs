//! Round after round of histories, and what came of them.

use std::fmt;
use std::ops::AddAssign;
use std::time::{Duration, Instant};

use super::Verdict;

/// What came of some rounds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Totals {
    pub(crate) histories: u64,
    pub(crate) operations: u64,
    /// Histories about which nothing is known.
    pub(crate) unknown: u64,
    /// Each with the seed of its round.
    pub(crate) violations: Vec<(u64, String)>,
}

impl Totals {
    /// The search for an order can take for ever, which is no proof, but rare; nothing was ever wrong.
    pub(crate) fn are_good(&self) -> bool {
        self.violations.is_empty() && self.unknown <= 1 + self.histories / 1000
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.histories += other.histories;
        self.operations += other.operations;
        self.unknown += other.unknown;
        self.violations.extend(other.violations);
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} histories, {} operations, {} not proven, {} with a violation",
            self.histories,
            self.operations,
            self.unknown,
            self.violations.len()
        )
    }
}

/// How many rounds there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rounds {
    /// The seed of the first; each has the next.
    pub(crate) seed: u64,
    /// At most as many.
    pub(crate) rounds: u64,
    /// None begins later.
    pub(crate) time: Duration,
    /// The first violation is the last round.
    pub(crate) stop_at_violation: bool,
}

impl Rounds {
    /// Runs them. A round gets its seed and says how many operations it had.
    pub(crate) fn run(self, mut round: impl FnMut(u64) -> (usize, Verdict)) -> Totals {
        let begin = Instant::now();
        let mut totals = Totals::default();
        while totals.histories < self.rounds && begin.elapsed() < self.time {
            let seed = self.seed.wrapping_add(totals.histories);
            let (operations, verdict) = round(seed);
            totals.histories += 1;
            totals.operations += operations as u64;
            match verdict {
                Verdict::Explained => {}
                Verdict::Unknown => totals.unknown += 1,
                Verdict::Violated(text) => totals.violations.push((seed, text)),
            }
            if self.stop_at_violation && !totals.violations.is_empty() {
                break;
            }
        }
        totals
    }
}
