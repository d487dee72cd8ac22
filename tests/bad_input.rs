//! Arguments that make no sense, devices that are too small or fail: a typed error with an errno, nothing
//! lost, nothing leaked.

use std::fs;
use std::sync::Arc;

use extent_map::device::{BlockDevice, FaultyDevice, FileDevice, MemoryDevice, OperationKind};
use extent_map::file::{AllocateMode, File, Volume, VolumeOptions};
use extent_map::mapping::{ExtentState, MappedExtent, MappingStore, MemoryStore};
use extent_map::testing;
use extent_map::units::{DiskBlock, FileBlock, FileNumber, FileRange, MAX_FILE_BLOCKS};
use extent_map::{Error, Result};

const BLOCK: u64 = 4096;
const EIO: i32 = 5;
const EINVAL: i32 = 22;
const EFBIG: i32 = 27;

const MODES: [AllocateMode; 7] = [
    AllocateMode::Allocate,
    AllocateMode::AllocateKeepSize,
    AllocateMode::PunchHole,
    AllocateMode::ZeroRange,
    AllocateMode::ZeroRangeKeepSize,
    AllocateMode::CollapseRange,
    AllocateMode::InsertRange,
];

fn volume() -> Volume {
    Volume::format(Arc::new(MemoryDevice::new(1 << 20)), &VolumeOptions::new()).unwrap()
}

fn errno<T>(result: Result<T>) -> Option<i32> {
    result.err().map(|error| error.errno())
}

#[test]
fn offsets_and_lengths_past_the_limits() {
    let volume = volume();
    let file = volume.file(FileNumber(1)).unwrap();
    file.write_at(0, b"kept").unwrap();
    let largest = (u64::from(u32::MAX)) * BLOCK;
    for mode in MODES {
        assert_eq!(errno(file.allocate(mode, 0, 0)), Some(EINVAL), "{mode:?}");
        assert_eq!(
            errno(file.allocate(mode, u64::MAX, 1)),
            Some(EFBIG),
            "{mode:?}"
        );
        assert_eq!(
            errno(file.allocate(mode, 1, u64::MAX)),
            Some(EFBIG),
            "{mode:?}"
        );
        assert_eq!(
            errno(file.allocate(mode, largest, 1)),
            Some(EFBIG),
            "{mode:?}"
        );
    }
    assert_eq!(errno(file.write_at(largest, &[1])), Some(EFBIG));
    assert_eq!(errno(file.write_at(u64::MAX, &[1])), Some(EFBIG));
    assert_eq!(errno(file.set_len(largest + 1)), Some(EFBIG));
    assert_eq!(errno(file.sync_range(u64::MAX, 2)), Some(EFBIG));
    assert_eq!(file.read_at(u64::MAX, &mut [0; 8]), Ok(0));
    assert_eq!(file.write_at(0, &[]), Ok(0));
    assert_eq!(file.write_at(u64::MAX, &[]), Ok(0));
    assert_eq!(file.page_fault(u64::MAX), Err(Error::BeyondEnd));
    assert_eq!(file.store_mapped(u64::MAX, &[1, 2]), Err(Error::BeyondEnd));
    assert_eq!(file.load_mapped(BLOCK, &mut [0]), Err(Error::BeyondEnd));
    assert_eq!(file.seek_data(u64::MAX), Err(Error::NotFound));
    assert_eq!(file.seek_hole(4), Err(Error::NotFound));
    let mut content = [0; 8];
    assert_eq!(file.read_at(0, &mut content), Ok(4));
    assert_eq!(&content[..4], b"kept");
    testing::check(&volume).unwrap();
    volume.close().unwrap();
}

#[test]
fn the_last_block_a_file_can_have() {
    let volume = volume();
    let file = volume.file(FileNumber(1)).unwrap();
    let largest = MAX_FILE_BLOCKS * BLOCK;
    assert_eq!(file.write_at(largest - 1, &[1, 2, 3]), Ok(1));
    assert_eq!(file.size(), largest);
    assert_eq!(file.store_mapped(largest - BLOCK, &[4]), Ok(1));
    assert_eq!(
        errno(file.allocate(AllocateMode::InsertRange, 0, BLOCK)),
        Some(EFBIG)
    );
    file.sync_all().unwrap();
    volume.drop_caches().unwrap();
    let mut last = [0; 4];
    assert_eq!(file.read_at(largest - 1, &mut last), Ok(1));
    assert_eq!(last[0], 1);
    assert_eq!(file.seek_data(0), Ok(largest - BLOCK));
    file.allocate(AllocateMode::PunchHole, 0, largest).unwrap();
    assert_eq!(file.blocks(), 0);
    testing::check_synced(&volume).unwrap();
}

