//! The block queue, seen through what reaches the device and what comes back: few requests in an order that is allowed,
//! and the right end for each bio.

use std::iter::{once, repeat_with};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use arbitrary::Unstructured;
use extent_map::block::{Bio, BlockQueue, Deadline, Scheduler};
use extent_map::device::OperationKind::{self, Discard, Flush, Read, Write, WriteZeroes};
use extent_map::device::{BlockDevice, FaultyDevice, MemoryDevice, Operation};
use extent_map::stats::Counters;
use extent_map::units::{BlockSize, DiskBlock, DiskRun};
use extent_map::{Error, IoError, Result};
use proptest::prelude::*;

#[path = "common/around.rs"]
#[allow(dead_code, reason = "others use the rest")]
mod around;
#[path = "common/batches.rs"]
mod batches;
#[path = "common/commands.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod commands;
#[path = "common/io.rs"]
mod io;
#[path = "common/random.rs"]
mod random;

use around::Around;
use batches::{DEVICE_BYTES, Setup, Step};
use commands::Ends;
use io::{EIO, is_io};

const BLOCK: usize = 4096;

fn run(start: u64, len: u64) -> DiskRun {
    DiskRun::new(DiskBlock(start), len)
}

fn faulty(size: u64) -> Arc<FaultyDevice> {
    Arc::new(FaultyDevice::new(Arc::new(MemoryDevice::new(size))))
}

struct Watched {
    device: Arc<FaultyDevice>,
    counters: Arc<Counters>,
    queue: BlockQueue,
}

/// A queue of 4 KiB blocks over a recording device of `blocks` blocks.
fn setup(blocks: u64) -> Watched {
    let device = faulty(blocks * BLOCK as u64);
    let counters = Arc::new(Counters::default());
    let block_size = BlockSize::new(BLOCK as u64).unwrap();
    let queue = BlockQueue::new(device.clone(), block_size, counters.clone());
    Watched {
        device,
        counters,
        queue,
    }
}

fn blocks(byte: u8, count: usize) -> Vec<u8> {
    vec![byte; count * BLOCK]
}

fn write(start: u64, byte: u8, count: usize) -> Bio {
    Bio::write(DiskBlock(start), blocks(byte, count).into())
}

/// What the device saw, in blocks.
fn seen(device: &FaultyDevice) -> Vec<(OperationKind, u64, u64)> {
    let in_blocks = |operation: Operation| {
        let [start, len] = [operation.offset, operation.len].map(|bytes| bytes / BLOCK as u64);
        (operation.kind, start, len)
    };
    device.take_log().into_iter().map(in_blocks).collect()
}

#[test]
fn neighbouring_writes_of_a_batch_become_one_request_in_whatever_order_they_come() {
    let Watched {
        device,
        counters,
        queue,
    } = setup(64);
    let mut batch = queue.batch();
    for block in [7, 3, 4, 9, 5, 8, 6, 2] {
        batch.push(write(block, block as u8, 1));
    }
    assert_eq!(batch.len(), 8);
    batch.submit_and_wait().unwrap();
    assert_eq!(seen(&device), [(Write, 2, 8)]);
    for block in 0..12 {
        let expected = if (2..10).contains(&block) {
            block as u8
        } else {
            0
        };
        let mut data = blocks(0xee, 1);
        queue.read(DiskBlock(block), &mut data).unwrap();
        assert_eq!(data, blocks(expected, 1), "block {block}");
    }
    let stats = counters.snapshot();
    assert_eq!(
        (stats.bios, stats.bios_merged, stats.device_requests),
        (8 + 12, 7, 1 + 12)
    );
}

#[test]
fn requests_are_as_large_as_the_limit_allows_wherever_the_bios_end() {
    let Watched {
        device,
        counters,
        queue,
    } = setup(64);
    let queue = queue.max_request_bytes(3 * BLOCK as u64);
    let mut batch = queue.batch();
    for block in 0..7 {
        batch.push(write(block, 1, 1));
    }
    batch.push(write(7, 2, 5));
    batch.push(write(12, 3, 1));
    batch.submit_and_wait().unwrap();
    let requests = [
        (Write, 0, 3),
        (Write, 3, 3),
        (Write, 6, 3),
        (Write, 9, 3),
        (Write, 12, 1),
    ];
    assert_eq!(seen(&device), requests);
    let stats = counters.snapshot();
    assert_eq!((stats.bios_merged, stats.bios_split), (5, 1));
}

