//! `UringDevice`, for which the kernel works while nobody waits: in each way of working it is a vector of bytes, every
//! request ends once, and errors are typed. `cargo test --features uring --test device_uring`
#![cfg(all(target_os = "linux", feature = "uring"))]

use std::fs::OpenOptions;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use extent_map::block::{Bio, BlockQueue, Deadline, Scheduler};
use extent_map::device::{
    BlockDevice, Buffer, Buffers, Completion, DirectDevice, FaultyDevice, OperationKind, Request,
    UringDevice, UringOptions,
};
use extent_map::units::{BlockSize, DiskBlock};
use extent_map::{Error, Result};
use proptest::prelude::*;

#[path = "common/by_requests.rs"]
mod by_requests;
#[path = "common/device_steps.rs"]
mod device_steps;
#[path = "common/io.rs"]
mod io;
#[path = "common/loop_disk.rs"]
mod loop_disk;
#[path = "common/random.rs"]
mod random;

use by_requests::ByRequests;
use device_steps::{Shape, compare_with_vector, pattern, step};
use io::{is_io, read};
use loop_disk::LoopDisk;
use random::Random;

const SHAPE: Shape = Shape {
    size: 3 << 16,
    unit: 4096,
};
const BLOCK: usize = 4096;

/// Ways of working. Polling, which not every disk knows, is the last: a test may end there.
const WAYS: [UringOptions; 4] = [
    UringOptions {
        depth: 128,
        registered: true,
        polled: false,
    },
    UringOptions {
        depth: 4,
        registered: false,
        polled: false,
    },
    UringOptions {
        depth: 1,
        registered: true,
        polled: false,
    },
    POLLED,
];

const POLLED: UringOptions = UringOptions {
    depth: 8,
    registered: true,
    polled: true,
};

/// Longer than anything takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// The device, or a message that there can be none.
fn uring(path: &Path, options: UringOptions) -> Option<UringDevice> {
    match UringDevice::open(path, options) {
        Ok(device) => Some(device),
        Err(Error::NotSupported(why)) => {
            println!("not tested: {why}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// A device in a new file of zeros, which lasts as long as the folder.
fn fresh(size: u64, options: UringOptions) -> Option<(UringDevice, tempfile::TempDir)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    drop(DirectDevice::create(&path, size).unwrap());
    Some((uring(&path, options)?, folder))
}

/// The ends of requests: tag, memory, outcome.
type End = (u64, Buffers, Result<()>);

struct Ends(Sender<End>);

impl Completion for Ends {
    fn completed(&self, tag: u64, buffers: Buffers, result: Result<()>) {
        let _ = self.0.send((tag, buffers, result));
    }
}

fn ends() -> (Arc<dyn Completion>, Receiver<End>) {
    let (sender, receiver) = channel();
    (Arc::new(Ends(sender)), receiver)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(24) })]

    #[test]
    fn an_io_uring_is_a_vector_of_bytes(steps in prop::collection::vec(step(SHAPE), 1..20), way in 0..WAYS.len()) {
        if let Some((device, _folder)) = fresh(SHAPE.size as u64, WAYS[way]) {
            if device.is_registered() != WAYS[way].registered {
                // The limit of locked memory may be low.
                prop_assert!(WAYS[way].registered);
                println!("registered memory not tested: the kernel refuses it");
            }
            compare_with_vector(&ByRequests(device), SHAPE, &steps);
        }
    }
}

#[test]
fn an_io_uring_on_a_block_device_is_a_vector_of_bytes() {
    let Some(disk) = LoopDisk::new(SHAPE.size as u64) else {
        return;
    };
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(8)
    });
    let steps = prop::collection::vec(step(SHAPE), 1..16);
    let check = |steps: Vec<_>| {
        for way in WAYS {
            if let Some(device) = uring(disk.path(), way) {
                let device = ByRequests(device);
                device.write_zeroes(0, SHAPE.size as u64).unwrap();
                compare_with_vector(&device, SHAPE, &steps);
            }
        }
        Ok(())
    };
    runner.run(&steps, check).unwrap();
}

