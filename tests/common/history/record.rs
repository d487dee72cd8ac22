//! Threads that edit and read one map and write down what they did and saw.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;

use extent_map::map::{Editor, Extent, ExtentMap, Lookup, Pinned};

use super::{Change, Edit, Fact, History, Reads, Span, Tile};
use crate::random::Random;

/// Values of different lines never belong to one extent: the value of a block is its line's number
/// times this, plus the block.
const LINE: u64 = 1 << 16;
/// Lines that edits come back to, so that extents of different edits merge.
const COMMON_LINES: u64 = 4;
/// As many extents as a walk reads from one state.
const WALK: usize = 64;

/// How a reader reads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Gets with a pin of their own, anywhere.
    Get,
    /// Gets through a view, anywhere.
    View,
    /// Gets through a view, block by block.
    Sequential,
    /// Lookups, of which also the gaps count.
    Lookup,
    /// The next extent from somewhere on.
    Next,
    /// Walks over a bounded range.
    Walk,
}

/// What threads do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    pub(crate) name: &'static str,
    /// The blocks below this one are in use; about every fifth begins an extent.
    space: u64,
    /// One in so many edits is of hundreds of blocks.
    large: u64,
    /// A reader's turns: some reads of one kind, drawn from these.
    kinds: &'static [Kind],
}

/// What is worth recording.
pub(crate) const MIXES: [Mix; 4] = [
    Mix {
        name: "small and hot",
        space: 800,
        large: 4096,
        kinds: &[Kind::Get, Kind::View, Kind::Lookup, Kind::Next],
    },
    Mix {
        name: "large edits",
        space: 4096,
        large: 4,
        kinds: &[Kind::Get, Kind::Next, Kind::Sequential, Kind::Walk],
    },
    Mix {
        name: "walks",
        space: 800,
        large: 512,
        kinds: &[Kind::Walk],
    },
    Mix {
        name: "views",
        space: 400,
        large: 1024,
        kinds: &[Kind::Sequential, Kind::Sequential, Kind::View, Kind::Lookup],
    },
];

/// What all threads share.
struct Run<'m> {
    map: &'m ExtentMap<u64>,
    mix: Mix,
    /// Two ticks are in the order of what was done between them.
    clock: AtomicU64,
    /// Readers that are not done.
    readers: AtomicUsize,
}

impl Run<'_> {
    fn tick(&self) -> u64 {
        // AcqRel: who sees a tick sees what was done before it, on any machine.
        self.clock.fetch_add(1, Ordering::AcqRel)
    }

    fn timed<T>(&self, act: impl FnOnce() -> T) -> (Span, T) {
        let start = self.tick();
        let done = act();
        let end = self.tick();
        (Span { start, end }, done)
    }
}

/// Lets `threads` threads work on the empty `map`, half of them as writers, until each of the others
/// has read `reads` times.
pub(crate) fn record(
    map: &ExtentMap<u64>,
    mix: Mix,
    threads: usize,
    reads: usize,
    seed: u64,
) -> History {
    let writers = (threads / 2).max(1);
    let readers = (threads - writers).max(1);
    let run = Run {
        map,
        mix,
        clock: AtomicU64::new(0),
        readers: AtomicUsize::new(readers),
    };
    let run = &run;
    let worker = |thread: usize| Worker {
        run,
        random: Random(seed ^ ((thread as u64) << 48)),
        edits: Vec::new(),
        reads: Reads::default(),
    };
    let mut filler = worker(0);
    filler.fill(0, mix.space);
    let mut workers = thread::scope(|scope| {
        let start = |thread| {
            let worker = worker(thread);
            scope.spawn(move || match thread <= writers {
                true => worker.write(2 * reads),
                false => worker.read(reads),
            })
        };
        let threads: Vec<_> = (1..=writers + readers).map(start).collect();
        // Joined one by one: race detectors do not see that the end of a scope waits.
        let done = threads.into_iter().map(|thread| thread.join().unwrap());
        done.collect::<Vec<_>>()
    });
    workers.push(filler);
    let (mut edits, mut all_reads) = (Vec::new(), Vec::new());
    for worker in workers {
        edits.extend(worker.edits);
        all_reads.push(worker.reads);
    }
    // Both ticks of an edit were under the writer lock.
    edits.sort_unstable_by_key(|edit| edit.span.start);
    History {
        space: mix.space,
        edits,
        reads: all_reads,
    }
}

/// One thread and what it wrote down.
struct Worker<'r> {
    run: &'r Run<'r>,
    random: Random,
    edits: Vec<Edit>,
    reads: Reads,
}