#[test]
fn only_neighbours_of_one_kind_are_merged() {
    let Watched {
        device,
        counters,
        queue,
    } = setup(64);
    let mut batch = queue.batch();
    batch.push(write(10, 1, 1));
    batch.push(Bio::read(run(11, 1)));
    batch.push(write(12, 1, 1));
    batch.push(Bio::write_zeroes(run(13, 2)));
    batch.push(Bio::discard(run(15, 1)));
    batch.push(write(17, 1, 1));
    batch.push(Bio::read(run(2, 1)));
    batch.push(Bio::read(run(0, 1)));
    batch.submit_and_wait().unwrap();
    assert_eq!(
        seen(&device),
        [
            (Read, 0, 1),
            (Read, 2, 1),
            (Write, 10, 1),
            (Read, 11, 1),
            (Write, 12, 1),
            (WriteZeroes, 13, 2),
            (Discard, 15, 1),
            (Write, 17, 1)
        ]
    );
    assert_eq!(counters.snapshot().bios_merged, 0);
}

#[test]
fn reads_that_overlap_need_not_wait_for_each_other_but_writes_must() {
    let Watched { device, queue, .. } = setup(64);
    queue.submit(write(0, 7, 8)).wait().unwrap();
    seen(&device);
    let mut batch = queue.batch();
    for start in [4, 0, 2] {
        batch.push(Bio::read(run(start, 3)));
    }
    batch.push(write(3, 8, 1));
    batch.push(Bio::read(run(2, 3)));
    let read: Vec<_> = batch.submit().into_iter().map(|bio| bio.wait()).collect();
    for old in &read[..3] {
        assert_eq!(*old, Ok(blocks(7, 3)));
    }
    let new = [blocks(7, 1), blocks(8, 1), blocks(7, 1)].concat();
    assert_eq!(read[4], Ok(new));
    let order: Vec<_> = seen(&device)
        .into_iter()
        .map(|(kind, start, _)| (kind, start))
        .collect();
    let expected = [(Read, 0), (Read, 2), (Read, 4), (Write, 3), (Read, 2)];
    assert_eq!(order, expected);
}

#[test]
fn nothing_moves_across_a_flush() {
    let Watched {
        device,
        counters,
        queue,
    } = setup(64);
    let mut batch = queue.batch();
    batch.push(write(5, 1, 1));
    batch.push(write(4, 1, 1));
    batch.push(Bio::flush());
    batch.push(write(3, 1, 1));
    batch.push(write(6, 1, 1));
    batch.push(Bio::flush());
    batch.submit_and_wait().unwrap();
    let expected = [
        (Write, 4, 2),
        (Flush, 0, 0),
        (Write, 3, 1),
        (Write, 6, 1),
        (Flush, 0, 0),
    ];
    assert_eq!(seen(&device), expected);
    assert_eq!(
        (
            counters.snapshot().device_flushes,
            counters.snapshot().device_requests
        ),
        (2, 3)
    );
}

#[test]
fn a_failed_request_fails_all_bios_merged_into_it_and_no_other() {
    let Watched { device, queue, .. } = setup(64);
    device.fail_range(Some(Write), 21 * BLOCK as u64..22 * BLOCK as u64);
    let mut batch = queue.batch();
    batch.push(write(40, 4, 2));
    for block in [22, 20, 21] {
        batch.push(write(block, 2, 1));
    }
    batch.push(Bio::read(run(21, 1)));
    batch.push(Bio::flush());
    batch.push(write(10, 1, 1));
    let outcomes: Vec<_> = batch.submit().into_iter().map(|bio| bio.wait()).collect();
    let failed: Vec<_> = outcomes
        .iter()
        .map(|outcome| is_io(outcome.clone()))
        .collect();
    assert_eq!(failed, [false, true, true, true, false, false, false]);
    assert_eq!(
        outcomes[4],
        Ok(blocks(0, 1)),
        "pushed behind the write of its block"
    );
    assert_eq!(outcomes[6], Ok(vec![]));
    assert_eq!(queue.submit(Bio::read(run(40, 2))).wait(), Ok(blocks(4, 2)));
    assert_eq!(queue.submit(Bio::read(run(10, 1))).wait(), Ok(blocks(1, 1)));
}

