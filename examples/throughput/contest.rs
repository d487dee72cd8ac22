//! Contestants that work in turns, round by round, so that what disturbs the machine disturbs all of them.

use std::io;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use super::interrupt;
use super::latencies::Latencies;
use super::progress::Progress;
use super::spread::Spread;

/// How often everybody takes a turn.
pub(crate) const ROUNDS: usize = 5;
/// Before its time is taken a turn works for this part of it: the one before took the caches.
const WARM_UP: u32 = 5;
/// Between two looks at a turn from outside.
const GLANCE: Duration = Duration::from_millis(2);

/// What one thread does.
pub(crate) trait Work: Send {
    /// Does some operations, more than one only if they are quick; how many.
    fn some(&mut self, seen: &mut Latencies) -> io::Result<u64>;
}

/// What came of one turn.
#[derive(Debug)]
pub(crate) struct Turn {
    /// Operations per second.
    pub(crate) rate: f64,
    pub(crate) latencies: Latencies,
}

/// Lets all work side by side for so long, and has a glance before, now and then, and after: at memory, of which this
/// takes none between.
pub(crate) fn side_by_side(
    workers: Vec<impl Work>,
    time: Duration,
    mut glance: impl FnMut(),
) -> io::Result<Turn> {
    let start = &Barrier::new(workers.len());
    let mut cold = vec![Latencies::default(); workers.len()];
    let mut seen = cold.clone();
    let work = |mut worker, cold, seen| {
        start.wait();
        work_for(&mut worker, time / WARM_UP, cold)?;
        work_for(&mut worker, time, seen)
    };
    glance();
    let rates: io::Result<Vec<f64>> = thread::scope(|scope| {
        let places = cold.iter_mut().zip(&mut seen);
        let spawn = |(worker, (cold, seen))| scope.spawn(move || work(worker, cold, seen));
        let threads: Vec<_> = workers.into_iter().zip(places).map(spawn).collect();
        while !threads.iter().all(|thread| thread.is_finished()) {
            glance();
            thread::sleep(GLANCE);
        }
        let rates = threads.into_iter().map(|thread| thread.join());
        rates
            .map(|rate| rate.expect("a worker does not panic"))
            .collect()
    });
    glance();
    let (latencies, others) = seen.split_first_mut().expect("there is a worker");
    others.iter().for_each(|other| latencies.merge(other));
    Ok(Turn {
        rate: rates?.iter().sum(),
        latencies: latencies.clone(),
    })
}

/// Operations per second of one thread.
fn work_for(worker: &mut impl Work, time: Duration, seen: &mut Latencies) -> io::Result<f64> {
    let (start, mut operations) = (Instant::now(), 0);
    loop {
        operations += worker.some(seen)?;
        let spent = start.elapsed();
        if spent >= time || interrupt::wanted() {
            return Ok(operations as f64 / spent.as_secs_f64());
        }
    }
}

/// Somebody who takes turns.
pub(crate) trait Contestant {
    fn name(&self) -> &'static str;

    fn turn(&mut self, threads: usize, time: Duration) -> io::Result<Turn>;

    /// After a round: what it left to be done later is done now.
    fn settle(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// The most bytes that were not given back yet although nobody needed them, where that is known. Not of files: the
    /// memory of a volume is mostly pages that it keeps on purpose, and that of the system is out of sight.
    fn garbage(&mut self) -> Option<u64> {
        None
    }

    /// Looks at everything it was told to keep: what there is, or what is wrong.
    fn verify(&mut self) -> Result<String, String>;
}

/// What one contestant did with so many threads.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) threads: usize,
    /// Operations per second, round by round.
    pub(crate) rates: Vec<f64>,
    pub(crate) latencies: Latencies,
}

/// What one contestant did.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) by_threads: Vec<Measured>,
    pub(crate) garbage: Option<u64>,
}

/// What all contestants did. The first one is ours.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) title: &'static str,
    pub(crate) threads: Vec<usize>,
    pub(crate) entries: Vec<Entry>,
}

impl Outcome {
    pub(crate) fn new(title: &'static str, threads: &[usize], names: &[&'static str]) -> Self {
        let measured = |threads: &usize| Measured {
            threads: *threads,
            rates: Vec::new(),
            latencies: Latencies::default(),
        };
        let entry = |name: &&'static str| Entry {
            name,
            by_threads: threads.iter().map(measured).collect(),
            garbage: None,
        };
        Self {
            title,
            threads: threads.to_vec(),
            entries: names.iter().map(entry).collect(),
        }
    }

    /// Takes down a turn of a contestant with the number of threads at `place`.
    pub(crate) fn add(&mut self, contestant: usize, place: usize, turn: &Turn) {
        let measured = &mut self.entries[contestant].by_threads[place];
        measured.rates.push(turn.rate);
        measured.latencies.merge(&turn.latencies);
    }

    /// How many times as fast ours was as a contestant, within a round.
    pub(crate) fn ratio(&self, contestant: usize, place: usize) -> Option<Spread> {
        let rates = |contestant: usize| &self.entries[contestant].by_threads[place].rates;
        let rounds = rates(0).iter().zip(rates(contestant));
        Spread::of(rounds.map(|(ours, theirs)| ours / theirs))
    }
}

/// Lets all take turns, in each round with each number of threads; `time` in all. Ends early when it is interrupted.
pub(crate) fn contest(
    title: &'static str,
    threads: &[usize],
    time: Duration,
    contestants: &mut [Box<dyn Contestant + '_>],
    progress: &Progress,
) -> io::Result<Outcome> {
    let names: Vec<_> = contestants
        .iter()
        .map(|contestant| contestant.name())
        .collect();
    let mut outcome = Outcome::new(title, threads, &names);
    let turns = ROUNDS * threads.len() * contestants.len();
    let time = time / turns as u32 * WARM_UP / (WARM_UP + 1);
    progress.begin(title, turns);
    'all: for round in 0..ROUNDS {
        for (place, count) in threads.iter().enumerate() {
            for turn in 0..contestants.len() {
                // Who is first changes.
                let turn = (turn + round) % contestants.len();
                let contestant = &mut contestants[turn];
                let done = contestant.turn(*count, time);
                let done = done.map_err(|error| {
                    io::Error::new(error.kind(), format!("{}: {error}", contestant.name()))
                })?;
                if interrupt::wanted() {
                    break 'all;
                }
                outcome.add(turn, place, &done);
                progress.step();
            }
        }
        for contestant in &mut *contestants {
            contestant.settle()?;
        }
    }
    for (entry, contestant) in outcome.entries.iter_mut().zip(contestants) {
        entry.garbage = contestant.garbage();
    }
    Ok(outcome)
}
