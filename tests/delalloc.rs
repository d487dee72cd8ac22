//! Delayed allocation (`FileBlocks`) without the file layer above it: what is promised for which blocks, where they come
//! to lie, and that each promise ends once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use extent_map::allocator::Allocator;
use extent_map::block::BlockQueue;
use extent_map::delalloc::{Backing, FileBlocks};
use extent_map::device::{BlockDevice, MemoryDevice};
use extent_map::mapping::{
    ExtentState, LogStore, MappedExtent, Mapping, MappingStore, MemoryStore, Shift,
};
use extent_map::status::Status;
use extent_map::units::{DiskBlock, FileBlock, FileNumber, FileRange, Geometry, MAX_FILE_BLOCKS};
use extent_map::{Error, Result};

#[path = "common/passed_on.rs"]
mod passed_on;

use passed_on::passed_on;

const BLOCK: usize = 4096;

fn backing(cluster_blocks: u64) -> (Arc<MemoryDevice>, Arc<Backing>) {
    let geometry = Geometry::new(BLOCK as u64, cluster_blocks).unwrap();
    let allocator = Allocator::new(256, geometry, 256, DiskBlock(cluster_blocks)).unwrap();
    let device = Arc::new(MemoryDevice::new(256 * BLOCK as u64));
    let queue = BlockQueue::new(device.clone(), geometry.block_size, Arc::default());
    let backing = Backing::new(queue, Arc::new(MemoryStore::new()), allocator);
    (device, Arc::new(backing))
}

fn open(backing: &Arc<Backing>, number: u64) -> FileBlocks {
    FileBlocks::open(FileNumber(number), Arc::clone(backing)).unwrap()
}

fn blocks(start: u64, len: u64) -> FileRange {
    FileRange::at(FileBlock(start), len)
}

#[test]
fn what_one_backing_makes_counts_in_one_place() {
    let (_, backing) = backing(1);
    let file = open(&backing, 1);
    file.query(FileBlock(3)).unwrap();
    file.query(FileBlock(3)).unwrap();
    backing.queue.flush().unwrap();
    let counted = backing.counters.snapshot();
    assert_eq!((counted.status_misses, counted.status_hits), (2, 1)); // a miss looks twice
    assert_eq!(
        (counted.device_flushes, counted),
        (1, backing.status.stats())
    );
}

#[test]
fn allocation_is_delayed_but_for_the_last_sixty_fourth_of_the_volume() {
    let (_, backing) = backing(1);
    let file = open(&backing, 1);
    let is_delayed = |block| file.admit(blocks(block, 1)).unwrap().status.is_delayed();
    file.allocate(blocks(0, 250)).unwrap();
    let delayed = [250, 251, 252, 253, 254].map(is_delayed);
    assert_eq!(delayed, [true, true, true, false, false]); // while 3 of 255 are available
}

#[test]
fn a_file_that_ends_with_a_promise_is_reported_and_its_space_given_back() {
    let (_, backing) = backing(1);
    let file = open(&backing, 7);
    file.admit(blocks(3, 5)).unwrap();
    assert_eq!(file.reserved_clusters(), 5);
    drop(file);
    assert_eq!(backing.counters.snapshot().reservation_leaks, 1);
    assert_eq!(backing.allocator.space().promised(), 0);
    let file = open(&backing, 8);
    file.admit(blocks(3, 5)).unwrap();
    file.truncate(FileBlock(0)).unwrap();
    drop(file);
    assert_eq!(backing.counters.snapshot().reservation_leaks, 1);
}

