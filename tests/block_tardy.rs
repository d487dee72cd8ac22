//! A queue in front of a device that works by itself and does it badly: late, in any order, in several threads, with
//! errors, or never. Each bio ends once, with its memory; a flush covers what had ended before.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use extent_map::block::{Bio, BlockQueue, Deadline, Policy, Scheduler};
use extent_map::device::{Buffer, Buffers, Completion, Limits};
use extent_map::units::{BlockSize, DiskBlock, DiskRun};
use extent_map::{Error, IoError, Result};

#[path = "common/io.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod io;
#[path = "common/random.rs"]
mod random;
#[path = "common/tardy.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod tardy;

use random::Random;
use tardy::{Odds, Tardy};

const BLOCK: u64 = 512;
const BLOCKS: u64 = 240;
const THREADS: u64 = 3;

fn queue(device: &Arc<Tardy>) -> BlockQueue {
    BlockQueue::new(
        device.clone(),
        BlockSize::new(BLOCK).unwrap(),
        Arc::default(),
    )
}

fn stamped(block: u64, stamp: u64) -> Bio {
    let bytes = stamp.to_le_bytes().repeat(BLOCK as usize / 8);
    Bio::write_from(DiskBlock(block), Buffer::copy_of(&bytes))
}

/// Hears of bios, by their tags.
#[derive(Default)]
struct Heard {
    ends: Mutex<BTreeMap<u64, (u64, Result<()>)>>,
    changed: Condvar,
}

impl Completion for Heard {
    fn completed(&self, tag: u64, buffers: Buffers, result: Result<()>) {
        let mut ends = self.ends.lock().unwrap();
        let before = ends.insert(tag, (buffers.byte_len(), result));
        assert_eq!(before, None, "bio {tag} ended twice");
        self.changed.notify_all();
    }
}

impl Heard {
    /// Waits for so many ends.
    fn all(&self, count: usize) -> BTreeMap<u64, (u64, Result<()>)> {
        let ends = self.ends.lock().unwrap();
        let (mut ends, _) = self
            .changed
            .wait_timeout_while(ends, Duration::from_secs(60), |ends| ends.len() < count)
            .unwrap();
        assert_eq!(ends.len(), count, "a bio never ended");
        std::mem::take(&mut ends)
    }
}

/// What is known of a block: the stamp that was last written well, and the last that was tried.
#[derive(Default)]
struct Known {
    good: AtomicU64,
    tried: AtomicU64,
}

struct Stress {
    device: Arc<Tardy>,
    queue: BlockQueue,
    known: Vec<Known>,
    stamp: AtomicU64,
    /// How many bios ended as they should not for the odds.
    failures: AtomicU64,
}

impl Stress {
    /// Works on the blocks that this thread has to itself.
    fn work(&self, thread: u64, mut random: Random) {
        for _ in 0..250 {
            let first = THREADS * random.below(BLOCKS / THREADS - 8) + thread;
            let blocks: Vec<u64> = (0..random.below(8) + 1)
                .map(|n| first + n * THREADS)
                .collect();
            match random.below(8) {
                0..4 => self.write(&blocks, random.below(3) == 0, random.below(2) == 0),
                4..6 => self.read(&blocks),
                _ => self.flush(random.below(2) == 0),
            }
        }
    }

    fn note(&self, block: u64, stamp: u64, result: &Result<()>) {
        match result {
            Ok(()) => self.known[block as usize].good.store(stamp, SeqCst),
            Err(error) => {
                assert!(
                    matches!(error, Error::Io(IoError { errno: 5, .. })),
                    "{error:?}"
                );
                self.failures.fetch_add(1, SeqCst);
            }
        }
    }

    fn write(&self, blocks: &[u64], fua: bool, batch: bool) {
        let bios = blocks.iter().map(|&block| {
            let stamp = self.stamp.fetch_add(1, SeqCst) + 1;
            self.known[block as usize].tried.store(stamp, SeqCst);
            let bio = stamped(block, stamp);
            (block, stamp, if fua { bio.fua() } else { bio })
        });
        let bios: Vec<_> = bios.collect();
        let mut noted = Vec::new();
        if batch {
            let mut batch = self.queue.batch();
            for (block, stamp, bio) in bios {
                batch.push(bio);
                noted.push((block, stamp));
            }
            for (handle, (block, stamp)) in batch.submit().into_iter().zip(&noted) {
                let (buffers, result) = handle.finish();
                assert_eq!(buffers.byte_len(), BLOCK);
                self.note(*block, *stamp, &result);
                self.check_fua(fua, *block, *stamp, &result);
            }
        } else {
            let heard = Arc::new(Heard::default());
            for (tag, (block, stamp, bio)) in (0..).zip(bios) {
                self.queue.submit_with(bio, heard.clone(), tag);
                noted.push((block, stamp));
            }
            for ((_, (bytes, result)), (block, stamp)) in heard.all(noted.len()).iter().zip(&noted)
            {
                assert_eq!(*bytes, BLOCK);
                self.note(*block, *stamp, result);
                self.check_fua(fua, *block, *stamp, result);
            }
        }
    }