#[test]
fn the_first_pushed_failure_is_what_a_batch_reports() {
    let Watched { device, queue, .. } = setup(64);
    device.fail_range(None, 0..BLOCK as u64);
    let mut batch = queue.batch();
    batch.push(write(9, 1, 1));
    batch.push(write(64, 1, 1));
    batch.push(write(0, 1, 1));
    assert!(matches!(
        batch.submit_and_wait(),
        Err(Error::InvalidInput(_))
    ));
    assert_eq!(
        seen(&device),
        [(Write, 9, 1), (Write, 0, 1)],
        "the rest was tried"
    );
}

#[test]
fn requests_that_do_not_fit_are_refused_one_by_one() {
    let Watched { device, queue, .. } = setup(8);
    let odd = vec![0; BLOCK + 1];
    assert!(matches!(
        queue.write(DiskBlock(0), &odd),
        Err(Error::InvalidInput(_))
    ));
    assert!(matches!(
        queue.read(DiskBlock(0), &mut odd.clone()),
        Err(Error::InvalidInput(_))
    ));
    for outside in [
        run(8, 1),
        run(7, 2),
        run(u64::MAX, 1),
        run(0, u64::MAX),
        run(u64::MAX, u64::MAX),
    ] {
        assert!(
            matches!(queue.zero(outside), Err(Error::InvalidInput(_))),
            "{outside:?}"
        );
        assert!(
            matches!(queue.discard(outside), Err(Error::InvalidInput(_))),
            "{outside:?}"
        );
        let read = queue.submit(Bio::read(outside)).wait();
        assert!(matches!(read, Err(Error::InvalidInput(_))), "{outside:?}");
    }
    assert_eq!(seen(&device), []);

    let mut batch = queue.batch();
    batch.push(write(6, 1, 1));
    batch.push(Bio::write(DiskBlock(5), odd.into()));
    batch.push(write(8, 1, 1));
    batch.push(write(7, 1, 1));
    let outcomes: Vec<_> = batch
        .submit()
        .into_iter()
        .map(|bio| bio.wait().is_ok())
        .collect();
    assert_eq!(outcomes, [true, false, false, true]);
    assert_eq!(
        seen(&device),
        [(Write, 6, 2)],
        "the refused ones do not hinder merging"
    );
}

#[test]
fn a_read_larger_than_memory_is_refused() {
    let device = Arc::new(MemoryDevice::new(u64::MAX));
    let queue = BlockQueue::new(device, BlockSize::new(4096).unwrap(), Arc::default());
    let read = queue.submit(Bio::read(run(0, (1 << 52) - 1))).wait();
    assert!(matches!(read, Err(Error::InvalidInput(_))));
}