#[test]
fn space_is_found_also_where_somebody_else_commits_just_behind_the_refusal() {
    let device: Arc<dyn BlockDevice> = Arc::new(MemoryDevice::new(1 << 20));
    let geometry = Geometry::new(4096, 1).unwrap();
    let store = LogStore::format(Arc::clone(&device), geometry).unwrap();
    let allocator = Allocator::new(256, geometry, 32768, store.first_usable()).unwrap();
    let queue = BlockQueue::new(device, geometry.block_size, Arc::default());
    let backing = Arc::new(Backing::new(queue, Arc::new(store), allocator));
    let (full, empty) = (open(&backing, 1), open(&backing, 2));
    let everything = full.allocate(blocks(0, 256)).unwrap();
    full.punch(blocks(0, 1)).unwrap();
    let mut answers = Vec::new();
    let found = backing.with_freed_space(|| {
        let answer = empty.allocate(blocks(0, 1));
        backing.make_durable()?;
        answers.push(answer.clone());
        answer
    });
    assert_eq!((everything > 200, found), (true, Ok(1)));
    assert_eq!(answers, [Err(Error::NoSpace), Ok(1)]);
}

/// A store that cannot say once what lies before a block.
#[derive(Debug, Default)]
struct OnceBlind {
    truth: MemoryStore,
    is_blind: AtomicBool,
}

impl MappingStore for OnceBlind {
    passed_on!(query extents convert shift size set_size extend_size inline_data set_inline_data files commit);
    passed_on!(insert(file: FileNumber, extent: MappedExtent) -> ());
    passed_on!(remove(file: FileNumber, range: FileRange) -> Vec<MappedExtent>);

    fn last_before(&self, file: FileNumber, block: FileBlock) -> Result<Option<MappedExtent>> {
        match self.is_blind.swap(false, Relaxed) {
            true => Err(Error::Corrupt("nothing can be seen")),
            false => self.truth.last_before(file, block),
        }
    }
}

#[test]
fn a_delayed_block_keeps_its_promise_where_the_mapping_cannot_be_read() {
    let (_, plain) = backing(1);
    let store = Arc::new(OnceBlind::default());
    let mut other = Arc::into_inner(plain).unwrap();
    other.store = store.clone();
    let file = open(&Arc::new(other), 1);
    file.admit(blocks(0, 1)).unwrap();
    store.is_blind.store(true, Relaxed);
    assert_eq!(file.place(blocks(0, 1)).len(), 1);
    assert_eq!(file.reserved_clusters(), 1);
    assert_eq!(file.place(blocks(0, 1)), []);
    assert_eq!(file.reserved_clusters(), 0);
}

#[test]
fn a_hole_is_delayed_as_one_extent() {
    let (_, backing) = backing(1);
    let file = open(&backing, 1);
    assert_eq!(file.admit(blocks(10, 100)).unwrap().range, blocks(10, 100));
    assert_eq!(backing.counters.snapshot().delayed_inserts, 1);
    assert_eq!(file.reserved_clusters(), 100);
}

#[test]
fn where_no_space_is_enough_blocks_are_allocated_at_once() {
    let (_, mut backing) = backing(1);
    let policy = &mut Arc::get_mut(&mut backing).unwrap().policy;
    policy.low_space_clusters = u64::MAX;
    let promise = backing.allocator.reserve(1).unwrap();
    let file = open(&backing, 1);
    let backed = file.admit(blocks(10, 5)).unwrap();
    assert!(backed.status.is_unwritten(), "{backed:?}");
    drop(promise);
}

#[test]
fn ranges_no_file_can_have_are_refused() {
    let (_, backing) = backing(1);
    let file = open(&backing, 1);
    assert_eq!(
        file.admit(blocks(MAX_FILE_BLOCKS - 1, 2)),
        Err(Error::FileTooBig)
    );
    assert_eq!(
        file.allocate(blocks(MAX_FILE_BLOCKS, 1)),
        Err(Error::FileTooBig)
    );
    assert_eq!(file.query(FileBlock(u64::MAX)), Err(Error::FileTooBig));
    assert_eq!(file.punch(blocks(u64::MAX - 1, 1)), Err(Error::FileTooBig));
    assert!(matches!(
        file.admit(blocks(0, 0)),
        Err(Error::InvalidInput(_))
    ));
    let pieces = file.write_back(blocks(0, 2), &[0; BLOCK]);
    assert!(matches!(pieces[0].outcome, Err(Error::InvalidInput(_))));
    let pieces = file.write_back(FileRange::starting_at(FileBlock(0)), &[0; BLOCK]);
    assert!(matches!(pieces[0].outcome, Err(Error::InvalidInput(_))));
    let pieces = file.write_back(blocks(0, u64::MAX), &[0; BLOCK]);
    assert!(matches!(pieces[0].outcome, Err(Error::InvalidInput(_))));
    assert_eq!(file.extents().unwrap(), []);
}

