//! Candidates that do the same work in turns, round by round, so that what disturbs the machine disturbs all
//! of them; and what comes out: ratios within a round.

use std::time::Duration;

use super::spread::Spread;

/// How long everything takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) rounds: usize,
    /// How long a candidate works in one round.
    pub(crate) slice: Duration,
}

/// One candidate at one kind of work.
pub(crate) struct Contestant<'c> {
    name: &'static str,
    /// Works for one round and tells the nanoseconds per operation, or some other cost.
    round: Box<dyn FnMut() -> f64 + 'c>,
}

impl<'c> Contestant<'c> {
    /// Runs `round` once in each round for its cost.
    pub(crate) fn new(name: &'static str, round: impl FnMut() -> f64 + 'c) -> Self {
        let round = Box::new(round);
        Self { name, round }
    }

    /// Runs `work`, which does as many operations as it is told and says how long that took, with so many
    /// that they fill a slice.
    pub(crate) fn timed(
        name: &'static str,
        plan: &Plan,
        mut work: impl FnMut(u64) -> Duration + 'c,
    ) -> Self {
        let mut operations = 16;
        loop {
            let time = work(operations);
            if time >= plan.slice / 4 {
                let slices = plan.slice.as_secs_f64() / time.as_secs_f64();
                operations = 1 + (operations as f64 * slices) as u64;
                break;
            }
            operations *= 2;
        }
        Self::new(name, move || {
            // What ran before took the caches.
            work(operations / 4);
            work(operations).as_nanos() as f64 / operations as f64
        })
    }
}

/// The costs of each contestant, round by round.
pub(crate) struct Outcome(Vec<(&'static str, Vec<f64>)>);

/// Lets all work in each round, in turns; who is first changes.
pub(crate) fn contest(plan: &Plan, mut contestants: Vec<Contestant>) -> Outcome {
    let mut costs = vec![Vec::new(); contestants.len()];
    for round in 0..plan.rounds {
        for turn in 0..contestants.len() {
            let turn = (turn + round) % contestants.len();
            costs[turn].push((contestants[turn].round)());
        }
    }
    let names = contestants.iter().map(|contestant| contestant.name);
    Outcome(names.zip(costs).collect())
}

impl Outcome {
    fn of(&self, name: &str) -> &[f64] {
        let found = self.0.iter().find(|(contestant, _)| *contestant == name);
        &found.unwrap_or_else(|| panic!("{name} takes part")).1
    }

    /// How many times the cost of `this` the cost of `other` is: how many times faster `this` is.
    pub(crate) fn faster(&self, this: &str, other: &str) -> Spread {
        let rounds = self.of(this).iter().zip(self.of(other));
        Spread::of(rounds.map(|(this, other)| other / this)).expect("there was a round")
    }

    /// The cost of each contestant.
    pub(crate) fn costs(&self) -> impl Iterator<Item = (&'static str, Spread)> {
        self.0.iter().map(|(name, costs)| {
            let spread = Spread::of(costs.iter().copied());
            (*name, spread.expect("there was a round"))
        })
    }
}
