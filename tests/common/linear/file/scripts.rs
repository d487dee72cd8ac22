//! What threads do to a file, drawn at random.

use extent_map::file::AllocateMode;
use extent_map::testing::FileOp;
use extent_map::units::PAGE_SIZE;

use super::super::Script;
use super::{Call, Plan, Shape};
use crate::random::Random;

/// Kinds of calls. A round uses a few, so that they meet.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Write,
    Store,
    Fault,
    Read,
    Load,
    Allocate,
    Punch,
    Zero,
    Collapse,
    Insert,
    SetLen,
    Seek,
    Extents,
    Size,
    Sync,
    SyncRange,
    DropCaches,
    Shrink,
}

/// The common ones more than once.
const KINDS: [Kind; 25] = [
    Kind::Write,
    Kind::Write,
    Kind::Write,
    Kind::Store,
    Kind::Store,
    Kind::Fault,
    Kind::Read,
    Kind::Read,
    Kind::Read,
    Kind::Load,
    Kind::Allocate,
    Kind::Allocate,
    Kind::Punch,
    Kind::Punch,
    Kind::Zero,
    Kind::Collapse,
    Kind::Insert,
    Kind::SetLen,
    Kind::SetLen,
    Kind::Seek,
    Kind::Seek,
    Kind::Extents,
    Kind::Extents,
    Kind::Size,
    Kind::Sync,
];

/// What memory pressure adds.
const PRESSURE: [Kind; 3] = [Kind::DropCaches, Kind::Shrink, Kind::SyncRange];

/// The script of the round with this seed.
pub(super) fn script(plan: &Plan, seed: u64) -> Script<Call> {
    let mut draw = Draw {
        shape: plan.shape,
        random: Random(seed),
        last_byte: 0,
        inserts_left: 2,
    };
    let size = PAGE_SIZE * plan.shape.pages;
    let mut before = vec![Call::Op(FileOp::SetLen(size - draw.some_of(PAGE_SIZE / 2)))];
    before.extend((0..draw.random.below(5)).map(|_| draw.any_call(&KINDS)));
    let kinds: Vec<Kind> = (0..6).map(|_| draw.one_of(&KINDS)).collect();
    let mut threads: Vec<Vec<Call>> = (0..plan.threads)
        .map(|_| (0..plan.calls).map(|_| draw.any_call(&kinds)).collect())
        .collect();
    if plan.shape.pressure {
        threads.push((0..plan.calls).map(|_| draw.any_call(&PRESSURE)).collect());
    }
    let after = vec![
        Call::Observe,
        Call::Op(FileOp::SyncAll),
        Call::Observe,
        Call::DropCaches,
        Call::Observe,
    ];
    Script {
        before,
        threads,
        after,
    }
}

struct Draw {
    shape: Shape,
    random: Random,
    /// Every write has a byte of its own.
    last_byte: u8,
    /// The longer the file, the longer the search for an order.
    inserts_left: u32,
}

impl Draw {
    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.random.below(all.len() as u64) as usize]
    }

    /// Mostly nothing, else less than `bytes`.
    fn some_of(&mut self, bytes: u64) -> u64 {
        match self.random.below(4) {
            0 => self.random.below(bytes),
            _ => 0,
        }
    }

    fn byte(&mut self) -> u8 {
        self.last_byte = self.last_byte.wrapping_add(1).max(1);
        self.last_byte
    }

    fn page(&mut self) -> u64 {
        PAGE_SIZE * self.random.below(self.shape.pages)
    }

    /// Mostly a page, sometimes two, sometimes whole blocks of one, sometimes bytes of one block.
    fn bytes(&mut self) -> (u64, u64) {
        let page = self.page();
        let block = self.shape.block_size;
        match self.random.below(8) {
            0 => {
                let end = (page + 2 * PAGE_SIZE).min(self.shape.pages * PAGE_SIZE);
                (page, end - page)
            }
            1 => {
                let at = page + self.random.below(PAGE_SIZE / block) * block;
                (at + block / 4, block / 2)
            }
            2 | 3 => {
                let first = self.random.below(PAGE_SIZE / block);
                let count = 1 + self.random.below(PAGE_SIZE / block - first);
                (page + first * block, count * block)
            }
            _ => (page, PAGE_SIZE),
        }
    }

    /// Whole clusters, few of them.
    fn clusters(&mut self) -> (u64, u64) {
        let cluster = self.shape.cluster_bytes();
        let all = (self.shape.pages * PAGE_SIZE).div_ceil(cluster);
        (cluster * self.random.below(all), cluster)
    }

    fn any_call(&mut self, kinds: &[Kind]) -> Call {
        let (offset, len) = self.bytes();
        let allocate = |mode| Call::Op(FileOp::Allocate { mode, offset, len });
        match self.one_of(kinds) {
            Kind::Write => Call::Write {
                offset,
                len,
                byte: self.byte(),
            },
            Kind::Store => Call::Store {
                offset,
                len,
                byte: self.byte(),
            },
            Kind::Fault => Call::Fault(offset),
            Kind::Read => Call::Op(FileOp::Read { offset, len }),
            Kind::Load => Call::Op(FileOp::LoadMapped { offset, len }),
            Kind::Allocate => {
                allocate(self.one_of(&[AllocateMode::Allocate, AllocateMode::AllocateKeepSize]))
            }
            Kind::Punch => allocate(AllocateMode::PunchHole),
            Kind::Zero => {
                allocate(self.one_of(&[AllocateMode::ZeroRange, AllocateMode::ZeroRangeKeepSize]))
            }
            Kind::Collapse => self.shift(AllocateMode::CollapseRange),
            Kind::Insert if self.inserts_left > 0 => {
                self.inserts_left -= 1;
                self.shift(AllocateMode::InsertRange)
            }
            Kind::Insert => Call::Size,
            Kind::SetLen => Call::Op(FileOp::SetLen(self.page() + self.some_of(PAGE_SIZE))),
            Kind::Seek if self.random.below(2) == 0 => Call::Op(FileOp::SeekData(offset)),
            Kind::Seek => Call::Op(FileOp::SeekHole(offset)),
            Kind::Extents => Call::Extents,
            Kind::Size => Call::Size,
            // Syncing a volume takes threads that an explorer of schedules does not know.
            Kind::Sync if cfg!(not(feature = "shuttle")) && self.random.below(2) == 0 => {
                Call::SyncVolume
            }
            Kind::Sync => Call::Op(FileOp::SyncAll),
            Kind::SyncRange => Call::Op(FileOp::SyncRange { offset, len }),
            Kind::DropCaches => Call::DropCaches,
            Kind::Shrink if self.random.below(2) == 0 => Call::ShrinkVolume,
            Kind::Shrink => Call::Op(FileOp::ShrinkStatus(self.random.below(3))),
        }
    }

    fn shift(&mut self, mode: AllocateMode) -> Call {
        let (offset, len) = self.clusters();
        Call::Op(FileOp::Allocate { mode, offset, len })
    }
}