#[test]
fn a_dirty_run_is_allocated_written_and_made_readable() {
    let (device, backing) = backing(1);
    let file = open(&backing, 1);
    file.admit(blocks(2, 3)).unwrap();
    let pieces = file.write_back(blocks(2, 3), &[9; 3 * BLOCK]);
    assert!(
        pieces.iter().all(|piece| piece.outcome.is_ok()),
        "{pieces:?}"
    );
    let found = file.query(FileBlock(2)).unwrap();
    let Status::Written(disk) = found.status else {
        panic!("{found:?}")
    };
    assert_eq!(
        (
            found.range,
            file.reserved_clusters(),
            file.allocated_clusters()
        ),
        (blocks(2, 3), 0, 3)
    );
    let mut bytes = [0; 3 * BLOCK];
    device.read_at(disk.0 * BLOCK as u64, &mut bytes).unwrap();
    assert_eq!(bytes, [9; 3 * BLOCK]);
}

#[test]
fn what_was_mapped_before_a_hole_in_a_dirty_run_arrives() {
    let (device, backing) = backing(1);
    let file = open(&backing, 1);
    file.admit(blocks(2, 3)).unwrap();
    let pieces = file.write_back(blocks(2, 4), &[9; 4 * BLOCK]);
    assert_eq!(
        (pieces[0].range, &pieces[0].outcome),
        (blocks(2, 3), &Ok(()))
    );
    assert_eq!(pieces[1].range, blocks(5, 1));
    assert!(matches!(pieces[1].outcome, Err(Error::Corrupt(_))));
    let found = file.query(FileBlock(2)).unwrap();
    let Status::Written(disk) = found.status else {
        panic!("{found:?}")
    };
    let mut bytes = [0; 3 * BLOCK];
    device.read_at(disk.0 * BLOCK as u64, &mut bytes).unwrap();
    assert_eq!(bytes, [9; 3 * BLOCK]);
}

/// A cluster of four blocks: one of them allocated, one delayed; the delayed one costs nothing until
/// the allocated one goes.
#[test]
fn a_delayed_block_beside_an_allocated_one_is_promised_again_when_that_one_is_freed() {
    let (_, backing) = backing(4);
    let file = open(&backing, 1);
    file.allocate(blocks(0, 1)).unwrap();
    file.admit(blocks(2, 1)).unwrap();
    assert_eq!(
        (file.reserved_clusters(), file.allocated_clusters()),
        (0, 1)
    );
    assert_eq!(file.status().pending_count(), 1);
    let available = backing.allocator.space().available();
    file.punch(blocks(0, 1)).unwrap();
    assert_eq!(
        (file.reserved_clusters(), file.allocated_clusters()),
        (1, 0)
    );
    assert_eq!(file.status().pending_count(), 0);
    assert_eq!(backing.allocator.space().available(), available);
    file.punch(blocks(2, 1)).unwrap();
    assert_eq!(backing.allocator.space().promised(), 0);
    assert_eq!(backing.allocator.space().available(), available + 1);
}

