//! `LogStore`, the mapping on a device: it answers as the store in memory does, also opened again, when its log and its
//! images are full, and when many commit at once.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use extent_map::block::BlockQueue;
use extent_map::device::{BlockDevice, ImageDevice, MemoryDevice, OperationKind};
use extent_map::file::{AllocateMode, Volume, VolumeOptions};
use extent_map::mapping::{ExtentState, LogStore, MappedExtent, MappingStore, MemoryStore, Shift};
use extent_map::probe::{Mutation, Probe};
use extent_map::stats::Counters;
use extent_map::units::{DiskBlock, FileBlock, FileNumber, FileRange, Geometry};
use extent_map::{Error, Result};
use proptest::prelude::*;

#[path = "common/around.rs"]
#[allow(dead_code, reason = "others use the rest")]
mod around;

use around::Around;

const BLOCK: u64 = 512;

fn geometry() -> Geometry {
    Geometry::new(BLOCK, 1).unwrap()
}

fn queue(device: Arc<dyn BlockDevice>) -> BlockQueue {
    BlockQueue::new(device, geometry().block_size, Arc::new(Counters::default()))
}

fn everything() -> FileRange {
    FileRange::starting_at(FileBlock(0))
}

// --- against the store in memory --------------------------------------------------------------------

/// A call on a store.
#[derive(Clone, Debug)]
enum Call {
    Insert(u64, u64, bool),
    Convert(u64, u64, bool),
    Remove(u64, u64),
    Shift(u64, u64, bool),
    Resize(u64),
    Extend(u64),
    Inline(usize),
    LeaveInline,
    Commit,
    Reopen,
}

fn call() -> impl Strategy<Value = (u64, Call)> {
    let call = prop_oneof![
        6 => (0..200u64, 1..20u64, any::<bool>()).prop_map(|(at, len, w)| Call::Insert(at, len, w)),
        3 => (0..200u64, 1..50u64, any::<bool>()).prop_map(|(at, len, w)| Call::Convert(at, len, w)),
        2 => (0..200u64, 1..50u64).prop_map(|(at, len)| Call::Remove(at, len)),
        1 => (0..200u64, 1..50u64, any::<bool>()).prop_map(|(at, by, left)| Call::Shift(at, by, left)),
        1 => (0..1_000_000u64).prop_map(Call::Resize),
        1 => (0..1_000_000u64).prop_map(Call::Extend),
        1 => (0..100usize).prop_map(Call::Inline),
        1 => Just(Call::LeaveInline),
        2 => Just(Call::Commit),
        1 => Just(Call::Reopen),
    ];
    (0..3u64, call)
}

fn state(written: bool) -> ExtentState {
    match written {
        true => ExtentState::Written,
        false => ExtentState::Unwritten,
    }
}

fn apply(store: &dyn MappingStore, file: u64, call: &Call, free: u64) -> Result<Vec<MappedExtent>> {
    let file = FileNumber(file);
    let range = |at: u64, len: u64| FileRange::at(FileBlock(at), len);
    let done = match *call {
        Call::Insert(at, len, written) => store.insert(
            file,
            MappedExtent {
                range: range(at, len),
                disk: DiskBlock(free),
                state: state(written),
            },
        ),
        Call::Convert(at, len, written) => store.convert(file, range(at, len), state(written)),
        Call::Remove(at, len) => return store.remove(file, range(at, len)),
        Call::Shift(at, by, true) => store.shift(file, FileBlock(at), Shift::Left(by)),
        Call::Shift(at, by, false) => store.shift(file, FileBlock(at), Shift::Right(by)),
        Call::Resize(size) => store.set_size(file, size),
        Call::Extend(size) => store.extend_size(file, size),
        // A file has extents or inline bytes.
        Call::Inline(len) if store.extents(file, everything())?.is_empty() => {
            store.set_inline_data(file, Some(vec![7; len].into()))
        }
        Call::LeaveInline => store.set_inline_data(file, None),
        Call::Inline(_) | Call::Commit | Call::Reopen => Ok(()),
    };
    done.map(|()| Vec::new())
}

