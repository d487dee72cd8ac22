//! What a regression is: a bug that ext4 once had, and the proof that this crate would notice it.

use std::fmt;
use std::time::Duration;

use extent_map::Error;
use extent_map::file::Volume;
use extent_map::map::probe as map_probe;
use extent_map::probe::{Mutation, Probe};
use extent_map::testing::{self, Violation};

use crate::steered::with_patience;

/// A bug of the list that the project keeps.
pub(crate) struct Bug {
    /// Its number in the list.
    pub(crate) number: u8,
    /// When the kernel had it fixed.
    pub(crate) fixed: &'static str,
    /// What happened in the kernel.
    pub(crate) kernel: &'static str,
    /// The invariants that it broke, by number; none where memory was misused.
    pub(crate) invariants: &'static [u8],
    pub(crate) proof: Proof,
}

/// Why the bug is not here.
pub(crate) enum Proof {
    /// The scenario holds, and breaks an invariant with each of these sets of mutations, and not with a part of one.
    Protected(&'static [&'static [Mutation]], fn(Probe) -> Outcome),
    /// The same with mutations of the map.
    ProtectedInMap(
        &'static [map_probe::Mutation],
        fn(map_probe::Probe) -> Outcome,
    ),
    /// It cannot be written down here, for this reason; the test that bears the name pins the construction.
    Construction(&'static str),
}

/// How long a scenario may wait for others. One that holds needs no patience: what is held up stays so. One that breaks
/// needs as much as a busy machine asks for.
const PATIENCE: [Duration; 3] = [
    Duration::from_millis(200),
    Duration::from_secs(3),
    Duration::from_secs(30),
];

/// How a scenario ended.
pub(crate) type Outcome = Result<(), Failure>;

/// What went wrong in a scenario, one line for each thing.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(format!("an error nobody expected: {error}"))
    }
}

impl From<Vec<Violation>> for Failure {
    fn from(violations: Vec<Violation>) -> Self {
        let lines: Vec<_> = violations.iter().map(Violation::to_string).collect();
        Self(lines.join("\n"))
    }
}

impl Failure {
    /// Whether the failure is that an invariant does not hold.
    fn names(&self, invariant: u8) -> bool {
        let name = format!("I{invariant}");
        let mut words = self.0.lines().map(|line| line.split([',', ':']).next());
        words.any(|word| word == Some(&*name))
    }
}

/// Checks all invariants that one instant of a volume can show.
pub(crate) fn check(volume: &Volume) -> Outcome {
    Ok(testing::check(volume)?)
}

/// Writes everything back and checks what must hold then.
pub(crate) fn check_synced(volume: &Volume) -> Outcome {
    volume.sync()?;
    testing::check(volume)?;
    Ok(testing::check_synced(volume)?)
}

/// Checks that the story can begin; otherwise no invariant is to blame.
pub(crate) fn given(holds: bool, otherwise: &str) -> Outcome {
    match holds {
        true => Ok(()),
        false => Err(Failure(format!("not as it was to be: {otherwise}"))),
    }
}

/// Checks an invariant that the volume itself cannot show.
pub(crate) fn expect(invariant: u8, holds: bool, otherwise: &str) -> Outcome {
    match holds {
        true => Ok(()),
        false => Err(Failure(format!("I{invariant}: {otherwise}"))),
    }
}

impl Bug {
    /// Panics unless the scenario holds as it is and names an invariant of the bug with the mutations.
    pub(crate) fn prove(&self) {
        match self.proof {
            Proof::Protected(sets, scenario) => {
                self.holds(|| scenario(Probe::new()));
                for set in sets {
                    let probe = || Probe::new().mutations(set.iter().copied());
                    self.is_noticed(&format!("{set:?}"), || scenario(probe()));
                    self.needs_all(set, scenario);
                }
            }
            Proof::ProtectedInMap(mutations, scenario) => {
                self.holds(|| scenario(map_probe::Probe::new()));
                for mutation in mutations {
                    let probe = || map_probe::Probe::new().mutation(*mutation);
                    self.is_noticed(&format!("{mutation:?}"), || scenario(probe()));
                }
            }
            Proof::Construction(why) => println!("bug {}: {why}", self.number),
        }
    }

    fn holds(&self, scenario: impl Fn() -> Outcome) {
        if let Err(failure) = with_patience(PATIENCE[0], scenario) {
            panic!("bug {} is back: {failure}", self.number);
        }
    }

    fn is_noticed(&self, mutations: &str, scenario: impl Fn() -> Outcome) {
        let mut played = PATIENCE
            .iter()
            .map(|patience| with_patience(*patience, &scenario));
        let Some(failure) = played.find_map(Result::err) else {
            panic!("bug {}: nobody notices {mutations}", self.number);
        };
        println!("bug {} with {mutations}: {failure}", self.number);
        assert!(
            self.is_named_in(&failure),
            "bug {}: with {mutations} it is not one of I{:?} that breaks, but {failure}",
            self.number,
            self.invariants
        );
    }

    /// Panics if one mutation of several breaks the invariants alone: then the others do not belong to it.
    fn needs_all(&self, set: &[Mutation], scenario: fn(Probe) -> Outcome) {
        for alone in set.iter().filter(|_| set.len() > 1) {
            let probe = Probe::new().mutations([*alone]);
            let failure = with_patience(PATIENCE[0], || scenario(probe)).err();
            let breaks = failure.filter(|failure| self.is_named_in(failure));
            assert!(
                breaks.is_none(),
                "bug {}: {alone:?} is enough: {breaks:?}",
                self.number
            );
        }
    }

    fn is_named_in(&self, failure: &Failure) -> bool {
        self.invariants.iter().any(|number| failure.names(*number))
    }

    /// The bug as a row of a table.
    pub(crate) fn row(&self, test: &str) -> String {
        let invariants: Vec<_> = self.invariants.iter().map(|n| format!("I{n}")).collect();
        let proof = match self.proof {
            Proof::Protected(sets, _) => {
                let sets = sets.iter().map(|set| names(set.iter()));
                format!(
                    "fails with {}",
                    sets.collect::<Vec<_>>().join(", and with ")
                )
            }
            Proof::ProtectedInMap(mutations, _) => {
                format!("fails with {} (of the map)", names(mutations.iter()))
            }
            Proof::Construction(why) => format!("by construction: {why}"),
        };
        format!(
            "| {} | {} | {} | {} | `{test}` | {proof} |",
            self.number,
            self.fixed,
            self.kernel,
            invariants.join(", ")
        )
    }
}

fn names<T: fmt::Debug>(mutations: impl Iterator<Item = T>) -> String {
    let names: Vec<_> = mutations
        .map(|mutation| format!("`{mutation:?}`"))
        .collect();
    names.join(" and ")
}

/// Makes a test of each bug, under its name, and the list `BUGS` of them all.
macro_rules! regressions {
    ($($name:ident: $bug:expr,)*) => {
        /// The bugs of this file, with the names of their tests.
        pub(crate) const BUGS: &[(&str, $crate::bug::Bug)] = &[$((stringify!($name), $bug)),*];

        $(#[test]
        fn $name() {
            const BUG: $crate::bug::Bug = $bug;
            BUG.prove();
        })*
    };
}
pub(crate) use regressions;
