//! Trimming: the device hears of what is free and of nothing else, and what is written meanwhile stays.

use std::sync::Arc;

use extent_map::device::{BlockDevice, MemoryDevice};
use extent_map::file::{AllocateMode, Volume, VolumeOptions};
use extent_map::testing;
use extent_map::units::FileNumber;

const BLOCK: u64 = 4096;

/// Whether the device has nothing but zeros there.
fn is_empty(device: &MemoryDevice, bytes: std::ops::Range<u64>) -> bool {
    let mut found = vec![1; (bytes.end - bytes.start) as usize];
    device.read_at(bytes.start, &mut found).unwrap();
    found.iter().all(|byte| *byte == 0)
}

#[test]
fn only_free_runs_that_are_long_enough_are_discarded() {
    let device = Arc::new(MemoryDevice::new(64 * BLOCK));
    device.write_at(0, &[b'X'; 64 * BLOCK as usize]).unwrap();
    let volume = Volume::format(device.clone(), &VolumeOptions::new()).unwrap();
    let file = volume.file(FileNumber(1)).unwrap();
    file.write_at(0, &[b'd'; 20 * BLOCK as usize]).unwrap();
    volume.sync().unwrap();
    // Blocks 1 to 20 of the volume, without 3 and without 10 to 14.
    file.allocate(AllocateMode::PunchHole, 2 * BLOCK, BLOCK)
        .unwrap();
    file.allocate(AllocateMode::PunchHole, 9 * BLOCK, 5 * BLOCK)
        .unwrap();

    assert_eq!(volume.trim(0..18 * BLOCK, 2 * BLOCK), Ok(5 * BLOCK));
    assert!(is_empty(&device, 10 * BLOCK..15 * BLOCK));
    assert!(!is_empty(&device, 3 * BLOCK..4 * BLOCK), "too short");
    assert!(!is_empty(&device, 21 * BLOCK..22 * BLOCK), "too far");
    assert_eq!(volume.trim(0..u64::MAX, 0), Ok((5 + 1 + 43) * BLOCK));
    assert!(is_empty(&device, 3 * BLOCK..4 * BLOCK));
    assert!(is_empty(&device, 21 * BLOCK..64 * BLOCK));

    let mut bytes = vec![0; 20 * BLOCK as usize];
    volume.drop_caches().unwrap();
    file.read_at(0, &mut bytes).unwrap();
    for (block, bytes) in (0..20).zip(bytes.chunks(BLOCK as usize)) {
        let hole = block == 2 || (9..14).contains(&block);
        let expected = if hole { 0 } else { b'd' };
        assert!(bytes.iter().all(|byte| *byte == expected), "block {block}");
    }
    testing::check(&volume).unwrap();
}
