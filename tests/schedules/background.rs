//! Writeback in the background beside everything, writers who wait for it, and its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use extent_map::Error;
use extent_map::device::{MemoryDevice, OperationKind};
use extent_map::file::{AllocateMode, File, Volume, VolumeOptions};
use extent_map::mapping::MemoryStore;
use extent_map::probe::{Mutation, Probe};
use extent_map::units::FileNumber;
use shuttle::sync::{Condvar, Mutex};

use crate::around::Around;
use crate::model::{Case, Model, ensure, violated};
use crate::schedules::{first_violation, holds};
use crate::world::{PAGE, World};

/// A volume that writes back in the background as soon as one page is dirty.
fn eager(case: &Case) -> World<'_> {
    let options = VolumeOptions::new().dirty_pages(1, 100);
    World::shaped(case, 16, 1, usize::MAX, options)
}

#[test]
fn a_write_and_a_sync_beside_writeback_in_the_background_lose_nothing() {
    Model {
        name: "background writeback, write, sync",
        asserts: &[4, 10, 22],
        broken: &[&[Mutation::UnlockFoliosOverIo]],
        body: |case| {
            let world = eager(case);
            world.write(0, 1);
            world.write(1, 2);
            world.race([("write", &|| world.write(0, 3)), ("sync", &|| world.sync())]);
            world.expect_pages(&[[3, 2]]);
            world.check();
        },
    }
    .verify();
}

#[test]
fn a_truncation_beside_writeback_in_the_background_brings_nothing_back() {
    Model {
        name: "background writeback, truncate",
        asserts: &[10, 12, 22],
        broken: &[&[Mutation::UnlockFoliosOverIo]],
        body: |case| {
            let world = eager(case);
            world.write(0, 1);
            world.write(1, 2);
            world.set_pages(1);
            // What was freed has a new owner, over whose data no old write may come.
            let written = world.other.write_at(0, &[9; PAGE as usize]);
            ensure(21, written.is_ok(), || format!("write: {written:?}"));
            let synced = world.other.sync_all();
            ensure(4, synced.is_ok(), || format!("sync: {synced:?}"));
            world.expect_pages(&[[1]]);
            world.check();
        },
    }
    .verify();
}

#[test]
fn what_was_planned_is_not_written_when_it_is_gone() {
    Model {
        name: "sync, punch, read",
        asserts: &[4, 10, 22],
        broken: &[&[Mutation::WriteWhatWasPlanned]],
        body: |case| {
            let world = World::new(case, 16, 1);
            world.write(0, 1);
            world.write(1, 2);
            world.race([
                ("sync", &|| world.sync()),
                ("punch", &|| {
                    world.allocate(AllocateMode::PunchHole, 0, 1);
                    let byte = world.first_byte_of(0);
                    ensure(22, byte == 0, || format!("reads {byte}"));
                }),
            ]);
            world.expect_pages(&[[0, 2]]);
            world.check();
        },
    }
    .verify();
}

#[test]
fn writeback_in_the_background_ends_with_its_volume() {
    Model {
        name: "background writeback, end of the volume",
        asserts: &[20],
        broken: &[&[Mutation::LeaveWritebackBehind]],
        body: |case| {
            let gone = Arc::new(AtomicBool::new(false));
            let is_gone = Arc::clone(&gone);
            let memory = Arc::new(MemoryDevice::new(16 * PAGE));
            let device = Around::new(memory, move |operation, carry_out| {
                if operation.kind == OperationKind::Write && is_gone.load(SeqCst) {
                    violated(20, "a write comes after the end of the volume");
                }
                carry_out()
            });
            let options = VolumeOptions::new()
                .dirty_pages(1, 100)
                .low_space_clusters(0)
                .probe(case.probe.clone());
            let volume = Volume::format(Arc::new(device), &options).unwrap();
            let file = volume.file(FileNumber(1)).unwrap();
            for page in 0..2 {
                let written = file.write_at(page * PAGE, &[1; PAGE as usize]);
                ensure(21, written.is_ok(), || format!("write: {written:?}"));
            }
            drop(volume);
            gone.store(true, SeqCst);
        },
    }
    .verify();
}

/// Writers who must wait, for a store that takes one extent of theirs and no other.
fn throttled_before_a_store_that_fails(probe: Probe) {
    let device = Arc::new(MemoryDevice::new(16 * PAGE));
    let store = Arc::new(MemoryStore::with_max_extents(1));
    let options = VolumeOptions::new()
        .dirty_pages(1, 1)
        .low_space_clusters(0)
        .probe(probe);
    let volume = Volume::with_store(device, store, &options).unwrap();
    let file = volume.file(FileNumber(1)).unwrap();
    let write = |page: u64| file.write_at(page * PAGE, &[1; PAGE as usize]).unwrap();
    write(0);
    write(2);
    // The thread that waits for a scope to end must not wait for anything else under shuttle.
    shuttle::thread::scope(|scope| {
        scope.spawn(|| write(4));
        scope.spawn(|| write(6));
    });
    file.set_len(0).unwrap();
}

#[test]
fn nobody_waits_for_ever_for_a_store_that_fails() {
    holds("throttled writers, a store that fails", || {
        throttled_before_a_store_that_fails(Probe::new());
    });
    let found = first_violation(|| {
        let probe = Probe::new().mutations([Mutation::WaitForRoomOnly]);
        throttled_before_a_store_that_fails(probe);
    });
    assert!(found.is_some(), "nobody notices who waits for ever");
}

/// Two writers who must wait for a device that does not answer before one of them, who is cancelled once, has come back.
fn one_of_two_waits_is_cancelled(probe: Probe) {
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let writes = Arc::clone(&gate);
    let memory = Arc::new(MemoryDevice::new(16 * PAGE));
    let device = Around::new(memory, move |operation, carry_out| {
        if operation.kind == OperationKind::Write {
            let mut is_open = writes.0.lock().unwrap();
            while !*is_open {
                is_open = writes.1.wait(is_open).unwrap();
            }
        }
        carry_out()
    });
    let options = VolumeOptions::new()
        .dirty_pages(1, 1)
        .low_space_clusters(0)
        .probe(probe);
    let volume = Volume::format(Arc::new(device), &options).unwrap();
    let [file, other] = [(); 2].map(|()| volume.file(FileNumber(1)).unwrap());
    let write = |file: &File, page: u64| file.write_at(page * PAGE, &[1; PAGE as usize]);
    write(&file, 0).unwrap();
    shuttle::thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(write(&file, 1), Err(Error::Interrupted));
            *gate.0.lock().unwrap() = true;
            gate.1.notify_all();
        });
        scope.spawn(|| assert_eq!(write(&other, 2), Ok(PAGE as usize)));
        scope.spawn(|| {
            while volume.stats().writers_throttled < 2 {
                shuttle::thread::yield_now();
            }
            file.cancel_waits();
        });
    });
    assert_eq!(write(&file, 1), Ok(PAGE as usize));
}

#[test]
fn a_cancelled_writer_comes_back_and_the_other_waits_on() {
    holds("two throttled writers, one cancelled", || {
        one_of_two_waits_is_cancelled(Probe::new());
    });
    let found = first_violation(|| {
        let probe = Probe::new().mutations([Mutation::CancelBesideLooks]);
        one_of_two_waits_is_cancelled(probe);
    });
    assert!(found.is_some(), "nobody notices a cancel that is lost");
}