impl Worker<'_> {
    fn edit(&mut self, editor: &mut Editor<'_, u64>, first: u64, last: u64, change: Change) {
        let (span, replaced) = self.run.timed(|| match change {
            Change::Insert(value) => editor.insert(first..=last, value),
            Change::Remove => editor.remove(first..=last),
            Change::Shift(by) => editor.update(first..=last, |old| Some(old.value() + by)),
        });
        let replaced = replaced.expect("the range is not empty");
        self.edits.push(Edit {
            span,
            first,
            last,
            change,
            replaced: replaced.into_iter().map(Tile::from).collect(),
        });
    }

    fn small_insert(&mut self, editor: &mut Editor<'_, u64>, first: u64, last: u64) {
        let line = match self.random.below(2) {
            0 => self.random.below(COMMON_LINES),
            // A line that no other edit has.
            _ => COMMON_LINES + self.run.tick(),
        };
        self.edit(editor, first, last, Change::Insert(line * LINE + first));
    }

    /// Many small extents in `first..end`.
    fn fill(&mut self, first: u64, end: u64) {
        let mut block = first;
        while block < end {
            let len = 1 + self.random.below(4);
            let last = (block + len - 1).min(end - 1);
            self.small_insert(&mut self.run.map.edit(), block, last);
            block += len + self.random.below(4);
        }
    }

    fn write(mut self, most: usize) -> Self {
        let (map, mix) = (self.run.map, self.run.mix);
        let mut look: Option<(u64, Lookup<u64>)> = None;
        while self.run.readers.load(Ordering::Relaxed) > 0 && self.edits.len() < most {
            self.make_way();
            if self.random.below(4) == 0 {
                let block = self.random.below(mix.space);
                look = Some((block, map.lookup(block)));
            }
            let first = self.random.below(mix.space);
            let mut editor = map.edit();
            if let Some((block, look)) = &look {
                let (span, valid) = self.run.timed(|| editor.revalidate(look));
                // What a valid look saw is true now.
                if valid {
                    self.reads.push(span, [around(*block, look)]);
                }
            }
            if self.random.below(mix.large) == 0 {
                let len = 256 + self.random.below(mix.space / 2);
                self.large_edit(editor, first, (first + len).min(mix.space - 1));
            } else {
                let last = (first + self.random.below(6)).min(mix.space - 1);
                match self.random.below(4) {
                    0 => self.edit(&mut editor, first, last, Change::Remove),
                    1 => self.edit(&mut editor, first, last, Change::Shift(LINE)),
                    _ => self.small_insert(&mut editor, first, last),
                }
            }
        }
        self
    }

    /// Lets others run now and then: where cores are few, threads would run one after the other.
    fn make_way(&mut self) {
        if self.random.below(32) == 0 {
            thread::yield_now();
        }
    }

    /// An edit of many extents, which are there again afterwards.
    fn large_edit(&mut self, mut editor: Editor<'_, u64>, first: u64, last: u64) {
        let line = 1 + self.random.below(COMMON_LINES);
        let change = match self.random.below(32) {
            0 => Change::Insert(line * LINE + first),
            1 => Change::Remove,
            _ => Change::Shift(line * LINE),
        };
        self.edit(&mut editor, first, last, change);
        drop(editor);
        if !matches!(change, Change::Shift(_)) {
            self.fill(first, last + 1);
        }
    }

    fn read(mut self, reads: usize) -> Self {
        let (map, mix) = (self.run.map, self.run.mix);
        let mut view = map.pin();
        while self.reads.reads.len() < reads {
            let kind = mix.kinds[self.random.below(mix.kinds.len() as u64) as usize];
            let from = self.random.below(mix.space);
            for by in 0..1 + self.random.below(100) {
                let block = match kind {
                    Kind::Sequential => (from + by) % mix.space,
                    _ => self.random.below(mix.space),
                };
                self.read_once(&view, kind, block);
                self.make_way();
            }
            if self.random.below(16) == 0 {
                view = map.pin();
            }
        }
        self.run.readers.fetch_sub(1, Ordering::Relaxed);
        self
    }

    fn read_once(&mut self, view: &Pinned<'_, u64>, kind: Kind, block: u64) {
        let run = self.run;
        match kind {
            Kind::Get => {
                let (span, found) = run.timed(|| run.map.get(block));
                self.reads.push(span, [at(block, found)]);
            }
            Kind::View | Kind::Sequential => {
                let (span, found) = run.timed(|| view.get(block));
                self.reads.push(span, [at(block, found)]);
            }
            Kind::Lookup => {
                let (span, look) = run.timed(|| view.lookup(block));
                self.reads.push(span, [around(block, &look)]);
            }
            Kind::Next => {
                let (span, found) = run.timed(|| view.next_from(block));
                let facts = listed(block, u64::MAX, found.into_iter().collect(), 1);
                self.reads.push(span, facts);
            }
            Kind::Walk => {
                let last = block + self.random.below(2048);
                let walk = || view.overlapping(block..=last).take(WALK).collect();
                let (span, found) = run.timed(walk);
                self.reads.push(span, listed(block, last, found, WALK));
            }
        }
    }
}

/// What the answer of a get says.
fn at(block: u64, found: Option<Extent<u64>>) -> Fact {
    match found {
        Some(extent) => {
            assert!(extent.contains(block), "{extent:?} for {block}");
            Fact::Tile(extent.into())
        }
        None => Fact::Hole(block, block),
    }
}

/// What the answer of a lookup says.
fn around(block: u64, look: &Lookup<u64>) -> Fact {
    match look.gap() {
        Some(gap) => {
            assert!(gap.contains(&block), "gap {gap:?} for {block}");
            Fact::Tile(Tile {
                first: *gap.start(),
                last: *gap.end(),
                value: None,
            })
        }
        None => at(block, look.extent()),
    }
}

/// What it says that these are the extents in `first..=last`, or the first `most` of them.
fn listed(first: u64, last: u64, extents: Vec<Extent<u64>>, most: usize) -> Vec<Fact> {
    let mut facts = Vec::with_capacity(2 * extents.len() + 1);
    let mut next = Some(first);
    for extent in &extents {
        let from = next.expect("nothing lies behind the last block");
        let in_order = from <= extent.last() && extent.start() <= last;
        assert!(in_order, "{extents:?} in {first}..={last}");
        if from < extent.start() {
            facts.push(Fact::Hole(from, extent.start() - 1));
        }
        facts.push(Fact::Tile((*extent).into()));
        next = extent.last().checked_add(1);
    }
    let rest = next.filter(|from| *from <= last && extents.len() < most);
    facts.extend(rest.map(|from| Fact::Hole(from, last)));
    facts
}
