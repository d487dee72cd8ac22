//! Figures of one thread alone.

use super::candidates::{Locked, Visit, everybody, loadable};
use super::clock::timed;
use super::concurrent::SharedSkipMap;
use super::contest::{Contestant, Outcome, Plan, contest};
use super::edits;
use super::extents::{Anywhere, Dependent, Extents, InOrder, Pattern, Run, STRIDE};
use super::floor::Floor;
use super::locked::CachedLast;
use super::ordered::run;
use super::ours::Ours;
use super::report::Report;
use super::spread::Spread;

const OURS: &str = Ours::NAME;
const TOGETHER: &str = "ExtentMap, 128 at a time";
const LOCKED: &str = Locked::NAME;

/// Lookups of a pattern through the reader of a map.
fn lookups<M: Extents + 'static, P: Pattern + 'static>(
    plan: &Plan,
    extents: u64,
    data: fn(u64) -> Run,
) -> Contestant<'static> {
    let map = M::filled(extents, data);
    let mut pattern = P::new(extents * STRIDE);
    Contestant::timed(M::NAME, plan, move |lookups| {
        timed(|| pattern.run(lookups, map.reader()))
    })
}

/// Lookups of a pattern in the floor.
fn floor<P: Pattern + 'static>(
    plan: &Plan,
    extents: u64,
    data: fn(u64) -> Run,
) -> Contestant<'static> {
    let floor = Floor::filled(extents, data);
    let mut pattern = P::new(extents * STRIDE);
    Contestant::timed(Floor::NAME, plan, move |lookups| {
        timed(|| floor.read(&mut pattern, lookups))
    })
}

/// Random lookups in our map, many at a time.
fn together(plan: &Plan, extents: u64) -> Contestant<'static> {
    let map = Ours::filled(extents, Run::dense);
    let mut pattern = Anywhere::new(extents * STRIDE);
    Contestant::timed(TOGETHER, plan, move |lookups| {
        timed(|| {
            let view = map.pin();
            pattern.run_together(lookups, |blocks| {
                let mut sum = 0_u64;
                view.get_many(blocks, |block, found| {
                    let found = found.map(Run::from);
                    sum = sum.wrapping_add(found.map_or(0, |run| run.at(block)));
                });
                sum
            })
        })
    })
}

/// Random lookups by everybody.
fn random_lookups(plan: &Plan, extents: u64) -> Outcome {
    struct Lookups<'p>(&'p Plan, u64, Vec<Contestant<'static>>);
    impl Visit for Lookups<'_> {
        fn visit<M: Extents + 'static>(&mut self) {
            let Self(plan, extents, contestants) = self;
            contestants.push(lookups::<M, Anywhere>(plan, *extents, Run::dense));
        }
    }
    let mut visitor = Lookups(plan, extents, Vec::new());
    everybody(&mut visitor);
    visitor.2.push(floor::<Anywhere>(plan, extents, Run::dense));
    visitor.2.push(together(plan, extents));
    contest(plan, visitor.2)
}

pub(crate) fn random(
    plan: &Plan,
    report: &mut Report,
    measure: &'static str,
    extents: u64,
) -> Vec<Spread> {
    let outcome = random_lookups(plan, extents);
    report.costs(measure, &outcome);
    vec![
        outcome.faster(OURS, LOCKED),
        outcome.faster(Floor::NAME, OURS),
        outcome.faster(OURS, SharedSkipMap::NAME),
        outcome.faster(TOGETHER, LOCKED),
        outcome.faster(Floor::NAME, TOGETHER),
    ]
}

/// With holes, so that a lookup may miss.
pub(crate) fn holed(
    plan: &Plan,
    report: &mut Report,
    measure: &'static str,
    extents: u64,
) -> Vec<Spread> {
    let contestants = vec![
        lookups::<Ours, Anywhere>(plan, extents, Run::holed),
        lookups::<Locked, Anywhere>(plan, extents, Run::holed),
        floor::<Anywhere>(plan, extents, Run::holed),
    ];
    let outcome = contest(plan, contestants);
    report.costs(measure, &outcome);
    vec![
        outcome.faster(OURS, LOCKED),
        outcome.faster(Floor::NAME, OURS),
    ]
}

pub(crate) fn dependent(plan: &Plan, report: &mut Report) -> Vec<Spread> {
    const EXTENTS: u64 = 1_000_000;
    let contestants = vec![
        lookups::<Ours, Dependent>(plan, EXTENTS, Run::dense),
        lookups::<Locked, Dependent>(plan, EXTENTS, Run::dense),
        floor::<Dependent>(plan, EXTENTS, Run::dense),
    ];
    let outcome = contest(plan, contestants);
    report.costs("dependent 1e6, ns", &outcome);
    vec![outcome.faster(Floor::NAME, OURS)]
}

pub(crate) fn sequential(plan: &Plan, report: &mut Report) -> Vec<Spread> {
    const EXTENTS: u64 = 100_000;
    let contestants = vec![
        lookups::<Ours, InOrder>(plan, EXTENTS, Run::dense),
        lookups::<Locked, InOrder>(plan, EXTENTS, Run::dense),
        lookups::<CachedLast, InOrder>(plan, EXTENTS, Run::dense),
        floor::<InOrder>(plan, EXTENTS, Run::dense),
    ];
    let outcome = contest(plan, contestants);
    report.costs("sequential 1e5, ns", &outcome);
    vec![outcome.faster(OURS, CachedLast::NAME)]
}

