//! `Recorder`, which remembers everything a device was asked for, and `ImageDevice`, whose clones share their bytes: what
//! tests of power cuts are made of.

use std::io::IoSlice;
use std::sync::Arc;
use std::thread;

use extent_map::Error;
use extent_map::device::OperationKind::{Discard, Flush, Read, Write, WriteZeroes};
use extent_map::device::{
    BlockDevice, End, FaultyDevice, ImageDevice, MemoryDevice, Operation, Recorder, Recording,
    SECTOR, Survivors,
};

#[path = "common/io.rs"]
mod io;

use io::{is_io, read};

const S: usize = SECTOR as usize;

#[test]
fn a_recorder_keeps_data_order_epoch_and_outcome_of_every_operation() {
    let faulty = Arc::new(FaultyDevice::new(Arc::new(MemoryDevice::new(16 * SECTOR))));
    let recorder = Recorder::new(Arc::clone(&faulty) as _).unwrap();
    recorder.write_at(SECTOR, &[1; S]).unwrap();
    let both = [[2; 100].as_slice(), &[3; S - 100]];
    recorder
        .write_vectored_at(0, &both.map(IoSlice::new))
        .unwrap();
    recorder.flush().unwrap();
    recorder.read_at(0, &mut [0; S]).unwrap();
    faulty.fail_at(None, 0);
    assert!(is_io(recorder.flush()));
    recorder.write_zeroes(0, 2 * SECTOR).unwrap();
    faulty.fail_at(None, 0);
    assert!(is_io(recorder.discard(SECTOR, SECTOR)));

    let recording = recorder.recording();
    let seen: Vec<_> = recording
        .operations()
        .iter()
        .map(|one| {
            let place = (one.operation.kind, one.operation.offset, one.operation.len);
            (place, one.epoch, one.ended.unwrap().ok, one.data.len())
        })
        .collect();
    let expected = [
        ((Write, SECTOR, SECTOR), 0, true, S),
        ((Write, 0, SECTOR), 0, true, S),
        ((Flush, 0, 0), 0, true, 0),
        ((Read, 0, SECTOR), 1, true, 0),
        ((Flush, 0, 0), 1, false, 0),
        ((WriteZeroes, 0, 2 * SECTOR), 1, true, 0),
        ((Discard, SECTOR, SECTOR), 1, false, 0),
    ];
    assert_eq!(seen, expected);
    assert_eq!(recording.operations()[1].data[98..102], [2, 2, 3, 3]);
    let sixth = &recording.operations()[5];
    let end = End {
        moment: 11,
        ok: true,
    };
    assert_eq!((sixth.began, sixth.ended), (10, Some(end)));
    assert_eq!((recording.moment(), recorder.moment()), (14, 14));
}

#[test]
fn a_recorder_refuses_what_no_disk_takes_and_does_not_record_it() {
    let recorder = Recorder::new(Arc::new(MemoryDevice::new(4 * SECTOR))).unwrap();
    let outcomes = [
        recorder.write_at(100, &[1; S]),
        recorder.write_at(0, &[1; 100]),
        recorder.read_at(1, &mut [0; S]),
        recorder.write_at(4 * SECTOR, &[1; S]),
        recorder.discard(SECTOR, 4 * SECTOR),
        recorder.write_zeroes(0, 1),
    ];
    for outcome in outcomes {
        assert!(matches!(outcome, Err(Error::InvalidInput(_))));
    }
    assert_eq!(recorder.moment(), 0);
    assert_eq!(read(&recorder, 0, 4 * S), [0; 4 * S]);
}

#[test]
fn what_a_recorder_found_on_the_device_survives_every_power_cut() {
    let memory = Arc::new(MemoryDevice::new(100 * SECTOR));
    memory.write_at(70 * SECTOR, &[9; S]).unwrap();
    let recorder = Recorder::new(memory).unwrap();
    recorder.write_at(0, &[1; S]).unwrap();
    for survivors in [Survivors::Nothing, Survivors::Everything] {
        let image = recorder.recording().crash(usize::MAX, survivors);
        assert_eq!(read(&image, 70 * SECTOR, S), [9; S]);
        let arrived = u8::from(survivors == Survivors::Everything);
        assert_eq!(read(&image, 0, S), [arrived; S]);
    }
}

/// Each thread flushes what it wrote; so after a cut with nothing else left, what every thread wrote before its
/// last flush is there.
#[test]
fn what_each_of_many_threads_flushed_survives() {
    const ROUNDS: u64 = 40;
    let recorder = Recorder::new(Arc::new(MemoryDevice::new(4 * ROUNDS * SECTOR))).unwrap();
    // Of each round of each thread: the moment by which it was promised.
    let promised: Vec<Vec<usize>> = thread::scope(|scope| {
        let work = |thread: u64| {
            let recorder = &recorder;
            scope.spawn(move || {
                let round = |round| {
                    let offset = (thread * ROUNDS + round) * SECTOR;
                    recorder.write_at(offset, &[1 + round as u8; S]).unwrap();
                    recorder.flush().unwrap();
                    recorder.moment()
                };
                (0..ROUNDS).map(round).collect()
            })
        };
        let workers: Vec<_> = (0..4).map(work).collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .collect()
    });
    let recording = recorder.recording();
    let mut cut = recording.power_cut();
    while cut.advance() {
        let image = cut.image(Survivors::Random(cut.moment() as u64));
        for (thread, rounds) in promised.iter().enumerate() {
            for (round, moment) in rounds.iter().enumerate() {
                let offset = (thread as u64 * ROUNDS + round as u64) * SECTOR;
                let there = read(&image, offset, S) == [1 + round as u8; S];
                assert!(
                    there || *moment > cut.moment(),
                    "thread {thread}, round {round}"
                );
            }
        }
    }
}

#[test]
fn clones_of_an_image_share_bytes_and_never_changes() {
    let image = ImageDevice::new(100_000);
    image.write_at(16_000, &[1; 1000]).unwrap();
    let clone = image.clone();
    clone.write_at(16_500, &[2; 100]).unwrap();
    image.write_zeroes(16_900, 50).unwrap();
    clone.write_at(80_000, &[3]).unwrap();
    assert_eq!(read(&image, 16_500, 100), [1; 100]);
    assert_eq!(read(&clone, 16_500, 100), [2; 100]);
    assert_eq!(read(&clone, 16_900, 50), [1; 50]);
    assert_eq!(read(&image, 16_900, 50), [0; 50]);
    assert_eq!(
        (read(&image, 80_000, 1), read(&clone, 80_000, 1)),
        (vec![0], vec![3])
    );
    let copy = ImageDevice::copy_of(&clone).unwrap();
    assert!(read(&copy, 0, 100_000) == read(&clone, 0, 100_000));
}

#[test]
fn a_recording_refuses_a_write_whose_data_is_not_as_long() {
    let mut recording = Recording::new(ImageDevice::new(4 * SECTOR));
    let operation = Operation {
        kind: Write,
        offset: 0,
        len: 2 * SECTOR,
    };
    for len in [0, 1, 3] {
        let data = vec![7; len * SECTOR as usize];
        let refused = recording.begin(operation, data.into(), false);
        assert!(matches!(refused, Err(Error::InvalidInput(_))));
    }
    let crashed = recording.crash(usize::MAX, Survivors::Everything);
    assert_eq!(read(&crashed, 0, 4), [0; 4]);
}
