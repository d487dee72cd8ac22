//! Devices that end requests before they return, completions that come back to the queue, and both when they panic: no
//! stack grows, nobody waits for himself, and who did not panic gets his end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use extent_map::block::{Bio, BlockQueue, Deadline, Policy, Scheduler};
use extent_map::device::{BlockDevice, Buffers, Completion, Limits, MemoryDevice, Request};
use extent_map::units::{BlockSize, DiskBlock};
use extent_map::{Error, IoError, Result};

#[path = "common/around.rs"]
mod around;
#[path = "common/commands.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod commands;
#[path = "common/io.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod io;
#[path = "common/random.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod random;

use around::Around;
use commands::{Commands, Ends};

const BLOCK: u64 = 512;

/// Deeper than any stack is.
const MANY: u64 = 100_000;

/// Longer than anything takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// One request at a time, which another thread may end.
const BY_ITSELF: Limits = Limits {
    max_bytes: 1 << 20,
    max_segments: 1024,
    alignment: 1,
    queues: 1,
    depth: 1,
    asynchronous: true,
    native_fua: false,
    cheap_discard: false,
    cheap_zeroes: false,
};

/// The same, for threads that wait.
const WAITED_FOR: Limits = Limits {
    asynchronous: false,
    ..BY_ITSELF
};

fn queue(device: impl BlockDevice + 'static) -> BlockQueue {
    let block_size = BlockSize::new(BLOCK).unwrap();
    BlockQueue::new(Arc::new(device), block_size, Arc::default())
}

fn memory() -> Arc<MemoryDevice> {
    Arc::new(MemoryDevice::new(256 * BLOCK))
}

fn write(block: u64) -> Bio {
    Bio::write(DiskBlock(block), [1; BLOCK as usize].into())
}

/// Calls this with the outcome of each request.
struct Then<F>(F);

impl<F: Fn(Result<()>) + Send + Sync> Completion for Then<F> {
    fn completed(&self, _: u64, _: Buffers, result: Result<()>) {
        self.0(result);
    }
}

#[test]
fn what_fails_at_once_is_tried_again_without_an_end_of_the_stack() {
    for bio in [write(3), Bio::flush()] {
        let failures = AtomicU64::new(MANY);
        let device = Around::new(memory(), move |_, carry_out| {
            match failures.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)) {
                Ok(_) => Err(Error::Io(IoError {
                    operation: "any",
                    offset: 0,
                    errno: 5,
                })),
                Err(_) => carry_out(),
            }
        });
        let stubborn = Policy::new().attempts(u32::MAX);
        let queue = queue(device.with_limits(BY_ITSELF)).policy(stubborn);
        assert_eq!(queue.submit(bio).finish().1, Ok(()));
    }
}

/// Submits what `bio` makes until there were as many as `left` says, each at the end of the one before.
fn chain(queue: &Arc<BlockQueue>, left: &Arc<AtomicU64>, bio: fn() -> Bio) {
    let next = (Arc::clone(queue), Arc::clone(left));
    let then = Then(move |result| {
        assert_eq!(result, Ok(()));
        if next.1.fetch_sub(1, SeqCst) > 1 {
            chain(&next.0, &next.1, bio);
        }
    });
    queue.submit_with(bio(), Arc::new(then), 0);
}

#[test]
fn each_end_may_submit_the_next_one_without_an_end_of_the_stack() {
    for bio in [|| write(3), || write(3).fua(), Bio::flush] {
        let device = Around::new(memory(), |_, carry_out| carry_out());
        let queue = Arc::new(queue(device.with_limits(BY_ITSELF)));
        let left = Arc::new(AtomicU64::new(MANY));
        chain(&queue, &left, bio);
        assert_eq!(left.load(SeqCst), 0);
    }
}

/// Not `panic!`, which would also write a message.
fn panic_quietly() {
    std::panic::resume_unwind(Box::new("on purpose"));
}

/// Panics with what panics once more when it is dropped.
fn panic_twice() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic_quietly();
        }
    }
    std::panic::resume_unwind(Box::new(Panics));
}

fn panics(work: impl FnOnce()) -> bool {
    catch_unwind(AssertUnwindSafe(work)).is_err()
}

/// Started, served and direct.
fn ways() -> [(Limits, Scheduler); 3] {
    let scheduled = Scheduler::Deadline(Deadline::default());
    [
        (BY_ITSELF, Scheduler::None),
        (WAITED_FOR, scheduled),
        (WAITED_FOR, Scheduler::None),
    ]
}

#[test]
fn a_device_that_panics_fails_that_request_and_no_other() {
    for (limits, scheduler) in ways() {
        let panics_now = Arc::new(AtomicBool::new(false));
        let now = Arc::clone(&panics_now);
        let device = Around::new(memory(), move |_, carry_out| {
            if now.swap(false, SeqCst) {
                panic_quietly();
            }
            carry_out()
        });
        let queue = queue(device.with_limits(limits)).scheduler(scheduler);
        for bio in [|| write(3), Bio::flush] {
            panics_now.store(true, SeqCst);
            assert!(panics(|| drop(queue.submit(bio()))), "the caller is told");
            let (sender, ended) = channel();
            let other = Then(move |result| sender.send(result).unwrap());
            queue.submit_with(bio(), Arc::new(other), 0);
            assert_eq!(ended.try_recv(), Ok(Ok(())));
        }
        assert_eq!((queue.depth().waiting, queue.depth().in_flight), (0, 0));
    }
}