/// Lookups without a view that is kept.
pub(crate) fn own_pin(plan: &Plan, report: &mut Report) -> Vec<Spread> {
    const EXTENTS: u64 = 100_000;
    let map = Ours::filled(EXTENTS, Run::dense);
    let mut pattern = Anywhere::new(EXTENTS * STRIDE);
    let own_pin = Contestant::timed(OURS, plan, move |lookups| {
        timed(|| pattern.run(lookups, |block| map.get(block).map(Run::from)))
    });
    let locked = lookups::<Locked, Anywhere>(plan, EXTENTS, Run::dense);
    let outcome = contest(plan, vec![own_pin, locked]);
    report.costs("with own pin 1e5, ns", &outcome);
    vec![outcome.faster(OURS, LOCKED)]
}

/// Overwrites in a map of 1e5 extents by everybody.
fn writes<E: Iterator<Item = Run> + 'static>(plan: &Plan, edits: fn(u64) -> E) -> Outcome {
    const EXTENTS: u64 = 100_000;
    struct Writes<'p, E>(&'p Plan, fn(u64) -> E, Vec<Contestant<'static>>);
    impl<E: Iterator<Item = Run> + 'static> Visit for Writes<'_, E> {
        fn visit<M: Extents + 'static>(&mut self) {
            let map = M::filled(EXTENTS, Run::dense);
            let mut edits = (self.1)(EXTENTS);
            let work = move |count| {
                let edits = edits.by_ref().take(count as usize);
                timed(|| edits.for_each(|run| map.overwrite(run)))
            };
            self.2.push(Contestant::timed(M::NAME, self.0, work));
        }
    }
    let mut visitor = Writes(plan, edits, Vec::new());
    everybody(&mut visitor);
    contest(plan, visitor.2)
}

pub(crate) fn split_and_merge(plan: &Plan, report: &mut Report) -> Vec<Spread> {
    let outcome = writes(plan, edits::split_and_merge);
    report.costs("split + merge, ns", &outcome);
    vec![outcome.faster(OURS, LOCKED)]
}

pub(crate) fn overwrite(plan: &Plan, report: &mut Report) -> Vec<Spread> {
    let outcome = writes(plan, edits::overwrites);
    report.costs("overwrite 1..64, ns", &outcome);
    vec![outcome.faster(OURS, LOCKED)]
}

pub(crate) fn flip(plan: &Plan, report: &mut Report) -> Vec<Spread> {
    let outcome = writes(plan, edits::flips);
    report.costs("flip, ns", &outcome);
    vec![outcome.faster(OURS, LOCKED)]
}

/// Loading of a new map in each round, by everybody who does not copy it all each time.
fn load<E: Iterator<Item = Run> + 'static>(plan: &Plan, edits: fn() -> E) -> Outcome {
    const EXTENTS: u32 = 100_000;
    struct Load<E>(fn() -> E, Vec<Contestant<'static>>);
    impl<E: Iterator<Item = Run> + 'static> Visit for Load<E> {
        fn visit<M: Extents + 'static>(&mut self) {
            let edits = self.0;
            let round = move || {
                let map = M::default();
                let edits = edits().take(EXTENTS as usize);
                let time = timed(|| edits.for_each(|run| map.overwrite(run)));
                time.as_nanos() as f64 / f64::from(EXTENTS)
            };
            self.1.push(Contestant::new(M::NAME, round));
        }
    }
    let mut visitor = Load(edits, Vec::new());
    loadable(&mut visitor);
    contest(plan, visitor.1)
}

pub(crate) fn append(plan: &Plan, report: &mut Report) -> Vec<Spread> {
    let apart = load(plan, edits::appends);
    report.costs("append, ns", &apart);
    let merging = load(plan, edits::merging_appends);
    report.costs("merging append, ns", &merging);
    [apart, merging]
        .map(|outcome| outcome.faster(OURS, LOCKED))
        .into()
}

/// A walk over all extents, against the tree without its lock.
pub(crate) fn walk(plan: &Plan, report: &mut Report) -> Vec<Spread> {
    const EXTENTS: u64 = 1_000_000;
    const TREE: &str = "BTreeMap";
    fn walks<'w>(name: &'static str, walk: impl Fn() -> u64 + 'w) -> Contestant<'w> {
        Contestant::new(name, move || {
            // What ran before took the caches.
            std::hint::black_box(walk());
            timed(&walk).as_nanos() as f64 / EXTENTS as f64
        })
    }
    fn sum(runs: impl Iterator<Item = Run>) -> u64 {
        runs.fold(0, |sum, run| sum.wrapping_add(run.last ^ run.value))
    }
    let map = Ours::filled(EXTENTS, Run::dense);
    let tree = Locked::filled(EXTENTS, Run::dense).into_inner();
    let contestants = vec![
        walks(OURS, || sum(map.pin().iter().map(Run::from))),
        walks(TREE, || sum(tree.iter().map(run))),
    ];
    let outcome = contest(plan, contestants);
    report.costs("walk 1e6, ns", &outcome);
    vec![outcome.faster(OURS, TREE)]
}
