//! Figures of several threads, by the time on the wall: readers beside readers, a reader beside a writer, and
//! what it may see there that was never so.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::hint::{black_box, spin_loop};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::candidates::{Locked, StdLocked};
use super::clock::{stay_on, thread_time};
use super::concurrent::{SharedMassTree, SharedSkipMap, SharedTreeIndex};
use super::contest::{Contestant, Plan, contest};
use super::edits;
use super::extents::{Anywhere, Extents, Pattern, Run, STRIDE};
use super::numbers::Random;
use super::ours::Ours;
use super::report::Report;
use super::spread::Spread;

const EXTENTS: u64 = 100_000;
/// Lookups between two looks at the clock.
const BATCH: u64 = 256;

/// How long threads work side by side in a round: longer than one thread alone, because the scheduler has a
/// hand in it.
fn together(plan: &Plan) -> Duration {
    plan.slice * 8
}

/// What time a reader's speed is told in. Readers of our map never wait, so the processor's time tells the same
/// as the wall's on a quiet machine, and still tells it on a busy one.
#[derive(Clone, Copy)]
enum Clock {
    Wall,
    Processor,
}

/// Random lookups of one reader for so long: nanoseconds per lookup.
fn read(map: &impl Extents, time: Duration, reader: u64, clock: Clock) -> f64 {
    let mut pattern = Anywhere::new(EXTENTS * STRIDE);
    pattern.random.mix(reader);
    let get = map.reader();
    let (mut lookups, start, used) = (0, Instant::now(), thread_time());
    while start.elapsed() < time {
        black_box(pattern.run(BATCH, &get));
        lookups += BATCH;
    }
    let spent = match clock {
        Clock::Wall => start.elapsed(),
        Clock::Processor => thread_time() - used,
    };
    spent.as_nanos() as f64 / lookups as f64
}

/// Nanoseconds per lookup of so many readers, counted together.
fn readers(map: &(impl Extents + Sync), count: usize, time: Duration, clock: Clock) -> f64 {
    let start = &Barrier::new(count);
    let one = move |core: usize| {
        stay_on(core);
        start.wait();
        read(map, time, core as u64, clock)
    };
    thread::scope(|scope| {
        let spawn = |core| scope.spawn(move || one(core));
        let threads: Vec<_> = (0..count).map(spawn).collect();
        let costs = threads.into_iter().map(|thread| thread.join());
        1.0 / costs
            .map(|cost| 1.0 / cost.expect("readers do not panic"))
            .sum::<f64>()
    })
}

pub(crate) fn two_readers(plan: &Plan, report: &mut Report) -> Vec<Spread> {
    const MEASURE: &str = "two readers, times one";
    const ONE: &str = "one";
    const TWO: &str = "two";
    fn gain<M: Extents + Sync>(plan: &Plan, clock: Clock) -> Spread {
        let map = &M::filled(EXTENTS, Run::dense);
        let time = together(plan);
        let contestants = vec![
            Contestant::new(ONE, || readers(map, 1, time, clock)),
            Contestant::new(TWO, || readers(map, 2, time, clock)),
        ];
        contest(plan, contestants).faster(TWO, ONE)
    }
    let ours = gain::<Ours>(plan, Clock::Wall);
    report.figure(MEASURE, Ours::NAME, ours.median);
    let locked = gain::<Locked>(plan, Clock::Wall);
    report.figure(MEASURE, Locked::NAME, locked.median);
    vec![ours, gain::<Ours>(plan, Clock::Processor)]
}

/// Does `read` on one core while another repeats `write`, every `pace` or as fast as it can.
fn beside<R: Send>(
    mut write: impl FnMut() + Send,
    pace: Option<Duration>,
    read: impl FnOnce() -> R + Send,
) -> R {
    let (start, stop) = (Barrier::new(2), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            stay_on(1);
            start.wait();
            let mut due = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                write();
                due += pace.unwrap_or_default();
                while pace.is_some() && Instant::now() < due {
                    spin_loop();
                }
            }
        });
        let reader = scope.spawn(|| {
            stay_on(0);
            start.wait();
            let result = read();
            stop.store(true, Ordering::Relaxed);
            result
        });
        reader.join().expect("readers do not panic")
    })
}

/// One map, with a reader alone and beside a writer.
struct Stage<M> {
    map: M,
    edits: Box<dyn Iterator<Item = Run> + Send>,
    time: Duration,
}

impl<M: Extents + Sync> Stage<M> {
    fn new(plan: &Plan) -> Self {
        Self {
            map: M::filled(EXTENTS, Run::dense),
            edits: Box::new(edits::split_and_merge(EXTENTS)),
            time: together(plan),
        }
    }

