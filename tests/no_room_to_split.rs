//! Writeback where the store has no room to split an extent: the rest of it is zeroed on the device, and nothing else.

use std::sync::Arc;

use extent_map::device::MemoryDevice;
use extent_map::file::{Volume, VolumeOptions};
use extent_map::mapping::MemoryStore;
use extent_map::testing;
use extent_map::units::FileNumber;

const BLOCK: u64 = 4096;

#[test]
fn pieces_of_one_run_that_the_store_joined_all_arrive() {
    // A run of delayed blocks is allocated group by group, and the pieces lie side by side: one extent. It takes two
    // commands, and what the first has brought cannot be split from the rest, which is zeroed and then written.
    let store = Arc::new(MemoryStore::with_max_extents(1));
    let device = Arc::new(MemoryDevice::new(1024 * BLOCK));
    let options = VolumeOptions::new().group_clusters(4);
    let volume = Volume::with_store(device, store, &options).unwrap();
    let file = volume.file(FileNumber(1)).unwrap();
    let data: Vec<u8> = (0..300 * BLOCK)
        .map(|at| 1 + (at / BLOCK % 250) as u8)
        .collect();
    assert_eq!(file.write_at(0, &data), Ok(data.len()));
    file.sync_all().unwrap();
    assert!(volume.stats().zeroed_instead_of_split > 0);
    testing::check_synced(&volume).unwrap();
    volume.drop_caches().unwrap();
    let mut content = vec![0; data.len()];
    file.read_at(0, &mut content).unwrap();
    assert!(content == data);
}
