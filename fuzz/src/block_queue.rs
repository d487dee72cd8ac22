//! Batches of bios on a device with bad blocks, against an image of the device and its log.

use std::sync::Arc;

use arbitrary::{Arbitrary, Unstructured};
use extent_map::device::{BlockDevice, MemoryDevice};

use super::common::batches::{self, DEVICE_BYTES, Step};

/// Runs `data` as batches on a device in memory.
pub fn run(data: &[u8]) {
    run_on(Arc::new(MemoryDevice::new(DEVICE_BYTES)), data);
}

/// Runs `data` on `device`, which must hold zeros: the largest merged request, then the steps.
pub fn run_on(device: Arc<dyn BlockDevice>, data: &[u8]) {
    let Some((max_blocks, steps)) = data.split_first() else {
        return;
    };
    let mut source = Unstructured::new(steps);
    let mut steps = Vec::new();
    while source.len() >= Step::ENCODED_LEN
        && let Ok(step) = Step::arbitrary(&mut source)
    {
        steps.push(step);
    }
    batches::compare(device, 1 + u64::from(*max_blocks % 7), &steps);
}
