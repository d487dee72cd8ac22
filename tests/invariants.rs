//! What the invariant checker says about volumes that were broken: by the bug of 2024, by a mapping store
//! that lies, by a device that changes by itself.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use extent_map::Result;
use extent_map::device::{BlockDevice, MemoryDevice};
use extent_map::file::{AllocateMode, File, Volume, VolumeOptions};
use extent_map::mapping::{ExtentState, MappedExtent, Mapping, MappingStore, MemoryStore, Shift};
use extent_map::probe::{Mutation, Probe};
use extent_map::testing::{self, Violation};
use extent_map::units::{DiskBlock, FileBlock, FileNumber, FileRange};

#[path = "common/passed_on.rs"]
mod passed_on;

use passed_on::passed_on;

const BLOCK: u64 = 4096;

/// How a store lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lie {
    /// Converts nothing.
    Convert,
    /// Removes nothing.
    Remove,
    /// Maps new extents to this place.
    Insert(DiskBlock),
    /// Maps new extents one block further.
    Misplace,
    /// Says that the device fails.
    Fail,
}

/// A store that lies when told to.
#[derive(Debug, Default)]
struct LyingStore {
    truth: MemoryStore,
    lie: Mutex<Option<Lie>>,
}

impl LyingStore {
    fn tell(&self, lie: Lie) {
        *self.lie.lock().unwrap() = Some(lie);
    }

    fn lie(&self) -> Option<Lie> {
        *self.lie.lock().unwrap()
    }
}

impl MappingStore for LyingStore {
    passed_on!(query last_before shift size set_size extend_size inline_data set_inline_data files commit);

    fn extents(&self, file: FileNumber, range: FileRange) -> Result<Vec<MappedExtent>> {
        match self.lie() {
            Some(Lie::Fail) => Err(extent_map::Error::NotSupported("reading")),
            _ => self.truth.extents(file, range),
        }
    }

    fn insert(&self, file: FileNumber, mut extent: MappedExtent) -> Result<()> {
        match self.lie() {
            Some(Lie::Insert(disk)) => extent.disk = disk,
            Some(Lie::Misplace) => extent.disk = extent.disk.advance(1),
            _ => {}
        }
        self.truth.insert(file, extent)
    }

    fn convert(&self, file: FileNumber, range: FileRange, to: ExtentState) -> Result<()> {
        match self.lie() {
            Some(Lie::Convert) => Ok(()),
            _ => self.truth.convert(file, range, to),
        }
    }

    fn remove(&self, file: FileNumber, range: FileRange) -> Result<Vec<MappedExtent>> {
        match self.lie() {
            Some(Lie::Remove) => {
                let extents = self.truth.extents(file, range)?;
                Ok(extents.iter().map(|extent| extent.clip(range)).collect())
            }
            _ => self.truth.remove(file, range),
        }
    }
}

/// A volume with two written blocks in file 1, and what it stands on.
struct Broken {
    device: Arc<MemoryDevice>,
    store: Arc<LyingStore>,
    volume: Volume,
    file: File,
}

impl Broken {
    fn new(options: &VolumeOptions) -> Self {
        let device = Arc::new(MemoryDevice::new(1 << 20));
        let store = Arc::new(LyingStore::default());
        let volume = Volume::with_store(device.clone(), store.clone(), options).unwrap();
        let file = volume.file(FileNumber(1)).unwrap();
        file.write_at(0, &[7; 2 * BLOCK as usize - 100]).unwrap();
        file.sync_all().unwrap();
        assert_eq!(testing::check(&volume), Ok(()));
        Self {
            device,
            store,
            volume,
            file,
        }
    }

    /// The numbers of the invariants that do not hold.
    fn violated(&self) -> BTreeSet<u8> {
        numbers(&testing::check(&self.volume))
    }

    fn place(&self) -> DiskBlock {
        let first = self.file.extents().unwrap()[0];
        first.disk.expect("a written extent")
    }
}

fn numbers(result: &std::result::Result<(), Vec<Violation>>) -> BTreeSet<u8> {
    let violations = result.as_ref().err().into_iter().flatten();
    violations.map(|violation| violation.invariant).collect()
}

/// The file is faulted in while another call allocates its first block between the fault's two looks.
fn fault_across_an_allocation(skip_second_look: bool) -> Volume {
    let raced: Arc<Mutex<Option<File>>> = Arc::default();
    let hook = {
        let raced = Arc::clone(&raced);
        move |_, _| {
            let first = raced.lock().unwrap().take();
            if let Some(file) = first {
                let allocate = || file.allocate(AllocateMode::Allocate, 0, BLOCK);
                thread::scope(|scope| scope.spawn(allocate).join().unwrap().unwrap());
            }
        }
    };
    let probe = Probe::new()
        .mutations(skip_second_look.then_some(Mutation::SkipSecondLook))
        .between_looks(hook);
    let options = VolumeOptions::new().probe(probe);
    let volume = Volume::format(Arc::new(MemoryDevice::new(1 << 20)), &options).unwrap();
    let file = volume.file(FileNumber(1)).unwrap();
    file.set_len(BLOCK).unwrap();
    *raced.lock().unwrap() = Some(file.clone());
    file.page_fault(0).unwrap();
    volume
}

#[test]
fn the_bug_of_2024_is_a_delayed_block_that_is_mapped_and_a_reservation_for_nothing() {
    let violations = testing::check(&fault_across_an_allocation(true)).unwrap_err();
    assert_eq!(numbers(&Err(violations.clone())), BTreeSet::from([1, 4]));
    let told = violations[0].to_string();
    assert!(
        told.starts_with("I4, file 1: file block 0 is Delayed"),
        "{told}"
    );
    assert_eq!(testing::check(&fault_across_an_allocation(false)), Ok(()));
}

