//! Allocators that others have published, each under one lock.

use buddy_system_allocator::FrameAllocator;
use offset_allocator::{Allocation, Allocator};
use parking_lot::Mutex;

use super::subject::{Run, Subject, Tail, Taken};

/// `offset-allocator`: lists of free runs by length class. Its table of runs, free and taken, is made beforehand:
/// here one for eight blocks, as the fill of the volume needs.
pub(crate) struct OffsetAllocator(Mutex<Allocator>);

/// It frees what it handed out, as it handed it out.
#[derive(Clone, Copy)]
pub(crate) struct Handle {
    allocation: Allocation,
    len: u64,
}

impl Taken for Handle {
    fn run(self) -> Run {
        Run::new(self.allocation.offset.into(), self.len)
    }
}

impl Subject for OffsetAllocator {
    const NAME: &'static str = "offset-allocator";
    const KNOWS_GOALS: bool = false;
    type Taken = Handle;
    type Stream = Tail;

    fn new(blocks: u64) -> Self {
        let blocks = u32::try_from(blocks).expect("less than 16 TiB");
        Self(Mutex::new(Allocator::with_max_allocs(blocks, blocks / 8)))
    }

    fn allocate(&self, _goal: Option<u64>, blocks: u64) -> Option<Handle> {
        let allocation = self.0.lock().allocate(blocks as u32)?;
        Some(Handle {
            allocation,
            len: blocks,
        })
    }

    fn free(&self, taken: Handle) {
        self.0.lock().free(taken.allocation);
    }

    fn free_blocks(&self) -> u64 {
        self.0.lock().storage_report().total_free_space.into()
    }
}

/// `buddy_system_allocator`, its allocator of frames.
pub(crate) struct Buddy(Mutex<Frames>);

struct Frames {
    allocator: FrameAllocator<33>,
    /// It keeps no count that can be asked for.
    free: u64,
}

/// A run of a power of two.
#[derive(Clone, Copy)]
pub(crate) struct Frame(Run);

impl Taken for Frame {
    fn run(self) -> Run {
        self.0
    }
}

impl Subject for Buddy {
    const NAME: &'static str = "buddy_system_allocator";
    const ANY_LENGTH: bool = false;
    type Taken = Frame;
    type Stream = Tail;

    fn new(blocks: u64) -> Self {
        let mut allocator = FrameAllocator::new();
        allocator.add_frame(0, blocks as usize);
        Self(Mutex::new(Frames {
            allocator,
            free: blocks,
        }))
    }

    fn allocate(&self, goal: Option<u64>, blocks: u64) -> Option<Frame> {
        assert!(
            blocks.is_power_of_two(),
            "it would hand out more than is asked for"
        );
        let mut frames = self.0.lock();
        let count = blocks as usize;
        let at_goal = goal.and_then(|goal| frames.allocator.alloc_at(goal as usize, count));
        let start = at_goal.or_else(|| frames.allocator.alloc(count))?;
        frames.free -= blocks;
        Some(Frame(Run::new(start as u64, blocks)))
    }

    fn free(&self, taken: Frame) {
        let mut frames = self.0.lock();
        frames
            .allocator
            .dealloc(taken.0.start as usize, taken.0.len as usize);
        frames.free += taken.0.len;
    }

    fn free_blocks(&self) -> u64 {
        self.0.lock().free
    }
}
