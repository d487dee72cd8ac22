//! 4 KiB at random places of a device in memory, 32 at a time; the data is hot.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use extent_map::block::{Bio, BlockQueue, Deadline, Scheduler};
use extent_map::device::{BlockDevice, Buffer, Buffers, Limits, MemoryDevice, Request};
use extent_map::stats::Counters;
use extent_map::units::{BlockSize, DiskBlock};

use crate::clock::timed;
use crate::contest::{Contestant, Plan, contest};
use crate::numbers::Random;
use crate::print;

pub(crate) const BLOCK: usize = 4096;
pub(crate) const DEPTH: usize = 32;
/// Enough to be random, and few enough to stay in a cache.
pub(crate) const BLOCKS: u64 = 512;

/// Half of the blocks, of which none has a neighbour, in an order that changes: nothing is merged, and no two of a batch
/// are the same.
struct Places {
    blocks: Vec<u64>,
    next: usize,
    random: Random,
}

impl Places {
    fn new() -> Self {
        Self {
            blocks: (0..BLOCKS).step_by(2).collect(),
            next: 0,
            random: Random::default(),
        }
    }

    #[inline]
    fn next(&mut self) -> u64 {
        // A power of two: a division would take as long as a small copy.
        const COUNT: usize = BLOCKS as usize / 2;
        self.next = (self.next + 1) % COUNT;
        // Never one of the last batch.
        let far = (COUNT - DEPTH) as u64;
        let other = (self.next + self.random.below(far) as usize) % COUNT;
        self.blocks.swap(self.next, other);
        self.blocks[self.next]
    }
}

/// A device in memory whose blocks have all been written.
pub(crate) fn hot() -> Arc<MemoryDevice> {
    let device = MemoryDevice::new(BLOCKS * BLOCK as u64);
    for block in 0..BLOCKS {
        let data = [block as u8; BLOCK];
        device
            .write_at(block * BLOCK as u64, &data)
            .expect("a sound device");
    }
    Arc::new(device)
}

/// Written once: memory that never was is one page of zeros for all.
fn buffer() -> Buffer {
    Buffer::copy_of(&[1; BLOCK])
}

pub(crate) fn queue(device: Arc<dyn BlockDevice>) -> BlockQueue {
    let block_size = BlockSize::new(BLOCK as u64).expect("a size");
    BlockQueue::new(device, block_size, Arc::new(Counters::default()))
}

/// Calls the device, 32 buffers in turns.
pub(crate) struct Raw {
    device: Arc<dyn BlockDevice>,
    buffers: Vec<Buffer>,
    places: Places,
    /// Blocks, and the buffers for them.
    batch: Vec<(u64, usize)>,
    writes: bool,
    sorted: bool,
}

impl Raw {
    pub(crate) fn new(device: Arc<dyn BlockDevice>, writes: bool) -> Self {
        Self {
            device,
            buffers: (0..DEPTH).map(|_| buffer()).collect(),
            places: Places::new(),
            batch: Vec::new(),
            writes,
            sorted: false,
        }
    }

    pub(crate) fn batch(&mut self) {
        self.batch.clear();
        let places = (0..DEPTH).map(|buffer| (self.places.next(), buffer));
        self.batch.extend(places);
        if self.sorted {
            self.batch.sort_unstable();
        }
        for (block, buffer) in &self.batch {
            let buffer = &mut self.buffers[*buffer];
            let offset = block * BLOCK as u64;
            let done = match self.writes {
                true => self.device.write_at(offset, buffer),
                false => self.device.read_at(offset, buffer),
            };
            done.expect("a sound device");
        }
        black_box(&self.buffers);
    }
}

/// Pushes 32 bios and waits for them; the buffers go round.
pub(crate) struct Batches<'q> {
    batch: extent_map::block::Batch<'q>,
    buffers: Vec<Buffers>,
    places: Places,
    writes: bool,
}

impl<'q> Batches<'q> {
    pub(crate) fn new(queue: &'q BlockQueue, writes: bool) -> Self {
        Self {
            batch: queue.batch(),
            buffers: (0..DEPTH).map(|_| buffer().into()).collect(),
            places: Places::new(),
            writes,
        }
    }

    pub(crate) fn batch(&mut self) {
        for buffers in self.buffers.drain(..) {
            let block = DiskBlock(self.places.next());
            self.batch.push(match self.writes {
                true => Bio::write_from(block, buffers),
                false => Bio::read_into(block, buffers),
            });
        }
        for (buffers, result) in self.batch.finish() {
            result.expect("a sound device");
            self.buffers.push(buffers);
        }
        black_box(&self.buffers);
    }
}

/// Works by itself, but has always finished when `start` returns.
#[derive(Debug)]
pub(crate) struct Starting(pub(crate) Arc<MemoryDevice>);

impl BlockDevice for Starting {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> extent_map::Result<()> {
        self.0.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> extent_map::Result<()> {
        self.0.write_at(offset, data)
    }
    fn flush(&self) -> extent_map::Result<()> {
        Ok(())
    }
    fn discard(&self, offset: u64, len: u64) -> extent_map::Result<()> {
        self.0.discard(offset, len)
    }
    fn start(&self, mut request: Request) {
        let result = request.carry_out(&*self.0);
        request.complete(result);
    }
    fn limits(&self) -> Limits {
        Limits {
            asynchronous: true,
            ..Limits::default()
        }
    }
}

fn work(mut batch: impl FnMut()) -> impl FnMut(u64) -> Duration {
    move |operations| timed(|| (0..operations.div_ceil(DEPTH as u64)).for_each(|_| batch()))
}

pub(crate) fn contests(plan: &Plan) {
    for writes in [false, true] {
        let device = hot();
        let direct = queue(device.clone());
        let sorted = queue(device.clone()).scheduler(Scheduler::Deadline(Deadline::default()));
        let starting = queue(Arc::new(Starting(device.clone())));
        let mut raw = Raw::new(device.clone(), writes);
        let mut one_by_one = Raw::new(device.clone(), writes);
        let mut in_order = Raw::new(device.clone(), writes);
        in_order.sorted = true;
        let single = queue(device);
        let [mut direct, mut sorted, mut starting] =
            [&direct, &sorted, &starting].map(|queue| Batches::new(queue, writes));
        let outcome = contest(
            plan,
            vec![
                Contestant::timed("raw calls", plan, work(|| raw.batch())),
                Contestant::timed(
                    "raw calls, each 32 by block",
                    plan,
                    work(|| in_order.batch()),
                ),
                Contestant::timed("batches of 32", plan, work(|| direct.batch())),
                Contestant::timed(
                    "batches of 32, scheduler deadline",
                    plan,
                    work(|| sorted.batch()),
                ),
                Contestant::timed("batches of 32, started", plan, work(|| starting.batch())),
                Contestant::timed("one by one, borrowed memory", plan, {
                    work(|| one_by_one.through(&single))
                }),
            ],
        );
        let what = if writes { "writes" } else { "reads" };
        print(
            &format!("4 KiB random {what}, memory device, hot"),
            &outcome,
        );
    }
}

impl Raw {
    /// The same calls through a queue.
    fn through(&mut self, queue: &BlockQueue) {
        for buffer in &mut self.buffers {
            let block = DiskBlock(self.places.next());
            let done = match self.writes {
                true => queue.write(block, buffer),
                false => queue.read(block, buffer),
            };
            done.expect("a sound device");
        }
        black_box(&self.buffers);
    }
}