/// The other way round: allocating beside a delayed block pays for the cluster.
#[test]
fn allocating_beside_a_delayed_block_uses_the_promise_of_their_cluster() {
    let (_, backing) = backing(4);
    let file = open(&backing, 1);
    file.admit(blocks(6, 4)).unwrap();
    assert_eq!(file.reserved_clusters(), 2);
    let free = backing.allocator.space();
    assert_eq!(file.allocate(blocks(3, 4)), Ok(4));
    // Cluster 0 is new; cluster 1 was promised and keeps a delayed block; cluster 2 stays promised.
    assert_eq!(
        (file.reserved_clusters(), file.allocated_clusters()),
        (1, 2)
    );
    assert_eq!(file.status().pending_count(), 1);
    assert_eq!(backing.allocator.space().available(), free.available() - 1);
    file.truncate(FileBlock(0)).unwrap();
    assert_eq!(backing.allocator.space().available(), free.total());
}

#[test]
fn on_a_full_volume_a_hole_in_promised_clusters_is_allocated_out_of_their_promises() {
    // One cluster of four blocks or two; delayed blocks at the start and at the end, and in clusters behind.
    for (delayed, hole, behind) in [
        (&[4, 7][..], blocks(5, 2), 0),
        (&[4, 11], blocks(5, 6), 0),
        (&[4, 8, 12], blocks(5, 2), 2),
    ] {
        let (_, backing) = backing(4);
        let (file, other) = (open(&backing, 1), open(&backing, 2));
        for block in delayed {
            file.admit(blocks(*block, 1)).unwrap();
        }
        let rest = 4 * backing.allocator.space().available();
        assert_eq!(other.allocate(blocks(0, rest)), Ok(rest));
        assert_eq!(file.allocate(hole), Ok(hole.len()), "{hole:?}");
        assert_eq!(file.reserved_clusters(), behind);
    }
}

#[test]
fn a_hole_is_allocated_in_one_step_up_to_a_cluster_that_has_its_place() {
    let (_, mut backing) = backing(4);
    let policy = &mut Arc::get_mut(&mut backing).unwrap().policy;
    policy.delayed = false;
    let file = open(&backing, 1);
    assert_eq!(file.admit(blocks(0, 12)).unwrap().range, blocks(0, 12));
    file.allocate(blocks(33, 1)).unwrap();
    assert_eq!(file.admit(blocks(20, 13)).unwrap().range, blocks(20, 12));
}

#[test]
fn blocks_go_as_far_behind_those_before_them_as_they_lie_in_the_file() {
    let (_, backing) = backing(1);
    let file = open(&backing, 1);
    file.allocate(blocks(0, 2)).unwrap();
    file.allocate(blocks(50, 1)).unwrap();
    let place = |block| file.query(FileBlock(block)).unwrap().status.disk_block();
    assert_eq!(place(50), place(0).map(|first| first.advance(50)));
}

#[test]
fn a_file_that_is_opened_again_counts_each_of_its_clusters_once() {
    let (_, backing) = backing(4);
    let file = open(&backing, 1);
    // Two extents in cluster 0, one in the clusters 2 and 3.
    for range in [blocks(0, 1), blocks(2, 1), blocks(9, 4)] {
        file.allocate(range).unwrap();
    }
    assert_eq!(file.allocated_clusters(), 3);
    drop(file);
    assert_eq!(open(&backing, 1).allocated_clusters(), 3);
}

#[test]
fn a_file_inside_the_mapping_store_is_one_hole_about_which_nothing_is_remembered() {
    let (_, backing) = backing(1);
    let bytes = Arc::from(&b"inside"[..]);
    backing
        .store
        .set_inline_data(FileNumber(1), Some(bytes))
        .unwrap();
    let file = open(&backing, 1);
    let found = file.query(FileBlock(3)).unwrap();
    assert_eq!(found.status, Status::Hole);
    assert!(found.range.contains(FileBlock(3)));
    assert_eq!(file.status().entry_count(), 0);
    assert_eq!(file.change_inline(|bytes| bytes.truncate(2)), Ok(true));
    assert_eq!(file.inline_data().unwrap().as_deref(), Some(&b"in"[..]));
    // One caller brings the file out of the store, the next finds that it is out.
    assert_eq!(file.leave_inline().unwrap().as_deref(), Some(&b"in"[..]));
    assert_eq!(file.leave_inline().unwrap(), None);
    assert_eq!(file.change_inline(|bytes| bytes.clear()), Ok(false));
    assert_eq!(file.query(FileBlock(0)).unwrap().status, Status::Delayed);
}