#[test]
fn a_completion_that_panics_takes_no_others_end_along() {
    for (limits, scheduler) in ways() {
        let device = Commands::new(memory(), limits, Ends::WhenTold);
        let block_size = BlockSize::new(BLOCK).unwrap();
        let queue = BlockQueue::new(device.clone(), block_size, Arc::default());
        let queue = queue.scheduler(scheduler);
        let told = Arc::new(AtomicU64::new(0));
        let other = || {
            let told = Arc::clone(&told);
            Arc::new(Then(move |_| {
                told.fetch_add(1, SeqCst);
            }))
        };
        let bad = || Arc::new(Then(|_| panic_quietly()));
        // One is merged with it, one waits behind it.
        let batch = || {
            let mut batch = queue.batch();
            batch.push_with(write(3), bad(), 0);
            batch.push_with(write(4), other(), 0);
            batch.push_with(write(9), other(), 0);
            batch.submit();
        };
        let mut caught = usize::from(panics(batch));
        // Two of them share a flush.
        queue.submit_with(Bio::flush(), other(), 0);
        caught += usize::from(panics(|| queue.submit_with(Bio::flush(), bad(), 0)));
        queue.submit_with(Bio::flush(), other(), 0);
        let mut more = true;
        while more {
            let end = || more = device.end_oldest();
            caught += usize::from(panics(end));
        }
        assert_eq!((caught, told.load(SeqCst)), (2, 4));
    }
}

#[test]
fn a_completion_that_panics_when_patience_runs_out_takes_no_others_end_along() {
    let device = Commands::new(memory(), BY_ITSELF, Ends::WhenTold);
    let block_size = BlockSize::new(BLOCK).unwrap();
    let queue = BlockQueue::new(device, block_size, Arc::default());
    let queue = queue.policy(Policy::new().patience(Duration::from_millis(5)));
    let (sender, ended) = channel();
    // Those of the second round are told by the same thread.
    for _ in 0..2 {
        for bio in [|| write(3), || write(9), Bio::flush] {
            let sender = sender.clone();
            let other = Then(move |result| sender.send(result).unwrap());
            queue.submit_with(bio(), Arc::new(Then(|_| panic_twice())), 0);
            queue.submit_with(bio(), Arc::new(other), 0);
        }
        for _ in 0..3 {
            let result = ended.recv_timeout(PATIENCE);
            assert!(
                matches!(result, Ok(Err(Error::Io(IoError { errno: 110, .. })))),
                "{result:?}"
            );
        }
    }
}

#[test]
fn what_is_submitted_at_the_end_of_another_finds_room_in_a_full_queue() {
    let device = Commands::new(memory(), BY_ITSELF, Ends::WhenTold);
    let block_size = BlockSize::new(BLOCK).unwrap();
    let queue = BlockQueue::new(device.clone(), block_size, Arc::default());
    let queue = Arc::new(queue.max_waiting(1));
    let (sender, ended) = channel();
    let again = Arc::downgrade(&queue);
    queue.submit_with(
        write(0),
        Arc::new(Then(move |_| {
            let sender = sender.clone();
            let queue = again.upgrade().unwrap();
            for block in [20, 30, 40] {
                let sender = sender.clone();
                let then = Then(move |result| sender.send(result).unwrap());
                queue.submit_with(write(block), Arc::new(then), 0);
            }
            let refused = queue.submit(write(50).nowait()).finish().1;
            sender.send(refused).unwrap();
        })),
        0,
    );
    drop(queue.submit(write(10)));
    let ends = thread::spawn(move || while device.end_oldest() {});
    let mut outcomes: Vec<_> = (0..4).map(|_| ended.recv_timeout(PATIENCE)).collect();
    assert_eq!(outcomes.remove(0), Ok(Err(Error::WouldBlock)));
    assert_eq!(outcomes, [const { Ok(Ok(())) }; 3]);
    ends.join().unwrap();
}

/// Loses the memory of the first request, and fails it.
#[derive(Debug)]
struct Loses {
    inner: Arc<MemoryDevice>,
    lost: AtomicBool,
}

impl BlockDevice for Loses {
    fn size(&self) -> u64 {
        self.inner.size()
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.inner.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        self.inner.write_at(offset, data)
    }
    fn flush(&self) -> Result<()> {
        self.inner.flush()
    }
    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.inner.discard(offset, len)
    }
    fn start(&self, mut request: Request) {
        match self.lost.swap(true, SeqCst) {
            false => request.buffers = Buffers::default(),
            true => self.inner.start(request),
        }
    }
    fn limits(&self) -> Limits {
        BY_ITSELF
    }
}

#[test]
fn a_write_whose_memory_the_device_has_lost_is_not_tried_again_with_nothing() {
    let inner = memory();
    let device = Loses {
        inner,
        lost: AtomicBool::new(false),
    };
    let queue = queue(device).policy(Policy::new().attempts(3));
    let written = queue.submit(write(3)).finish().1;
    assert!(matches!(written, Err(Error::Io(_))), "{written:?}");
    assert_eq!(queue.submit(write(3)).finish().1, Ok(()));
}
