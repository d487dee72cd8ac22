//! Any one call of the mapping store may fail: whoever made it hears of it, and the volume goes on without a defect.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use extent_map::block::BlockQueue;
use extent_map::device::{BlockDevice, FaultyDevice, MemoryDevice, OperationKind};
use extent_map::file::{AllocateMode, File, Volume, VolumeOptions};
use extent_map::mapping::{
    ExtentState, LogStore, MappedExtent, Mapping, MappingStore, MemoryStore, Shift, Together,
};
use extent_map::testing;
use extent_map::units::{BlockSize, ClusterRatio, FileBlock, FileNumber, FileRange, Geometry};
use extent_map::{Error, Result};

const BLOCK: u64 = 4096;
const FILE: FileNumber = FileNumber(1);
const FAILURE: Error = Error::NotSupported("what was asked just then");
/// More calls than anybody makes.
const NEVER: u64 = u64::MAX / 2;

/// A store of which one call fails.
#[derive(Debug)]
struct Failing {
    truth: Box<dyn MappingStore>,
    /// Calls before that one; wraps with it.
    before: AtomicU64,
}

impl Failing {
    fn over(truth: impl MappingStore + 'static) -> Arc<Self> {
        Arc::new(Self {
            truth: Box::new(truth),
            before: AtomicU64::new(NEVER),
        })
    }

    fn asked(&self) -> Result<&dyn MappingStore> {
        match self.before.fetch_sub(1, Relaxed) {
            0 => Err(FAILURE),
            _ => Ok(&*self.truth),
        }
    }

    /// Whether the call has come; none fails from here on.
    fn has_failed(&self) -> bool {
        self.before.swap(NEVER, Relaxed) > NEVER
    }
}

macro_rules! failing {
    ($($name:ident($($argument:ident: $type:ty),*) -> $answer:ty;)*) => {
        $(fn $name(&self, $($argument: $type),*) -> Result<$answer> {
            self.asked()?.$name($($argument),*)
        })*
    };
}

impl MappingStore for Failing {
    failing! {
        query(file: FileNumber, block: FileBlock) -> Mapping;
        last_before(file: FileNumber, block: FileBlock) -> Option<MappedExtent>;
        extents(file: FileNumber, range: FileRange) -> Vec<MappedExtent>;
        insert(file: FileNumber, extent: MappedExtent) -> ();
        insert_in_place(file: FileNumber, extent: MappedExtent) -> ();
        convert(file: FileNumber, range: FileRange, to: ExtentState) -> ();
        remove(file: FileNumber, range: FileRange) -> Vec<MappedExtent>;
        shift(file: FileNumber, from: FileBlock, by: Shift) -> ();
        size(file: FileNumber) -> u64;
        set_size(file: FileNumber, bytes: u64) -> ();
        extend_size(file: FileNumber, bytes: u64) -> ();
        inline_data(file: FileNumber) -> Option<Arc<[u8]>>;
        set_inline_data(file: FileNumber, bytes: Option<Arc<[u8]>>) -> ();
        files() -> Vec<FileNumber>;
        commit(data: &BlockQueue) -> ();
    }

    fn together(&self) -> Together<'_> {
        self.truth.together()
    }

    fn running_change(&self) -> Option<u64> {
        self.truth.running_change()
    }

    fn durable_change(&self) -> u64 {
        self.truth.durable_change()
    }
}

type Step = fn(&Volume, &File) -> Result<()>;

