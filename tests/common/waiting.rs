//! A queue in front of a device that ends requests when it is told to.

use std::sync::Arc;
use std::time::Duration;

use extent_map::block::{Bio, BlockQueue, Deadline, Scheduler, SubmittedBio};
use extent_map::device::{Buffer, Limits, MemoryDevice, OperationKind};
use extent_map::stats::Counters;
use extent_map::units::{BlockSize, DiskBlock, DiskRun};

use super::commands::{self, Commands, Ends};

pub(crate) const BLOCK: u64 = 512;

/// Longer than anything takes, also on a busy machine.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// A device for one request at a time, and the way to it.
pub(crate) struct Waiting {
    pub(crate) device: Arc<Commands>,
    pub(crate) queue: BlockQueue,
    pub(crate) counters: Arc<Counters>,
    pub(crate) handles: Vec<SubmittedBio>,
}

pub(crate) fn new(
    limits: Limits,
    ends: Ends,
    set_up: impl FnOnce(BlockQueue) -> BlockQueue,
) -> Waiting {
    let memory = Arc::new(MemoryDevice::new(4096 * BLOCK));
    let device = Commands::new(memory, limits, ends);
    let counters = Arc::new(Counters::default());
    let block_size = BlockSize::new(BLOCK).unwrap();
    let queue = BlockQueue::new(device.clone(), block_size, counters.clone());
    Waiting {
        device,
        queue: set_up(queue),
        counters,
        handles: Vec::new(),
    }
}

/// The device works by itself, one request after the other, and ends it when told.
pub(crate) fn one_at_a_time(set_up: impl FnOnce(BlockQueue) -> BlockQueue) -> Waiting {
    let limits = Limits {
        asynchronous: true,
        depth: 1,
        max_bytes: 8 * BLOCK,
        ..Limits::default()
    };
    new(limits, Ends::WhenTold, set_up)
}

pub(crate) fn sorted(deadline: Deadline) -> Scheduler {
    Scheduler::Deadline(deadline)
}

pub(crate) fn read(block: u64) -> Bio {
    Bio::read(DiskRun::new(DiskBlock(block), 1))
}

pub(crate) fn write(block: u64) -> Bio {
    let data = [block as u8; BLOCK as usize];
    Bio::write_from(DiskBlock(block), Buffer::copy_of(&data))
}

impl Waiting {
    pub(crate) fn submit(&mut self, bio: Bio) {
        let handle = self.queue.submit(bio);
        self.handles.push(handle);
    }

    pub(crate) fn submit_all(&mut self, bios: impl IntoIterator<Item = Bio>) {
        bios.into_iter().for_each(|bio| self.submit(bio));
    }

    /// Ends everything: what the device got, in blocks, in that order. All bios must have ended well.
    pub(crate) fn end(&mut self) -> Vec<(OperationKind, u64, u64)> {
        while self.device.end_oldest() {}
        for handle in self.handles.drain(..) {
            assert!(handle.is_ended());
            assert_eq!(handle.finish().1, Ok(()));
        }
        let log = self.device.take_log();
        let in_blocks = |c: &commands::Command| (c.kind, c.offset / BLOCK, c.len / BLOCK);
        log.iter().map(in_blocks).collect()
    }

    /// The first blocks of what the device got.
    pub(crate) fn order(&mut self) -> Vec<u64> {
        self.end().into_iter().map(|(_, start, _)| start).collect()
    }
}
