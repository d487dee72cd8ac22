//! This crate's allocator. The only file of the benchmark that knows its interface.

use extent_map::allocator::{AllocRequest, Allocator};
use extent_map::units::{BlockSize, ClusterRatio, DiskBlock, DiskRun, Geometry};

use super::subject::{Append, Run, Subject, Tail};

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

impl Subject for Ours {
    const NAME: &'static str = "Allocator";
    type Taken = Run;
    type Stream = Tail;

    fn new(blocks: u64) -> Self {
        let geometry = Geometry {
            block_size: BlockSize::new(4096).expect("a power of two"),
            cluster: ClusterRatio::new(1).expect("a power of two"),
        };
        let allocator = Allocator::new(blocks, geometry, BLOCKS_PER_GROUP, DiskBlock(0));
        Self(allocator.expect("groups have blocks"))
    }

    fn run(taken: Run) -> Run {
        taken
    }

    fn joined(last: Run, next: Run) -> Option<Run> {
        last.joined(next)
    }

    fn allocate(&self, goal: Option<u64>, blocks: u64) -> Option<Run> {
        let request = AllocRequest {
            clusters: blocks,
            goal: goal.map(DiskBlock),
        };
        let run = self.0.allocate_direct(request).ok()?.commit();
        Some(Run::new(run.start.0, run.len))
    }

    fn free(&self, taken: Run) {
        let run = DiskRun::new(DiskBlock(taken.start), taken.len);
        self.0.free(run).expect("it was handed out");
    }

    fn open(&self, _file: u64, tail: Option<u64>) -> Tail {
        Tail(tail)
    }

    fn append(&self, stream: &mut Tail, append: Append) -> Option<Run> {
        stream.append(self, append)
    }

    fn close(&self, _stream: Tail) {}

    fn free_blocks(&self) -> u64 {
        self.0.space().free()
    }
}
