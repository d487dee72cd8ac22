//! This crate's allocator. The only file of the benchmark that knows its interface.

use extent_map::allocator::{AllocRequest, Allocator, FileRequest, FileSpace, Goal};
use extent_map::units::{DiskBlock, DiskRun, Geometry};

use super::subject::{Append, Run, Stream, Subject};

/// What ext4 has with blocks of 4 KiB: a bitmap of one block.
const BLOCKS_PER_GROUP: u64 = 32_768;

pub(crate) struct Ours(Allocator);

impl Ours {
    /// Promises so many blocks to the caller and takes the promise back.
    pub(crate) fn reserve_and_release(&self, blocks: u64) {
        self.0
            .reserve(blocks)
            .expect("few are promised at a time")
            .give_back();
    }
}

/// A file that grows, with its windows.
pub(crate) struct Growing {
    space: FileSpace,
    tail: Option<u64>,
}

impl Stream<Ours> for Growing {
    fn open(file: u64, tail: Option<u64>) -> Self {
        let space = FileSpace::new(file);
        Self { space, tail }
    }

    fn append(&mut self, subject: &Ours, append: Append) -> Option<Run> {
        let request = FileRequest::at(append.logical, append.blocks)
            .file_clusters(append.size)
            .goal(self.tail.map(|tail| Goal::From(DiskBlock(tail))));
        let allocation = subject.0.allocate_direct_for(&mut self.space, request);
        let run = run(allocation.ok()?.commit());
        self.tail = Some(run.end());
        Some(run)
    }

    fn close(self, subject: &Ours) {
        subject.0.end_windows(&self.space);
    }
}

fn run(run: DiskRun) -> Run {
    Run::new(run.start.0, run.len)
}

impl Subject for Ours {
    const NAME: &'static str = "Allocator";
    type Taken = Run;
    type Stream = Growing;

    fn new(blocks: u64) -> Self {
        let geometry = Geometry::new(4096, 1).expect("powers of two");
        let allocator = Allocator::new(blocks, geometry, BLOCKS_PER_GROUP, DiskBlock(0));
        Self(allocator.expect("groups have blocks"))
    }

    fn allocate(&self, goal: Option<u64>, blocks: u64) -> Option<Run> {
        let request = match goal {
            Some(goal) => AllocRequest::anywhere(blocks).goal(Goal::Near(DiskBlock(goal))),
            None => AllocRequest::anywhere(blocks),
        };
        Some(run(self.0.allocate_direct(request).ok()?.commit()))
    }

    fn free(&self, taken: Run) {
        let run = DiskRun::new(DiskBlock(taken.start), taken.len);
        self.0.free(run).expect("it was handed out");
    }

    fn free_blocks(&self) -> u64 {
        self.0.space().free()
    }
}