#[test]
fn threads_have_more_requests_under_way_than_the_kernel_takes_and_each_ends_once() {
    const THREADS: u64 = 4;
    const EACH: u64 = 120;
    let blocks = THREADS * EACH;
    for way in WAYS {
        let Some((device, _folder)) = fresh(blocks * BLOCK as u64, way) else {
            return;
        };
        let data = |block: u64| pattern(block as u8 ^ (block >> 8) as u8, BLOCK);
        let start = |thread: u64, write: bool| {
            let (waiting, ended) = ends();
            let own = thread * EACH..(thread + 1) * EACH;
            let mut requests = own.clone().map(move |block| {
                let offset = block * BLOCK as u64;
                let waiting = (Arc::clone(&waiting), block);
                match write {
                    true => Request::write(offset, Buffer::copy_of(&data(block)).into(), waiting),
                    false => Request::read(offset, Buffer::zeroed(BLOCK).into(), waiting),
                }
            });
            // Some one by one, the rest at once.
            requests
                .by_ref()
                .take(50)
                .for_each(|request| device.start(request));
            device.start_all(&mut requests);
            drop(requests);
            let mut seen: Vec<_> = ended
                .iter()
                .map(|(tag, buffers, result)| {
                    assert_eq!(result, Ok(()));
                    assert!(write || buffers.to_vec() == data(tag), "block {tag}");
                    tag
                })
                .collect();
            seen.sort_unstable();
            assert_eq!(seen, own.collect::<Vec<_>>());
        };
        for write in [true, false] {
            thread::scope(|scope| {
                for thread in 0..THREADS {
                    let start = &start;
                    scope.spawn(move || start(thread, write));
                }
            });
        }
    }
}

#[test]
fn requests_outlive_the_threads_that_started_them() {
    for way in WAYS {
        let Some((device, _folder)) = fresh(64 * BLOCK as u64, way) else {
            return;
        };
        let (waiting, ended) = ends();
        // More than the kernel has threads for: the flushes of a thread that ends are still waiting then.
        for thread in 0..8 {
            let (device, waiting) = (&device, &waiting);
            let start = move || {
                let mut requests = (8 * thread..8 * (thread + 1)).flat_map(|block| {
                    let data = Buffer::copy_of(&[1 + block as u8; BLOCK]).into();
                    let at = block * BLOCK as u64;
                    let write = Request::write(at, data, (Arc::clone(waiting), block));
                    [write, Request::flush((Arc::clone(waiting), 100 + block))]
                });
                device.start_all(&mut requests);
            };
            thread::scope(|scope| drop(scope.spawn(start)));
        }
        drop(waiting);
        let ended: Vec<_> = ended.iter().map(|(_, _, result)| result).collect();
        assert_eq!(ended, vec![Ok(()); 128]);
        for block in 0..64 {
            let bytes = read(&device, block * BLOCK as u64, BLOCK);
            assert_eq!(bytes, [1 + block as u8; BLOCK]);
        }
    }
}

#[test]
fn large_requests_of_many_pieces_arrive_whatever_their_memory_is_like() {
    for way in WAYS {
        let Some((device, _folder)) = fresh(4 << 20, way) else {
            return;
        };
        let whole = pattern(7, 1 << 20);
        let aligned: Vec<_> = whole.chunks(8192).map(Buffer::copy_of).collect();
        let shared: Arc<[u8]> = [&[0], &whole[..]].concat().into();
        let odd = vec![Buffer::from(shared).share(1..whole.len() + 1)];
        let pieces: Vec<_> = whole.chunks(5000).map(Buffer::copy_of).collect();
        let small = vec![
            Buffer::copy_of(&whole[..100]),
            Buffer::copy_of(&whole[100..8192]),
        ];
        for memory in [aligned, odd, pieces, small] {
            let (waiting, ended) = ends();
            let buffers: Buffers = memory.into();
            let len = buffers.byte_len() as usize;
            device.start(Request::write(
                BLOCK as u64,
                buffers.clone(),
                (Arc::clone(&waiting), 0),
            ));
            let (_, written, result) = ended.recv().unwrap();
            assert_eq!(result, Ok(()));
            assert!(written == buffers, "what was written comes back as it was");
            assert!(read(&device, BLOCK as u64, len) == whole[..len]);
            device.write_at(BLOCK as u64, &vec![1; len]).unwrap();
            // Into memory that somebody else can still see: theirs stays as it is.
            device.start(Request::read(BLOCK as u64, buffers.clone(), (waiting, 0)));
            let (_, seen, result) = ended.recv().unwrap();
            assert_eq!(result, Ok(()));
            assert!(seen.to_vec() == vec![1; len]);
            assert!(buffers.to_vec() == whole[..len]);
        }
    }
}

#[test]
fn more_buffers_than_the_kernel_takes_at_once_are_one_request_still() {
    for way in WAYS {
        let Some((device, _folder)) = fresh(8 << 20, way) else {
            return;
        };
        let whole = pattern(9, 1025 * BLOCK);
        let memory: Vec<_> = whole.chunks(BLOCK).map(Buffer::copy_of).collect();
        let (waiting, ended) = ends();
        device.start(Request::write(0, memory.into(), (waiting, 0)));
        assert_eq!(ended.recv().unwrap().2, Ok(()));
        assert!(read(&device, 0, whole.len()) == whole);
    }
}

