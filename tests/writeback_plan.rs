//! What writeback of a file asks the device for: as few commands as there can be, in whatever order the pages became
//! dirty, and whatever the device takes at once.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use extent_map::device::{BlockDevice, FaultyDevice, Limits, MemoryDevice, OperationKind};
use extent_map::file::{AllocateMode, VolumeOptions};
use proptest::prelude::*;

#[path = "common/around.rs"]
#[allow(dead_code, reason = "others use the rest")]
mod around;
#[path = "common/counted_file.rs"]
mod counted_file;
#[path = "common/random.rs"]
mod random;

use around::Around;
use counted_file::{Setup, setup, setup_on};
use random::Random;

const COMMAND_BLOCKS: u64 = 256;

/// Longer than anything takes, also on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A device that takes as much at once as `limits` say.
fn taking(limits: Limits) -> Arc<dyn BlockDevice> {
    let memory = Arc::new(MemoryDevice::new(64 << 20));
    Arc::new(Around::new(memory, |_, carry_out| carry_out()).with_limits(limits))
}

fn limited(limits: Limits, options: VolumeOptions) -> Setup {
    setup_on(taking(limits), options)
}

fn at_most(max_bytes: u64) -> Limits {
    Limits {
        max_bytes,
        ..Limits::default()
    }
}

impl Setup {
    fn block(&self) -> u64 {
        self.volume.statfs().block_size
    }

    fn write(&self, block: u64) {
        let bytes = vec![block as u8; self.block() as usize];
        self.file.write_at(block * self.block(), &bytes).unwrap();
    }

    /// Syncs; the lengths of the writes, in blocks.
    fn synced(&self) -> Vec<u64> {
        self.device.take_log();
        self.file.sync_all().unwrap();
        let log = self.device.take_log().into_iter();
        let writes = log.filter(|operation| operation.kind == OperationKind::Write);
        writes.map(|write| write.len / self.block()).collect()
    }

    /// Where on the device the blocks of the file are.
    fn places(&self) -> impl Fn(u64) -> u64 + use<> {
        let extents = self.file.extents().unwrap();
        move |block| {
            let inside = |start: u64, len: u64| (start..start + len).contains(&block);
            let extent = extents
                .iter()
                .find(|extent| inside(extent.range.start().0, extent.range.len()))
                .expect("a block that is mapped");
            extent.disk.unwrap().0 + block - extent.range.start().0
        }
    }
}

/// The fewest commands of at most `most` blocks that cover exactly these blocks of a device: each way to cut a run of
/// neighbours was tried.
fn fewest(places: &BTreeSet<u64>, most: u64) -> u64 {
    let mut best = vec![0];
    let places: Vec<u64> = places.iter().copied().collect();
    for end in 0..places.len() {
        // The last command covers the blocks from `start` on.
        let starts = (0..=end).rev().take_while(|start| {
            let len = places[end] - places[*start] + 1;
            len == (end - start + 1) as u64 && len <= most
        });
        best.push(starts.map(|start| best[start] + 1).min().unwrap());
    }
    *best.last().unwrap()
}

/// A permutation of `0..count`.
fn shuffled(count: u64, seed: u64) -> Vec<u64> {
    let mut order: Vec<u64> = (0..count).collect();
    let mut random = Random(seed);
    for at in (1..order.len()).rev() {
        order.swap(at, random.below(at as u64 + 1) as usize);
    }
    order
}

#[test]
fn a_file_written_in_shuffled_pieces_goes_to_the_device_in_full_commands() {
    let setup = setup(VolumeOptions::new());
    for block in shuffled(4096, 7) {
        setup.write(block);
    }
    assert_eq!(setup.synced(), vec![COMMAND_BLOCKS; 16]);
    assert_eq!(setup.file.extents().unwrap().len(), 1);
}

#[test]
fn pages_that_are_clean_in_between_do_not_cut_a_run_short() {
    let setup = setup(VolumeOptions::new());
    for block in 0..600 {
        setup.write(block);
    }
    setup.synced();
    for block in 200..500 {
        setup.write(block);
    }
    assert_eq!(setup.synced(), [COMMAND_BLOCKS, 44]);
}

#[test]
fn runs_of_the_file_that_are_neighbours_on_the_device_are_one_command() {
    let setup = setup(VolumeOptions::new());
    for block in (0..16).chain(100..116).chain(300..316) {
        setup.write(block);
    }
    setup.synced();
    let place = setup.places();
    let all: BTreeSet<u64> = (0..16).chain(100..116).chain(300..316).map(place).collect();
    for block in (300..316).chain(0..16).chain(100..116) {
        setup.write(block);
    }
    assert_eq!(setup.synced().len() as u64, fewest(&all, COMMAND_BLOCKS));
}

