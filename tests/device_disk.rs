//! Devices in files and on block devices, through the system's page cache and past it.
#![cfg(target_os = "linux")]

use std::fs::OpenOptions;
use std::io::IoSlice;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use extent_map::Error;
use extent_map::device::{BlockDevice, Buffer, DirectDevice, FileDevice};
use extent_map::file::{Volume, VolumeOptions};
use extent_map::units::FileNumber;
use proptest::prelude::*;
use rustix::fs::FallocateFlags;

#[path = "common/by_requests.rs"]
mod by_requests;
#[path = "common/device_steps.rs"]
mod device_steps;
#[path = "common/io.rs"]
mod io;
#[path = "common/loop_disk.rs"]
mod loop_disk;

use by_requests::ByRequests;
use device_steps::{Shape, compare_with_vector, pattern, step};
use io::{is_io, read};
use loop_disk::LoopDisk;

/// What every direct device takes.
const SHAPE: Shape = Shape {
    size: 3 << 16,
    unit: 4096,
};
const SIZE: u64 = SHAPE.size as u64;

fn direct(folder: &Path) -> DirectDevice {
    DirectDevice::create(folder.join("image"), SIZE).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn a_direct_device_is_a_vector_of_bytes(steps in prop::collection::vec(step(SHAPE), 1..20)) {
        let folder = tempfile::tempdir().unwrap();
        compare_with_vector(&direct(folder.path()), SHAPE, &steps);
    }

    #[test]
    fn a_direct_device_is_a_vector_of_bytes_to_aligned_requests_too(
        steps in prop::collection::vec(step(SHAPE), 1..20)
    ) {
        let folder = tempfile::tempdir().unwrap();
        compare_with_vector(&ByRequests(direct(folder.path())), SHAPE, &steps);
    }
}

#[test]
fn a_direct_device_refuses_what_is_not_aligned_and_copies_from_memory_that_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let device = direct(folder.path());
    let unit = device.limits().alignment;
    assert!(unit > 1, "direct I/O is never free of alignment");
    let bytes = Buffer::zeroed(2 * unit);
    let outcomes = [
        device.write_at(1, &bytes[..unit]),
        device.write_at(0, &bytes[..unit - 1]),
        device.read_at(unit as u64 / 2, &mut vec![0; unit]),
        device.read_at(0, &mut vec![0; unit / 2]),
        device.write_vectored_at(0, &[IoSlice::new(&bytes[..1])]),
        device.discard(1, unit as u64),
        device.write_zeroes(0, 1),
    ];
    for outcome in outcomes {
        assert!(
            matches!(outcome, Err(Error::InvalidInput(_))),
            "{outcome:?}"
        );
    }
    let data = pattern(5, 2 * unit + 1);
    for shift in 0..2 {
        device.write_at(0, &data[shift..][..2 * unit]).unwrap();
        let mut memory = vec![0; 2 * unit + 1];
        device.read_at(0, &mut memory[shift..][..2 * unit]).unwrap();
        assert!(memory[shift..][..2 * unit] == data[shift..][..2 * unit]);
    }
    // In pieces of which none is aligned.
    let parts = [3, unit, unit - 3];
    let mut rest = &data[..];
    let parts = parts.map(|len| rest.split_off(..len).map(IoSlice::new).unwrap());
    device.write_vectored_at(unit as u64, &parts).unwrap();
    assert!(read(&device, unit as u64, 2 * unit) == data[..2 * unit]);
}

#[test]
fn a_direct_device_keeps_its_bytes_and_its_whole_blocks() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    let device = DirectDevice::create(&path, 3 * 4096 + 100).unwrap();
    let unit = device.limits().alignment as u64;
    assert_eq!(device.size(), (3 * 4096 + 100) / unit * unit);
    device.write_at(4096, &pattern(1, 4096)).unwrap();
    device.flush().unwrap();
    drop(device);
    assert!(
        DirectDevice::create(&path, 4096).is_err(),
        "something is there already"
    );
    let device = DirectDevice::open(&path).unwrap();
    assert!(read(&device, 4096, 4096) == pattern(1, 4096));
    let buffered = FileDevice::open(&path).unwrap();
    assert!(read(&buffered, 4096, 4096) == pattern(1, 4096));
    assert!(matches!(
        DirectDevice::open("/dev/null"),
        Err(Error::NotSupported(_) | Error::Io(_))
    ));
}

