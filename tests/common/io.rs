//! What tests of devices and queues ask of them.

use extent_map::device::BlockDevice;
use extent_map::{Error, IoError, Result};

/// The errno of a failing device.
pub(crate) const EIO: i32 = 5;

/// Reads from a device that must not fail.
pub(crate) fn read(device: &dyn BlockDevice, offset: u64, len: usize) -> Vec<u8> {
    let mut buffer = vec![0xee; len];
    device.read_at(offset, &mut buffer).unwrap();
    buffer
}

/// Whether a device failed.
pub(crate) fn is_io<T: std::fmt::Debug>(result: Result<T>) -> bool {
    matches!(result, Err(Error::Io(IoError { errno: EIO, .. })))
}
