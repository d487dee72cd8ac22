//! What can be watched.

use extent_map::map::ExtentMap;

use super::Of;
use super::history::{MIXES, check, record};
use super::linear::{Verdict, file, status};

/// Reads of one reader of a map in one round.
const READS: usize = 20_000;

/// Something to watch.
pub(super) struct Subject {
    pub(super) name: String,
    /// One round with this seed.
    pub(super) round: Box<dyn Fn(u64) -> (usize, Verdict)>,
    pub(super) rounds_done: u64,
}

/// What `of` stands for, for so many threads.
pub(super) fn of(of: Of, threads: usize) -> Vec<Subject> {
    let mut subjects = Vec::new();
    let mut add = |name: String, round: Box<dyn Fn(u64) -> (usize, Verdict)>| {
        let rounds_done = 0;
        subjects.push(Subject {
            name,
            round,
            rounds_done,
        });
    };
    if matches!(of, Of::File | Of::All) {
        for shape in file::SHAPES {
            let plan = file::Plan {
                // More would take too long to explain.
                threads: threads.min(3),
                ..file::Plan::of(shape)
            };
            let round = move |seed| plan.round(seed);
            add(format!("file, {}", shape.name), Box::new(round));
        }
    }
    if matches!(of, Of::Status | Of::All) {
        for ratio in [1, 4] {
            let plan = status::Plan {
                threads,
                ..status::Plan::of(ratio)
            };
            let round = move |seed| plan.round(seed);
            add(format!("status, clusters of {ratio}"), Box::new(round));
        }
    }
    if matches!(of, Of::Map | Of::All) {
        for mix in MIXES {
            let round = move |seed| {
                let history = record(&ExtentMap::new(), mix, threads, READS, seed);
                let verdict = match check(&history) {
                    Ok(()) => Verdict::Explained,
                    Err(violation) => Verdict::Violated(violation.to_string()),
                };
                (history.operations(), verdict)
            };
            add(format!("map, {}", mix.name), Box::new(round));
        }
    }
    subjects
}
