//! Running out of space: told to the writer, never to writeback, and nothing stays behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use extent_map::device::MemoryDevice;
use extent_map::file::{AllocateMode, File, Volume, VolumeOptions};
use extent_map::probe::{Mutation, Probe};
use extent_map::testing;
use extent_map::units::FileNumber;
use extent_map::{Error, Result};

const BLOCK: u64 = 4096;

/// Fills the volume from several threads, each appending to a file of its own until it is told that
/// there is no space; returns how many blocks they got in all.
fn fill(volume: &Volume, threads: u64, write_len: usize) -> u64 {
    thread::scope(|scope| {
        let workers: Vec<_> = (1..=threads)
            .map(|number| {
                scope.spawn(move || {
                    let file = volume.file(FileNumber(number)).unwrap();
                    let data = vec![number as u8; write_len];
                    loop {
                        match file.write_at(file.size(), &data) {
                            Ok(written) => assert!(written > 0),
                            Err(Error::NoSpace) => return file.size().div_ceil(BLOCK),
                            Err(error) => panic!("{error}"),
                        }
                        let now = volume.statfs();
                        assert!(now.free_blocks + now.delayed_blocks <= now.blocks);
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .sum()
    })
}

fn fill_and_empty(options: &VolumeOptions, write_len: usize) {
    let device = Arc::new(MemoryDevice::new(8 << 20));
    let volume = Volume::format(device, options).unwrap();
    let start = volume.statfs();
    let got = fill(&volume, 4, write_len);
    testing::check(&volume).unwrap();
    // The last block of the volume is as good as any other.
    assert_eq!(volume.statfs().free_blocks, 0);
    assert!(got <= start.free_blocks);
    volume.sync().unwrap();
    testing::check_synced(&volume).unwrap();
    volume.drop_caches().unwrap();
    for number in 1..=4 {
        let file = volume.file(FileNumber(number)).unwrap();
        let mut content = vec![0; file.size() as usize];
        file.read_at(0, &mut content).unwrap();
        assert!(content.iter().all(|byte| *byte == number as u8));
        file.set_len(0).unwrap();
    }
    assert_eq!(volume.statfs().free_blocks, start.free_blocks);
    testing::check_synced(&volume).unwrap();
    volume.close().unwrap();
}

#[test]
fn delayed_writes_fill_the_volume_exactly() {
    fill_and_empty(&VolumeOptions::new(), BLOCK as usize);
    fill_and_empty(&VolumeOptions::new(), 100_000);
}

#[test]
fn delayed_writes_fill_the_volume_exactly_also_without_the_low_space_switch() {
    fill_and_empty(&VolumeOptions::new().low_space_clusters(0), 5000);
}

#[test]
fn writes_that_allocate_at_once_fill_the_volume_exactly() {
    fill_and_empty(&VolumeOptions::new().delayed_allocation(false), 10_000);
}

#[test]
fn small_blocks_and_clusters_fill_the_volume() {
    fill_and_empty(&VolumeOptions::new().block_size(1024), 3000);
    fill_and_empty(&VolumeOptions::new().cluster_blocks(4), 4 * BLOCK as usize);
}

/// A volume with `free` free blocks.
fn small_volume(free: u64) -> Volume {
    let device = Arc::new(MemoryDevice::new((free + 1) * BLOCK));
    let volume = Volume::format(device, &VolumeOptions::new().low_space_clusters(0)).unwrap();
    assert_eq!(volume.statfs().free_blocks, free);
    volume
}

#[test]
fn a_write_that_does_not_fit_is_cut_to_what_does() {
    let volume = small_volume(5);
    let file = volume.file(FileNumber(1)).unwrap();
    let written = file.write_at(100, &[7; 8 * BLOCK as usize]).unwrap() as u64;
    assert_eq!(written, 5 * BLOCK - 100);
    assert_eq!(file.write_at(6 * BLOCK, &[7]), Err(Error::NoSpace));
    assert_eq!(file.size(), 5 * BLOCK);
    testing::check(&volume).unwrap();
    file.sync_all().unwrap();
    testing::check_synced(&volume).unwrap();
}

#[test]
fn what_is_promised_is_not_allocated_to_others() {
    let volume = small_volume(5);
    let (first, second) = (
        volume.file(FileNumber(1)).unwrap(),
        volume.file(FileNumber(2)).unwrap(),
    );
    first.write_at(0, &[1; 3 * BLOCK as usize]).unwrap();
    assert_eq!(
        second.allocate(AllocateMode::Allocate, 0, 4 * BLOCK),
        Err(Error::NoSpace)
    );
    // What could be allocated is kept, and the size follows it.
    assert_eq!((second.size(), second.blocks()), (2 * BLOCK, 16));
    assert_eq!(second.page_fault(0), Ok(()));
    first.sync_all().unwrap();
    volume.sync().unwrap();
    testing::check_synced(&volume).unwrap();
}

#[test]
fn allocating_over_delayed_blocks_needs_no_space_of_its_own() {
    let volume = small_volume(4);
    let file = volume.file(FileNumber(1)).unwrap();
    file.write_at(0, &[1; 4 * BLOCK as usize]).unwrap();
    assert_eq!(volume.statfs().free_blocks, 0);
    file.allocate(AllocateMode::Allocate, 0, 4 * BLOCK).unwrap();
    assert_eq!(volume.statfs().delayed_blocks, 0);
    testing::check(&volume).unwrap();
    file.sync_all().unwrap();
    testing::check_synced(&volume).unwrap();
}

#[test]
fn zeroing_without_space_loses_no_byte() {
    let volume = small_volume(4);
    let file = volume.file(FileNumber(1)).unwrap();
    file.write_at(0, &[1; 2 * BLOCK as usize]).unwrap();
    let zeroed = file.allocate(AllocateMode::ZeroRange, 0, 8 * BLOCK);
    assert_eq!(zeroed, Err(Error::NoSpace));
    // What could be allocated is kept, and the size follows it.
    assert_eq!((file.size(), file.blocks()), (4 * BLOCK, 32));
    let mut content = vec![0; 2 * BLOCK as usize];
    file.read_at(0, &mut content).unwrap();
    assert!(content.iter().all(|byte| *byte == 1));
    testing::check(&volume).unwrap();
    file.sync_all().unwrap();
    testing::check_synced(&volume).unwrap();
}

#[test]
fn a_fault_without_space_promises_nothing() {
    let volume = small_volume(1);
    let (full, hole) = (
        volume.file(FileNumber(1)).unwrap(),
        volume.file(FileNumber(2)).unwrap(),
    );
    full.write_at(0, &[1]).unwrap();
    hole.set_len(BLOCK).unwrap();
    assert_eq!(hole.page_fault(0), Err(Error::NoSpace));
    assert_eq!(hole.store_mapped(0, &[1]), Err(Error::NoSpace));
    assert_eq!(hole.reserved_blocks(), 0);
    testing::check(&volume).unwrap();
    full.set_len(0).unwrap();
    assert_eq!(hole.store_mapped(0, &[1]), Ok(1));
    volume.close().unwrap();
}

#[test]
fn a_volume_that_ends_with_promises_for_nothing_says_whose_they_are() {
    let probe = Probe::new().mutations([Mutation::ReleaseOnlyWhileDelaying]);
    let device = Arc::new(MemoryDevice::new(5 * BLOCK));
    let options = VolumeOptions::new().low_space_clusters(0).probe(probe);
    let volume = Volume::format(device, &options).unwrap();
    let file = volume.file(FileNumber(7)).unwrap();
    // So much is promised that the volume delays no more; without the mutation that does not matter.
    file.write_at(0, &[1; 3 * BLOCK as usize]).unwrap();
    file.set_len(0).unwrap();
    let leak = Error::ReservationLeak {
        file: 7,
        clusters: 3,
    };
    assert_eq!(volume.close(), Err(leak));
}

/// A full volume whose mapping is on its device, and a file of one cluster: its `mapped` blocks are there, its `delayed`
/// blocks live on the space of those.
fn full_but_for_one_cluster(mapped: &[u64], delayed: &[u64]) -> (Volume, File) {
    let options = VolumeOptions::new().cluster_blocks(4).low_space_clusters(0);
    let device = Arc::new(MemoryDevice::new(1 << 20));
    let volume = Volume::format_persistent(device, &options).unwrap();
    let [file, other] = [1, 2].map(|number| volume.file(FileNumber(number)).unwrap());
    let write = |block: &u64| {
        let bytes = [1 + *block as u8; BLOCK as usize];
        assert_eq!(file.write_at(block * BLOCK, &bytes), Ok(bytes.len()));
    };
    mapped.iter().for_each(write);
    volume.sync().unwrap();
    delayed.iter().for_each(write);
    assert_eq!(file.reserved_blocks(), 0, "they need no other space");
    while other.write_at(other.size(), &[9; BLOCK as usize]).is_ok() {}
    assert_eq!(volume.statfs().free_blocks, 0);
    (volume, file)
}

/// Without what `free` frees the delayed blocks of the file are still there, in the only space there is.
fn delayed_blocks_stay(mapped: &[u64], delayed: &[u64], free: impl Fn(&File) -> Result<()>) {
    let (volume, file) = full_but_for_one_cluster(mapped, delayed);
    assert_eq!(free(&file), Ok(()));
    testing::check(&volume).unwrap();
    assert_eq!(
        (file.reserved_blocks(), file.blocks()),
        (0, 4 * BLOCK / 512)
    );
    volume.sync().unwrap();
    testing::check_synced(&volume).unwrap();
    volume.drop_caches().unwrap();
    for block in 0..file.size() / BLOCK {
        let mut bytes = [0xee; BLOCK as usize];
        file.read_at(block * BLOCK, &mut bytes).unwrap();
        let expected = match delayed.contains(&block) {
            true => 1 + block as u8,
            false => 0,
        };
        assert_eq!(bytes, [expected; BLOCK as usize], "block {block}");
    }
    // The cluster goes with its last block.
    file.set_len(0).unwrap();
    volume.sync().unwrap();
    assert_eq!(volume.statfs().free_blocks, 4);
    testing::check_synced(&volume).unwrap();
}

#[test]
fn delayed_blocks_keep_a_cluster_that_is_freed_under_them_where_there_is_no_other() {
    let punch = |start: u64, blocks: u64| {
        let bytes = (start * BLOCK, blocks * BLOCK);
        move |file: &File| file.allocate(AllocateMode::PunchHole, bytes.0, bytes.1)
    };
    delayed_blocks_stay(&[0], &[2], punch(0, 1));
    delayed_blocks_stay(&[1, 2], &[0, 3], punch(1, 2));
    delayed_blocks_stay(&[2, 3], &[0, 1], |file| file.set_len(2 * BLOCK));
}

#[test]
fn delayed_blocks_keep_a_cluster_that_is_freed_under_them_where_the_mapping_is_full_too() {
    let options = VolumeOptions::new()
        .block_size(512)
        .cluster_blocks(8)
        .low_space_clusters(0);
    let device = Arc::new(MemoryDevice::new(1 << 20));
    let volume = Volume::format_persistent(device, &options).unwrap();
    let [file, holes, other] = [1, 2, 3].map(|number| volume.file(FileNumber(number)).unwrap());
    file.write_at(0, &[1; 512]).unwrap();
    volume.sync().unwrap();
    file.write_at(1024, &[2; 512]).unwrap();
    holes.write_at(0, &[3; 1840 * 512]).unwrap();
    while other.write_at(other.size(), &[9; 4096]).is_ok() {}
    holes.sync_all().unwrap();
    other.sync_all().unwrap();
    // The mapping of each hole takes room, and no cluster becomes free.
    for hole in 0..919 {
        let offset = 512 * (1 + 2 * hole);
        holes
            .allocate(AllocateMode::PunchHole, offset, 512)
            .unwrap();
    }
    assert_eq!(volume.statfs().free_blocks, 0);
    assert_eq!(file.allocate(AllocateMode::PunchHole, 0, 512), Ok(()));
    testing::check(&volume).unwrap();
    volume.sync().unwrap();
    testing::check_synced(&volume).unwrap();
}

#[test]
fn free_and_promised_space_never_add_up_to_more_than_there_is() {
    let device = Arc::new(MemoryDevice::new(1 << 20));
    let volume = Volume::format_persistent(device, &VolumeOptions::new()).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let file = volume.file(FileNumber(1)).unwrap();
            for _ in 0..2_000 {
                file.write_at(0, &[1; 150 << 10]).unwrap();
                file.sync_range(0, 0).unwrap();
                // Freed, and held back until that is durable.
                file.set_len(0).unwrap();
                file.sync_all().unwrap();
            }
            done.store(true, Relaxed);
        });
        while !done.load(Relaxed) {
            let space = volume.statfs();
            assert!(
                space.free_blocks + space.delayed_blocks <= space.blocks,
                "{space:?}"
            );
        }
    });
}