#[test]
fn a_conversion_that_the_store_forgets_is_found() {
    let broken = Broken::new(&VolumeOptions::new());
    broken.store.tell(Lie::Convert);
    broken
        .file
        .write_at(4 * BLOCK, &[8; BLOCK as usize])
        .unwrap();
    assert_eq!(broken.violated(), BTreeSet::new());
    broken.file.sync_all().unwrap();
    // What was written cannot be read back either: the store says that the block is all zeros.
    assert_eq!(broken.violated(), BTreeSet::from([3, 10]));
}

#[test]
fn a_removal_that_the_store_forgets_is_found() {
    let broken = Broken::new(&VolumeOptions::new());
    broken.store.tell(Lie::Remove);
    broken
        .file
        .allocate(AllocateMode::PunchHole, 0, BLOCK)
        .unwrap();
    // The hole is mapped, its cluster has an owner and is free, and the counts are one apart.
    assert_eq!(broken.violated(), BTreeSet::from([3, 6, 14]));
}

#[test]
fn a_cluster_with_two_owners_is_found() {
    let broken = Broken::new(&VolumeOptions::new());
    broken.store.tell(Lie::Insert(broken.place()));
    let second = broken.volume.file(FileNumber(2)).unwrap();
    second.allocate(AllocateMode::Allocate, 0, BLOCK).unwrap();
    // The file's own status tree still knows what was allocated.
    assert_eq!(broken.violated(), BTreeSet::from([3, 14]));
}

#[test]
fn an_extent_out_of_step_with_its_cluster_is_found() {
    let broken = Broken::new(&VolumeOptions::new().block_size(1024).cluster_blocks(4));
    broken.store.tell(Lie::Misplace);
    broken
        .file
        .allocate(AllocateMode::Allocate, 16 * BLOCK, 1024)
        .unwrap();
    assert_eq!(broken.violated(), BTreeSet::from([3, 5]));
}

#[test]
fn a_store_that_cannot_be_read_is_a_violation_and_no_panic() {
    let broken = Broken::new(&VolumeOptions::new());
    broken.store.tell(Lie::Fail);
    assert_eq!(broken.violated(), BTreeSet::from([3]));
}

#[test]
fn data_that_changes_on_the_device_is_found() {
    let broken = Broken::new(&VolumeOptions::new());
    broken
        .device
        .write_at(broken.place().0 * BLOCK, &[9])
        .unwrap();
    assert_eq!(broken.violated(), BTreeSet::from([10]));
    // After this the cache has what the device has, right or wrong.
    broken.volume.drop_caches().unwrap();
    assert_eq!(broken.violated(), BTreeSet::new());
}

#[test]
fn garbage_behind_the_end_of_the_file_is_found() {
    let broken = Broken::new(&VolumeOptions::new());
    broken.volume.drop_caches().unwrap();
    let last_byte = (broken.place().0 + 2) * BLOCK - 1;
    broken.device.write_at(last_byte, &[9]).unwrap();
    assert_eq!(broken.violated(), BTreeSet::new());
    broken.file.read_at(BLOCK, &mut [0; 8]).unwrap();
    assert_eq!(broken.violated(), BTreeSet::from([10]));
}

#[test]
fn a_size_that_nothing_will_store_is_found() {
    let broken = Broken::new(&VolumeOptions::new());
    broken.store.set_size(FileNumber(1), BLOCK).unwrap();
    assert_eq!(broken.violated(), BTreeSet::from([12]));
}

#[test]
fn only_a_synced_volume_counts_as_synced() {
    let broken = Broken::new(&VolumeOptions::new());
    broken.file.write_at(8 * BLOCK, &[1]).unwrap();
    let result = testing::check_synced(&broken.volume);
    assert_eq!(numbers(&result), BTreeSet::from([19]));
    broken.volume.sync().unwrap();
    assert_eq!(testing::check_synced(&broken.volume), Ok(()));
}

#[test]
fn a_check_waits_for_a_write_and_for_a_page_fault_that_are_half_done() {
    let operations: [fn(&File) -> Result<()>; 2] = [
        |file| file.write_at(8 * BLOCK, &[1]).map(drop),
        |file| file.page_fault(4 * BLOCK),
    ];
    for operation in operations {
        let (enter, entered) = mpsc::channel();
        let (leave, left) = mpsc::channel();
        let left = Mutex::new(left);
        let probe = Probe::new().between_looks(move |_, _| {
            enter.send(()).unwrap();
            left.lock().unwrap().recv().unwrap();
        });
        let device = Arc::new(MemoryDevice::new(1 << 20));
        let volume = Volume::format(device, &VolumeOptions::new().probe(probe)).unwrap();
        let file = volume.file(FileNumber(1)).unwrap();
        file.set_len(5 * BLOCK).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| operation(&file).unwrap());
            entered.recv().unwrap();
            let (report, reported) = mpsc::channel();
            let volume = &volume;
            scope.spawn(move || report.send(testing::check(volume)).unwrap());
            let early = reported.recv_timeout(Duration::from_millis(50));
            leave.send(()).unwrap();
            assert_eq!(early, Err(mpsc::RecvTimeoutError::Timeout));
            assert_eq!(reported.recv(), Ok(Ok(())));
        });
    }
}