    /// What `read` tells of the map beside a writer.
    fn beside<R: Send>(
        &mut self,
        pace: Option<Duration>,
        read: impl FnOnce(&M, Duration) -> R + Send,
    ) -> R {
        let Self { map, edits, time } = self;
        let write = || edits.by_ref().take(1).for_each(|run| map.overwrite(run));
        beside(write, pace, || read(map, *time))
    }

    /// Nanoseconds per lookup beside a writer.
    fn with_writer(&mut self, pace: Option<Duration>, clock: Clock) -> f64 {
        self.beside(pace, |map, time| read(map, time, 0, clock))
    }

    /// What one lookup in a thousand takes longer than, beside a writer that does not rest.
    fn tail(&mut self) -> f64 {
        self.beside(None, |map, time| {
            let mut random = Random::default();
            let get = map.reader();
            let mut times = Histogram::default();
            let start = Instant::now();
            let mut before = start;
            while before - start < time {
                black_box(get(random.below(EXTENTS * STRIDE)));
                let now = Instant::now();
                times.add((now - before).as_nanos() as u64);
                before = now;
            }
            times.exceeded_by(1.0 / 1000.0)
        })
    }
}

/// How often which time was seen, to a sixteenth of it.
#[derive(Default)]
struct Histogram(Vec<u64>);

impl Histogram {
    fn add(&mut self, time: u64) {
        let exponent = time.max(16).ilog2() - 4;
        let bucket = (exponent * 16) as usize + (time >> exponent) as usize;
        if self.0.len() <= bucket {
            self.0.resize(bucket + 1, 0);
        }
        self.0[bucket] += 1;
    }

    /// The time that this share of all exceeds.
    fn exceeded_by(&self, share: f64) -> f64 {
        let mut left = (self.0.iter().sum::<u64>() as f64 * share) as u64;
        let over = |count: &u64| {
            let beyond = left >= *count;
            left = left.saturating_sub(*count);
            !beyond
        };
        let bucket = self.0.iter().rposition(over).unwrap_or(0);
        let exponent = (bucket / 16).saturating_sub(1);
        ((bucket - exponent * 16) << exponent) as f64
    }
}

/// The share of its speed alone that a reader keeps beside a writer.
fn kept<M: Extents + Sync>(plan: &Plan, pace: Option<Duration>, clock: Clock) -> Spread {
    const ALONE: &str = "alone";
    const BESIDE: &str = "beside";
    let stage = &RefCell::new(Stage::<M>::new(plan));
    let alone = || {
        let stage = stage.borrow();
        readers(&stage.map, 1, stage.time, clock)
    };
    let contestants = vec![
        Contestant::new(ALONE, alone),
        Contestant::new(BESIDE, || stage.borrow_mut().with_writer(pace, clock)),
    ];
    contest(plan, contestants).faster(BESIDE, ALONE)
}

pub(crate) fn free_writer(plan: &Plan, report: &mut Report) -> Vec<Spread> {
    fn beside<M: Extents + Sync + 'static>(plan: &Plan) -> Contestant<'static> {
        let mut stage = Stage::<M>::new(plan);
        Contestant::new(M::NAME, move || stage.with_writer(None, Clock::Wall))
    }
    let contestants = vec![
        beside::<Ours>(plan),
        beside::<Locked>(plan),
        beside::<StdLocked>(plan),
    ];
    let outcome = contest(plan, contestants);
    report.costs("lookup 1e5 beside a writer, ns", &outcome);
    vec![
        outcome.faster(Ours::NAME, Locked::NAME),
        outcome.faster(Ours::NAME, StdLocked::NAME),
        kept::<Ours>(plan, None, Clock::Wall),
        kept::<Ours>(plan, None, Clock::Processor),
    ]
}

pub(crate) fn tail(plan: &Plan, report: &mut Report) -> Vec<Spread> {
    fn tail<M: Extents + Sync + 'static>(plan: &Plan) -> Contestant<'static> {
        let mut stage = Stage::<M>::new(plan);
        Contestant::new(M::NAME, move || stage.tail())
    }
    let contestants = vec![
        tail::<Ours>(plan),
        tail::<Locked>(plan),
        tail::<StdLocked>(plan),
    ];
    let outcome = contest(plan, contestants);
    report.costs("p99.9 beside a writer, ns", &outcome);
    vec![outcome.faster(Ours::NAME, StdLocked::NAME)]
}

