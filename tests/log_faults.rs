//! Commits of a `LogStore` by several callers, in which the device fails or panics: who is told that a change is durable
//! finds it after a power cut, and all that was changed is durable with the next commit.

use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use extent_map::block::BlockQueue;
use extent_map::device::OperationKind::Read;
use extent_map::device::{BlockDevice, MemoryDevice, Recorder, Survivors};
use extent_map::mapping::{LogStore, MappingStore};
use extent_map::units::{FileNumber, Geometry};
use extent_map::{Error, IoError, Result};

#[path = "common/around.rs"]
#[allow(dead_code, reason = "others use the rest")]
mod around;
#[path = "common/io.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod io;

use around::Around;
use io::EIO;

const CALLERS: u64 = 4;

/// What the device does at one of its operations.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Harm {
    /// It fails, and has done nothing.
    Fails,
    /// It fails although it has done what was asked.
    Lies,
    Panics,
}

/// The device of a run, and at which operation it does harm; reads do not count.
struct Run {
    recorder: Arc<Recorder>,
    device: Arc<dyn BlockDevice>,
    begun: Arc<AtomicU64>,
    released: Arc<AtomicU64>,
}

/// With a log that is not empty the first commit is an image.
fn run(harm: Harm, nth: u64, is_empty: bool) -> Run {
    let memory = Arc::new(MemoryDevice::new(1 << 20));
    let log = LogStore::format(memory.clone(), geometry()).unwrap();
    if !is_empty {
        log.set_size(FileNumber(CALLERS), 1).unwrap();
        log.commit(&queue(memory.clone())).unwrap();
    }
    drop(log);
    let recorder = Arc::new(Recorder::new(memory).unwrap());
    let (begun, released) = (Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default());
    let (count, gate) = (Arc::clone(&begun), Arc::clone(&released));
    let device = Around::new(recorder.clone(), move |operation, carry_out| {
        if operation.kind == Read {
            return carry_out();
        }
        let number = count.fetch_add(1, SeqCst);
        // Opening flushes first. Then the first commit waits for others to come.
        while number == 1 && gate.load(SeqCst) == 0 {
            thread::yield_now();
        }
        if number != nth + 1 {
            return carry_out();
        }
        match harm {
            Harm::Fails => {}
            Harm::Lies => carry_out()?,
            Harm::Panics => panic::resume_unwind(Box::new("the device")),
        }
        Err(Error::Io(IoError {
            operation: "harm",
            offset: operation.offset,
            errno: EIO,
        }))
    });
    Run {
        recorder,
        device: Arc::new(device),
        begun,
        released,
    }
}

fn geometry() -> Geometry {
    Geometry::new(512, 1).unwrap()
}

fn queue(device: Arc<dyn BlockDevice>) -> BlockQueue {
    BlockQueue::new(device, geometry().block_size, Arc::default())
}

/// What each caller is told: the first, and those that come during its commit. Nothing, where the device has panicked
/// in its thread.
fn told(run: &Run, log: &LogStore, queue: &BlockQueue) -> Vec<Option<Result<()>>> {
    let arrived = AtomicU64::new(0);
    let commit = |file: u64| {
        log.set_size(FileNumber(file), 10 + file).unwrap();
        arrived.fetch_add(1, SeqCst);
        catch_unwind(AssertUnwindSafe(|| log.commit(queue))).ok()
    };
    thread::scope(|scope| {
        let first = scope.spawn(move || commit(0));
        while run.begun.load(SeqCst) < 2 {
            thread::yield_now();
        }
        let others: Vec<_> = (1..CALLERS)
            .map(|file| scope.spawn(move || commit(file)))
            .collect();
        while arrived.load(SeqCst) < CALLERS {
            thread::yield_now();
        }
        // So that they wait.
        thread::sleep(Duration::from_millis(2));
        run.released.store(1, SeqCst);
        let all = std::iter::once(first).chain(others);
        all.map(|caller| caller.join().unwrap()).collect()
    })
}

/// The files whose change is there when the power is cut now.
fn durable(run: &Run) -> Vec<bool> {
    let recording = run.recorder.recording();
    let image = recording.crash(recording.moment(), Survivors::Nothing);
    let opened = LogStore::open(Arc::new(image)).unwrap();
    let is_there = |file| opened.size(FileNumber(file)) == Ok(10 + file);
    (0..CALLERS).map(is_there).collect()
}

fn who_is_told_so_finds_the_change_after_a_power_cut(harm: Harm) {
    // A transaction takes a write and two flushes; an image of a store in doubt, ten operations at least.
    for (is_empty, least) in [(true, 4), (false, 12)] {
        let struck = (0..).take_while(|nth| is_struck(&run(harm, *nth, is_empty), *nth));
        assert!(struck.count() >= least);
    }
}

/// Whether the commits of all callers have as many operations; checks what they are told.
fn is_struck(run: &Run, nth: u64) -> bool {
    let log = LogStore::open(run.device.clone()).unwrap();
    let queue = queue(run.device.clone());
    let told = told(run, &log, &queue);
    for (file, is_there) in durable(run).into_iter().enumerate() {
        let promised = told[file] == Some(Ok(()));
        assert!(is_there || !promised, "{nth}: file {file} of {told:?}");
    }
    if run.begun.load(SeqCst) <= nth + 1 {
        return false;
    }
    assert!(told.iter().any(|told| *told != Some(Ok(()))), "{nth}");
    log.commit(&queue).unwrap();
    assert_eq!(durable(run), [true; CALLERS as usize], "{nth}");
    true
}

#[test]
fn of_a_commit_that_fails_every_caller_hears() {
    who_is_told_so_finds_the_change_after_a_power_cut(Harm::Fails);
    who_is_told_so_finds_the_change_after_a_power_cut(Harm::Lies);
}

#[test]
fn of_a_commit_in_which_the_device_panics_every_other_caller_hears() {
    who_is_told_so_finds_the_change_after_a_power_cut(Harm::Panics);
}