#[test]
fn a_hole_is_punched_up_to_the_last_page_which_is_longer_than_any_file() {
    for block_size in [512, 1024, 2048] {
        let options = VolumeOptions::new().block_size(block_size);
        let volume = Volume::format(Arc::new(MemoryDevice::new(1 << 20)), &options).unwrap();
        let file = volume.file(FileNumber(1)).unwrap();
        let largest = u64::from(u32::MAX) * block_size;
        assert_eq!(file.write_at(largest - 5000, &[1; 4999]), Ok(4999));
        let last = largest - 2 * block_size;
        let punched = file.allocate(AllocateMode::PunchHole, last, 2 * block_size);
        assert_eq!(punched, Ok(()));
        assert_eq!(file.seek_hole(largest - 5000), Ok(last));
        testing::check(&volume).unwrap();
    }
}

#[test]
fn a_store_into_the_page_of_the_end_but_behind_it_stores_nothing_and_returns() {
    for block_size in [512, 1024, 4096] {
        let device = Arc::new(MemoryDevice::new(1 << 20));
        let options = VolumeOptions::new().block_size(block_size);
        let volume = Volume::format(device, &options).unwrap();
        let file = volume.file(FileNumber(1)).unwrap();
        file.set_len(700).unwrap();
        assert_eq!(file.store_mapped(3000, &[1; 2000]), Ok(0));
        assert_eq!(file.store_mapped(690, &[1; 20]), Ok(10));
        assert_eq!(file.store_mapped(5000, &[1]), Err(Error::BeyondEnd));
        assert_eq!(file.size(), 700);
        testing::check(&volume).unwrap();
    }
}

#[test]
fn unaligned_and_misplaced_collapse_and_insert_change_nothing() {
    for options in [VolumeOptions::new(), VolumeOptions::new().cluster_blocks(4)] {
        let device = Arc::new(MemoryDevice::new(4 << 20));
        let volume = Volume::format(device, &options).unwrap();
        let file = volume.file(FileNumber(1)).unwrap();
        file.write_at(0, &[1; 50_000]).unwrap();
        let before = file.extents().unwrap();
        let cluster = 16_384;
        for (offset, len) in [(1, cluster), (0, 100), (0, 65_536), (cluster, 49_152)] {
            let outcome = file.allocate(AllocateMode::CollapseRange, offset, len);
            assert_eq!(errno(outcome), Some(EINVAL), "{offset} {len}");
        }
        for (offset, len) in [
            (1, cluster),
            (0, 100),
            (65_536, cluster),
            (1 << 20, cluster),
        ] {
            let outcome = file.allocate(AllocateMode::InsertRange, offset, len);
            assert_eq!(errno(outcome), Some(EINVAL), "{offset} {len}");
        }
        assert_eq!((file.extents().unwrap(), file.size()), (before, 50_000));
        testing::check(&volume).unwrap();
    }
}

#[test]
fn options_and_devices_that_make_no_volume() {
    let device = |bytes| Arc::new(MemoryDevice::new(bytes)) as Arc<dyn BlockDevice>;
    let format = |bytes, options: VolumeOptions| errno(Volume::format(device(bytes), &options));
    for bytes in [0, 1, 4095, 4096, 8191] {
        let error = Volume::format(device(bytes), &VolumeOptions::new()).unwrap_err();
        assert_eq!(
            error,
            Error::DeviceTooSmall {
                have: bytes,
                need: 8192
            }
        );
        assert_eq!(error.errno(), EINVAL);
    }
    assert_eq!(format(8192, VolumeOptions::new()), None);
    for size in [0, 1, 256, 1000, 8192, u64::MAX] {
        assert_eq!(
            format(1 << 20, VolumeOptions::new().block_size(size)),
            Some(EINVAL)
        );
    }
    for ratio in [0, 3, 1 << 20, u64::MAX] {
        assert_eq!(
            format(1 << 20, VolumeOptions::new().cluster_blocks(ratio)),
            Some(EINVAL)
        );
    }
    assert_eq!(
        format(1 << 20, VolumeOptions::new().inline_limit(4097)),
        Some(EINVAL)
    );
    assert_eq!(
        format(1 << 20, VolumeOptions::new().group_clusters(0)),
        Some(EINVAL)
    );
}

