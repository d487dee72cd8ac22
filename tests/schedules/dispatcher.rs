//! The block layer: commands on their way to a device that ends them in its own time, and flushes that are shared.

use std::sync::Arc;

use extent_map::Result;
use extent_map::block::{Bio, BlockQueue, Deadline, Scheduler};
use extent_map::device::{BlockDevice, Buffers, Completion, Limits, OperationKind, Request};
use extent_map::probe::Mutation;
use extent_map::units::{BlockSize, DiskBlock, DiskRun};
use shuttle::sync::Mutex;
use shuttle::thread;

use crate::model::{Case, Model, ensure};
use crate::world::Act;

const BLOCK: u64 = 512;

/// Blocks, one bit for each.
type Set = u64;

/// A device that only remembers which blocks were written, and which of those are durable.
#[derive(Debug, Default)]
struct Hardware {
    asynchronous: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    written: Set,
    durable: Set,
    /// Started and not ended; a flush with what it makes durable.
    under_way: Vec<(Request, Set)>,
    /// Threads inside.
    inside: usize,
}

impl Hardware {
    fn lock(&self) -> shuttle::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Ends the first request that is under way: whether there was one.
    fn end_one(&self) -> bool {
        let mut state = self.lock();
        if state.under_way.is_empty() {
            return false;
        }
        let (request, covered) = state.under_way.remove(0);
        match request.kind {
            OperationKind::Flush => state.durable |= covered,
            _ => state.written |= 1 << (request.offset / BLOCK),
        }
        drop(state);
        request.complete(Ok(()));
        true
    }
}

impl BlockDevice for Hardware {
    fn size(&self) -> u64 {
        64 * BLOCK
    }

    fn read_at(&self, _: u64, _: &mut [u8]) -> Result<()> {
        Ok(())
    }

    fn write_at(&self, offset: u64, _: &[u8]) -> Result<()> {
        self.lock().inside += 1;
        let mut state = self.lock();
        let inside = state.inside;
        ensure(13, inside == 1, || {
            format!("{inside} threads in a device for one")
        });
        state.written |= 1 << (offset / BLOCK);
        state.inside -= 1;
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        let covered = self.lock().written;
        self.lock().durable |= covered;
        Ok(())
    }

    fn discard(&self, _: u64, _: u64) -> Result<()> {
        Ok(())
    }

    fn start(&self, request: Request) {
        let mut state = self.lock();
        let covered = state.written;
        state.under_way.push((request, covered));
    }

    fn limits(&self) -> Limits {
        Limits {
            asynchronous: self.asynchronous,
            depth: 1,
            ..Limits::default()
        }
    }
}

/// Hears of bios by the block that they are about, or whose write they are to make durable.
struct Told {
    hardware: Arc<Hardware>,
    ended: Mutex<Vec<u64>>,
}

impl Completion for Told {
    fn completed(&self, block: u64, _: Buffers, result: Result<()>) {
        ensure(13, result.is_ok(), || format!("block {block}: {result:?}"));
        self.ended.lock().unwrap().push(block);
    }
}

/// Hears of flushes behind the write of a block.
struct Durable(Arc<Told>);

impl Completion for Durable {
    fn completed(&self, block: u64, buffers: Buffers, result: Result<()>) {
        let durable = self.0.hardware.lock().durable;
        ensure(10, durable & 1 << block != 0, || {
            format!("flushed, but block {block} is not durable")
        });
        self.0.completed(block, buffers, result);
    }
}

/// A queue in front of the hardware.
struct Bench<'c> {
    case: &'c Case,
    hardware: Arc<Hardware>,
    queue: BlockQueue,
    told: Arc<Told>,
}

impl<'c> Bench<'c> {
    fn new(case: &'c Case, asynchronous: bool) -> Self {
        let hardware = Arc::new(Hardware {
            asynchronous,
            ..Hardware::default()
        });
        let block_size = BlockSize::new(BLOCK).unwrap();
        let queue = BlockQueue::new(hardware.clone(), block_size, Arc::default());
        let told = Arc::new(Told {
            hardware: hardware.clone(),
            ended: Mutex::default(),
        });
        Self {
            case,
            queue: queue.with_probe(case.probe.clone()),
            hardware,
            told,
        }
    }

