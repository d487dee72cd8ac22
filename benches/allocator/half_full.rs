//! A volume that stays half full: one extent is freed and another allocated near a random place, again and
//! again. And what the allocator needs to keep its books then.

use std::mem;

use super::best_fit::BestFit;
use super::clock::timed;
use super::contest::Contestant;
use super::effort::Effort;
use super::entries::Entries;
use super::live::live;
use super::numbers::Random;
use super::oracle::Checked;
use super::subject::{Owned, Subject};
use super::subjects::{Visit, everybody, limits};
use super::table::{Cell, Table};

/// The longest extent, in blocks.
const LONGEST: u64 = 256;

/// A volume and what is allocated on it.
struct HalfFull<S: Subject> {
    subject: S,
    blocks: u64,
    extents: Vec<Owned<S>>,
    random: Random,
}

impl<S: Subject> HalfFull<S> {
    fn new(blocks: u64) -> Self {
        let mut this = Self {
            subject: S::new(blocks),
            blocks,
            extents: Vec::with_capacity((blocks / LONGEST) as usize * 2),
            random: Random::default(),
        };
        let mut left = blocks / 2;
        while left > 0 {
            let len = (1 + this.random.below(LONGEST)).min(left);
            let mut extent = Owned::default();
            this.allocate(&mut extent, len);
            this.extents.push(extent);
            left -= len;
        }
        this
    }

    fn allocate(&mut self, extent: &mut Owned<S>, len: u64) {
        let goal = self.random.below(self.blocks);
        extent
            .allocate(&self.subject, Some(goal), len)
            .expect("half of the volume is free");
    }

    /// Frees some extent and allocates another, so often.
    fn replace(&mut self, times: u64) {
        for _ in 0..times {
            let index = self.random.below(self.extents.len() as u64) as usize;
            // Its memory is used again, so the time is the allocator's.
            let mut extent = mem::take(&mut self.extents[index]);
            extent.free(&self.subject);
            let len = 1 + self.random.below(LONGEST);
            self.allocate(&mut extent, len);
            self.extents[index] = extent;
        }
    }

    /// Replaces every extent some times over.
    fn settle(&mut self) {
        self.replace(4 * self.extents.len() as u64);
    }

    /// Into how many pieces extents fell.
    fn pieces(&self) -> f64 {
        let pieces: usize = self.extents.iter().map(|extent| extent.0.len()).sum();
        pieces as f64 / self.extents.len() as f64
    }
}

/// Table a: how fast.
pub(crate) fn replace(effort: &Effort) -> Table {
    struct Enter<'e>(&'e Effort, Entries<'e>);
    impl Visit for Enter<'_> {
        fn visit<S: Subject>(&mut self) {
            let Self(effort, entries) = self;
            if !S::ANY_LENGTH {
                return entries.cannot::<S>();
            }
            let mut checked = HalfFull::<Checked<S>>::new(effort.blocks);
            checked.settle();
            checked.subject.expect_sound();
            let mut volume = HalfFull::<S>::new(effort.blocks);
            volume.settle();
            let work = move |times| timed(|| volume.replace(times));
            let contestant = Contestant::timed(S::NAME, &effort.plan, work);
            entries.enter::<S>(checked.pieces(), contestant);
        }
    }
    let mut enter = Enter(effort, Entries::default());
    everybody(&mut enter);
    let table = Table::new(
        "a. Free an extent of 1 to 256 blocks and allocate another near a random goal, on a half full volume",
        &[
            "ns per pair",
            "times faster than best fit",
            "pieces per extent",
            "remark",
        ],
    );
    enter.1.table(&effort.plan, BestFit::NAME, table)
}

/// Table e: how much memory.
pub(crate) fn memory(effort: &Effort) -> Table {
    struct Weigh<'e>(&'e Effort, Table);
    impl Visit for Weigh<'_> {
        fn visit<S: Subject>(&mut self) {
            let Self(Effort { blocks, .. }, table) = self;
            // What the allocator gives back when it goes is what it had.
            let bits = |subject: S| {
                let subject = Box::new(subject);
                let before = live();
                drop(subject);
                Cell::once((before - live()) as f64 * 8.0 / *blocks as f64)
            };
            let mut cells = vec![bits(S::new(*blocks))];
            if S::ANY_LENGTH {
                let mut volume = HalfFull::<S>::new(*blocks);
                volume.settle();
                cells.push(bits(volume.subject));
            } else {
                cells.push(Cell::Remark("cannot"));
            }
            cells.push(Cell::Remark(limits::<S>()));
            table.row(S::NAME, cells);
        }
    }
    let title = "e. Memory, bits per block of the volume; half full as in a";
    let mut weigh = Weigh(effort, Table::new(title, &["empty", "half full", "remark"]));
    everybody(&mut weigh);
    weigh.1
}