#[test]
fn an_image_that_is_cut_short_under_a_volume() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    let device = Arc::new(FileDevice::create(&path, 1 << 20).unwrap());
    let volume = Volume::format(device, &VolumeOptions::new()).unwrap();
    let file = volume.file(FileNumber(1)).unwrap();
    file.write_at(0, &[7; 3 * BLOCK as usize]).unwrap();
    volume.drop_caches().unwrap();
    let image = fs::OpenOptions::new().write(true).open(&path).unwrap();
    image.set_len(BLOCK).unwrap();
    assert_eq!(errno(file.read_at(0, &mut [0; 10])), Some(EIO));
    assert!(file.write_at(10, &[1]).is_err());
    image.set_len(1 << 20).unwrap();
    file.write_at(0, &[8; BLOCK as usize]).unwrap();
    file.sync_all().unwrap();
    testing::check_synced(&volume).unwrap();
    assert!(FileDevice::open(folder.path().join("missing")).is_err());
}

/// Reads page by page: a longer read that fails on the way returns what it has, and the next one may
/// succeed.
fn read_all(file: &File) -> Result<()> {
    let mut offset = 0;
    loop {
        match file.read_at(offset, &mut [0; BLOCK as usize])? {
            0 => return Ok(()),
            len => offset += len as u64,
        }
    }
}

/// Some of everything; every outcome is returned, so that a run with a fault can be compared with one
/// without.
fn workload(volume: &Volume, file: &File) -> Vec<Result<()>> {
    let big = vec![3; 9 * BLOCK as usize];
    vec![
        file.write_at(100, &big).map(drop),
        file.sync_all(),
        volume.drop_caches(),
        file.write_at(5000, b"inside a block").map(drop),
        file.store_mapped(3 * BLOCK + 7, b"mapped").map(drop),
        file.allocate(AllocateMode::PunchHole, 2 * BLOCK + 5, 2 * BLOCK),
        file.allocate(AllocateMode::ZeroRange, 6 * BLOCK + 5, BLOCK),
        file.sync_range(0, 3 * BLOCK),
        file.allocate(AllocateMode::InsertRange, 4 * BLOCK, 4 * BLOCK),
        file.set_len(7 * BLOCK + 11),
        file.write_at(20 * BLOCK, &big).map(drop),
        file.allocate(AllocateMode::CollapseRange, 8 * BLOCK, 4 * BLOCK),
        volume.sync(),
        volume.drop_caches(),
        read_all(file),
        file.sync_all(),
    ]
}

#[test]
fn an_io_error_at_each_device_operation_in_turn() {
    for (block, options) in [
        (BLOCK, VolumeOptions::new()),
        (1024, VolumeOptions::new().block_size(1024)),
        (BLOCK, VolumeOptions::new().cluster_blocks(4)),
        (BLOCK, VolumeOptions::new().delayed_allocation(false)),
    ] {
        let run = |fail_at: Option<u64>| {
            let memory = Arc::new(MemoryDevice::new(2 << 20));
            let device = Arc::new(FaultyDevice::new(memory));
            let volume = Volume::format(device.clone(), &options).unwrap();
            let file = volume.file(FileNumber(1)).unwrap();
            let start = volume.statfs().free_blocks;
            if let Some(nth) = fail_at {
                device.fail_at(None, nth);
            }
            let outcomes = workload(&volume, &file);
            let operations = device.take_log();
            device.clear_faults();
            testing::check(&volume).unwrap_or_else(|v| panic!("{fail_at:?}: {v:?}"));
            // The volume goes on: everything can be written back, and taken away again.
            let _reported = file.sync_all();
            file.sync_all().unwrap();
            testing::check_synced(&volume).unwrap_or_else(|v| panic!("{fail_at:?}: {v:?}"));
            file.set_len(0).unwrap();
            assert_eq!(volume.statfs().free_blocks, start, "{fail_at:?}");
            (operations, outcomes)
        };
        let (operations, outcomes) = run(None);
        assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
        assert!(operations.len() > 10, "{}", operations.len());
        for nth in 0..operations.len() {
            let (operations, outcomes) = run(Some(nth as u64));
            // What was read for several blocks at once is read again for the one that is wanted.
            let tried_again =
                operations[nth].kind == OperationKind::Read && operations[nth].len > block;
            let failed: Vec<_> = outcomes.into_iter().filter_map(Result::err).collect();
            assert!(
                !failed.is_empty() || tried_again,
                "nobody was told of the failure of operation {nth}"
            );
            assert!(
                failed.iter().all(|error| error.errno() == EIO),
                "{nth}: {failed:?}"
            );
        }
    }
}

