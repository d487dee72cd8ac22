//! The map alone: threads that look blocks up and overwrite ranges, on our map and on others.
//!
//! A map starts with extents of 16 blocks that do not merge. Any thread looks up any block; it changes extents of its
//! own only, so that it knows what they hold.

use std::io;
use std::time::Duration;

use super::contest::{Contestant, Turn, Work, side_by_side};
use super::editor::Editor;
use super::interrupt;
use super::latencies::Latencies;
use super::maps::{self, Extents, Run, STRIDE, Visit, shuffled};
use super::memory;
use super::places::below;
use super::worker::Job;

/// Operations between two looks at the clock; one of them is timed.
const BATCH: u64 = 32;

/// A map and those who work on it.
pub(crate) struct Alone<M> {
    map: M,
    blocks: u64,
    editors: Vec<Editor>,
    /// Bytes that the map has now, and what it had too much at most.
    bytes: i64,
    peak: i64,
}

/// An editor at work.
struct AtWork<'a, M> {
    map: &'a M,
    blocks: u64,
    editor: &'a mut Editor,
}

impl<M: Extents + Sync> Work for AtWork<'_, M> {
    fn some(&mut self, seen: &mut Latencies) -> io::Result<u64> {
        let Self {
            map,
            blocks,
            editor,
        } = self;
        let get = map.reader();
        for number in 0..BATCH {
            let kind = editor.mix.kind(below(&mut editor.random, 100));
            match number {
                0 => seen.time(kind, || editor.step(kind, *blocks, *map, &get)),
                _ => editor.step(kind, *blocks, *map, &get),
            }
        }
        Ok(BATCH)
    }
}

impl<M: Extents + Sync + 'static> Alone<M> {
    /// Fills a map, in part only if it is interrupted.
    pub(crate) fn new(job: &Job, extents: u64) -> Self {
        let each = extents.div_ceil(job.workers);
        let extents = each * job.workers;
        let editors = (0..job.workers).map(|number| Editor::new(job, number, each));
        let editors = editors.collect();
        let before = memory::live();
        let mut map = M::default();
        let runs = shuffled(extents).into_iter().map(Run::dense);
        map.fill(runs.take_while(|_| !interrupt::wanted()));
        Self {
            map,
            blocks: extents * STRIDE,
            editors,
            bytes: memory::live() - before,
            peak: 0,
        }
    }
}

impl<M: Extents + Sync + 'static> Contestant for Alone<M> {
    fn name(&self) -> &'static str {
        M::NAME
    }

    fn turn(&mut self, threads: usize, time: Duration) -> io::Result<Turn> {
        let (map, blocks) = (&self.map, self.blocks);
        let working = self.editors[..threads].iter_mut();
        let working = working.map(|editor| AtWork {
            map,
            blocks,
            editor,
        });
        let (mut before, mut bytes) = (None, self.bytes);
        let peak = &mut self.peak;
        let turn = side_by_side(working.collect(), time, || {
            let live = memory::live();
            bytes = self.bytes + live - *before.get_or_insert(live);
            *peak = bytes.max(*peak);
        });
        self.bytes = bytes;
        turn
    }

    /// What it had at most less what a copy takes.
    fn garbage(&mut self) -> Option<u64> {
        let get = self.map.reader();
        let runs: Vec<Run> = (0..self.blocks)
            .filter_map(|block| get(block).filter(|run| run.first == block))
            .collect();
        drop(get);
        let before = memory::live();
        let mut copy = M::default();
        let order = shuffled(runs.len() as u64).into_iter();
        copy.fill(order.map(|index| runs[index as usize]));
        let needed = memory::live() - before;
        Some(u64::try_from(self.peak - needed).unwrap_or(0))
    }

    /// Every block, and that extents which can be one are one.
    fn verify(&mut self) -> Result<String, String> {
        let get = self.map.reader();
        let tags = self.editors.iter().flat_map(|editor| &editor.tags);
        let (mut before, mut extents) = (None::<Run>, 0);
        for (block, tag) in (0..).zip(tags) {
            let found = get(block);
            let value = found.map_or(0, |run| run.at(block));
            let expected = match tag {
                0 => 0,
                tag => u64::from(*tag) << 40 | block,
            };
            if value != expected {
                return Err(format!("block {block} has {value:#x}, not {expected:#x}"));
            }
            let Some(run) = found.filter(|found| before != Some(*found)) else {
                continue;
            };
            if run.first != block || before.is_some_and(|before| before.merges(&run)) {
                return Err(format!(
                    "extents before block {block} overlap or are not merged"
                ));
            }
            before = Some(run);
            extents += 1;
        }
        Ok(format!(
            "{} blocks in {extents} extents hold what was put there last",
            self.blocks
        ))
    }
}

/// Our map and the others that are wanted, not all of them or not full if it is interrupted.
pub(crate) fn contestants(
    job: &Job,
    extents: u64,
    wanted: impl Fn(&str) -> bool,
) -> Vec<Box<dyn Contestant>> {
    struct Make<'a>(&'a Job, u64, Vec<Box<dyn Contestant>>);
    impl Visit for Make<'_> {
        fn visit<M: Extents + Sync + 'static>(&mut self) {
            if interrupt::wanted() {
                return;
            }
            // Who answers wrong takes no part.
            maps::check::<M>();
            let Self(job, extents, made) = self;
            made.push(Box::new(Alone::<M>::new(job, *extents)));
        }
    }
    let mut make = Make(job, extents, Vec::new());
    maps::visit(&mut make, wanted);
    make.2
}