/// What is done while a call fails, and whether that may leave it half done, so that the size must be set anew: what else
/// fails leaves the size as it was.
const STEPS: [(&str, bool, Step); 15] = [
    ("grow", false, |_, file| file.set_len(12 * BLOCK + 5)),
    ("shrink", true, |_, file| file.set_len(2 * BLOCK + 7)),
    ("empty", true, |_, file| file.set_len(0)),
    ("write", false, |_, file| {
        file.write_at(5 * BLOCK + 100, &[7; 9000]).map(drop)
    }),
    ("append", false, |_, file| {
        file.write_at(file.size(), &[7; 9000]).map(drop)
    }),
    ("write directly", true, |_, file| {
        file.write_direct_at(3 * BLOCK, &[7; 3 * BLOCK as usize])
            .map(drop)
    }),
    ("append directly", true, |_, file| {
        file.write_direct_at(12 * BLOCK, &[7; 3 * BLOCK as usize])
            .map(drop)
    }),
    ("store", false, |_, file| {
        file.store_mapped(4 * BLOCK + 5, &[7; 10]).map(drop)
    }),
    ("allocate", false, |_, file| {
        file.allocate(AllocateMode::Allocate, 100, 20 * BLOCK)
    }),
    ("punch", false, |_, file| {
        file.allocate(AllocateMode::PunchHole, BLOCK + 100, 4 * BLOCK)
    }),
    ("zero", false, |_, file| {
        file.allocate(AllocateMode::ZeroRange, BLOCK + 100, 14 * BLOCK)
    }),
    ("collapse", true, |_, file| {
        file.allocate(AllocateMode::CollapseRange, 4 * BLOCK, 4 * BLOCK)
    }),
    ("insert", true, |_, file| {
        file.allocate(AllocateMode::InsertRange, 4 * BLOCK, 4 * BLOCK)
    }),
    ("sync", false, |volume, _| volume.sync()),
    ("drop caches", false, |volume, _| volume.drop_caches()),
];

fn open(store: &Arc<Failing>, device: &Arc<dyn BlockDevice>, options: &VolumeOptions) -> Volume {
    Volume::with_store(Arc::clone(device), store.clone(), options).unwrap()
}

/// A file with data, unwritten blocks, holes, and promises; or with a few bytes inside the store.
fn fill(volume: &Volume, inline: bool) -> File {
    let file = volume.file(FILE).unwrap();
    if inline {
        file.write_at(0, &[1; 500]).unwrap();
        return file;
    }
    file.write_at(0, &[1; 7 * BLOCK as usize + 33]).unwrap();
    file.sync_all().unwrap();
    file.allocate(AllocateMode::PunchHole, 2 * BLOCK, BLOCK)
        .unwrap();
    file.write_at(2 * BLOCK + 1024, &[2; 700]).unwrap();
    file.store_mapped(3 * BLOCK, &[3; 100]).unwrap();
    file.write_at(9 * BLOCK, &[4; 2000]).unwrap();
    // Or the tree would answer, and not the store.
    volume.shrink_status(1000);
    volume.shrink_status(1000);
    file
}

fn content(file: &File) -> Vec<u8> {
    let mut bytes = vec![0; file.size() as usize];
    assert_eq!(file.read_at(0, &mut bytes), Ok(bytes.len()));
    bytes
}

/// Truncates a file with dirty pages behind its new end while call number `nth` fails, then lets a direct write fail, after
/// which what lies behind the end is given up. Whether there was such a call.
fn truncate_and_write_with_failures(nth: u64) -> bool {
    let store = Failing::over(MemoryStore::new());
    let faulty = Arc::new(FaultyDevice::new(Arc::new(MemoryDevice::new(1 << 20))));
    let device: Arc<dyn BlockDevice> = faulty.clone();
    let volume = open(
        &store,
        &device,
        &VolumeOptions::new().background_writeback(false),
    );
    let file = volume.file(FILE).unwrap();
    file.write_at(0, &[1; 3 * BLOCK as usize]).unwrap();
    file.sync_all().unwrap();
    file.write_at(3 * BLOCK, &[2; 3 * BLOCK as usize]).unwrap();
    // Or the tree would answer, and not the store.
    volume.shrink_status(1000);
    volume.shrink_status(1000);
    store.before.store(nth, Relaxed);
    let cut = file.set_len(2 * BLOCK + 7);
    if !store.has_failed() {
        return false;
    }
    assert_eq!(cut, Err(FAILURE), "call {nth}");
    faulty.fail_at(Some(OperationKind::Write), 0);
    let written = file.write_direct_at(2 * BLOCK, &[3; BLOCK as usize]);
    assert!(matches!(written, Err(Error::Io(_))), "{written:?}");
    assert_eq!(volume.sync(), Ok(()), "call {nth}");
    true
}

#[test]
fn a_truncation_that_fails_leaves_no_dirty_block_that_nothing_backs() {
    let failures = (0..).take_while(|nth| truncate_and_write_with_failures(*nth));
    assert!(failures.count() > 2);
}