pub(crate) fn paced_writer(plan: &Plan, report: &mut Report) -> Vec<Spread> {
    const MEASURE: &str = "kept beside 100,000 edits/s";
    const PACE: Option<Duration> = Some(Duration::from_micros(10));
    let ours = kept::<Ours>(plan, PACE, Clock::Wall);
    report.figure(MEASURE, Ours::NAME, ours.median);
    let locked = kept::<Locked>(plan, PACE, Clock::Wall);
    report.figure(MEASURE, Locked::NAME, locked.median);
    vec![ours, kept::<Ours>(plan, PACE, Clock::Processor)]
}

/// How many extents one overwrite of [`wide_and_narrow`] covers: more than any node holds.
const WIDE: u64 = 100;

/// Splits and merges, and now and then one overwrite of many extents that are put back one by one.
fn wide_and_narrow(extents: u64) -> impl Iterator<Item = Run> {
    let mut narrow = edits::split_and_merge(extents);
    let mut random = Random::default();
    let mut queue = VecDeque::new();
    std::iter::from_fn(move || {
        if queue.is_empty() {
            queue.extend(narrow.by_ref().take(64));
            let first = random.below(extents - WIDE + 1);
            let (start, end) = (Run::dense(first).first, Run::dense(first + WIDE).first);
            queue.push_back(Run::tagged(3, start, end - 1));
            queue.extend((first..first + WIDE).map(Run::dense));
        }
        queue.pop_front()
    })
}

/// Answers per million lookups that were never right, beside a writer that does `write`: in these edits
/// every block always has an extent, and the value of a block always tells the block.
fn impossible(
    map: &(impl Extents + Sync),
    extents: u64,
    time: Duration,
    write: impl FnMut() + Send,
) -> f64 {
    let (wrong, lookups) = beside(write, None, || {
        let mut random = Random::default();
        let get = map.reader();
        let (mut wrong, mut lookups, start) = (0, 0, Instant::now());
        while start.elapsed() < time {
            for _ in 0..BATCH {
                let block = random.below(extents * STRIDE);
                let right = |run: Run| run.contains(block) && run.at(block) << 24 >> 24 == block;
                wrong += u64::from(!get(block).is_some_and(right));
            }
            lookups += BATCH;
        }
        (wrong, lookups)
    });
    wrong as f64 * 1e6 / lookups as f64
}

/// The impossible answers of a candidate beside [`wide_and_narrow`] edits.
fn impossible_beside_overwrites<M: Extents + Sync>(extents: u64, time: Duration) -> f64 {
    let map = M::filled(extents, Run::dense);
    let mut edits = wide_and_narrow(extents);
    let write = || edits.by_ref().take(1).for_each(|run| map.overwrite(run));
    impossible(&map, extents, time, write)
}

/// Those of our map beside updates that change the values of many extents, and change them back.
fn impossible_beside_updates(extents: u64, time: Duration) -> f64 {
    let map = Ours::filled(extents, Run::dense);
    let mut random = Random::default();
    let write = || {
        let first = random.below(extents - WIDE + 1);
        let range = Run::dense(first).first..Run::dense(first + WIDE).first;
        for _ in 0..2 {
            let mut editor = map.edit();
            let changed = editor.update(range.clone(), |extent| Some(extent.value() ^ 1 << 62));
            changed.expect("not empty");
        }
    };
    impossible(&map, extents, time, write)
}

pub(crate) fn never_true(plan: &Plan, report: &mut Report) -> Vec<Spread> {
    const MEASURE: &str = "impossible answers per million, 200 extents";
    let time = together(plan) * plan.rounds as u32;
    let small = impossible_beside_overwrites::<Ours>(200, time);
    report.figure(MEASURE, Ours::NAME, small);
    let others = [
        (
            Locked::NAME,
            impossible_beside_overwrites::<Locked> as fn(_, _) -> _,
        ),
        (
            SharedSkipMap::NAME,
            impossible_beside_overwrites::<SharedSkipMap>,
        ),
        (
            SharedTreeIndex::NAME,
            impossible_beside_overwrites::<SharedTreeIndex>,
        ),
        (
            SharedMassTree::NAME,
            impossible_beside_overwrites::<SharedMassTree>,
        ),
    ];
    for (name, impossible) in others {
        report.figure(MEASURE, name, impossible(200, time / 4));
    }
    let found = [
        small + impossible_beside_updates(200, time),
        impossible_beside_overwrites::<Ours>(EXTENTS, time)
            + impossible_beside_updates(EXTENTS, time),
    ];
    found.map(Spread::once).into()
}
