//! One thread of the map's part: what it does to extents, and what it remembers of them.

use std::collections::VecDeque;
use std::hint::black_box;

use super::maps::{Extents, Run, STRIDE};
use super::mix::{Kind, Mix};
use super::places::{Places, below};
use super::random::Random;
use super::worker::Job;

/// How many writes a thread leaves as they are: one makes three extents of one, and later another one of three.
const PIECES: usize = 64;
/// The most extents that a truncation takes away.
const CUT: u64 = 8;
/// A tag for what is written is below this.
const TAGS: u64 = 1 << 20;

/// One thread and what it remembers.
#[derive(Debug)]
pub(crate) struct Editor {
    pub(crate) mix: Mix,
    pub(crate) random: Random,
    reads: Places,
    writes: Places,
    /// Its first extent.
    first: u64,
    /// Of each block of its extents; 0 is a hole.
    pub(crate) tags: Vec<u32>,
    /// The last tag it used, which nobody else uses.
    tag: u64,
    step: u64,
    /// What it wrote last and will take back: the first block, and how many.
    in_pieces: VecDeque<(u64, u64)>,
    /// Where it appends.
    end: u64,
}

impl Editor {
    pub(crate) fn new(job: &Job, number: u64, extents: u64) -> Self {
        let mut random = Random(!(job.seed ^ number << 32));
        let mut places = |count| Places::new(job.distribution, below(&mut random, count));
        let tags = |index| {
            let run = Run::dense(index);
            (run.first..=run.last).map(move |_| (run.value >> 40) as u32)
        };
        let first = number * extents;
        Self {
            reads: places(extents * job.workers * STRIDE),
            writes: places(extents),
            mix: job.mix.clone(),
            random,
            first,
            tags: (first..first + extents).flat_map(tags).collect(),
            tag: 3 + number,
            step: job.workers,
            in_pieces: VecDeque::new(),
            end: 0,
        }
    }

    fn extents(&self) -> u64 {
        self.tags.len() as u64 / STRIDE
    }

    /// A tag that is none of those around.
    fn fresh(&mut self) -> u64 {
        self.tag += self.step;
        if self.tag >= TAGS {
            self.tag = 3 + self.tag % self.step;
        }
        self.tag
    }

    /// Gives blocks of its own another tag, or makes them a hole.
    fn change(&mut self, map: &impl Extents, first: u64, len: u64, tag: u64) {
        let start = self.first * STRIDE + first;
        let run = Run::tagged(tag, start, start + len - 1);
        map.replace(run.first, run.last, (tag > 0).then_some(run.value));
        self.tags[first as usize..][..len as usize].fill(tag as u32);
    }

    /// Gives blocks of one of its extents back what they had in the beginning.
    fn restore(&mut self, map: &impl Extents, first: u64, len: u64) {
        let tag = Run::dense(self.first + first / STRIDE).value >> 40;
        self.change(map, first, len, tag);
    }

    /// One operation; `blocks` has the map.
    #[inline(always)]
    pub(crate) fn step(
        &mut self,
        kind: Kind,
        blocks: u64,
        map: &impl Extents,
        get: &impl Fn(u64) -> Option<Run>,
    ) {
        match kind {
            Kind::Read => {
                let block = self.reads.choose(blocks, &mut self.random);
                black_box(get(block));
            }
            // What a sync needs of a map: some extents in a row.
            Kind::Sync => {
                let block = self.reads.choose(blocks, &mut self.random);
                for block in (block..blocks).step_by(STRIDE as usize).take(CUT as usize) {
                    black_box(get(block));
                }
            }
            _ => self.edit(kind, map, get),
        }
    }

    fn edit(&mut self, kind: Kind, map: &impl Extents, get: &impl Fn(u64) -> Option<Run>) {
        let extents = self.extents();
        let extent = self.writes.choose(extents, &mut self.random);
        let inside = below(&mut self.random, STRIDE - 1);
        let block = extent * STRIDE + inside;
        let few = 1 + below(&mut self.random, 2);
        match kind {
            Kind::Write if self.in_pieces.len() == PIECES => {
                let (block, len) = self.in_pieces.pop_front().expect("there are some");
                self.restore(map, block, len);
            }
            Kind::Write => {
                let tag = self.fresh();
                self.change(map, block, few, tag);
                self.in_pieces.push_back((block, few));
            }
            // A fault looks first; what is there stays.
            Kind::Fault => {
                if get(self.first * STRIDE + block).is_none() {
                    let tag = self.fresh();
                    self.change(map, block, 1, tag);
                }
            }
            Kind::Punch => self.change(map, block, few, 0),
            Kind::Truncate => {
                let count = (1 + below(&mut self.random, CUT)).min(extents - extent);
                self.change(map, extent * STRIDE, count * STRIDE, 0);
            }
            Kind::Append => {
                self.end = (self.end + 1) % extents;
                self.restore(map, self.end * STRIDE, STRIDE);
            }
            _ => self.restore(map, extent * STRIDE, STRIDE),
        }
    }
}