#[test]
fn a_batch_without_bios_does_nothing_and_a_dropped_one_submits_nothing() {
    let Watched {
        device,
        counters,
        queue,
    } = setup(8);
    let mut batch = queue.batch();
    assert!(batch.is_empty());
    batch.push(write(1, 1, 1));
    drop(batch);
    queue.batch().submit_and_wait().unwrap();
    assert_eq!((seen(&device), counters.snapshot().bios), (vec![], 0));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// However batches are sorted, merged and split: their bios see and leave what they would one after the other, and
    /// the device gets the fewest commands that can do it.
    #[test]
    fn batches_do_what_their_bios_would_do_in_order(
        steps in prop::collection::vec(any::<[u8; Step::ENCODED_LEN]>(), 0..40),
        max_blocks in 1..8_u64,
        scheduled: bool,
        native_fua: bool,
        ends in prop::option::of(prop::option::of(any::<u64>())),
        depth in 1..6_usize,
    ) {
        let draw = |bytes: &[u8; Step::ENCODED_LEN]| Unstructured::new(bytes).arbitrary();
        let steps: Vec<Step> = steps.iter().map(|bytes| draw(bytes).unwrap()).collect();
        let setup = Setup {
            max_blocks,
            scheduler: if scheduled { Scheduler::Deadline(Deadline::default()) } else { Scheduler::None },
            ends: ends.map(|seed| seed.map_or(Ends::AtOnce, Ends::Later)),
            depth,
            native_fua,
        };
        batches::compare(Arc::new(MemoryDevice::new(DEVICE_BYTES)), setup, &steps);
    }
}

// --- flushes ----------------------------------------------------------------------------------------

/// A device of which nothing but the flushes matters: they are `flush`.
fn flushing(flush: impl Fn() -> Result<()> + Send + Sync + 'static) -> Arc<dyn BlockDevice> {
    let nothing = Arc::new(MemoryDevice::new(0));
    Arc::new(Around::new(nothing, move |_, _| flush()))
}

/// What "was written" before a thread calls flush is durable when it returns, though callers share flushes.
#[test]
fn a_shared_flush_covers_what_each_of_its_callers_had_written() {
    const THREADS: u64 = 4;
    const FLUSHES: u64 = 30;
    let written = Arc::new(AtomicU64::new(0));
    let durable = Arc::new(AtomicU64::new(0));
    let device = {
        let (written, durable) = (written.clone(), durable.clone());
        flushing(move || {
            let seen = written.load(Ordering::SeqCst);
            thread::sleep(Duration::from_millis(1));
            durable.fetch_max(seen, Ordering::SeqCst);
            Ok(())
        })
    };
    let counters = Arc::new(Counters::default());
    let queue = BlockQueue::new(device, BlockSize::new(512).unwrap(), counters.clone());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..FLUSHES {
                    let mine = written.fetch_add(1, Ordering::SeqCst) + 1;
                    queue.flush().unwrap();
                    assert!(durable.load(Ordering::SeqCst) >= mine);
                }
            });
        }
    });
    let stats = counters.snapshot();
    assert_eq!(stats.bios, THREADS * FLUSHES);
    assert!(
        stats.device_flushes < stats.bios,
        "{} flushes: none was shared",
        stats.device_flushes
    );
}

#[test]
fn every_caller_of_a_shared_flush_hears_of_its_failure() {
    const WAITERS: u64 = 3;
    let failure = || {
        Error::Io(IoError {
            operation: "flush",
            offset: 0,
            errno: EIO,
        })
    };
    let entered = Arc::new(Barrier::new(2));
    let leave = Arc::new(Barrier::new(2));
    // A waiter that is slow may come too late for the second flush.
    let results = Mutex::new(once(Ok(())).chain(repeat_with(failure).map(Err)));
    let device = {
        let (entered, leave) = (entered.clone(), leave.clone());
        flushing(move || {
            let result = results.lock().unwrap().next().unwrap();
            if result.is_ok() {
                entered.wait();
                leave.wait();
            }
            result
        })
    };
    let counters = Arc::new(Counters::default());
    let queue = BlockQueue::new(device, BlockSize::new(512).unwrap(), counters.clone());
    thread::scope(|scope| {
        let first = scope.spawn(|| queue.flush());
        entered.wait();
        let waiters: Vec<_> = (0..WAITERS)
            .map(|_| scope.spawn(|| queue.flush()))
            .collect();
        while counters.snapshot().bios < 1 + WAITERS {
            thread::yield_now();
        }
        leave.wait();
        assert_eq!(
            first.join().unwrap(),
            Ok(()),
            "its flush had begun before the failure"
        );
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Err(failure()));
        }
    });
    assert!((2..=1 + WAITERS).contains(&counters.snapshot().device_flushes));
}