#[test]
fn a_length_that_is_not_that_of_the_buffers_is_refused_and_no_other_memory_is_touched() {
    for way in WAYS {
        let Some((device, _folder)) = fresh(1 << 20, way) else {
            return;
        };
        // In a slot or not, too long and too short.
        for (have, says) in [(1, 2), (1, 64), (64, 1), (64, 32), (0, 1), (1, 0)] {
            let memory = || Buffers::from(Buffer::zeroed(have * BLOCK));
            let (waiting, ended) = ends();
            let end = || (Arc::clone(&waiting), 0);
            for mut request in [
                Request::read(0, memory(), end()),
                Request::write(0, memory(), end()),
            ] {
                request.len = (says * BLOCK) as u64;
                device.start(request);
                let (_, buffers, result) = ended.recv().unwrap();
                assert!(matches!(result, Err(Error::InvalidInput(_))), "{result:?}");
                assert_eq!(buffers.byte_len(), (have * BLOCK) as u64);
            }
        }
    }
}

#[test]
fn a_durable_write_is_there_for_whoever_opens_the_file_next() {
    let Some((device, folder)) = fresh(1 << 20, UringOptions::default()) else {
        return;
    };
    assert!(device.limits().native_fua && device.limits().asynchronous);
    let (waiting, ended) = ends();
    for (block, byte) in [(0, 1), (1, 2)] {
        let data = Buffer::copy_of(&[byte; BLOCK]).into();
        let request = Request::write(block * BLOCK as u64, data, (Arc::clone(&waiting), block));
        device.start(request.with_fua(true));
        assert_eq!(ended.recv().unwrap().2, Ok(()));
    }
    device.start(Request::flush((waiting, 9)));
    assert_eq!(ended.recv().unwrap().2, Ok(()));
    let other = DirectDevice::open(folder.path().join("image")).unwrap();
    assert_eq!(
        read(&other, 0, 2 * BLOCK),
        [[1; BLOCK], [2; BLOCK]].concat()
    );
}

#[test]
fn errors_come_back_typed_and_the_device_goes_on() {
    for way in WAYS {
        let Some((device, folder)) = fresh(1 << 20, way) else {
            return;
        };
        let image = folder.path().join("image");
        let file = OpenOptions::new().write(true).open(image).unwrap();
        file.set_len(128 << 10).unwrap();
        let memory = |len| Buffers::from(Buffer::zeroed(len));
        let ask = |request: &dyn Fn((Arc<dyn Completion>, u64)) -> Request| {
            let (waiting, ended) = ends();
            device.start(request((waiting, 0)));
            ended.recv().unwrap().2
        };
        for (len, small) in [(BLOCK, true), (64 << 10, false)] {
            let behind = 128 << 10;
            assert!(
                is_io(ask(&|end| Request::read(behind, memory(len), end))),
                "{small}"
            );
            assert!(
                is_io(ask(&|end| Request::write(behind, memory(len), end))),
                "{small}"
            );
            // The first half is there.
            let across = behind - len as u64 / 2 / BLOCK as u64 * BLOCK as u64;
            assert!(
                is_io(ask(&|end| Request::read(across, memory(len), end))),
                "{small}"
            );
        }
        let invalid = |result| matches!(result, Err(Error::InvalidInput(_)));
        assert!(invalid(ask(&|end| Request::read(1, memory(BLOCK), end))));
        assert!(invalid(ask(&|end| Request::write(0, memory(100), end))));
        assert!(invalid(ask(&|end| Request::read(
            1 << 20,
            memory(BLOCK),
            end
        ))));
        assert!(invalid(ask(&|end| Request::discard(5, 5, end))));
        assert_eq!(ask(&|end| Request::read(0, memory(BLOCK), end)), Ok(()));
        assert_eq!(
            ask(&|end| Request::read(0, Buffers::default(), end)),
            Ok(())
        );
        assert_eq!(
            file.metadata().unwrap().len(),
            128 << 10,
            "no write made it grow again"
        );
    }
}

