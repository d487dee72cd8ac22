//! What every candidate is: disjoint runs of blocks with a value, looked up by block; and what lookups are
//! made of it.

use super::numbers::Random;

/// Blocks from the start of one extent of the data set to that of the next.
pub(crate) const STRIDE: u64 = 16;

/// One extent: the blocks `first..=last`, with `value` at the first and one more at each that follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) first: u64,
    pub(crate) last: u64,
    pub(crate) value: u64,
}

impl Run {
    /// The blocks `first..=last` with a value that differs from that of every other tag, and that tells the
    /// block in its low 40 bits.
    pub(crate) fn tagged(tag: u64, first: u64, last: u64) -> Self {
        let value = tag << 40 | first;
        Self { first, last, value }
    }

    /// Extent `index` of the data set without holes: neighbours have different tags and never merge.
    pub(crate) fn dense(index: u64) -> Self {
        let first = index * STRIDE;
        Self::tagged(1 + index % 2, first, first + STRIDE - 1)
    }

    /// Extent `index` of the data set with holes, 6 to 15 of 16 blocks: about a third of lookups miss.
    pub(crate) fn holed(index: u64) -> Self {
        let mut run = Self::dense(index);
        run.last = run.first + 5 + index * 7 % 10;
        run
    }

    pub(crate) fn contains(&self, block: u64) -> bool {
        self.first <= block && block <= self.last
    }

    /// The value of `block`.
    pub(crate) fn at(&self, block: u64) -> u64 {
        self.value + (block - self.first)
    }

    /// The part inside `first..=last`.
    pub(crate) fn clip(&self, first: u64, last: u64) -> Option<Self> {
        let (first, last) = (self.first.max(first), self.last.min(last));
        (first <= last).then(|| Self {
            first,
            last,
            value: self.at(first),
        })
    }

    /// Whether `next` lies right behind and continues the values.
    pub(crate) fn merges(&self, next: &Self) -> bool {
        self.last + 1 == next.first && self.at(next.first) == next.value
    }
}

/// A candidate.
pub(crate) trait Extents: Default {
    const NAME: &'static str;

    /// The lookup of one reader, who keeps what may be kept from lookup to lookup.
    fn reader(&self) -> impl Fn(u64) -> Option<Run>;

    /// Overwrites the blocks `first..=last`: cuts or drops what is there, merges what can be merged. Without
    /// a value it leaves a hole.
    fn replace(&self, first: u64, last: u64, value: Option<u64>);

    fn overwrite(&self, run: Run) {
        self.replace(run.first, run.last, Some(run.value));
    }

    /// Puts `runs`, disjoint and in any order, into an empty map.
    fn fill(&mut self, runs: impl Iterator<Item = Run>) {
        runs.for_each(|run| self.overwrite(run));
    }

    /// A map of that many extents of a data set, inserted in random order.
    fn filled(extents: u64, data: fn(u64) -> Run) -> Self {
        let mut map = Self::default();
        map.fill(shuffled(extents).into_iter().map(data));
        map
    }
}

/// The numbers below `count` in random order.
pub(crate) fn shuffled(count: u64) -> Vec<u64> {
    let mut random = Random::default();
    let mut order: Vec<u64> = (0..count).collect();
    for end in (1..order.len()).rev() {
        order.swap(end, random.below(end as u64 + 1) as usize);
    }
    order
}

/// Which blocks are looked up, one after the other, in a map of so many blocks.
pub(crate) trait Pattern {
    fn new(blocks: u64) -> Self;

    /// Does so many lookups and adds up what they find. Inlined, so that a candidate may choose for which
    /// processor the loop is compiled.
    fn run(&mut self, lookups: u64, get: impl Fn(u64) -> Option<Run>) -> u64;
}

/// Independent random blocks: the processor overlaps lookups.
pub(crate) struct Anywhere {
    pub(crate) random: Random,
    blocks: u64,
}

impl Pattern for Anywhere {
    fn new(blocks: u64) -> Self {
        let random = Random::default();
        Self { random, blocks }
    }

    #[inline(always)]
    fn run(&mut self, lookups: u64, get: impl Fn(u64) -> Option<Run>) -> u64 {
        let mut sum = 0_u64;
        for _ in 0..lookups {
            let block = self.random.below(self.blocks);
            sum = sum.wrapping_add(get(block).map_or(0, |run| run.at(block)));
        }
        sum
    }
}

impl Anywhere {
    /// How many blocks are looked up together.
    const TOGETHER: usize = 128;

    /// As [`run`](Pattern::run), many at a time; `get` adds up what it finds.
    #[inline(always)]
    pub(crate) fn run_together(&mut self, lookups: u64, get: impl Fn(&[u64]) -> u64) -> u64 {
        let mut sum = 0_u64;
        let mut blocks = [0; Self::TOGETHER];
        for _ in 0..lookups / Self::TOGETHER as u64 {
            blocks.fill_with(|| self.random.below(self.blocks));
            sum = sum.wrapping_add(get(&blocks));
        }
        sum
    }
}

/// Random blocks, each of which depends on what the lookup before it found: nothing overlaps.
pub(crate) struct Dependent(Anywhere);

impl Pattern for Dependent {
    fn new(blocks: u64) -> Self {
        Self(Anywhere::new(blocks))
    }

    #[inline(always)]
    fn run(&mut self, lookups: u64, get: impl Fn(u64) -> Option<Run>) -> u64 {
        let mut sum = 0_u64;
        for _ in 0..lookups {
            let block = self.0.random.below(self.0.blocks);
            let found = get(block).map_or(0, |run| run.at(block));
            self.0.random.mix(found);
            sum = sum.wrapping_add(found);
        }
        sum
    }
}

/// One block after the other.
pub(crate) struct InOrder {
    next: u64,
    blocks: u64,
}

impl Pattern for InOrder {
    fn new(blocks: u64) -> Self {
        Self { next: 0, blocks }
    }

    #[inline(always)]
    fn run(&mut self, lookups: u64, get: impl Fn(u64) -> Option<Run>) -> u64 {
        let mut sum = 0_u64;
        for _ in 0..lookups {
            let block = self.next;
            self.next = if block + 1 == self.blocks {
                0
            } else {
                block + 1
            };
            sum = sum.wrapping_add(get(block).map_or(0, |run| run.at(block)));
        }
        sum
    }
}
