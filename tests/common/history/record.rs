//! Threads that edit and read one map and write down what they did and saw.

use std::sync::Mutex;
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
        space: 4096,
        large: 64,
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
    edits: Mutex<Vec<Edit>>,
    /// Readers that are not done.
    readers: AtomicUsize,
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
        edits: Mutex::default(),
        readers: AtomicUsize::new(readers),
    };
    run.fill(0, mix.space, &mut Random(seed));
    let most_edits = reads * readers + mix.space as usize;
    let logs = thread::scope(|scope| {
        let run = &run;
        let random = |thread: usize| Random(seed ^ (thread as u64 + 1) << 48);
        let write = |thread| scope.spawn(move || run.write(most_edits, random(thread)));
        let read = |thread| scope.spawn(move || run.read(reads, random(thread)));
        let writing: Vec<_> = (0..writers).map(write).collect();
        let reading: Vec<_> = (writers..writers + readers).map(read).collect();
        let threads = writing.into_iter().chain(reading);
        // Joined one by one: race detectors do not see that the end of a scope waits.
        threads.map(|thread| thread.join().unwrap()).collect()
    });
    History {
        space: mix.space,
        edits: run.edits.into_inner().unwrap(),
        reads: logs,
    }
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

    fn edit(&self, editor: &mut Editor<'_, u64>, first: u64, last: u64, change: Change) {
        let (span, replaced) = self.timed(|| match change {
            Change::Insert(value) => editor.insert(first..=last, value),
            Change::Remove => editor.remove(first..=last),
            Change::Shift(by) => editor.update(first..=last, |old| Some(old.value() + by)),
        });
        let replaced = replaced.expect("the range is not empty");
        // In the order of the edits: the editor is still there.
        self.edits.lock().unwrap().push(Edit {
            span,
            first,
            last,
            change,
            replaced: replaced.into_iter().map(Tile::from).collect(),
        });
    }

    /// Many small extents in `first..end`.
    fn fill(&self, first: u64, end: u64, random: &mut Random) {
        let mut block = first;
        while block < end {
            let len = 1 + random.below(4);
            let last = (block + len - 1).min(end - 1);
            self.small_edit(&mut self.map.edit(), block, last, random);
            block += len + random.below(4);
        }
    }

    fn small_edit(&self, editor: &mut Editor<'_, u64>, first: u64, last: u64, random: &mut Random) {
        let line = match random.below(2) == 0 {
            true => random.below(COMMON_LINES),
            // A line that no other edit has.
            false => COMMON_LINES + self.clock.load(Ordering::Relaxed),
        };
        self.edit(editor, first, last, Change::Insert(line * LINE + first));
    }

    fn write(&self, most: usize, mut random: Random) -> Reads {
        let mut log = Reads::default();
        let space = self.mix.space;
        let mut look: Option<(u64, Lookup<u64>)> = None;
        while self.readers.load(Ordering::Relaxed) > 0 && self.edits.lock().unwrap().len() < most {
            if random.below(4) == 0 {
                let block = random.below(space);
                look = Some((block, self.map.lookup(block)));
            }
            let first = random.below(space);
            let mut editor = self.map.edit();
            if let Some((block, look)) = &look {
                let (span, valid) = self.timed(|| editor.revalidate(look));
                // What a valid look saw is true now.
                if valid {
                    log.push(span, [around(*block, look)]);
                }
            }
            if random.below(self.mix.large) == 0 {
                let last = (first + 256 + random.below(space / 2)).min(space - 1);
                let line = 1 + random.below(COMMON_LINES);
                let change = match random.below(32) {
                    0 => Change::Insert(line * LINE + first),
                    1 => Change::Remove,
                    _ => Change::Shift(line * LINE),
                };
                self.edit(&mut editor, first, last, change);
                drop(editor);
                if !matches!(change, Change::Shift(_)) {
                    self.fill(first, last + 1, &mut random);
                }
            } else {
                let last = (first + random.below(6)).min(space - 1);
                match random.below(3) == 0 {
                    true => self.edit(&mut editor, first, last, Change::Remove),
                    false => self.small_edit(&mut editor, first, last, &mut random),
                }
            }
        }
        log
    }

    fn read(&self, reads: usize, mut random: Random) -> Reads {
        let mut log = Reads::default();
        let mut view = self.map.pin();
        while log.reads.len() < reads {
            let kind = random.below(self.mix.kinds.len() as u64);
            let from = random.below(self.mix.space);
            for by in 0..1 + random.below(100) {
                let block = match self.mix.kinds[kind as usize] {
                    Kind::Sequential => (from + by) % self.mix.space,
                    _ => random.below(self.mix.space),
                };
                self.read_once(
                    &view,
                    self.mix.kinds[kind as usize],
                    block,
                    &mut random,
                    &mut log,
                );
            }
            if random.below(16) == 0 {
                view = self.map.pin();
            }
        }
        self.readers.fetch_sub(1, Ordering::Relaxed);
        log
    }

    fn read_once(
        &self,
        view: &Pinned<'_, u64>,
        kind: Kind,
        block: u64,
        random: &mut Random,
        log: &mut Reads,
    ) {
        match kind {
            Kind::Get => {
                let (span, found) = self.timed(|| self.map.get(block));
                log.push(span, [at(block, found)]);
            }
            Kind::View | Kind::Sequential => {
                let (span, found) = self.timed(|| view.get(block));
                log.push(span, [at(block, found)]);
            }
            Kind::Lookup => {
                let (span, look) = self.timed(|| view.lookup(block));
                log.push(span, [around(block, &look)]);
            }
            Kind::Next => {
                let (span, found) = self.timed(|| view.next_from(block));
                log.push(
                    span,
                    listed(block, u64::MAX, found.into_iter().collect(), 1),
                );
            }
            Kind::Walk => {
                let last = block + random.below(512);
                let (span, found) =
                    self.timed(|| view.overlapping(block..=last).take(WALK).collect());
                log.push(span, listed(block, last, found, WALK));
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