#[test]
fn a_device_that_is_dropped_ends_everything_first() {
    for way in WAYS {
        let Some((device, folder)) = fresh(200 * BLOCK as u64, way) else {
            return;
        };
        let (waiting, ended) = ends();
        let mut requests = (0..200).map(|block| {
            let data = Buffer::copy_of(&[1 + block as u8; BLOCK]).into();
            Request::write(block * BLOCK as u64, data, (Arc::clone(&waiting), block))
        });
        device.start_all(&mut requests);
        drop(device);
        assert_eq!(ended.try_iter().filter(|end| end.2.is_ok()).count(), 200);
        let other = DirectDevice::open(folder.path().join("image")).unwrap();
        for block in 0..200 {
            let bytes = read(&other, block * BLOCK as u64, BLOCK);
            assert_eq!(bytes, [1 + block as u8; BLOCK]);
        }
    }
}

/// Threads with batches of writes on parts of their own, under schedulers and faults, and what they were told.
#[test]
fn a_queue_over_an_io_uring_keeps_every_write_that_ended_well() {
    const OWN: u64 = 64;
    for (way, scheduler) in [
        (0, Scheduler::None),
        (1, Scheduler::Deadline(Deadline::default())),
    ] {
        let Some((device, _folder)) = fresh(4 * OWN * BLOCK as u64, WAYS[way]) else {
            return;
        };
        let faulty = Arc::new(FaultyDevice::new(Arc::new(device)));
        let block_size = BlockSize::new(BLOCK as u64).unwrap();
        let queue = BlockQueue::new(Arc::clone(&faulty) as _, block_size, Arc::default());
        let queue = queue.scheduler(scheduler);
        faulty.fail_at(Some(OperationKind::Write), 20);
        let work = |thread: u64| {
            let mut random = Random(thread);
            // What each block holds: `None` after a failed write.
            let mut held: Vec<Option<u8>> = vec![Some(0); OWN as usize];
            let mut failed = 0;
            for round in 1..40 {
                let (first, count) = (random.below(OWN), 1 + random.below(8));
                let blocks = first..(first + count).min(OWN);
                let mut batch = queue.batch();
                for block in blocks.clone() {
                    let data = vec![round; BLOCK].into();
                    let bio = Bio::write(DiskBlock(thread * OWN + block), data);
                    batch.push(if random.below(8) == 0 { bio.fua() } else { bio });
                }
                for (block, bio) in blocks.zip(batch.submit()) {
                    let well = bio.wait().is_ok();
                    failed += usize::from(!well);
                    held[block as usize] = well.then_some(round);
                }
            }
            queue.flush().unwrap();
            for (block, byte) in held.iter().enumerate() {
                let mut memory = vec![0; BLOCK];
                let start = DiskBlock(thread * OWN + block as u64);
                queue.read(start, &mut memory).unwrap();
                assert!(byte.is_none_or(|byte| memory == [byte; BLOCK]), "{start:?}");
            }
            failed
        };
        thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|thread| scope.spawn(move || work(thread)))
                .collect();
            let failed = workers.into_iter().map(|worker| worker.join().unwrap());
            let failed: usize = failed.sum();
            assert!(
                (1..=8).contains(&failed),
                "{failed} writes of one command failed"
            );
        });
    }
}

/// Starts a request from inside the end of another one, a few times; then lets go of the device.
struct Chain {
    device: Mutex<Option<Arc<UringDevice>>>,
    left: AtomicUsize,
    itself: OnceLock<std::sync::Weak<Chain>>,
    done: Sender<()>,
}

impl Completion for Chain {
    fn completed(&self, _: u64, buffers: Buffers, result: Result<()>) {
        assert_eq!(result, Ok(()));
        if self.left.fetch_sub(1, SeqCst) > 1 {
            let itself = self.itself.get().unwrap().upgrade().unwrap();
            let device = self.device.lock().unwrap().clone().unwrap();
            device.start(Request::write(0, buffers, (itself, 0)));
        } else {
            drop(self.device.lock().unwrap().take());
            self.done.send(()).unwrap();
        }
    }
}

#[test]
fn the_end_of_a_request_may_start_another_and_let_go_of_the_device() {
    let Some((device, _folder)) = fresh(1 << 20, UringOptions::default()) else {
        return;
    };
    let (done, receiver) = channel();
    let chain = Arc::new(Chain {
        device: Mutex::new(Some(Arc::new(device))),
        left: AtomicUsize::new(20),
        itself: OnceLock::new(),
        done,
    });
    chain.itself.set(Arc::downgrade(&chain)).unwrap();
    let device = chain.device.lock().unwrap().clone().unwrap();
    let data = Buffer::copy_of(&[5; BLOCK]).into();
    device.start(Request::write(0, data, (Arc::clone(&chain) as _, 0)));
    drop(device);
    receiver.recv().unwrap();
    assert_eq!(chain.left.load(SeqCst), 0);
}

struct Panics;