#[test]
fn a_failed_write_is_reported_once_per_open_file_and_shows_no_stale_byte() {
    let memory = Arc::new(MemoryDevice::new(1 << 20));
    memory.write_at(0, &[b'S'; 1 << 20]).unwrap();
    let device = Arc::new(FaultyDevice::new(memory));
    let volume = Volume::format(device.clone(), &VolumeOptions::new()).unwrap();
    let (first, second) = (
        volume.file(FileNumber(1)).unwrap(),
        volume.file(FileNumber(1)).unwrap(),
    );
    first.write_at(0, &[1; BLOCK as usize]).unwrap();
    device.fail_range(Some(OperationKind::Write), 0..1 << 20);
    assert_eq!(errno(first.sync_all()), Some(EIO));
    assert_eq!(first.sync_all(), Ok(()));
    assert_eq!(errno(second.sync_data()), Some(EIO));
    assert_eq!(second.sync_data(), Ok(()));
    assert_eq!(volume.stats().writeback_errors, 1);
    device.clear_faults();
    volume.drop_caches().unwrap();
    // The block was allocated but its data never arrived: it reads as zeros, not as what was there.
    let mut content = [1; BLOCK as usize];
    first.read_at(0, &mut content).unwrap();
    assert!(content.iter().all(|byte| *byte == 0));
    testing::check_synced(&volume).unwrap();
}

