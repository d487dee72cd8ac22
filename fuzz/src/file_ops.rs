//! A volume against a dense model of it: every answer and everything a caller can see.

use std::mem;
use std::sync::Arc;

use extent_map::device::MemoryDevice;
use extent_map::file::{File, Volume, VolumeOptions};
use extent_map::testing::{self, Limits, Observation, Op, Oracle};
use extent_map::units::FileNumber;

const FILES: usize = 2;

/// Bytes in a block, blocks in a cluster, whether allocation is delayed.
const SHAPES: [(u64, u64, bool); 5] = [
    (4096, 1, true),
    (1024, 1, true),
    (4096, 4, true),
    (1024, 16, true),
    (4096, 1, false),
];

/// Runs `data` as operations on the files of a volume, compares each answer with the model's, and in the end
/// everything.
pub fn run(data: &[u8]) {
    let Some((shape, mut ops)) = data.split_first() else {
        return;
    };
    let (block_size, cluster_blocks, delayed) = SHAPES[usize::from(*shape) % SHAPES.len()];
    let limits = Limits {
        files: FILES,
        block_size,
        cluster_blocks,
        bytes: 12 * (block_size * cluster_blocks).max(4096),
    };
    let options = VolumeOptions::new()
        .block_size(block_size)
        .cluster_blocks(cluster_blocks)
        .delayed_allocation(delayed)
        .group_clusters(61);
    let device = MemoryDevice::new(8192 * block_size * cluster_blocks);
    let volume = Volume::format(Arc::new(device), &options).expect("the options are good");
    let open = |number| volume.file(FileNumber(number)).expect("a new file");
    let files: Vec<File> = (1..=FILES as u64).map(open).collect();
    let mut oracle = Oracle::new(block_size, cluster_blocks, delayed).expect("the shape is good");
    while let Some(op) = Op::from_bytes(&mut ops, &limits) {
        assert_eq!(op.apply(&volume, &files), oracle.apply(&op), "{op:?}");
        assert_eq!(testing::check(&volume), Ok(()), "after {op:?}");
    }
    assert_eq!(volume.sync(), Ok(()));
    oracle.apply(&Op::Sync);
    for (number, file) in files.iter().enumerate() {
        let mut seen = Observation::of(file).expect("a small file");
        let mut expected = oracle.observe(number);
        let (bytes, expected_bytes) = (
            mem::take(&mut seen.content),
            mem::take(&mut expected.content),
        );
        assert_eq!(seen, expected, "file {number}");
        let differs = bytes
            .iter()
            .zip(&expected_bytes)
            .position(|(seen, byte)| seen != byte);
        assert_eq!(differs, None, "first wrong byte of file {number}");
    }
    assert_eq!(testing::check_synced(&volume), Ok(()));
}
