//! Closing a volume: everything is written back, and promises that nobody needs are an accounting defect.

use std::sync::{Arc, Mutex};
use std::thread;

use extent_map::Error;
use extent_map::device::{BlockDevice, MemoryDevice, OperationKind};
use extent_map::file::{AllocateMode, Volume, VolumeOptions};
use extent_map::probe::{Mutation, Probe};
use extent_map::units::FileNumber;

#[path = "common/around.rs"]
#[allow(dead_code, reason = "others use the rest")]
mod around;

use around::Around;

const BLOCK: u64 = 4096;

/// Something to do once.
type Act = Box<dyn FnOnce() + Send>;

/// A device during whose next flush something else happens: what is put into the place.
fn interrupted() -> (Arc<dyn BlockDevice>, Arc<Mutex<Option<Act>>>) {
    let place: Arc<Mutex<Option<Act>>> = Arc::default();
    let meanwhile = Arc::clone(&place);
    let memory = Arc::new(MemoryDevice::new(1 << 20));
    let device = Around::new(memory, move |operation, carry_out| {
        if operation.kind == OperationKind::Flush
            && let Some(act) = meanwhile.lock().unwrap().take()
        {
            thread::spawn(act).join().unwrap();
        }
        carry_out()
    });
    (Arc::new(device), place)
}

#[test]
fn promised_data_is_written_back() {
    let device = Arc::new(MemoryDevice::new(1 << 20));
    let volume = Volume::format(device, &VolumeOptions::new()).unwrap();
    let file = volume.file(FileNumber(1)).unwrap();
    file.write_at(0, &[1; 2 * BLOCK as usize]).unwrap();
    assert_eq!(file.reserved_blocks(), 2);
    assert_eq!(volume.close().unwrap().reservation_leaks, 0);
    assert_eq!(file.reserved_blocks(), 0);
}

#[test]
fn files_with_bytes_or_blocks_are_told_before_and_after() {
    let device = Arc::new(MemoryDevice::new(1 << 20));
    let options = VolumeOptions::new();
    let numbers = |numbers: &[u64]| Ok(numbers.iter().copied().map(FileNumber).collect());
    let volume = Volume::format_persistent(device.clone(), &options).unwrap();
    let file = |number| volume.file(FileNumber(number)).unwrap();
    assert_eq!(volume.files(), numbers(&[]));
    file(7).write_at(0, b"not in the store yet").unwrap();
    file(5).set_len(1).unwrap();
    file(3)
        .allocate(AllocateMode::AllocateKeepSize, 0, BLOCK)
        .unwrap();
    file(2).write_at(0, b"gone").unwrap();
    file(1);
    assert_eq!(volume.files(), numbers(&[2, 3, 5, 7]));
    file(2).set_len(0).unwrap();
    assert_eq!(volume.files(), numbers(&[3, 5, 7]));
    volume.close().unwrap();
    let volume = Volume::open(device, &options).unwrap();
    assert_eq!(volume.files(), numbers(&[3, 5, 7]));
}

#[test]
fn what_an_open_file_writes_meanwhile_is_no_leak() {
    let (device, meanwhile) = interrupted();
    let volume = Volume::format(device, &VolumeOptions::new()).unwrap();
    let file = volume.file(FileNumber(1)).unwrap();
    let writing = file.clone();
    let write = move || assert_eq!(writing.write_at(0, &[1; 100]), Ok(100));
    *meanwhile.lock().unwrap() = Some(Box::new(write));
    assert_eq!(volume.close().map(drop), Ok(()));
    assert_eq!(file.reserved_blocks(), 1);
    file.sync_all().unwrap();
}

#[test]
fn a_promise_for_nothing_is_a_leak() {
    let probe = Probe::new().mutations([Mutation::ReleaseOnlyWhileDelaying]);
    let options = VolumeOptions::new().low_space_clusters(200).probe(probe);
    let volume = Volume::format(Arc::new(MemoryDevice::new(256 * BLOCK)), &options).unwrap();
    let [file, other] = [1, 2].map(|number| volume.file(FileNumber(number)).unwrap());
    file.write_at(0, &[1; 50 * BLOCK as usize]).unwrap();
    // Space is low now, and blocks that go away keep their promises.
    other
        .allocate(AllocateMode::Allocate, 0, 20 * BLOCK)
        .unwrap();
    file.set_len(0).unwrap();
    let leak = Error::ReservationLeak {
        file: 1,
        clusters: 50,
    };
    assert_eq!(volume.close().map(drop), Err(leak));
}
