//! The volumes on which the bugs are played.

use std::sync::Arc;

use extent_map::Result;
use extent_map::device::{BlockDevice, MemoryDevice};
use extent_map::file::{AllocateMode, File, Volume, VolumeOptions};
use extent_map::probe::Probe;
use extent_map::units::FileNumber;

use crate::bug::{Failure, given};
use crate::steered::SteeredStore;

/// Bytes in a block, where a scenario does not choose others.
pub(crate) const BLOCK: u64 = 4096;

/// A byte that nobody writes into a file.
pub(crate) const STALE: u8 = 0xee;

/// One block of one byte.
pub(crate) fn block(byte: u8) -> Vec<u8> {
    vec![byte; BLOCK as usize]
}

/// A device of 256 blocks.
pub(crate) fn device() -> Arc<MemoryDevice> {
    Arc::new(MemoryDevice::new(256 * BLOCK))
}

/// The same, full of what somebody else left there.
pub(crate) fn used_device() -> Arc<MemoryDevice> {
    let device = device();
    let bytes = vec![STALE; device.size() as usize];
    device.write_at(0, &bytes).unwrap();
    device
}

/// A volume of 255 blocks, and its first file.
pub(crate) fn volume(options: VolumeOptions, probe: Probe) -> Result<(Volume, File)> {
    with_first_file(Volume::format(device(), &options.probe(probe))?)
}

/// The same with a store that can be steered.
pub(crate) fn steered_volume(
    options: VolumeOptions,
    probe: Probe,
) -> Result<(Volume, File, Arc<SteeredStore>)> {
    let store = Arc::new(SteeredStore::default());
    let volume = Volume::with_store(device(), store.clone(), &options.probe(probe))?;
    let (volume, file) = with_first_file(volume)?;
    Ok((volume, file, store))
}

/// A volume and its first file.
pub(crate) fn with_first_file(volume: Volume) -> Result<(Volume, File)> {
    let file = volume.file(FileNumber(1))?;
    Ok((volume, file))
}

/// A file of two delayed blocks on a volume that delays nothing any more, since less than 250 blocks are free.
pub(crate) fn delayed_before_space_ran_low(
    probe: Probe,
) -> std::result::Result<(Volume, File), Failure> {
    let (volume, file) = volume(VolumeOptions::new().low_space_clusters(250), probe)?;
    file.write_at(0, &[1; 2 * BLOCK as usize])?;
    given(file.reserved_blocks() == 2, "the blocks are not delayed")?;
    let other = volume.file(FileNumber(2))?;
    other.allocate(AllocateMode::Allocate, 0, 6 * BLOCK)?;
    Ok((volume, file))
}

/// What the first `len` bytes of a file read as.
pub(crate) fn content(file: &File, len: u64) -> Result<Vec<u8>> {
    let mut bytes = vec![STALE; len as usize];
    let read = file.read_at(0, &mut bytes)?;
    bytes.truncate(read);
    Ok(bytes)
}