    fn race<const N: usize>(&self, acts: [Act<'_>; N]) {
        thread::scope(|scope| {
            for (name, act) in acts {
                scope.spawn(move || self.case.story.thread(name, act));
            }
        });
    }

    /// Zeroes a block: nothing has to be carried along.
    fn submit(&self, block: u64) {
        let bio = Bio::write_zeroes(DiskRun::new(DiskBlock(block), 1));
        self.queue.submit_with(bio, self.told.clone(), block);
    }

    /// Ends everything; by then all who submitted must have heard of their bios.
    fn check(&self, mut expected: Vec<u64>) {
        while self.hardware.end_one() {}
        let mut ended = self.told.ended.lock().unwrap().clone();
        ended.sort_unstable();
        expected.sort_unstable();
        ensure(13, ended == expected, || {
            format!("{ended:?} have ended, not {expected:?}")
        });
    }
}

#[test]
fn whoever_starts_commands_leaves_none_behind() {
    Model {
        name: "submit, submit, end of a request",
        asserts: &[13],
        broken: &[&[Mutation::StopStartingUnseen], &[Mutation::IgnoreDepth]],
        body: |case| {
            let bench = Bench::new(case, true);
            let under_way = || bench.hardware.lock().under_way.len();
            bench.race([
                ("first", &|| bench.submit(0)),
                ("second", &|| bench.submit(2)),
                ("device", &|| {
                    let most = under_way();
                    ensure(13, most <= 1, || format!("{most} under way, room for one"));
                    bench.hardware.end_one();
                }),
            ]);
            bench.check(vec![0, 2]);
        },
    }
    .verify();
}

#[test]
fn a_flush_that_is_started_covers_what_was_written_before_it_was_asked_for() {
    Model {
        name: "write and start a flush, twice; end of a request",
        asserts: &[10, 13],
        broken: &[&[Mutation::FlushForLatecomers]],
        body: |case| {
            let bench = Bench::new(case, true);
            let write_and_flush = |block: u64| {
                bench.hardware.lock().written |= 1 << block;
                let durable = Arc::new(Durable(bench.told.clone()));
                bench.queue.submit_with(Bio::flush(), durable, block);
            };
            bench.race([
                ("first", &|| write_and_flush(0)),
                ("second", &|| write_and_flush(1)),
                ("device", &|| {
                    bench.hardware.end_one();
                }),
            ]);
            bench.check(vec![0, 1]);
        },
    }
    .verify();
}

#[test]
fn a_shared_flush_covers_what_each_caller_wrote() {
    Model {
        name: "write and flush, three times",
        asserts: &[10],
        broken: &[&[Mutation::FlushForLatecomers]],
        body: |case| {
            let bench = Bench::new(case, false);
            let write_and_flush = |block: u64| {
                bench.hardware.lock().written |= 1 << block;
                assert_eq!(bench.queue.flush(), Ok(()));
                let durable = bench.hardware.lock().durable;
                ensure(10, durable & 1 << block != 0, || {
                    format!("flushed, but block {block} is not durable")
                });
            };
            bench.race([
                ("first", &|| write_and_flush(0)),
                ("second", &|| write_and_flush(1)),
                ("third", &|| write_and_flush(2)),
            ]);
        },
    }
    .verify();
}

#[test]
fn threads_that_carry_commands_out_share_one_place_and_all_of_them() {
    Model {
        name: "two batches, a device for one thread",
        asserts: &[13],
        broken: &[&[Mutation::IgnoreDepth]],
        body: |case| {
            let mut bench = Bench::new(case, false);
            bench.queue = bench
                .queue
                .scheduler(Scheduler::Deadline(Deadline::default()));
            let batch = |blocks: [u64; 2]| {
                let mut batch = bench.queue.batch();
                for block in blocks {
                    let data: Arc<[u8]> = [1; BLOCK as usize].into();
                    batch.push_with(
                        Bio::write(DiskBlock(block), data),
                        bench.told.clone(),
                        block,
                    );
                }
                assert!(batch.submit().is_empty());
            };
            bench.race([("one", &|| batch([0, 4])), ("other", &|| batch([2, 6]))]);
            bench.check(vec![0, 2, 4, 6]);
        },
    }
    .verify();
}