#[test]
fn a_file_that_finds_no_space_outside_the_mapping_store_stays_inside() {
    let (_, backing) = backing(1);
    let bytes: Arc<[u8]> = Arc::from(&b"inside"[..]);
    backing
        .store
        .set_inline_data(FileNumber(1), Some(Arc::clone(&bytes)))
        .unwrap();
    let (file, other) = (open(&backing, 1), open(&backing, 2));
    other
        .admit(blocks(0, backing.allocator.space().available()))
        .unwrap();
    assert_eq!(file.leave_inline(), Err(Error::NoSpace));
    assert_eq!(file.inline_data(), Ok(Some(bytes)));
    assert_eq!(file.reserved_clusters(), 0);
}

#[test]
fn nothing_is_moved_to_the_right_while_something_is_delayed() {
    let (_, backing) = backing(1);
    let file = open(&backing, 1);
    file.allocate(blocks(0, 4)).unwrap();
    file.admit(blocks(6, 1)).unwrap();
    let before = file.extents().unwrap();
    assert!(matches!(
        file.insert_gap(FileBlock(2), 1),
        Err(Error::Corrupt(_))
    ));
    assert_eq!(file.extents().unwrap(), before);
    file.truncate(FileBlock(6)).unwrap();
    let too_far = file.insert_gap(FileBlock(0), MAX_FILE_BLOCKS - 3);
    assert_eq!(too_far, Err(Error::FileTooBig));
    assert_eq!(file.extents().unwrap(), before[..1]);
    file.insert_gap(FileBlock(0), MAX_FILE_BLOCKS - 4).unwrap();
    assert_eq!(file.extents().unwrap()[0].range.end().0, MAX_FILE_BLOCKS);
}

#[test]
fn writes_allocate_at_once_when_two_thirds_of_the_free_space_are_promised() {
    let (_, backing) = backing(1);
    let file = open(&backing, 1);
    assert_eq!(backing.allocator.space().free(), 255);
    let mut at_once = Vec::new();
    for (block, len) in [(0, 169), (169, 1), (170, 1), (171, 1)] {
        file.admit(blocks(block, len)).unwrap();
        at_once.push(backing.counters.snapshot().immediate_allocations);
    }
    // With 170 promised a write is delayed once more.
    assert_eq!(at_once, [0, 0, 0, 1]);
    assert_eq!(
        (file.reserved_clusters(), file.allocated_clusters()),
        (171, 1)
    );
}

#[test]
fn a_full_volume_on_which_nothing_is_promised_refuses_one_block_and_many() {
    let (_, mut backing) = backing(1);
    let policy = &mut Arc::get_mut(&mut backing).unwrap().policy;
    policy.low_space_clusters = 0;
    let (file, other) = (open(&backing, 1), open(&backing, 2));
    let all = backing.allocator.space().available();
    assert_eq!(file.allocate(blocks(0, all)), Ok(all));
    for len in [1, 2, 100] {
        assert_eq!(other.admit(blocks(5, len)), Err(Error::NoSpace), "{len}");
        assert_eq!(other.allocate(blocks(5, len)), Err(Error::NoSpace), "{len}");
    }
    assert_eq!(other.extents(), Ok(vec![]));
    // One block is free again: the start of what is asked for is delayed.
    file.punch(blocks(3, 1)).unwrap();
    assert_eq!(other.admit(blocks(5, 100)).unwrap().range, blocks(5, 1));
    assert_eq!(other.reserved_clusters(), 1);
}