#[test]
fn what_is_punched_or_cut_off_reads_as_zeros_also_after_a_failed_write_of_it() {
    let punch = |file: &File| file.allocate(AllocateMode::PunchHole, 100, 8000);
    let cut = |file: &File| file.set_len(100).and_then(|()| file.set_len(BLOCK));
    for change in [&punch as &dyn Fn(&File) -> Result<()>, &cut] {
        let device = Arc::new(FaultyDevice::new(Arc::new(MemoryDevice::new(1 << 20))));
        let volume = Volume::format(device.clone(), &VolumeOptions::new()).unwrap();
        let file = volume.file(FileNumber(1)).unwrap();
        file.write_at(0, &[1; BLOCK as usize]).unwrap();
        device.fail_at(Some(OperationKind::Write), 0);
        assert_eq!(errno(file.sync_all()), Some(EIO));
        // The block is unwritten and clean, and the cache has what did not arrive.
        change(&file).unwrap();
        let mut content = [9; BLOCK as usize];
        file.read_at(0, &mut content).unwrap();
        assert!(content[100..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn what_was_cut_off_does_not_come_back_after_a_failed_write_of_its_zeros() {
    type Growth = fn(&File) -> Result<()>;
    let grow: [Growth; 4] = [
        |file| file.set_len(BLOCK),
        |file| file.write_at(2 * BLOCK, &[5]).map(drop),
        |file| file.allocate(AllocateMode::Allocate, 2 * BLOCK, 10),
        |file| file.allocate(AllocateMode::ZeroRange, 2 * BLOCK, 10),
    ];
    for (how, grow) in grow.iter().enumerate() {
        for read_before in [false, true] {
            let device = Arc::new(FaultyDevice::new(Arc::new(MemoryDevice::new(1 << 20))));
            let volume = Volume::format(device.clone(), &VolumeOptions::new()).unwrap();
            let file = volume.file(FileNumber(1)).unwrap();
            file.write_at(0, &[1; BLOCK as usize]).unwrap();
            file.sync_all().unwrap();
            file.set_len(100).unwrap();
            device.fail_at(Some(OperationKind::Write), 0);
            assert_eq!(errno(volume.drop_caches()), Some(EIO));
            // The device still has the whole block.
            let mut content = [9; BLOCK as usize];
            if read_before {
                assert_eq!(file.read_at(0, &mut content), Ok(100));
            }
            grow(&file).unwrap();
            for _ in 0..2 {
                assert_eq!(file.read_at(0, &mut content), Ok(BLOCK as usize));
                assert!(content[100..].iter().all(|byte| *byte == 0), "{how}");
                volume.drop_caches().unwrap();
            }
        }
    }
}

#[test]
fn what_could_not_be_written_is_not_moved() {
    for mode in [AllocateMode::CollapseRange, AllocateMode::InsertRange] {
        let device = Arc::new(FaultyDevice::new(Arc::new(MemoryDevice::new(1 << 20))));
        let volume = Volume::format(device.clone(), &VolumeOptions::new()).unwrap();
        let file = volume.file(FileNumber(1)).unwrap();
        file.write_at(0, &[1; 3 * BLOCK as usize]).unwrap();
        device.fail_at(Some(OperationKind::Write), 0);
        assert_eq!(errno(file.allocate(mode, BLOCK, BLOCK)), Some(EIO));
        assert_eq!(file.size(), 3 * BLOCK);
        assert_eq!(errno(file.sync_all()), Some(EIO));
        assert_eq!(file.allocate(mode, BLOCK, BLOCK), Ok(()));
        testing::check(&volume).unwrap();
    }
}

#[test]
fn a_range_whose_second_edge_cannot_be_read_is_not_zeroed_by_half() {
    for mode in [AllocateMode::PunchHole, AllocateMode::ZeroRange] {
        let device = Arc::new(FaultyDevice::new(Arc::new(MemoryDevice::new(1 << 20))));
        let volume = Volume::format(device.clone(), &VolumeOptions::new()).unwrap();
        let file = volume.file(FileNumber(1)).unwrap();
        let written = [1; 3 * BLOCK as usize];
        file.write_at(0, &written).unwrap();
        volume.drop_caches().unwrap();
        let last = (file.extents().unwrap()[0].disk.unwrap().0 + 2) * BLOCK;
        device.fail_range(Some(OperationKind::Read), last..last + BLOCK);
        assert_eq!(errno(file.allocate(mode, 100, 2 * BLOCK)), Some(EIO));
        device.clear_faults();
        let mut content = [9; 3 * BLOCK as usize];
        assert_eq!(file.read_at(0, &mut content), Ok(content.len()));
        assert!(content == written, "{mode:?}");
    }
}

#[test]
fn a_failed_flush_is_heard_of_by_every_open_file_also_when_the_next_one_succeeds() {
    let of_volume: fn(&Volume, &File) -> Result<()> = |volume, _| volume.sync();
    let of_file: fn(&Volume, &File) -> Result<()> = |_, file| file.sync_all();
    for (sync, told) in [(of_volume, false), (of_file, true)] {
        let device = Arc::new(FaultyDevice::new(Arc::new(MemoryDevice::new(1 << 20))));
        let volume = Volume::format(device.clone(), &VolumeOptions::new()).unwrap();
        let files = [1, 2].map(|number| volume.file(FileNumber(number)).unwrap());
        for file in &files {
            file.write_at(0, &[1; 100]).unwrap();
            file.sync_range(0, 0).unwrap();
        }
        device.fail_at(Some(OperationKind::Flush), 0);
        assert_eq!(errno(sync(&volume, &files[0])), Some(EIO));
        for (number, file) in files.iter().enumerate() {
            let hears = number > 0 || !told;
            assert_eq!(errno(file.sync_all()), hears.then_some(EIO));
            assert_eq!(file.sync_all(), Ok(()));
        }
        assert_eq!(volume.sync(), Ok(()));
    }
}

#[test]
fn a_failed_flush_is_heard_of_by_every_open_file_also_when_a_call_needed_it_that_is_no_sync() {
    let write_without_space: fn(&Volume, &File) -> Result<()> =
        |volume, _| volume.file(FileNumber(3))?.write_at(0, &[1]).map(drop);
    let collapse: fn(&Volume, &File) -> Result<()> =
        |_, full| full.allocate(AllocateMode::CollapseRange, 0, BLOCK);
    for commits in [write_without_space, collapse] {
        let device = Arc::new(FaultyDevice::new(Arc::new(MemoryDevice::new(1 << 20))));
        let options = VolumeOptions::new().low_space_clusters(0);
        let volume = Volume::format_persistent(device.clone(), &options).unwrap();
        let [other, full] = [1, 2].map(|number| volume.file(FileNumber(number)).unwrap());
        other.write_at(0, &[1; 100]).unwrap();
        let rest = volume.statfs().free_blocks * BLOCK;
        full.allocate(AllocateMode::Allocate, 0, rest).unwrap();
        volume.sync().unwrap();
        other.write_at(0, &[2; 100]).unwrap();
        other.sync_range(0, 0).unwrap();
        full.allocate(AllocateMode::PunchHole, 0, BLOCK).unwrap();
        device.fail_at(Some(OperationKind::Flush), 0);
        assert_eq!(errno(commits(&volume, &full)), Some(EIO));
        // What it has given to the device may be lost, although the next flush succeeds.
        assert_eq!(errno(other.sync_all()), Some(EIO));
        assert_eq!(other.sync_all(), Ok(()));
    }
}

#[test]
fn a_failed_write_that_no_open_file_heard_of_is_told_to_the_next() {
    let device = Arc::new(FaultyDevice::new(Arc::new(MemoryDevice::new(1 << 20))));
    let volume = Volume::format(device.clone(), &VolumeOptions::new()).unwrap();
    let open = || volume.file(FileNumber(1)).unwrap();
    open().write_at(0, &[1; 100]).unwrap();
    device.fail_at(Some(OperationKind::Write), 0);
    assert_eq!(errno(volume.sync()), Some(EIO));
    assert_eq!(errno(open().sync_all()), Some(EIO));
    assert_eq!(open().sync_all(), Ok(()));
}

#[test]
fn a_store_whose_extents_cannot_be_those_of_a_volume_is_refused() {
    let extent = |disk| MappedExtent {
        range: FileRange::at(FileBlock(2), 2),
        disk: DiskBlock(disk),
        state: ExtentState::Written,
    };
    // The first of these starts before its cluster could, the others where no cluster is, or another file's.
    for (disk, others) in [(1, 64), (6, 6), (1 << 40, 64)] {
        let store = MemoryStore::new();
        store.insert(FileNumber(1), extent(disk)).unwrap();
        store.insert(FileNumber(2), extent(others)).unwrap();
        let device = Arc::new(MemoryDevice::new(1 << 20));
        let options = VolumeOptions::new().cluster_blocks(4);
        let volume = Volume::with_store(device, Arc::new(store), &options);
        assert!(volume.is_err(), "{disk} {others}");
    }
}

#[test]
fn a_store_with_a_file_that_is_too_long_is_refused() {
    let file = FileNumber(1);
    let longest = MAX_FILE_BLOCKS * BLOCK;
    let sized = |size| {
        let store = MemoryStore::new();
        store.set_size(file, size).map(|()| store)
    };
    let inline = |len| {
        let store = MemoryStore::new();
        let bytes = Some(vec![1; len].into());
        store.set_inline_data(file, bytes).map(|()| store)
    };
    let stores = [
        (sized(longest), true),
        (sized(longest + 1), false),
        (sized(u64::MAX), false),
        (inline(BLOCK as usize), true),
        (inline(BLOCK as usize + 1), false),
    ];
    for (store, fits) in stores {
        let device = Arc::new(MemoryDevice::new(1 << 20));
        let store = Arc::new(store.unwrap());
        let faulted = Volume::with_store(device, store, &VolumeOptions::new())
            .and_then(|volume| volume.file(file)?.page_fault(0));
        let refused = matches!(faulted, Err(Error::Corrupt(_)));
        assert_eq!((faulted.is_ok(), refused), (fits, !fits), "{faulted:?}");
    }
}

#[test]
fn what_was_read_before_the_device_failed_is_returned() {
    let device = Arc::new(FaultyDevice::new(Arc::new(MemoryDevice::new(1 << 20))));
    let volume = Volume::format(device.clone(), &VolumeOptions::new()).unwrap();
    let file = volume.file(FileNumber(1)).unwrap();
    file.write_at(0, &[7; 2 * BLOCK as usize]).unwrap();
    volume.drop_caches().unwrap();
    let second = (file.extents().unwrap()[0].disk.unwrap().0 + 1) * BLOCK;
    device.fail_range(Some(OperationKind::Read), second..second + BLOCK);
    let mut bytes = [0; 2 * BLOCK as usize];
    assert_eq!(file.read_at(0, &mut bytes), Ok(BLOCK as usize));
    assert_eq!(bytes[..BLOCK as usize], [7; BLOCK as usize]);
    assert_eq!(errno(file.read_at(BLOCK, &mut bytes)), Some(EIO));
    device.clear_faults();
    assert_eq!(file.read_at(BLOCK, &mut bytes), Ok(BLOCK as usize));
}
