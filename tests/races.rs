//! The race the crate exists for, steered so that it happens every time, and unsteered mixtures of
//! everything on shared files.

use std::sync::{Arc, Mutex};
use std::thread;

use extent_map::Error;
use extent_map::device::MemoryDevice;
use extent_map::file::{AllocateMode, ExtentKind, File, Volume, VolumeOptions};
use extent_map::probe::{Mutation, Probe};
use extent_map::testing;
use extent_map::units::FileNumber;

#[path = "common/random.rs"]
mod random;

use random::Random;

const PAGE: u64 = 4096;

/// A file of one hole, faulted in by this thread; between its first look and its lock another thread
/// allocates the same block from start to end.
fn fault_while_another_thread_allocates(skip_second_look: bool) -> (Volume, File) {
    // Taken out by the first fault: a volume whose hook keeps its file would never go away.
    let raced: Arc<Mutex<Option<File>>> = Arc::default();
    let hook = {
        let raced = Arc::clone(&raced);
        move |_, _| {
            let Some(file) = raced.lock().unwrap().take() else {
                return;
            };
            thread::scope(|scope| {
                let allocate = || file.allocate(AllocateMode::Allocate, 0, PAGE);
                scope.spawn(allocate).join().unwrap().unwrap();
            });
        }
    };
    let probe = Probe::new()
        .mutations(skip_second_look.then_some(Mutation::SkipSecondLook))
        .between_looks(hook);
    let device = Arc::new(MemoryDevice::new(1 << 20));
    let volume = Volume::format(device, &VolumeOptions::new().probe(probe)).unwrap();
    let file = volume.file(FileNumber(1)).unwrap();
    file.set_len(PAGE).unwrap();
    *raced.lock().unwrap() = Some(file.clone());
    file.page_fault(0).unwrap();
    (volume, file)
}

#[test]
fn without_the_second_look_the_reservation_leaks_every_time() {
    for _ in 0..100 {
        let (volume, file) = fault_while_another_thread_allocates(true);
        assert_eq!(file.extents().unwrap()[0].kind, ExtentKind::Delayed);
        let violations = testing::check(&volume).unwrap_err();
        assert!(
            violations.iter().any(|v| v.to_string().contains("I4")),
            "{violations:?}"
        );
        // Writeback finds the block mapped already; the promise can be neither used nor given back.
        assert!(matches!(file.sync_all(), Err(Error::Corrupt(_))));
        assert_eq!(file.reserved_blocks(), 1);
        assert_eq!(volume.statfs().delayed_blocks, 1);
    }
}

#[test]
fn the_second_look_sees_what_the_other_thread_allocated() {
    for _ in 0..100 {
        let (volume, file) = fault_while_another_thread_allocates(false);
        assert_eq!(file.extents().unwrap()[0].kind, ExtentKind::Unwritten);
        assert_eq!(file.reserved_blocks(), 0);
        assert_eq!(volume.stats().second_look_changed, 1);
        testing::check(&volume).unwrap();
        file.store_mapped(0, b"kept").unwrap();
        file.sync_all().unwrap();
        assert_eq!(file.extents().unwrap()[0].kind, ExtentKind::Written);
        testing::check_synced(&volume).unwrap();
        volume.close().unwrap();
    }
}

/// The one byte that is ever written at a place, never 0.
fn byte_at(file: FileNumber, offset: u64) -> u8 {
    ((offset * 31 + offset / 251 + file.0 * 7) % 251) as u8 + 1
}

fn content(file: &File, offset: u64, len: u64) -> Vec<u8> {
    (offset..offset + len)
        .map(|at| byte_at(file.number(), at))
        .collect()
}

fn check_read(file: &File, offset: u64, len: u64) {
    let mut bytes = vec![0xff; len as usize];
    let read = file.read_at(offset, &mut bytes).unwrap();
    for (at, byte) in (offset..).zip(&bytes[..read]) {
        let written = byte_at(file.number(), at);
        assert!(
            *byte == 0 || *byte == written,
            "byte {at}: {byte}, not 0 or {written}"
        );
    }
}

