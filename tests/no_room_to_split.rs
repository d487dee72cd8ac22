//! Writeback where the store has no room to split an extent: the rest of it is zeroed on the device, and nothing else.

use std::sync::Arc;

use extent_map::device::MemoryDevice;
use extent_map::file::{AllocateMode, Volume, VolumeOptions};
use extent_map::mapping::MemoryStore;
use extent_map::testing;
use extent_map::units::FileNumber;

const BLOCK: usize = 4096;

#[test]
fn pieces_of_one_extent_that_are_written_together_all_arrive() {
    let store = Arc::new(MemoryStore::with_max_extents(1));
    let device = Arc::new(MemoryDevice::new(64 * BLOCK as u64));
    let volume = Volume::with_store(device, store, &VolumeOptions::new()).unwrap();
    let file = volume.file(FileNumber(1)).unwrap();
    file.allocate(AllocateMode::Allocate, 0, 7 * BLOCK as u64)
        .unwrap();
    // The first that becomes written cannot be split from the others, whose data is on the device already.
    let mut expected = vec![0; 7 * BLOCK];
    for block in [0, 3, 6] {
        let data = [1 + block as u8; BLOCK];
        let offset = block * BLOCK;
        assert_eq!(file.write_at(offset as u64, &data), Ok(BLOCK));
        expected[offset..offset + BLOCK].fill(1 + block as u8);
    }
    file.sync_all().unwrap();
    assert!(volume.stats().zeroed_instead_of_split > 0);
    testing::check_synced(&volume).unwrap();
    volume.drop_caches().unwrap();
    let mut content = vec![1; expected.len()];
    file.read_at(0, &mut content).unwrap();
    assert!(content == expected);
}
