//! 4 KiB after 4 KiB into a real file: as many raw calls, or bios that the queue merges.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use extent_map::block::Bio;
use extent_map::device::{Buffer, Buffers, FileDevice};
use extent_map::units::DiskBlock;

use crate::clock::timed;
use crate::contest::{Contestant, Plan, contest};
use crate::print;
use crate::random::{BLOCK, queue};

/// 64 MiB, which the system's page cache holds.
const BLOCKS: u64 = 16 << 10;
/// Bios of a batch: one command of 1 MiB.
const BATCH: u64 = 256;

pub(crate) fn contests(plan: &Plan) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("device");
    let device = FileDevice::create(&path, BLOCKS * BLOCK as u64).expect("a file");
    let queue = queue(Arc::new(device));
    let file = File::options().write(true).open(&path).expect("the file");

    let data = vec![7; BLOCK];
    let mut at = 0;
    let raw = |operations: u64| -> Duration {
        timed(|| {
            for _ in 0..operations.next_multiple_of(BATCH) {
                file.write_all_at(&data, at % BLOCKS * BLOCK as u64)
                    .expect("room");
                at += 1;
            }
        })
    };
    let mut buffers: Vec<Buffers> = (0..BATCH).map(|_| Buffer::copy_of(&data).into()).collect();
    let mut batch = queue.batch();
    let mut next = 0;
    let merged = |operations: u64| -> Duration {
        timed(|| {
            for _ in 0..operations.div_ceil(BATCH) {
                for buffers in buffers.drain(..) {
                    batch.push(Bio::write_from(DiskBlock(next % BLOCKS), buffers));
                    next += 1;
                }
                for (memory, result) in batch.finish() {
                    result.expect("room");
                    buffers.push(memory);
                }
            }
        })
    };
    let outcome = contest(
        plan,
        vec![
            Contestant::timed("pwrite", plan, raw),
            Contestant::timed("batches of 256", plan, merged),
        ],
    );
    print("4 KiB sequential writes, file in the page cache", &outcome);
    let time = outcome.faster("pwrite", "batches of 256");
    println!(
        "  through the stack: {:.2} of the time of pwrite ({:.2} to {:.2})",
        time.median, time.low, time.high
    );
}