/// Does something to a file; space may run out.
fn step(volume: &Volume, file: &File, random: &mut Random) {
    const SPAN: u64 = 96 * 1024;
    let offset = random.below(SPAN);
    let len = 1 + random.below(20 * 1024);
    let data = || content(file, offset, len);
    let outcome = match random.below(16) {
        0..3 => file.write_at(offset, &data()).map(drop),
        3 => file.page_fault(offset),
        4..6 => file.store_mapped(offset, &data()).map(drop),
        6 => file.allocate(AllocateMode::Allocate, offset, len),
        7 => file.allocate(AllocateMode::AllocateKeepSize, offset, len),
        8 => file.allocate(AllocateMode::PunchHole, offset, len),
        9 => file.allocate(AllocateMode::ZeroRange, offset, len),
        10 => file.set_len(offset),
        11 => file.sync_range(offset, len),
        12 => file.sync_all(),
        13 => match random.below(4) {
            0 => volume.drop_caches(),
            1 => volume.sync(),
            _ => {
                volume.shrink_status(64);
                Ok(())
            }
        },
        14 => file.extents().map(drop),
        _ => {
            check_read(file, offset, len);
            Ok(())
        }
    };
    match outcome {
        Ok(()) | Err(Error::BeyondEnd | Error::NoSpace) => {}
        Err(error) => panic!("{error}"),
    }
}

fn mix(options: &VolumeOptions, volume_bytes: u64, threads: u64, steps: u64) {
    let volume = Volume::format(Arc::new(MemoryDevice::new(volume_bytes)), options).unwrap();
    let files: Vec<_> = (1..4)
        .map(|n| volume.file(FileNumber(n)).unwrap())
        .collect();
    let start = volume.statfs();
    thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|seed| {
                let (volume, files) = (&volume, &files);
                scope.spawn(move || {
                    let mut random = Random(seed);
                    for _ in 0..steps {
                        let file = &files[random.below(3) as usize];
                        step(volume, file, &mut random);
                    }
                })
            })
            .collect();
        workers
            .into_iter()
            .for_each(|worker| worker.join().unwrap());
    });
    testing::check(&volume).unwrap();
    volume.sync().unwrap();
    testing::check_synced(&volume).unwrap();
    let now = volume.statfs();
    let used: u64 = files.iter().map(File::blocks).sum::<u64>() * 512 / now.block_size;
    assert_eq!(
        (now.free_blocks + used, now.delayed_blocks),
        (start.free_blocks, 0)
    );
    volume.drop_caches().unwrap();
    for file in &files {
        assert_eq!(file.reserved_blocks(), 0);
        check_read(file, 0, file.size());
        file.set_len(0).unwrap();
    }
    assert_eq!(volume.statfs().free_blocks, start.free_blocks);
    testing::check_synced(&volume).unwrap();
    volume.close().unwrap();
}

fn steps() -> u64 {
    std::env::var("EXTENT_MAP_RACE_STEPS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(1500)
}

#[test]
fn everything_at_once_with_4k_blocks() {
    mix(&VolumeOptions::new(), 4 << 20, 4, steps());
}

#[test]
fn everything_at_once_with_1k_blocks() {
    mix(&VolumeOptions::new().block_size(1024), 4 << 20, 4, steps());
}

#[test]
fn everything_at_once_with_clusters() {
    mix(&VolumeOptions::new().cluster_blocks(4), 4 << 20, 4, steps());
}

#[test]
fn everything_at_once_with_clusters_of_small_blocks() {
    mix(
        &VolumeOptions::new().block_size(512).cluster_blocks(16),
        4 << 20,
        4,
        steps(),
    );
}

#[test]
fn everything_at_once_without_delayed_allocation() {
    mix(
        &VolumeOptions::new().delayed_allocation(false),
        4 << 20,
        4,
        steps(),
    );
}

#[test]
fn everything_at_once_with_files_that_start_inline() {
    mix(&VolumeOptions::new().inline_limit(600), 4 << 20, 4, steps());
}

#[test]
fn everything_at_once_on_a_volume_that_is_nearly_full() {
    mix(&VolumeOptions::new(), 200 << 10, 4, steps());
    mix(
        &VolumeOptions::new().cluster_blocks(4),
        240 << 10,
        4,
        steps(),
    );
}