#[test]
fn a_delayed_run_is_mapped_with_one_call() {
    let setup = setup(VolumeOptions::new());
    for block in shuffled(2000, 3) {
        setup.write(block);
    }
    let before = setup.volume.stats();
    setup.synced();
    let after = setup.volume.stats();
    assert_eq!(after.writeback_blocks - before.writeback_blocks, 2000);
    assert_eq!(after.delayed_runs_placed - before.delayed_runs_placed, 1);
}

#[test]
fn full_commands_are_as_large_as_the_device_takes() {
    let limits = Limits {
        max_segments: usize::MAX,
        ..at_most(640 << 10)
    };
    let setup = limited(limits, VolumeOptions::new());
    for block in shuffled(2560, 5) {
        setup.write(block);
    }
    assert_eq!(setup.synced(), [160; 16]);
}

#[test]
fn a_command_has_as_many_buffers_as_the_device_takes() {
    // Each page is one, wherever in it a command begins or ends.
    for (block, max_segments, command) in [(4096, 100, 100), (1024, 5, 20), (512, 7, 56)] {
        let limits = Limits {
            max_segments,
            ..Limits::default()
        };
        let setup = limited(limits, VolumeOptions::new().block_size(block));
        let left_out = 4096 / block / 2;
        for at in shuffled(command * 10 - left_out, 1) {
            setup.write(left_out + at);
        }
        let mut expected = [command; 10];
        expected[0] -= left_out;
        assert_eq!(setup.synced(), expected);
    }
}

#[test]
fn small_commands_are_under_way_together() {
    let device = Arc::new(FaultyDevice::new(taking(at_most(64 << 10))));
    device.hold_requests();
    let setup = setup_on(device.clone(), VolumeOptions::new());
    for block in 0..COMMAND_BLOCKS {
        setup.write(block);
    }
    let are_together = thread::scope(|scope| {
        let sync = scope.spawn(|| setup.file.sync_all());
        let begin = Instant::now();
        let are_together = || device.held_requests() == 16;
        while !are_together() && begin.elapsed() < PATIENCE {
            thread::yield_now();
        }
        let were_together = are_together();
        while !sync.is_finished() {
            device.release_requests(7);
        }
        sync.join().unwrap().unwrap();
        were_together
    });
    assert!(are_together, "one by one");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Blocks are written in any order, some again after a sync, among preallocated ones, punched ones and free space
    /// in short runs; on devices that take whole blocks or not.
    #[test]
    fn no_order_of_dirtying_costs_a_command_more(
        rounds in prop::collection::vec(prop::collection::vec((0u64..1200, 1u64..400), 1..8), 1..4),
        group in prop::sample::select(vec![61u64, 200, 32768]),
        preallocated in (0u64..1200, 0u64..300),
        punched in (0u64..1200, 0u64..100),
        (block, cluster, max_bytes) in prop::sample::select(vec![
            (4096, 1, 1 << 20),
            (4096, 1, 640 << 10),
            (4096, 16, 1_000_000),
            (4096, 4, 3 * 4096),
            (4096, 1, 5000),
            (1024, 1, 100_000),
            (1024, 4, 2 << 20),
            (1024, 1, 5 << 10),
            (512, 1, 300_000),
            (512, 8, 96 << 10),
        ]),
    ) {
        let options = VolumeOptions::new().block_size(block).cluster_blocks(cluster);
        let setup = limited(at_most(max_bytes), options.group_clusters(group));
        let most = max_bytes.min(1 << 20) / block;
        let holes = |mode, (start, len): (u64, u64)| {
            if len > 0 {
                setup.file.allocate(mode, start * block, len * block).unwrap();
            }
        };
        holes(AllocateMode::AllocateKeepSize, preallocated);
        for runs in rounds {
            let mut dirty = BTreeSet::new();
            for (seed, (start, len)) in runs.into_iter().enumerate() {
                for at in shuffled(len, seed as u64) {
                    setup.write(start + at);
                    dirty.insert(start + at);
                }
            }
            let commands = setup.synced();
            let place = setup.places();
            let places: BTreeSet<u64> = dirty.iter().map(|block| place(*block)).collect();
            prop_assert_eq!(commands.iter().sum::<u64>(), places.len() as u64);
            prop_assert_eq!(commands.len() as u64, fewest(&places, most));
            holes(AllocateMode::PunchHole, punched);
        }
    }
}
