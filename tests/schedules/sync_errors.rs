//! Syncs of one handle at once, on a device that fails: who met an error hears of it, whoever else has.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use extent_map::device::{MemoryDevice, OperationKind};
use extent_map::file::{Volume, VolumeOptions};
use extent_map::probe::Mutation;
use extent_map::units::FileNumber;
use extent_map::{Error, IoError};
use shuttle::thread_local;

use crate::around::Around;
use crate::model::{Case, Model, ensure};
use crate::world::PAGE;

thread_local! {
    /// Whether the device has failed this thread.
    static MET: AtomicBool = const { AtomicBool::new(false) };
}

/// Two syncs of one handle, while all operations of a `kind` fail.
fn syncs_while_it_fails(case: &Case, kind: OperationKind) {
    let switch = Arc::new(AtomicBool::new(true));
    let fails = Arc::clone(&switch);
    let memory = Arc::new(MemoryDevice::new(16 * PAGE));
    let device = Around::new(memory, move |operation, carry_out| {
        if operation.kind != kind || !fails.load(SeqCst) {
            return carry_out();
        }
        MET.with(|met| met.store(true, SeqCst));
        Err(Error::Io(IoError {
            operation: "failing",
            offset: 0,
            errno: 5,
        }))
    });
    let options = VolumeOptions::new()
        .low_space_clusters(0)
        .background_writeback(false)
        .probe(case.probe.clone());
    let volume = Volume::format(Arc::new(device), &options).unwrap();
    let [file, other] = [(); 2].map(|()| volume.file(FileNumber(1)).unwrap());
    assert_eq!(file.write_at(0, &[1; 8]), Ok(8));
    let sync = || {
        let told = file.sync_all();
        // A flush is shared: one of the threads brings it to the device.
        let met = kind == OperationKind::Flush || MET.with(|met| met.load(SeqCst));
        ensure(10, told.is_err() || !met, || {
            "an error that a sync met is not told".into()
        });
    };
    shuttle::thread::scope(|scope| {
        for name in ["sync", "second sync"] {
            scope.spawn(move || case.story.thread(name, sync));
        }
    });
    switch.store(false, SeqCst);
    for handle in [&file, &other] {
        let told = [handle.sync_all(), handle.sync_all()].map(|told| told.is_err());
        let once = std::ptr::eq(handle, &other);
        ensure(10, told == [once, false], || {
            format!("told later: {told:?}")
        });
    }
}

fn verify(name: &'static str, body: fn(&Case)) {
    Model {
        name,
        asserts: &[10],
        broken: &[&[Mutation::TellOnlyUnseen]],
        body,
    }
    .verify();
}

#[test]
fn both_of_two_syncs_hear_that_their_commits_failed() {
    verify("sync, sync of the same handle, failing flushes", |case| {
        syncs_while_it_fails(case, OperationKind::Flush);
    });
}

#[test]
fn the_sync_hears_that_has_failed_to_write_a_page() {
    verify("sync, sync of the same handle, a failing write", |case| {
        syncs_while_it_fails(case, OperationKind::Write);
    });
}