impl Completion for Panics {
    fn completed(&self, _: u64, _: Buffers, _: Result<()>) {
        // Not `panic!`, which would also write a message.
        std::panic::resume_unwind(Box::new("on purpose"));
    }
}

#[test]
fn who_panics_at_the_end_of_a_request_takes_nobody_along() {
    let Some((device, _folder)) = fresh(1 << 20, UringOptions::default()) else {
        return;
    };
    let (waiting, ended) = ends();
    let memory = || Buffer::zeroed(BLOCK).into();
    device.start(Request::read(0, memory(), (Arc::new(Panics), 0)));
    device.start(Request::read(0, memory(), (Arc::clone(&waiting), 1)));
    assert_eq!(ended.recv().unwrap().2, Ok(()));
    // Nor who panics where a request is refused, those begun before.
    let refused = Request::read(1, memory(), (Arc::new(Panics), 0));
    let mut both = [Request::read(0, memory(), (waiting, 2)), refused].into_iter();
    let start = AssertUnwindSafe(|| device.start_all(&mut both));
    assert!(catch_unwind(start).is_err());
    assert_eq!(ended.recv_timeout(PATIENCE).unwrap().2, Ok(()));
}

/// Panics where it is dropped.
struct Mine;

impl Drop for Mine {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new("on purpose"));
    }
}

struct PanicsWithMine;

impl Completion for PanicsWithMine {
    fn completed(&self, _: u64, _: Buffers, _: Result<()>) {
        std::panic::resume_unwind(Box::new(Mine));
    }
}

#[test]
fn a_panic_that_panics_again_takes_nobody_along() {
    let Some((device, _folder)) = fresh(1 << 20, UringOptions::default()) else {
        return;
    };
    let (waiting, ended) = ends();
    let memory = || Buffer::zeroed(BLOCK).into();
    let panics: Arc<dyn Completion> = Arc::new(PanicsWithMine);
    for done in [&panics, &waiting] {
        device.start(Request::read(0, memory(), (Arc::clone(done), 0)));
    }
    assert_eq!(ended.recv_timeout(PATIENCE).unwrap().2, Ok(()));
    device.start(Request::flush((Arc::clone(&panics), 0)));
    // The next one is not to be ended with this one.
    while Arc::strong_count(&panics) > 1 {
        thread::yield_now();
    }
    device.start(Request::flush((waiting, 0)));
    assert_eq!(ended.recv_timeout(PATIENCE).unwrap().2, Ok(()));
}

/// `WAYS` has polling too; here it is seen that nobody waits for ever.
#[test]
fn a_polled_device_ends_what_is_started_or_says_that_it_cannot() {
    let Some((device, _folder)) = fresh(SHAPE.size as u64, POLLED) else {
        return;
    };
    let (waiting, ended) = ends();
    let data = Buffers::from(Buffer::copy_of(&pattern(3, BLOCK)));
    let start = |request: &dyn Fn((Arc<dyn Completion>, u64)) -> Request| {
        device.start(request((Arc::clone(&waiting), 0)));
        let (_, buffers, result) = ended.recv_timeout(PATIENCE).expect("it ends");
        assert_eq!(result, Ok(()));
        buffers
    };
    start(&|end| Request::write(0, data.clone(), end));
    start(&Request::flush);
    let read = start(&|end| Request::read(0, Buffer::zeroed(BLOCK).into(), end));
    assert!(read.to_vec() == data.to_vec());
}

#[test]
fn a_file_of_which_nothing_can_be_polled_is_refused_with_the_reason() {
    // It is in memory: there is no disk that the kernel could ask.
    let is_in_memory = |fs: rustix::fs::StatFs| fs.f_type == 0x0102_1994;
    if !rustix::fs::statfs("/dev/shm").is_ok_and(is_in_memory) {
        return println!("not tested: no file system in memory");
    }
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = folder.path().join("image");
    let Ok(device) = DirectDevice::create(&path, 1 << 20) else {
        return println!("not tested: no direct access to files in memory");
    };
    let Err(Error::NotSupported(why)) = UringDevice::new(device, POLLED) else {
        panic!("it cannot work");
    };
    println!("{why}");
    // Without polling it works, unless the reason was another one.
    let plain = UringDevice::open(&path, UringOptions::default());
    assert_eq!(plain.is_ok(), why.contains("polling"));
}

#[test]
fn a_depth_that_no_kernel_has_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    drop(DirectDevice::create(&path, 1 << 20).unwrap());
    for depth in [0, 5000] {
        let options = UringOptions {
            depth,
            ..UringOptions::default()
        };
        let refused = UringDevice::open(&path, options);
        assert!(matches!(refused, Err(Error::InvalidInput(_))));
    }
}
