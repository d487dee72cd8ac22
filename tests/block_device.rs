//! Devices are vectors of bytes, for many threads too; what fails is an error and never made-up bytes; faults strike
//! what they were made for, and nothing else.

use std::fs::OpenOptions;
use std::io::{IoSlice, IoSliceMut};
use std::sync::Arc;
use std::thread;

use extent_map::device::{
    BlockDevice, FaultyDevice, FileDevice, MemoryDevice, Operation, OperationKind,
};
use extent_map::{Error, IoError, Result};
use proptest::prelude::*;

#[path = "common/device_steps.rs"]
mod device_steps;
#[path = "common/io.rs"]
mod io;

use device_steps::{Shape, compare_with_vector, pattern, step};
use io::{is_io, read};

fn operation(kind: OperationKind, offset: u64, len: u64) -> Operation {
    Operation { kind, offset, len }
}

// --- devices against a vector -------------------------------------------------------------------

/// Three chunks of the memory device and a bit.
const SHAPE: Shape = Shape {
    size: (3 << 16) + 1000,
    unit: 1,
};
const SIZE: usize = SHAPE.size;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn a_memory_device_is_a_vector_of_bytes(steps in prop::collection::vec(step(SHAPE), 1..20)) {
        compare_with_vector(&MemoryDevice::new(SIZE as u64), SHAPE, &steps);
    }

    #[test]
    fn a_file_device_is_a_vector_of_bytes(steps in prop::collection::vec(step(SHAPE), 1..20)) {
        let folder = tempfile::tempdir().unwrap();
        compare_with_vector(&FileDevice::create(folder.path().join("image"), SIZE as u64).unwrap(), SHAPE, &steps);
    }

    #[test]
    fn a_faulty_device_without_faults_is_a_vector_of_bytes(steps in prop::collection::vec(step(SHAPE), 1..20)) {
        compare_with_vector(&FaultyDevice::new(Arc::new(MemoryDevice::new(SIZE as u64))), SHAPE, &steps);
    }
}

/// Threads write interleaved stripes that share chunks, and each finds its own bytes again.
#[test]
fn threads_on_separate_ranges_of_a_memory_device_do_not_meet() {
    const STRIPE: u64 = 3000;
    const STRIPES: u64 = 200;
    const THREADS: u64 = 4;
    let device = MemoryDevice::new(STRIPE * STRIPES);
    let round = |thread: u64, round: u64| {
        for stripe in (thread..STRIPES).step_by(THREADS as usize) {
            let offset = stripe * STRIPE;
            let old = match round {
                0 => vec![0; STRIPE as usize],
                _ => pattern((stripe + round - 1) as u8, STRIPE as usize),
            };
            assert!(
                read(&device, offset, STRIPE as usize) == old,
                "stripe {stripe}, round {round}"
            );
            device.write_zeroes(offset, STRIPE).unwrap();
            assert!(read(&device, offset, STRIPE as usize) == vec![0; STRIPE as usize]);
            let new = pattern((stripe + round) as u8, STRIPE as usize);
            device.write_at(offset, &new).unwrap();
        }
    };
    thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || (0..20).for_each(|number| round(thread, number)));
        }
    });
}

// --- files ----------------------------------------------------------------------------------------

#[test]
fn a_file_device_keeps_its_bytes_when_it_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    FileDevice::create(&path, 8192)
        .unwrap()
        .write_at(4000, b"kept")
        .unwrap();
    let device = FileDevice::open(&path).unwrap();
    assert_eq!(
        (device.size(), read(&device, 3999, 6)),
        (8192, b"\0kept\0".to_vec())
    );
    let exists = FileDevice::create(&path, 10).unwrap_err();
    assert!(
        matches!(
            exists,
            Error::Io(IoError {
                operation: "create",
                errno: 17,
                ..
            })
        ),
        "{exists}"
    );
    assert_eq!(
        read(&device, 4000, 4),
        b"kept",
        "the refused create changed nothing"
    );
}

#[test]
fn only_files_and_disks_can_be_opened_as_devices() {
    let folder = tempfile::tempdir().unwrap();
    let missing = FileDevice::open(folder.path().join("missing"));
    assert!(matches!(missing, Err(Error::Io(IoError { errno: 2, .. }))));
    assert!(matches!(
        FileDevice::open("/dev/null"),
        Err(Error::NotSupported(_))
    ));
}

