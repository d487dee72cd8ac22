//! Bios that are not merged take no memory once a queue has served some.

use std::cell::Cell;
use std::sync::Arc;

use extent_map::block::{Batch, Bio, BlockQueue, Deadline, Scheduler};
use extent_map::device::{BlockDevice, Buffer, Buffers, Limits, MemoryDevice};
use extent_map::units::{BlockSize, DiskBlock};

#[path = "common/around.rs"]
mod around;
#[path = "common/counting.rs"]
mod counting;

use around::Around;
use counting::Counting;

const BLOCK: usize = 4096;
const BLOCKS: u64 = 256;

#[global_allocator]
static ALLOCATOR: Counting = Counting(count);

thread_local! {
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

/// How often this thread asks for memory.
fn count(bytes: i64) {
    ASKED.with(|asked| asked.set(asked.get() + u64::from(bytes > 0)));
}

/// How often `work` asks for memory.
fn asked(work: impl FnOnce()) -> u64 {
    let before = ASKED.get();
    work();
    ASKED.get() - before
}

/// Works by itself, and ends at once what is started.
fn starting() -> Arc<dyn BlockDevice> {
    let limits = Limits {
        asynchronous: true,
        ..Limits::default()
    };
    let device = Around::new(memory(), |_, carry_out| carry_out());
    Arc::new(device.with_limits(limits))
}

fn memory() -> Arc<MemoryDevice> {
    Arc::new(MemoryDevice::new(BLOCKS * BLOCK as u64))
}

fn bio(block: u64, buffers: Buffers) -> Bio {
    match block % 4 {
        0 => Bio::read_into(DiskBlock(block), buffers),
        _ => Bio::write_from(DiskBlock(block), buffers),
    }
}

/// Each second block, so that none has a neighbour, in another order each time.
fn blocks(round: u64) -> impl Iterator<Item = u64> {
    (0..32).map(move |n| (n * 7 + round) * 2 % BLOCKS)
}

fn in_batches(batch: &mut Batch<'_>, buffers: &mut Vec<Buffers>, rounds: u64) {
    for round in 0..rounds {
        for (block, buffers) in blocks(round).zip(buffers.drain(..)) {
            batch.push(bio(block, buffers));
        }
        for (memory, result) in batch.finish() {
            result.unwrap();
            buffers.push(memory);
        }
    }
}

fn one_by_one(queue: &BlockQueue, buffers: &mut [Buffers], rounds: u64) {
    for round in 0..rounds {
        for (block, buffers) in blocks(round).zip(&mut *buffers) {
            let bio = bio(block, std::mem::take(buffers));
            let (memory, result) = queue.submit(bio).finish();
            result.unwrap();
            *buffers = memory;
        }
    }
}

#[test]
fn bios_that_are_not_merged_ask_for_no_memory() {
    let devices: [Arc<dyn BlockDevice>; 2] = [memory(), starting()];
    for device in devices {
        for scheduler in [Scheduler::None, Scheduler::Deadline(Deadline::default())] {
            let block_size = BlockSize::new(BLOCK as u64).unwrap();
            let queue = BlockQueue::new(device.clone(), block_size, Arc::default());
            let queue = queue.scheduler(scheduler);
            let mut batch = queue.batch();
            let buffer = || Buffer::zeroed(BLOCK).into();
            let mut buffers: Vec<Buffers> = (0..32).map(|_| buffer()).collect();
            in_batches(&mut batch, &mut buffers, BLOCKS);
            one_by_one(&queue, &mut buffers, BLOCKS);
            let times = asked(|| {
                in_batches(&mut batch, &mut buffers, BLOCKS);
                one_by_one(&queue, &mut buffers, BLOCKS);
            });
            assert_eq!(times, 0, "{scheduler:?} in front of {device:?}");
        }
    }
}

#[test]
fn a_durable_write_asks_for_no_more_than_the_answer_of_its_flush() {
    let scheduled = Scheduler::Deadline(Deadline::default());
    // Where the device blocks, those who share a flush find its answer in memory of its own.
    let ways: [(Arc<dyn BlockDevice>, _, _); 4] = [
        (memory(), Scheduler::None, 1),
        (memory(), scheduled, 1),
        (starting(), Scheduler::None, 0),
        (starting(), scheduled, 0),
    ];
    for (device, scheduler, expected) in ways {
        let block_size = BlockSize::new(BLOCK as u64).unwrap();
        let queue = BlockQueue::new(device, block_size, Arc::default());
        let queue = queue.scheduler(scheduler);
        let mut memory = Buffers::from(Buffer::zeroed(BLOCK));
        let mut write = || {
            let bio = Bio::write_from(DiskBlock(3), std::mem::take(&mut memory));
            let (buffers, result) = queue.submit(bio.fua()).finish();
            result.unwrap();
            memory = buffers;
        };
        (0..4).for_each(|_| write());
        assert_eq!(asked(|| (0..32).for_each(|_| write())), 32 * expected);
    }
}

#[test]
fn the_count_sees_what_is_asked_for() {
    let queue = BlockQueue::new(
        Arc::new(MemoryDevice::new(1 << 20)),
        BlockSize::new(BLOCK as u64).unwrap(),
        Arc::default(),
    );
    let bio = Bio::write_from(DiskBlock(0), Buffer::zeroed(BLOCK));
    queue.submit(bio).wait().unwrap();
    let times = asked(|| {
        let bio = Bio::write_from(DiskBlock(0), Buffer::zeroed(BLOCK));
        queue.submit(bio).wait().unwrap();
    });
    assert_eq!(times, 2, "the buffer and its memory, and nothing else");
}
