//! What a sync tells of errors when several calls share a handle: each that an error concerns fails, and none later.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use extent_map::device::OperationKind::{self, Flush, Write};
use extent_map::device::{BlockDevice, MemoryDevice};
use extent_map::file::{File, Volume, VolumeOptions};
use extent_map::units::FileNumber;
use extent_map::{Error, IoError, Result};

#[path = "common/around.rs"]
#[allow(dead_code, reason = "others use the rest")]
mod around;
#[path = "common/io.rs"]
#[allow(dead_code, reason = "others use the rest")]
mod io;

use around::Around;

/// The answer of a device to an operation that fails.
fn failure() -> Result<()> {
    Err(Error::Io(IoError {
        operation: "failing",
        offset: 0,
        errno: io::EIO,
    }))
}

/// A device that fails all operations of a `kind` while the switch is on.
fn failing(kind: OperationKind) -> (Arc<dyn BlockDevice>, Arc<AtomicBool>) {
    let switch: Arc<AtomicBool> = Arc::default();
    let fails = Arc::clone(&switch);
    let memory = Arc::new(MemoryDevice::new(4 << 20));
    let device = Around::new(memory, move |operation, carry_out| {
        match operation.kind == kind && fails.load(SeqCst) {
            true => failure(),
            false => carry_out(),
        }
    });
    (Arc::new(device), switch)
}

/// A handle and another one of the same file.
fn open_twice(volume: &Volume) -> [File; 2] {
    [(); 2].map(|()| volume.file(FileNumber(1)).unwrap())
}

fn tells_once(file: &File) {
    assert!(matches!(file.sync_all(), Err(Error::Io(_))));
    assert_eq!(file.sync_all(), Ok(()));
}

#[test]
fn a_sync_tells_of_the_page_that_it_failed_to_write_also_when_its_handle_has_told_already() {
    let beside: Arc<std::sync::Mutex<Option<File>>> = Arc::default();
    let during_flush = Arc::clone(&beside);
    let memory = Arc::new(MemoryDevice::new(1 << 20));
    let device = Around::new(memory, move |operation, carry_out| match operation.kind {
        Write if during_flush.lock().unwrap().is_some() => failure(),
        Flush => {
            if let Some(file) = during_flush.lock().unwrap().take() {
                let told = thread::spawn(move || file.sync_range(0, 0)).join().unwrap();
                assert!(matches!(told, Err(Error::Io(_))), "{told:?}");
            }
            carry_out()
        }
        _ => carry_out(),
    });
    let volume = Volume::format(Arc::new(device), &VolumeOptions::new()).unwrap();
    let [file, other] = open_twice(&volume);
    file.write_at(0, &[1; 100]).unwrap();
    *beside.lock().unwrap() = Some(file.clone());
    tells_once(&file);
    tells_once(&other);
}

#[test]
fn every_sync_of_a_handle_fails_whose_commit_failed_and_no_later_one() {
    let format: [fn(_, &_) -> _; 2] = [Volume::format, Volume::format_persistent];
    for format in format {
        let (device, fails) = failing(Flush);
        let volume = format(device, &VolumeOptions::new()).unwrap();
        let [file, other] = open_twice(&volume);
        for round in 0..200u8 {
            file.write_at(0, &[round; 100]).unwrap();
            fails.store(true, SeqCst);
            thread::scope(|scope| {
                for _ in 0..8 {
                    scope.spawn(|| {
                        let told = file.sync_all();
                        assert!(matches!(told, Err(Error::Io(_))), "{told:?}");
                    });
                }
            });
            fails.store(false, SeqCst);
            assert_eq!(file.sync_all(), Ok(()));
            tells_once(&other);
        }
    }
}