    fn check_fua(&self, fua: bool, block: u64, stamp: u64, result: &Result<()>) {
        if fua && result.is_ok() {
            assert!(
                self.device.durable(block) >= stamp,
                "block {block} is not durable"
            );
        }
    }

    fn read(&self, blocks: &[u64]) {
        let read = |&block| {
            (
                block,
                self.queue
                    .submit(Bio::read(DiskRun::new(DiskBlock(block), 1))),
            )
        };
        let handles: Vec<_> = blocks.iter().map(read).collect();
        for (block, handle) in handles {
            let Ok(bytes) = handle.wait() else {
                self.failures.fetch_add(1, SeqCst);
                continue;
            };
            let stamp = u64::from_le_bytes(bytes[..8].try_into().unwrap());
            let known = &self.known[block as usize];
            let possible = known.good.load(SeqCst)..=known.tried.load(SeqCst);
            assert!(
                possible.contains(&stamp),
                "block {block}: {stamp}, not {possible:?}"
            );
        }
    }

    fn flush(&self, blocking: bool) {
        let before: Vec<u64> = self
            .known
            .iter()
            .map(|known| known.good.load(SeqCst))
            .collect();
        let result = match blocking {
            true => self.queue.flush(),
            false => self.queue.submit(Bio::flush()).finish().1,
        };
        if result.is_err() {
            self.failures.fetch_add(1, SeqCst);
            return;
        }
        for (block, good) in before.into_iter().enumerate() {
            let durable = self.device.durable(block as u64);
            assert!(durable >= good, "block {block}: {durable}, not {good}");
        }
    }
}

/// Works with several threads; how many bios failed.
fn stress(limits: Limits, scheduler: Scheduler, policy: Policy, odds: Odds, seed: u64) -> u64 {
    let device = Tardy::new(BLOCKS * BLOCK, BLOCK, limits, odds, seed);
    let queue = queue(&device)
        .scheduler(scheduler)
        .policy(policy)
        .max_waiting(4);
    let stress = Stress {
        device,
        queue,
        known: (0..BLOCKS).map(|_| Known::default()).collect(),
        stamp: AtomicU64::new(0),
        failures: AtomicU64::new(0),
    };
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let stress = &stress;
            scope.spawn(move || stress.work(thread, Random(seed * THREADS + thread)));
        }
    });
    let depth = stress.queue.depth();
    assert_eq!((depth.waiting, depth.in_flight), (0, 0));
    let most = stress.device.most_under_way();
    assert!(most.len() <= limits.queues, "{most:?}");
    assert!(
        most.iter().all(|most| *most <= limits.depth as u64),
        "{most:?}"
    );
    stress.failures.into_inner()
}

#[test]
fn nothing_is_lost_or_told_twice_and_flushes_cover_what_ended_before_them() {
    let odds = Odds {
        fails: 40,
        dropped: 10,
        lost: 0,
    };
    for seed in 0..16 {
        let limits = Limits {
            depth: [1, 8][seed as usize % 2],
            queues: [1, 3][seed as usize / 2 % 2],
            native_fua: seed / 4 % 2 == 0,
            max_bytes: 8 * BLOCK,
            ..Limits::default()
        };
        let scheduler = match seed / 8 {
            0 => Scheduler::None,
            _ => Scheduler::Deadline(Deadline::default()),
        };
        let (none, often) = (Policy::new(), Policy::new().attempts(20));
        assert_eq!(stress(limits, scheduler, none, Odds::default(), seed), 0);
        assert!(stress(limits, scheduler, none, odds, seed) > 0);
        assert_eq!(
            stress(limits, scheduler, often, odds, seed),
            0,
            "tried often enough"
        );
    }
}

#[test]
fn of_many_bios_that_wait_each_ends_once_with_its_memory() {
    const BIOS: u64 = 40_000;
    for scheduler in [Scheduler::None, Scheduler::Deadline(Deadline::default())] {
        let odds = Odds {
            fails: 100,
            dropped: 100,
            lost: 0,
        };
        let device = Tardy::new(4 * BIOS * BLOCK, BLOCK, Limits::default(), odds, 1);
        let queue = queue(&device).scheduler(scheduler).max_waiting(usize::MAX);
        device.hold(true);
        let heard = Arc::new(Heard::default());
        thread::scope(|scope| {
            for thread in 0..4 {
                let (queue, heard) = (&queue, &heard);
                scope.spawn(move || {
                    for number in (thread..BIOS).step_by(4) {
                        queue.submit_with(stamped(2 * number, number), heard.clone(), number);
                    }
                });
            }
        });
        device.hold(false);
        let ends = heard.all(BIOS as usize);
        assert!(ends.values().all(|(bytes, _)| *bytes == BLOCK));
        let failed = ends.values().filter(|(_, result)| result.is_err()).count();
        assert!((1000..20_000).contains(&failed), "{failed}");
        assert_eq!(queue.depth().waiting, 0);
    }
}

