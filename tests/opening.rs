//! Making and opening a volume on a device that fails, that cannot be written, that has another size than it had, or that
//! takes no such blocks.

use std::sync::Arc;

use extent_map::device::OperationKind::{self, Discard, Flush, Read, Write, WriteZeroes};
use extent_map::device::{BlockDevice, FaultyDevice, ImageDevice, Limits, MemoryDevice};
use extent_map::file::{File, Volume, VolumeOptions};
use extent_map::mapping::MemoryStore;
use extent_map::units::FileNumber;
use extent_map::{Error, IoError, Result};

#[path = "common/around.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod around;
#[path = "common/io.rs"]
#[allow(dead_code, reason = "other tests use the rest")]
mod io;

use around::Around;
use io::read;

const DEVICE: u64 = 1 << 20;
const EROFS: i32 = 30;

fn options() -> VolumeOptions {
    VolumeOptions::new()
        .block_size(512)
        .inline_limit(64)
        .background_writeback(false)
}

/// What file `number` has, of those that are not kept inside the store.
fn content(number: u64) -> Vec<u8> {
    (0..6000 + number)
        .map(|at| (at * 7 + number) as u8 | 1)
        .collect()
}

/// A device with a volume that has an image, and transactions behind it.
fn with_volume(bytes: u64) -> Arc<MemoryDevice> {
    let device = Arc::new(MemoryDevice::new(bytes));
    let fill = |volume: &Volume, number| {
        let file = volume.file(FileNumber(number)).unwrap();
        file.write_at(0, &content(number)).unwrap();
        file.sync_all().unwrap();
    };
    let volume = Volume::format_persistent(device.clone(), &options()).unwrap();
    fill(&volume, 0);
    drop(volume);
    // What is not empty is not appended to: an image.
    let volume = Volume::open(device.clone(), &options()).unwrap();
    fill(&volume, 1);
    fill(&volume, 2);
    device
}

fn bytes(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.size() as usize];
    assert_eq!(file.read_at(0, &mut bytes), Ok(bytes.len()));
    bytes
}

fn assert_whole(volume: &Volume) {
    for number in 0..3 {
        let file = volume.file(FileNumber(number)).unwrap();
        assert_eq!(bytes(&file), content(number));
    }
}

#[test]
fn an_error_at_any_operation_of_opening_is_told_and_changes_nothing() {
    let device = with_volume(DEVICE);
    let before = read(&*device, 0, DEVICE as usize);
    let mut failed = 0;
    loop {
        let faulty = Arc::new(FaultyDevice::new(device.clone()));
        faulty.fail_at(None, failed);
        let opened = Volume::open(faulty.clone(), &options());
        if faulty.operation_count() <= failed {
            assert_whole(&opened.unwrap());
            break;
        }
        assert!(matches!(opened, Err(Error::Io(IoError { errno: 5, .. }))));
        assert!(read(&*device, 0, DEVICE as usize) == before);
        // It was the device, not the volume.
        assert_whole(&Volume::open(faulty, &options()).unwrap());
        failed += 1;
    }
    assert!(
        failed >= 5,
        "two superblocks, an image, the log, a flush: {failed}"
    );
}

/// A device that refuses what is of one of these kinds.
fn refusing(kinds: &'static [OperationKind], behind: Arc<dyn BlockDevice>) -> Arc<dyn BlockDevice> {
    Arc::new(Around::new(behind, |operation, carry_out| {
        match kinds.contains(&operation.kind) {
            true => Err(Error::Io(IoError {
                operation: "refused",
                offset: operation.offset,
                errno: EROFS,
            })),
            false => carry_out(),
        }
    }))
}

#[test]
fn a_volume_that_cannot_be_written_is_read_and_says_what_it_could_not_store() {
    let device = with_volume(DEVICE);
    let before = read(&*device, 0, DEVICE as usize);
    let refused = |result: extent_map::Result<()>| {
        assert!(
            matches!(result, Err(Error::Io(IoError { errno: EROFS, .. }))),
            "{result:?}"
        );
    };
    let read_only = refusing(&[Write, Discard, WriteZeroes], device.clone());
    let volume = Volume::open(read_only, &options()).unwrap();
    assert_whole(&volume);
    let file = volume.file(FileNumber(1)).unwrap();
    for _ in 0..2 {
        file.write_at(100, b"new").unwrap();
        refused(file.sync_all());
        assert_eq!(file.size(), content(1).len() as u64);
        refused(file.write_direct_at(0, &[1; 512]).map(drop));
        // Of other files nothing is lost.
        let other = volume.file(FileNumber(2)).unwrap();
        assert_eq!(bytes(&other), content(2));
    }
    // Nor does anything hang when there is no space that is durably free.
    volume
        .file(FileNumber(7))
        .unwrap()
        .write_at(0, &[1; 5000])
        .unwrap();
    refused(volume.sync());
    volume.trim(0..u64::MAX, 0).unwrap_err();
    drop(volume);
    assert!(read(&*device, 0, DEVICE as usize) == before);
    assert_whole(&Volume::open(device, &options()).unwrap());
}

