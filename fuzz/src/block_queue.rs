//! Batches of bios on a device with bad blocks, against an image of the device and a plan of the commands it gets.

use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use extent_map::block::{Deadline, Scheduler};
use extent_map::device::{BlockDevice, MemoryDevice};

use super::common::batches::{self, DEVICE_BYTES, Setup, Step};
use super::common::commands::Ends;

/// Runs `data` as batches on a device in memory.
pub fn run(data: &[u8]) {
    run_on(Arc::new(MemoryDevice::new(DEVICE_BYTES)), data);
}

/// Runs `data` on `device`, which must hold zeros: the way to it, then the steps. Nothing runs beside it, so that the
/// same bytes always do the same.
pub fn run_on(device: Arc<dyn BlockDevice>, data: &[u8]) {
    let Some((way, steps)) = data.split_first() else {
        return;
    };
    let mut source = Unstructured::new(steps);
    let mut steps = Vec::new();
    while source.len() >= Step::ENCODED_LEN
        && let Ok(step) = Step::arbitrary(&mut source)
    {
        steps.push(step);
    }
    let is_set = |bit: u8| (way / 7) & bit != 0;
    let scheduler = match is_set(1) {
        true => Scheduler::Deadline(Deadline::default()),
        false => Scheduler::None,
    };
    let setup = Setup {
        max_blocks: 1 + u64::from(way % 7),
        scheduler,
        ends: is_set(2).then_some(Ends::AtOnce),
        depth: if is_set(4) { 1 } else { 8 },
        native_fua: is_set(8),
    };
    batches::compare(device, setup, &steps);
}