#[test]
fn who_has_patience_gets_an_answer_from_a_device_that_ends_nothing() {
    let odds = Odds {
        lost: 1000,
        ..Odds::default()
    };
    let limits = Limits {
        depth: 2,
        ..Limits::default()
    };
    let device = Tardy::new(BLOCKS * BLOCK, BLOCK, limits, odds, 1);
    let policy = Policy::new().patience(Duration::from_millis(5));
    let queue = queue(&device).policy(policy).max_waiting(3);
    let begin = Instant::now();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let queue = &queue;
            scope.spawn(move || {
                for number in 0..20 {
                    let block = 2 * (thread + THREADS * number);
                    let bio = match number % 3 {
                        0 => stamped(block, 1),
                        1 => stamped(block, 1).fua(),
                        _ => Bio::flush(),
                    };
                    let result = queue.submit(bio).finish().1;
                    assert!(matches!(result, Err(Error::Io(IoError { errno: 110, .. }))));
                }
            });
        }
    });
    assert!(begin.elapsed() < Duration::from_secs(20));
    assert!(device.lost() > 0);
}

#[test]
fn each_queue_of_the_hardware_has_its_own_depth() {
    // Of so many threads at once not all have the same queue.
    const MANY: u64 = 16;
    const EACH: u64 = 4;
    let limits = Limits {
        depth: 2,
        queues: 4,
        ..Limits::default()
    };
    let device = Tardy::new(BLOCKS * BLOCK, BLOCK, limits, Odds::default(), 1);
    let queue = queue(&device);
    device.hold(true);
    let heard = Arc::new(Heard::default());
    let all_are_there = Barrier::new(MANY as usize);
    thread::scope(|scope| {
        for thread in 0..MANY {
            let (queue, heard, all_are_there) = (&queue, &heard, &all_are_there);
            scope.spawn(move || {
                for number in thread * EACH..(thread + 1) * EACH {
                    queue.submit_with(stamped(2 * number, 1), heard.clone(), number);
                }
                all_are_there.wait();
            });
        }
    });
    let most = device.most_under_way();
    assert!(most.len() <= limits.queues, "{most:?}");
    let used = most.iter().filter(|most| **most > 0).count();
    assert!(used > 1, "{most:?}");
    assert!(most.iter().all(|most| *most == 0 || *most == 2), "{most:?}");
    let depth = queue.depth();
    let bios = (MANY * EACH) as usize;
    assert_eq!(
        (depth.in_flight, depth.waiting),
        (2 * used, bios - 2 * used)
    );
    assert_eq!(depth.most_in_flight, 2);
    device.hold(false);
    let ends = heard.all(bios);
    assert!(
        ends.values()
            .all(|(bytes, result)| *bytes == BLOCK && result.is_ok())
    );
}

/// How often each bio was told of its end. A panic would not be seen in every thread that tells.
struct Told(Vec<AtomicU64>);

impl Completion for Told {
    fn completed(&self, tag: u64, _: Buffers, _: Result<()>) {
        self.0[tag as usize].fetch_add(1, SeqCst);
    }
}

#[test]
fn what_ends_while_patience_runs_out_is_told_once() {
    const BIOS: u64 = 600;
    for scheduler in [Scheduler::None, Scheduler::Deadline(Deadline::default())] {
        let odds = Odds {
            fails: 50,
            dropped: 50,
            lost: 20,
        };
        let limits = Limits {
            depth: 16,
            queues: 2,
            ..Limits::default()
        };
        let device = Tardy::new(4 * BIOS * BLOCK, BLOCK, limits, odds, 1);
        let policy = Policy::new().patience(Duration::from_millis(1)).attempts(2);
        let queue = queue(&device).scheduler(scheduler).policy(policy);
        let told = Arc::new(Told((0..BIOS).map(|_| AtomicU64::new(0)).collect()));
        thread::scope(|scope| {
            for thread in 0..THREADS {
                let (queue, told) = (&queue, &told);
                scope.spawn(move || {
                    for number in (thread..BIOS).step_by(THREADS as usize) {
                        let bio = match number % 5 {
                            0 => stamped(2 * number, 1).fua(),
                            1 => Bio::flush(),
                            // Neighbours of the next one.
                            _ => stamped(2 * BIOS + number, 1),
                        };
                        queue.submit_with(bio, told.clone(), number);
                    }
                });
            }
        });
        let begin = Instant::now();
        let told_once = || told.0.iter().filter(|told| told.load(SeqCst) == 1).count();
        while told_once() < BIOS as usize && begin.elapsed() < Duration::from_secs(20) {
            thread::yield_now();
        }
        // What is under way ends, but what is lost.
        device.set_odds(Odds::default());
        while device.under_way() > 0 && begin.elapsed() < Duration::from_secs(40) {
            thread::yield_now();
        }
        drop((queue, device));
        assert_eq!(told_once(), BIOS as usize);
    }
}