#[test]
fn a_truncated_file_gives_errors_to_direct_reads_and_writes() {
    let folder = tempfile::tempdir().unwrap();
    let device = direct(folder.path());
    device.write_at(0, &[7; 16384]).unwrap();
    let image = folder.path().join("image");
    let file = OpenOptions::new().write(true).open(image).unwrap();
    file.set_len(6000).unwrap();
    assert_eq!(read(&device, 0, 4096), [7; 4096]);
    for offset in [4096, 8192, 16384] {
        assert!(is_io(device.read_at(offset, &mut [0; 4096])), "{offset}");
        assert!(is_io(device.write_at(offset, &[1; 4096])), "{offset}");
        assert!(is_io(device.write_zeroes(offset, 4096)), "{offset}");
        assert!(is_io(device.discard(offset, 4096)), "{offset}");
    }
    assert_eq!(
        file.metadata().unwrap().len(),
        6000,
        "no write made it grow again"
    );
}

/// Whether the filesystem can give parts of a file back.
fn can_punch(folder: &Path) -> bool {
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    let file = std::fs::File::create(folder.join("probe")).unwrap();
    rustix::fs::fallocate(file, flags, 0, 4096).is_ok()
}

#[test]
fn what_is_discarded_takes_no_space() {
    const MANY: usize = 1 << 20;
    let folder = tempfile::tempdir().unwrap();
    if !can_punch(folder.path()) {
        println!("not tested, as this filesystem cannot punch holes");
        return;
    }
    let path = folder.path().join("image");
    let device = FileDevice::create(&path, 2 * MANY as u64).unwrap();
    device.write_at(0, &[1; 2 * MANY]).unwrap();
    device.flush().unwrap();
    let before = path.metadata().unwrap().blocks();
    device.discard(0, MANY as u64).unwrap();
    assert!(path.metadata().unwrap().blocks() < before);
    assert!(read(&device, 0, MANY) == [0; MANY]);
    assert!(read(&device, MANY as u64, MANY) == [1; MANY]);
}

#[test]
fn zeros_are_written_where_the_system_cannot_make_them() {
    // Memory that looks like a filesystem; it can punch holes, but not make zeros.
    let Ok(folder) = tempfile::tempdir_in("/dev/shm") else {
        println!("not tested, as there is no such filesystem");
        return;
    };
    let device = FileDevice::create(folder.path().join("image"), 1 << 20).unwrap();
    device.write_at(0, &[1; 1 << 20]).unwrap();
    device.write_zeroes(1000, 1_000_000).unwrap();
    let mut expected = vec![1; 1 << 20];
    expected[1000..1_001_000].fill(0);
    assert!(read(&device, 0, 1 << 20) == expected);
}

fn check_disk(device: &dyn BlockDevice, steps: &[device_steps::Step]) {
    device.write_at(0, &vec![0; SHAPE.size]).unwrap();
    compare_with_vector(device, SHAPE, steps);
    device.flush().unwrap();
}

#[test]
fn block_devices_are_vectors_of_bytes_too() {
    let Some(disk) = LoopDisk::new(SIZE) else {
        return;
    };
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(24)
    });
    let steps = || prop::collection::vec(step(SHAPE), 1..16);
    runner
        .run(&steps(), |steps| {
            check_disk(&FileDevice::open(disk.path()).unwrap(), &steps);
            check_disk(&DirectDevice::open(disk.path()).unwrap(), &steps);
            check_disk(
                &ByRequests(DirectDevice::open(disk.path()).unwrap()),
                &steps,
            );
            Ok(())
        })
        .unwrap();
    let direct = DirectDevice::open(disk.path()).unwrap();
    assert_eq!(direct.limits().alignment, 512);
    let used = FileDevice::open(disk.path()).unwrap_err();
    assert!(
        matches!(used, Error::Io(io) if io.errno == 16),
        "one owner at a time: {used}"
    );
}