fn assert_same(log: &dyn MappingStore, memory: &dyn MappingStore) {
    for file in (0..3).map(FileNumber) {
        assert_eq!(
            log.extents(file, everything()),
            memory.extents(file, everything())
        );
        assert_eq!(log.size(file), memory.size(file));
        assert_eq!(log.inline_data(file), memory.inline_data(file));
        let block = FileBlock(50);
        assert_eq!(log.query(file, block), memory.query(file, block));
        assert_eq!(
            log.last_before(file, block),
            memory.last_before(file, block)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_log_store_answers_as_the_one_in_memory_and_still_does_when_it_is_opened_again(
        calls in prop::collection::vec(call(), 1..200)
    ) {
        let device: Arc<dyn BlockDevice> = Arc::new(MemoryDevice::new(1 << 24));
        let mut log = LogStore::format(Arc::clone(&device), geometry()).unwrap();
        let queue = queue(Arc::clone(&device));
        let memory = MemoryStore::new();
        let inline = |file: u64| memory.inline_data(FileNumber(file)).unwrap().is_some();
        let mut free = log.first_usable().0;
        for (file, call) in &calls {
            let extents = matches!(call, Call::Insert(..) | Call::Resize(_) | Call::Extend(_));
            if extents && inline(*file) {
                continue;
            }
            prop_assert_eq!(
                apply(&log, *file, call, free),
                apply(&memory, *file, call, free)
            );
            free += 20;
            match call {
                Call::Commit => log.commit(&queue).unwrap(),
                Call::Reopen => {
                    log.commit(&queue).unwrap();
                    log = LogStore::open(Arc::clone(&device)).unwrap();
                }
                _ => {}
            }
        }
        log.commit(&queue).unwrap();
        assert_same(&log, &memory);
        prop_assert_eq!(LogStore::check(&*device).unwrap(), []);
        assert_same(&LogStore::open(device).unwrap(), &memory);
    }
}

#[test]
fn what_was_not_committed_is_gone_when_a_store_is_opened_again() {
    let device = Arc::new(MemoryDevice::new(1 << 20));
    let log = LogStore::format(device.clone(), geometry()).unwrap();
    log.set_size(FileNumber(1), 10).unwrap();
    log.commit(&queue(device.clone())).unwrap();
    log.set_size(FileNumber(1), 20).unwrap();
    assert_eq!(LogStore::open(device).unwrap().size(FileNumber(1)), Ok(10));
}

// --- when something is full -------------------------------------------------------------------------

#[test]
fn what_could_not_be_read_back_is_refused_when_it_is_stored() {
    let device = Arc::new(MemoryDevice::new(1 << 22));
    let log = LogStore::format(device.clone(), geometry()).unwrap();
    let file = FileNumber(1);
    let extent = |disk, len| MappedExtent {
        range: FileRange::at(FileBlock(3), len),
        disk: DiskBlock(disk),
        state: ExtentState::Written,
    };
    let inline = |len| log.set_inline_data(file, Some(vec![1; len].into()));
    for refused in [
        log.insert(file, extent(500, 0)),
        log.insert(file, extent(500 | 1 << 63, 1)),
        log.insert_in_place(file, extent(500, 0)),
        inline(4097),
        inline(70_000),
    ] {
        assert!(
            matches!(refused, Err(Error::InvalidInput(_))),
            "{refused:?}"
        );
    }
    inline(4096).unwrap();
    log.commit(&queue(device.clone())).unwrap();
    let opened = LogStore::open(device).unwrap();
    assert_eq!(opened.inline_data(file), log.inline_data(file));
    assert_eq!(opened.extents(file, everything()), Ok(Vec::new()));
}

#[test]
fn a_log_that_is_full_gives_way_to_an_image_again_and_again() {
    let device = Arc::new(MemoryDevice::new(1 << 20));
    let log = LogStore::format(device.clone(), geometry()).unwrap();
    let queue = queue(device.clone());
    // 4 transactions of 4 KiB fill the log of 16 KiB.
    for size in 1..=50 {
        log.set_size(FileNumber(size % 3), size).unwrap();
        log.commit(&queue).unwrap();
        let opened = LogStore::open(device.clone()).unwrap();
        assert_eq!(opened.size(FileNumber(size % 3)), Ok(size));
    }
}

#[test]
fn a_change_longer_than_the_log_becomes_an_image() {
    let device = Arc::new(MemoryDevice::new(1 << 20));
    let log = LogStore::format(device.clone(), geometry()).unwrap();
    for size in 0..10_000 {
        log.set_size(FileNumber(1), size).unwrap();
    }
    log.commit(&queue(device.clone())).unwrap();
    assert_eq!(
        LogStore::open(device).unwrap().size(FileNumber(1)),
        Ok(9_999)
    );
}

/// What is found where a file of 2^15 extents was moved to and fro 150 times: more than 2^22 extents.
fn opened_after_many_moves(probe: Probe) -> Result<Vec<MappedExtent>> {
    let (file, device) = (FileNumber(1), Arc::new(MemoryDevice::new(1 << 28)));
    let log = LogStore::format(device.clone(), geometry()).unwrap();
    let (log, queue) = (log.with_probe(probe), queue(device.clone()));
    for at in 0..1 << 15 {
        let extent = MappedExtent {
            range: FileRange::at(FileBlock(2 * at), 1),
            disk: log.first_usable().advance(2 * at),
            state: ExtentState::Written,
        };
        log.insert(file, extent).unwrap();
    }
    for round in 0..150 {
        let shift = [Shift::Right(1), Shift::Left(1)][round % 2];
        log.shift(file, FileBlock(0), shift).unwrap();
        if round % 15 == 0 {
            log.commit(&queue).unwrap();
        }
    }
    log.commit(&queue).unwrap();
    LogStore::open(device)?.extents(file, FileRange::at(FileBlock(0), 3))
}

#[test]
fn no_log_moves_more_extents_than_its_recovery_has_time_for() {
    let opened = opened_after_many_moves(Probe::default()).unwrap();
    let starts: Vec<_> = opened.iter().map(|extent| extent.range.start().0).collect();
    assert_eq!(starts, [0, 2]);
    let endless = Probe::new().mutations([Mutation::LogMovesWithoutEnd]);
    let refused = opened_after_many_moves(endless);
    assert!(matches!(refused, Err(Error::Corrupt(_))), "{refused:?}");
}

#[test]
fn an_image_longer_than_one_write_reads_back() {
    // Two generations, so that both images are used.
    let device = Arc::new(MemoryDevice::new(1 << 30));
    let mut log = LogStore::format(device.clone(), geometry()).unwrap();
    let queue = queue(device.clone());
    let files = 40_000;
    for generation in 1..3 {
        for file in 0..files {
            log.set_inline_data(FileNumber(file), Some(vec![generation; 5].into()))
                .unwrap();
        }
        log.commit(&queue).unwrap();
        // What was recovered becomes an image.
        log = LogStore::open(device.clone()).unwrap();
        log.commit(&queue).unwrap();
        log = LogStore::open(device.clone()).unwrap();
        assert_eq!(log.files().unwrap().len() as u64, files);
        for file in (0..files).step_by(7) {
            let bytes = log.inline_data(FileNumber(file)).unwrap();
            assert_eq!(bytes.as_deref(), Some(&[generation; 5][..]));
        }
    }
    assert_eq!(LogStore::check(&*device).unwrap(), []);
}

#[test]
fn a_mapping_too_long_for_its_image_is_refused_and_nothing_of_it_is_lost() {
    let device = Arc::new(MemoryDevice::new(1 << 20));
    let volume =
        Volume::format_persistent(device.clone(), &VolumeOptions::new().block_size(BLOCK)).unwrap();
    let file = volume.file(FileNumber(1)).unwrap();
    let mut refused = 0;
    for block in 0..1000 {
        let allocated = file.allocate(AllocateMode::AllocateKeepSize, 2 * block * BLOCK, BLOCK);
        match allocated {
            Ok(()) => assert_eq!(refused, 0),
            Err(error) => {
                assert_eq!(error, Error::NoSpace);
                refused += 1;
            }
        }
    }
    // An image of 16 KiB, an eighth of it kept, 24 bytes for the file and 16 for an extent.
    assert_eq!(1000 - refused, (16384 / 8 * 7 - 24) / 16);
    let space = volume.statfs();
    let before = file.extents().unwrap();
    // What is kept lets holes be punched where an extent must be split, and what makes room always works.
    file.set_len(1 << 19).unwrap();
    file.allocate(AllocateMode::PunchHole, 0, 100 * BLOCK)
        .unwrap();
    file.allocate(AllocateMode::AllocateKeepSize, 0, 3 * BLOCK)
        .unwrap();
    extent_map::testing::check(&volume).unwrap();
    let kept = file.extents().unwrap();
    assert_eq!(kept.len(), before.len() - 49);
    assert_eq!(volume.statfs().free_blocks, space.free_blocks + 50 - 3);
    drop(file);
    volume.close().unwrap();
    assert_eq!(Volume::check(&*device).unwrap(), []);
    let volume = Volume::open(device, &VolumeOptions::new()).unwrap();
    assert_eq!(volume.file(FileNumber(1)).unwrap().extents().unwrap(), kept);
}

#[test]
fn a_device_must_have_room_for_the_store_and_a_cluster() {
    let format = |bytes| {
        let device = Arc::new(MemoryDevice::new(bytes));
        Volume::format_persistent(device, &VolumeOptions::new().block_size(1024)).map(drop)
    };
    let need = (56 << 10) + 1024;
    assert_eq!(format(need), Ok(()));
    for have in [0, need / 2, need - 1] {
        assert_eq!(format(have), Err(Error::DeviceTooSmall { have, need }));
    }
}

#[test]
fn options_that_make_no_volume_leave_the_one_that_is_there_alone() {
    let device = Arc::new(MemoryDevice::new(1 << 20));
    let options = VolumeOptions::new();
    let volume = Volume::format_persistent(device.clone(), &options).unwrap();
    let file = volume.file(FileNumber(1)).unwrap();
    file.write_at(0, b"kept").unwrap();
    drop(file);
    volume.close().unwrap();
    for wrong in [
        options.clone().inline_limit(4097),
        options.clone().group_clusters(0),
        options.clone().block_size(100),
        options.clone().cluster_blocks(1 << 16),
    ] {
        let refused = Volume::format_persistent(device.clone(), &wrong);
        assert!(refused.is_err(), "{wrong:?}");
        let volume = Volume::open(device.clone(), &options).unwrap();
        let mut content = [0; 4];
        let file = volume.file(FileNumber(1)).unwrap();
        assert_eq!(file.read_at(0, &mut content), Ok(4), "{wrong:?}");
        assert_eq!(&content, b"kept");
    }
}

#[test]
fn a_volume_of_four_tebibytes_is_formatted_written_closed_and_opened() {
    let device = Arc::new(MemoryDevice::new(4 << 40));
    let options = VolumeOptions::new().cluster_blocks(16);
    let volume = Volume::format_persistent(device.clone(), &options).unwrap();
    volume
        .file(FileNumber(1))
        .unwrap()
        .write_at(5, b"far")
        .unwrap();
    volume.close().unwrap();
    assert_eq!(Volume::check(&*device).unwrap(), []);
    let volume = Volume::open(device, &options).unwrap();
    let mut bytes = [0; 8];
    volume
        .file(FileNumber(1))
        .unwrap()
        .read_at(0, &mut bytes)
        .unwrap();
    assert_eq!(&bytes, b"\0\0\0\0\0far");
}

#[test]
fn space_that_was_freed_can_be_used_again_once_that_is_durable_and_no_writer_is_refused_before() {
    let device = Arc::new(MemoryDevice::new(1 << 20));
    let options = VolumeOptions::new();
    let volume = Volume::format_persistent(device, &options).unwrap();
    let file = volume.file(FileNumber(1)).unwrap();
    let all = volume.statfs().free_blocks * 4096;
    for seed in 0..5 {
        let content = vec![seed; all as usize];
        assert_eq!(file.write_at(0, &content), Ok(all as usize));
        file.sync_all().unwrap();
        assert_eq!(volume.statfs().free_blocks, 0);
        file.set_len(0).unwrap();
        assert_eq!(volume.statfs().free_blocks * 4096, all);
        extent_map::testing::check(&volume).unwrap();
    }
}

// --- many at once -----------------------------------------------------------------------------------

/// What flushes of a device wait for.
#[derive(Default)]
struct Turnstile {
    came: AtomicU64,
    /// How many may go on; more than will come once all may.
    allowed: Mutex<u64>,
    changed: Condvar,
}

impl Turnstile {
    fn allow(&self, flushes: u64) {
        *self.allowed.lock().unwrap() = flushes;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let number = self.came.fetch_add(1, Ordering::SeqCst);
        let allowed = self.allowed.lock().unwrap();
        let waits = |allowed: &mut u64| number >= *allowed;
        drop(self.changed.wait_while(allowed, waits).unwrap());
    }
}

#[test]
fn callers_that_arrive_during_a_commit_share_the_next_one() {
    let memory = Arc::new(MemoryDevice::new(1 << 20));
    drop(LogStore::format(memory.clone(), geometry()).unwrap());
    let flushes = Arc::new(Turnstile::default());
    let passed = Arc::clone(&flushes);
    let device = Arc::new(Around::new(memory, move |operation, carry_out| {
        if operation.kind == OperationKind::Flush {
            passed.pass();
        }
        carry_out()
    }));
    // Opening flushes, once.
    flushes.allow(1);
    let log = LogStore::open(device.clone()).unwrap();
    let queue = queue(device.clone());
    let arrived = AtomicU64::new(0);
    thread::scope(|scope| {
        let commit = |file| {
            log.set_size(FileNumber(file), 10 + file).unwrap();
            arrived.fetch_add(1, Ordering::SeqCst);
            log.commit(&queue).unwrap();
        };
        scope.spawn(move || commit(0));
        while flushes.came.load(Ordering::SeqCst) == 1 {
            thread::yield_now();
        }
        // The first commit is flushing. What is changed now belongs to the next, which is of all these together.
        for file in 1..16 {
            scope.spawn(move || commit(file));
        }
        while arrived.load(Ordering::SeqCst) < 16 {
            thread::yield_now();
        }
        flushes.allow(u64::MAX);
    });
    // Two for each commit, and the second had all fifteen changes. Who came too late for it needs one more.
    let flushes = flushes.came.load(Ordering::SeqCst) - 1;
    assert!((4..16).contains(&flushes), "{flushes} flushes");
    let opened = LogStore::open(device).unwrap();
    for file in 0..16 {
        assert_eq!(opened.size(FileNumber(file)), Ok(10 + file));
    }
}

#[test]
fn looking_at_a_volume_that_was_not_closed_and_opening_it_write_nothing() {
    let device = Arc::new(MemoryDevice::new(1 << 20));
    let options = VolumeOptions::new();
    let volume = Volume::format_persistent(device.clone(), &options).unwrap();
    volume
        .file(FileNumber(1))
        .unwrap()
        .write_at(0, &[1; 9000])
        .unwrap();
    volume.sync().unwrap();
    let bytes = |device: &dyn BlockDevice| {
        let mut bytes = vec![0; device.size() as usize];
        device.read_at(0, &mut bytes).unwrap();
        bytes
    };
    let image = Arc::new(ImageDevice::copy_of(&*device).unwrap());
    let before = bytes(&*image);
    Volume::check(&*image).unwrap();
    drop(Volume::open(image.clone(), &options).unwrap());
    assert!(bytes(&*image) == before);
}