#[test]
fn a_truncated_file_gives_errors_and_never_made_up_zeros() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    let device = FileDevice::create(&path, 16384).unwrap();
    device.write_at(0, &[7; 16384]).unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(6000).unwrap();

    assert_eq!(read(&device, 5000, 1000), [7; 1000]);
    device.write_at(5000, &[8; 1000]).unwrap();
    for offset in [5999, 6000, 12000] {
        assert!(is_io(device.read_at(offset, &mut [0; 2])), "{offset}");
        assert!(is_io(device.write_at(offset, &[1; 2])), "{offset}");
        assert!(
            is_io(device.write_vectored_at(offset, &[IoSlice::new(&[1; 2])])),
            "{offset}"
        );
        assert!(is_io(device.write_zeroes(offset, 2)), "{offset}");
        assert!(is_io(device.discard(offset, 2)), "{offset}");
    }
    assert_eq!(
        file.metadata().unwrap().len(),
        6000,
        "no write made it grow again"
    );

    file.set_len(0).unwrap();
    assert!(is_io(device.read_at(0, &mut [0; 1])));
    assert_eq!(device.size(), 16384);
}

#[test]
fn a_vectored_write_may_have_more_buffers_than_the_system_takes_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let device = FileDevice::create(folder.path().join("image"), 20000).unwrap();
    let data = pattern(3, 9000);
    let mut parts = vec![IoSlice::new(&[])];
    parts.extend(data.chunks(3).map(IoSlice::new));
    device.write_vectored_at(500, &parts).unwrap();
    assert!(read(&device, 500, 9000) == data);
    assert_eq!(read(&device, 9500, 10500), [0; 10500]);
    device.write_vectored_at(0, &[]).unwrap();
    device.write_vectored_at(0, &[IoSlice::new(&[])]).unwrap();
}

// --- faults ---------------------------------------------------------------------------------------

fn faulty(size: u64) -> Arc<FaultyDevice> {
    Arc::new(FaultyDevice::new(Arc::new(MemoryDevice::new(size))))
}

#[test]
fn an_error_can_be_injected_at_each_operation_in_turn() {
    let workload = |device: &FaultyDevice| {
        let read = device.read_at(0, &mut [0; 4]);
        let write = device.write_at(8, &[1; 4]);
        let vectored = device.write_vectored_at(12, &[IoSlice::new(&[2]), IoSlice::new(&[3])]);
        [
            read,
            write,
            vectored,
            device.flush(),
            device.discard(16, 4),
            device.write_zeroes(20, 4),
            device.read_vectored_at(24, &mut [&mut [0; 4][..], &mut [0; 2]].map(IoSliceMut::new)),
        ]
    };
    let clean = faulty(64);
    assert!(workload(&clean).iter().all(Result::is_ok));
    let log = clean.take_log();
    use OperationKind::{Discard, Flush, Read, Write, WriteZeroes};
    let expected = [
        (Read, 0, 4),
        (Write, 8, 4),
        (Write, 12, 2),
        (Flush, 0, 0),
        (Discard, 16, 4),
        (WriteZeroes, 20, 4),
        (Read, 24, 6),
    ];
    assert_eq!(
        log,
        expected.map(|(kind, offset, len)| operation(kind, offset, len))
    );
    assert_eq!(clean.operation_count(), 7);
    assert_eq!(clean.take_log(), []);

    for nth in 0..7 {
        let device = faulty(64);
        device.fail_at(None, nth);
        for (index, outcome) in workload(&device).into_iter().enumerate() {
            assert_eq!(
                is_io(outcome),
                index as u64 == nth,
                "operation {index}, fault at {nth}"
            );
        }
        assert_eq!(device.take_log(), log, "failed operations are recorded too");
        assert!(
            workload(&device).iter().all(Result::is_ok),
            "it strikes once"
        );
    }
}

#[test]
fn faults_strike_what_they_were_made_for() {
    let device = faulty(100);
    device.fail_at(Some(OperationKind::Write), 1);
    assert_eq!(device.read_at(0, &mut [0; 4]), Ok(()));
    assert_eq!(device.write_at(0, &[1; 4]), Ok(()));
    assert_eq!(device.flush(), Ok(()));
    assert!(is_io(device.write_at(0, &[2; 4])));
    assert_eq!(read(&*device, 0, 4), [1; 4], "a failed write does nothing");

    device.fail_range(Some(OperationKind::Read), 10..20);
    for (offset, len, strikes) in [
        (6, 4, false),
        (6, 5, true),
        (19, 1, true),
        (20, 5, false),
        (0, 100, true),
    ] {
        assert_eq!(
            is_io(device.read_at(offset, &mut vec![0; len])),
            strikes,
            "{offset}+{len}"
        );
        assert_eq!(device.write_at(offset, &vec![0; len]), Ok(()));
    }
    device.clear_faults();
    assert_eq!(device.read_at(0, &mut [0; 100]), Ok(()));
}