/// Linux takes for written what it could not write, tells of it once, and goes on to show it.
#[test]
fn a_flush_that_failed_is_not_made_good_by_the_next_one_nor_is_what_it_lost_shown_once_opened_anew()
{
    let Some(disk) = LoopDisk::with_room(1 << 20, 64 << 10) else {
        return;
    };
    let device = FileDevice::open(disk.path()).unwrap();
    assert_eq!(device.flush(), Ok(()));
    device.write_at(0, &[7; 1 << 20]).unwrap();
    let failed = device.flush();
    assert!(matches!(failed, Err(Error::Io(_))), "{failed:?}");
    assert_eq!(device.flush(), failed);
    assert_eq!(device.write_at(0, &[8; 512]), Ok(()));
    assert_eq!(device.flush(), failed);
    drop(device);
    let device = FileDevice::open(disk.path()).unwrap();
    let on_disk = read(&device, 0, 1 << 20);
    assert!(on_disk.contains(&0), "the disk has no room for all of it");
    device.write_at(0, &on_disk[..512]).unwrap();
    assert_eq!(device.flush(), Ok(()));
}

#[test]
fn a_volume_whose_disk_failed_to_flush_reads_on_but_promises_nothing_until_it_is_opened_anew() {
    let Some(disk) = LoopDisk::with_room(8 << 20, 1 << 20) else {
        return;
    };
    let options = VolumeOptions::new();
    let device = Arc::new(FileDevice::open(disk.path()).unwrap());
    let volume = Volume::format_persistent(device, &options).unwrap();
    let [synced, lost, later] = [1, 2, 3].map(|number| volume.file(FileNumber(number)).unwrap());
    synced.write_at(0, &[1; 10_000]).unwrap();
    volume.sync().unwrap();
    lost.write_at(0, &[2; 4 << 20]).unwrap();
    assert!(is_io(volume.sync()));
    for _ in 0..2 {
        later.write_at(0, &[3; 10]).unwrap();
        assert!(is_io(later.sync_all()));
        assert!(is_io(volume.sync()));
    }
    let mut content = [0; 10_000];
    assert_eq!(synced.read_at(0, &mut content), Ok(10_000));
    assert_eq!(content, [1; 10_000]);
    drop((synced, lost, later));
    assert!(is_io(volume.close()));
    let device = Arc::new(FileDevice::open(disk.path()).unwrap());
    assert_eq!(Volume::check(&*device).unwrap(), []);
    let volume = Volume::open(device, &options).unwrap();
    let [synced, lost, later] = [1, 2, 3].map(|number| volume.file(FileNumber(number)).unwrap());
    assert_eq!([synced.size(), lost.size(), later.size()], [10_000, 0, 0]);
    assert_eq!(synced.read_at(0, &mut content), Ok(10_000));
    assert_eq!(content, [1; 10_000]);
}

#[test]
fn a_device_that_is_only_read_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    std::fs::write(&path, [7; 4096]).unwrap();
    let device = FileDevice::open_read_only(&path).unwrap();
    assert_eq!(read(&device, 100, 10), [7; 10]);
    for changed in [
        device.write_at(0, &[1; 512]),
        device.write_zeroes(0, 4096),
        device.discard(0, 4096),
    ] {
        assert!(matches!(changed, Err(Error::Io(_))), "{changed:?}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), [7; 4096]);
}

#[test]
fn discards_and_zeroes_of_a_block_device_may_begin_anywhere() {
    let Some(disk) = LoopDisk::new(1 << 20) else {
        return;
    };
    let device = FileDevice::open(disk.path()).unwrap();
    let data = pattern(9, 1 << 20);
    device.write_at(0, &data).unwrap();
    device.write_zeroes(1000, 300_000).unwrap();
    let mut expected = data;
    expected[1000..301_000].fill(0);
    assert!(read(&device, 0, 1 << 20) == expected);
    device.discard(400_001, 100_000).unwrap();
    let now = read(&device, 0, 1 << 20);
    // Whole blocks only, and they are zero where the disk can do it.
    expected[400_384..499_712].fill(0);
    assert!(now == expected, "a loop device discards");
    device.discard(10, 100).unwrap();
    assert!(read(&device, 0, 1 << 20) == expected);
}
