//! What threads do to a tree, drawn at random.

use extent_map::status::Status;
use extent_map::units::{DiskBlock, FileBlock, FileRange};

use super::super::Script;
use super::{BLOCKS, Call, Plan, everything};
use crate::random::Random;

/// Block `n` of the file lives here plus `n`, ...
const PLACE: u64 = 1000;
/// ... or here, so that not all neighbours are one entry.
const OTHER_PLACE: u64 = 2000;

/// The script of the round with this seed.
pub(super) fn script(plan: &Plan, seed: u64) -> Script<Call> {
    let mut draw = Draw {
        ratio: plan.ratio,
        random: Random(seed),
    };
    let mut calls = |count| (0..count).map(|_| draw.any_call()).collect::<Vec<_>>();
    Script {
        before: calls(4),
        threads: (0..plan.threads).map(|_| calls(plan.calls)).collect(),
        after: vec![
            Call::Entries(everything()),
            Call::PendingCount,
            Call::Changes,
            Call::Counts,
        ],
    }
}

struct Draw {
    ratio: u64,
    random: Random,
}

impl Draw {
    fn block(&mut self) -> FileBlock {
        FileBlock(self.random.below(BLOCKS))
    }

    /// Mostly a few blocks.
    fn range(&mut self) -> FileRange {
        let start = self.block();
        let longest = BLOCKS - start.0;
        let longest = match self.random.below(4) {
            0 => longest,
            _ => longest.min(5),
        };
        FileRange::at(start, 1 + self.random.below(longest))
    }

    /// The status of blocks from `start` on; not delayed.
    fn status(&mut self, start: FileBlock) -> Status {
        let place = match self.random.below(4) {
            0 => OTHER_PLACE,
            _ => PLACE,
        };
        let disk = DiskBlock(place + start.0);
        match self.random.below(4) {
            0 => Status::Hole,
            1 => Status::Unwritten(disk),
            _ => Status::Written(disk),
        }
    }

    fn any_call(&mut self) -> Call {
        let range = self.range();
        let block = range.start();
        let status = self.status(block);
        let cluster = block.0 / self.ratio;
        match self.random.below(24) {
            0..3 => Call::Lookup(block),
            3 | 4 => Call::Entries(range),
            5 if self.random.below(2) == 0 => Call::Find(range, Status::Delayed),
            5 => Call::Find(range, status),
            6 => Call::Changes,
            7 | 8 => Call::LookAgain(block),
            9..12 => Call::Insert(range, status),
            12 | 13 => Call::Remove(range),
            14..17 => {
                let [first, last] = [self.random.below(4) == 0, self.random.below(8) == 0];
                Call::Delay(range, first, last)
            }
            17 | 18 => Call::Cache(range, status),
            19 => Call::Shrink(self.random.below(2)),
            20 => Call::Clear,
            21 => Call::IsPending(cluster),
            22 if self.random.below(2) == 0 => Call::PendingCount,
            22 => Call::TakePending(cluster),
            _ => Call::Exchange(range, status),
        }
    }
}