/// Punches the only allocated block of a cluster, on whose space a delayed one lives, while call number `nth` of a store that
/// survives crashes fails and no cluster is free. Whether there was such a call.
fn punch_under_delayed_with_a_failure(nth: u64) -> bool {
    let geometry = Geometry {
        block_size: BlockSize::new(1024).unwrap(),
        cluster: ClusterRatio::new(8).unwrap(),
    };
    let memory = || Arc::new(MemoryDevice::new(1 << 18));
    let store = Failing::over(LogStore::format(memory(), geometry).unwrap());
    let device: Arc<dyn BlockDevice> = memory();
    let options = VolumeOptions::new()
        .background_writeback(false)
        .block_size(1024)
        .cluster_blocks(8);
    let volume = open(&store, &device, &options);
    let file = volume.file(FILE).unwrap();
    file.write_at(0, &[1; 1024]).unwrap();
    file.sync_all().unwrap();
    file.write_at(4096, &[2; 1024]).unwrap();
    let other = volume.file(FileNumber(2)).unwrap();
    let clusters = (0..).take_while(|cluster| {
        let more = other.allocate(AllocateMode::Allocate, cluster * 8192, 8192);
        more.is_ok()
    });
    assert!(clusters.count() > 20);
    assert_eq!(
        volume.statfs().delayed_blocks,
        0,
        "it lives beside the other"
    );
    store.before.store(nth, Relaxed);
    let punched = file.allocate(AllocateMode::PunchHole, 0, 1024);
    if !store.has_failed() {
        assert_eq!(punched, Ok(()));
        return false;
    }
    assert_eq!(punched, Err(FAILURE), "call {nth}");
    assert_eq!(testing::check(&volume), Ok(()), "call {nth}");
    assert_eq!(volume.sync(), Ok(()), "call {nth}");
    assert_eq!(testing::check_synced(&volume), Ok(()), "call {nth}");
    drop((file, other));
    volume.close().unwrap();
    let volume = open(&store, &device, &options);
    let after = content(&volume.file(FILE).unwrap());
    assert_eq!(after[4096..], [2; 1024], "call {nth}");
    true
}

#[test]
fn a_punch_that_fails_on_a_full_volume_loses_no_promise_to_the_delayed_blocks_beside_it() {
    let failures = (0..).take_while(|nth| punch_under_delayed_with_a_failure(*nth));
    assert!(failures.count() > 2);
}

/// Does `step` while call number `nth` fails; whether there was one.
fn with_a_failure(options: &VolumeOptions, inline: bool, nth: u64, step: usize) -> bool {
    let (name, halves, step) = STEPS[step];
    let store = Failing::over(MemoryStore::new());
    let device: Arc<dyn BlockDevice> = Arc::new(MemoryDevice::new(1 << 20));
    let volume = open(&store, &device, options);
    let file = fill(&volume, inline);
    let size = file.size();
    store.before.store(nth, Relaxed);
    let outcome = step(&volume, &file);
    if !store.has_failed() {
        assert_ne!(outcome, Err(FAILURE), "{name}");
        return false;
    }
    let what = format!("{name}, call {nth}, {options:?}: {outcome:?}");
    match outcome.is_err() && halves {
        true => assert_eq!(file.set_len(file.size()), Ok(()), "{what}"),
        false => assert!(outcome.is_ok() || file.size() == size, "{what}"),
    }
    // It may be this one that is told.
    let _told = volume.sync();
    assert_eq!(testing::check(&volume), Ok(()), "{what}");
    assert_eq!(volume.sync(), Ok(()), "{what}");
    assert_eq!(testing::check_synced(&volume), Ok(()), "{what}");
    let before = content(&file);
    drop(file);
    assert_eq!(volume.close().map(drop), Ok(()), "{what}");
    let volume = open(&store, &device, options);
    let after = content(&volume.file(FILE).unwrap());
    assert!(
        before == after,
        "{} and {}, {what}",
        before.len(),
        after.len()
    );
    true
}

#[test]
fn a_volume_survives_the_failure_of_any_call_of_its_store() {
    let options = VolumeOptions::new().background_writeback(false);
    let small = options.clone().block_size(1024);
    let shapes = [
        (options.clone(), false),
        (small.clone(), false),
        (small.cluster_blocks(8), false),
        (options.inline_limit(600), true),
    ];
    let mut failures = 0;
    for (options, inline) in &shapes {
        for step in 0..STEPS.len() {
            let some = (0..).take_while(|nth| with_a_failure(options, *inline, *nth, step));
            failures += some.count();
        }
    }
    println!("{failures} failures");
    assert!(failures > 300, "{failures}");
}
