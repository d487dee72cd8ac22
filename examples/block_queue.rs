//! The block layer alone: requests are gathered, merged and ordered on their way to a device, and what a flush has
//! covered is there when the power has gone.
//!
//! `cargo run --release --example block_queue`

use std::sync::Arc;

use extent_map::block::{Bio, BlockQueue, Deadline, Scheduler};
use extent_map::device::{BlockDevice, MemoryDevice, Recorder, Survivors};
use extent_map::stats::Counters;
use extent_map::units::{BlockSize, DiskBlock, DiskRun};
use extent_map::{Error, Result};

fn write(block: u64, byte: u8) -> Bio {
    Bio::write(DiskBlock(block), Arc::from([byte; 4096]))
}

fn main() -> Result<()> {
    let device = Arc::new(Recorder::new(Arc::new(MemoryDevice::new(1024 * 4096)))?);
    let (block_size, counters) = (BlockSize::new(4096)?, Arc::new(Counters::default()));
    let queue = BlockQueue::new(device.clone(), block_size, Arc::clone(&counters))
        .scheduler(Scheduler::Deadline(Deadline::default()));

    // Every block of a MiB, in a bad order: one command.
    let mut batch = queue.batch();
    (0..256).for_each(|n| batch.push(write(n * 101 % 256, n as u8)));
    batch.submit_and_wait()?;
    let stats = counters.snapshot();
    println!("{} bios, {} command", stats.bios, stats.device_requests);
    assert_eq!((stats.bios, stats.device_requests), (256, 1));

    // A commit: data, and behind a flush the block that says that it counts, durable when it has ended.
    let mut batch = queue.batch();
    batch.push(write(500, 1));
    batch.push(write(501, 2));
    batch.push(write(600, 3).preflush().fua());
    batch.submit_and_wait()?;
    println!(
        "a commit takes {} flushes",
        counters.snapshot().device_flushes
    );
    assert_eq!(counters.snapshot().device_flushes, 2);

    // Each bio has an end of its own, and waits for no other.
    let mut batch = queue.batch();
    batch.push(Bio::read(DiskRun::new(DiskBlock(501), 1)));
    batch.push(Bio::read(DiskRun::new(DiskBlock(1024), 1)));
    let ends = batch.submit().into_iter().map(|bio| bio.wait());
    let ends: Vec<_> = ends.collect();
    println!(
        "block 501: {} bytes; block 1024: {:?}",
        ends[0].as_ref().map_or(0, Vec::len),
        ends[1]
    );
    assert_eq!(ends[0].as_deref(), Ok(&[2; 4096][..]));
    assert!(matches!(ends[1], Err(Error::InvalidInput(_))));

    // The power goes, and with it all that no flush has covered.
    queue.submit(write(700, 9)).wait()?;
    let recording = device.recording();
    let rest = recording.crash(recording.moment(), Survivors::Nothing);
    let first_byte = |block: u64| {
        let mut bytes = [0];
        rest.read_at(block * 4096, &mut bytes).map(|()| bytes[0])
    };
    let found = [500, 501, 600, 700].map(first_byte);
    println!("after a power cut, blocks 500, 501, 600 and 700: {found:?}");
    assert_eq!(found, [Ok(1), Ok(2), Ok(3), Ok(0)]);
    Ok(())
}
