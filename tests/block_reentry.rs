//! Devices that end requests before they return, and completions that come back to the queue: neither grows a stack, and
//! nobody waits for himself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use extent_map::block::{Bio, BlockQueue, Policy};
use extent_map::device::{BlockDevice, Buffers, Completion, Limits, MemoryDevice};
use extent_map::units::{BlockSize, DiskBlock};
use extent_map::{Error, IoError, Result};

#[path = "common/around.rs"]
mod around;

use around::Around;

const BLOCK: u64 = 512;

/// Deeper than any stack is.
const MANY: u64 = 100_000;

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