#[test]
fn a_device_that_cannot_even_be_flushed_or_read_has_no_volume_to_open() {
    let device = with_volume(DEVICE);
    for kinds in [&[Flush][..], &[Read]] {
        let opened = Volume::open(refusing(kinds, device.clone()), &options());
        assert!(matches!(
            opened,
            Err(Error::Io(IoError { errno: EROFS, .. }))
        ));
    }
}

/// The same bytes on a device of another size; zeros where there were none.
fn resized(device: &dyn BlockDevice, bytes: u64) -> Arc<dyn BlockDevice> {
    let other = Arc::new(MemoryDevice::new(bytes));
    let common = bytes.min(device.size());
    other
        .write_at(0, &read(device, 0, common as usize))
        .unwrap();
    other
}

#[test]
fn a_volume_opens_on_a_device_that_has_grown_and_not_on_one_that_has_shrunk() {
    for size in [DEVICE, 5 << 20] {
        let device = with_volume(size);
        for more in [0, 1, 511, 4096, size, 40 * size] {
            let grown = resized(&*device, size + more);
            for _ in 0..2 {
                let volume = Volume::open(grown.clone(), &options()).unwrap();
                assert_whole(&volume);
                volume
                    .file(FileNumber(3))
                    .unwrap()
                    .write_at(0, &content(3))
                    .unwrap();
                volume.close().unwrap();
            }
            assert_eq!(Volume::check(&*grown), Ok(Vec::new()));
        }
        for left in [
            0,
            1,
            512,
            4096,
            50 << 10,
            60 << 10,
            size / 2,
            size - 512,
            size - 1,
        ] {
            let shrunk = resized(&*device, left);
            let image = ImageDevice::copy_of(&*shrunk).unwrap();
            let opened = Volume::open(Arc::new(image), &options());
            assert!(
                matches!(opened, Err(Error::Corrupt(_))),
                "{left}: {opened:?}"
            );
            assert!(!Volume::check(&*shrunk).unwrap().is_empty(), "{left}");
        }
    }
}

/// What each way to have a volume with blocks of `block` bytes says of a device with these limits; a volume that is made
/// is written to.
fn made_on(limits: Limits, block: u64) -> [Result<()>; 4] {
    let options = options().block_size(block);
    let over = |behind: Arc<dyn BlockDevice>| -> Arc<dyn BlockDevice> {
        let refusing = Around::new(behind, move |operation, carry_out| {
            let aligned = |bytes: u64| bytes.is_multiple_of(limits.alignment.max(1) as u64);
            match aligned(operation.offset) && aligned(operation.len) {
                true => carry_out(),
                false => Err(Error::InvalidInput("not aligned")),
            }
        });
        Arc::new(refusing.with_limits(limits))
    };
    let empty = || Arc::new(MemoryDevice::new(DEVICE));
    let formatted = empty();
    Volume::format_persistent(formatted.clone(), &options).unwrap();
    let store = Arc::new(MemoryStore::new());
    let untouched = empty();
    let made = [
        Volume::format(over(empty()), &options),
        Volume::with_store(over(empty()), store, &options),
        Volume::format_persistent(over(untouched.clone()), &options),
        Volume::open(over(formatted), &options),
    ];
    if made[2].is_err() {
        assert_eq!(read(&*untouched, 0, DEVICE as usize), [0; DEVICE as usize]);
    }
    let try_it = |volume: Volume| {
        let file = volume.file(FileNumber(1)).unwrap();
        file.write_at(0, &content(1)).unwrap();
        volume.drop_caches().unwrap();
        assert_eq!(bytes(&file), content(1));
    };
    made.map(|volume| volume.map(try_it))
}

#[test]
fn a_volume_is_made_only_where_the_device_takes_its_blocks() {
    let aligned = |alignment| Limits {
        alignment,
        ..Limits::default()
    };
    let at_most = |max_bytes| Limits {
        max_bytes,
        ..Limits::default()
    };
    for (limits, block) in [
        (aligned(0), 512),
        (aligned(512), 512),
        (aligned(1024), 4096),
        (aligned(4096), 4096),
        (at_most(512), 512),
        (at_most(4097), 4096),
    ] {
        assert_eq!(
            made_on(limits, block),
            [const { Ok(()) }; 4],
            "{limits:?}, {block}"
        );
    }
    for (limits, block) in [
        (aligned(4096), 1024),
        (aligned(8192), 4096),
        (aligned(768), 1024),
        (at_most(0), 512),
        (at_most(4095), 4096),
    ] {
        for made in made_on(limits, block) {
            let refused = matches!(made, Err(Error::InvalidInput(_)));
            assert!(refused, "{limits:?}, {block}: {made:?}");
        }
    }
}
