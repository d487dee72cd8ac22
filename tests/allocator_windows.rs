//! Windows that the allocator keeps for files: against a plain list of owners, and case by case.

use std::collections::BTreeMap;

use extent_map::Error;
use extent_map::allocator::{AllocRequest, Allocator, FileRequest, FileSpace, Goal};
use extent_map::units::{DiskBlock, DiskRun};
use proptest::prelude::*;

#[path = "common/space.rs"]
#[allow(dead_code, reason = "others use the rest")]
mod space;

use space::{allocator, run};

/// `clusters` clusters of a file from `at` on, behind `goal`; nothing else is mapped behind them.
fn at(at: u64, clusters: u64, goal: Option<DiskBlock>) -> FileRequest {
    FileRequest::at(at, clusters).goal(goal.map(Goal::From))
}

/// Reserves, allocates for the file and commits.
fn append(allocator: &Allocator, file: &FileSpace, request: FileRequest) -> DiskRun {
    let mut space = allocator.reserve(request.clusters()).unwrap();
    let allocation = allocator.allocate_for(file, request, &mut space);
    allocation.expect("reserved space is always there").commit()
}

// --- against a list of owners ------------------------------------------------------------------------

#[derive(Clone, Debug)]
enum Step {
    /// Clusters of a file, somewhere in it.
    Write { file: usize, at: u64, clusters: u64 },
    /// The same without a promise.
    WriteDirectly { file: usize, at: u64, clusters: u64 },
    /// Clusters for nobody in particular.
    Take { goal: u64, clusters: u64 },
    /// One of the runs that are in use.
    Free { which: usize },
    /// A file is closed.
    Close { file: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let write = || (0..3_usize, 0..600_u64, 1..60_u64);
    prop_oneof![
        4 => write().prop_map(|(file, at, clusters)| Step::Write { file, at, clusters }),
        3 => write().prop_map(|(file, at, clusters)| Step::WriteDirectly { file, at, clusters }),
        2 => (0..4096_u64, 1..200_u64).prop_map(|(goal, clusters)| Step::Take { goal, clusters }),
        3 => (0..100_usize).prop_map(|which| Step::Free { which }),
        1 => (0..3_usize).prop_map(|file| Step::Close { file }),
    ]
}

/// The allocator, and who has which run: by first block, with the length.
struct Volume {
    allocator: Allocator,
    files: [FileSpace; 3],
    owned: BTreeMap<u64, u64>,
    clusters: u64,
}

impl Volume {
    fn new(clusters: u64, per_group: u64) -> Self {
        Self {
            allocator: allocator(clusters, per_group),
            files: [0, 1, 2].map(FileSpace::new),
            owned: BTreeMap::new(),
            clusters,
        }
    }

    fn used(&self) -> u64 {
        self.owned.values().sum()
    }

    fn own(&mut self, run: DiskRun) {
        let before = self.owned.range(..run.end().0).next_back();
        assert!(
            before.is_none_or(|(start, len)| start + len <= run.start.0),
            "{run:?} is somebody's"
        );
        assert!(run.start.0 >= 1 && run.end().0 <= self.clusters);
        self.owned.insert(run.start.0, run.len);
    }

    fn free(&self) -> u64 {
        self.clusters - 1 - self.used()
    }

    fn step(&mut self, step: &Step) {
        let wanted = match step {
            Step::Write { clusters, .. }
            | Step::WriteDirectly { clusters, .. }
            | Step::Take { clusters, .. } => *clusters,
            Step::Free { .. } | Step::Close { .. } => 0,
        };
        if let Step::WriteDirectly {
            file, at: start, ..
        } = *step
        {
            let request = at(start, wanted, None);
            let file = &mut self.files[file];
            let run = match self.allocator.allocate_direct_for(file, request) {
                Ok(allocation) => allocation.commit(),
                Err(error) => return self.refused(wanted, error),
            };
            assert!(run.len <= wanted);
            return self.own(run);
        }
        let mut space = match self.allocator.reserve(wanted) {
            Ok(space) => space,
            Err(error) => return self.refused(wanted, error),
        };
        let run = match *step {
            Step::Write {
                file,
                at: start,
                clusters,
            } => {
                let request = at(start, clusters, None);
                self.allocator
                    .allocate_for(&self.files[file], request, &mut space)
            }
            Step::Take { goal, clusters } => self
                .allocator
                .allocate(AllocRequest::near(DiskBlock(goal), clusters), &mut space),
            Step::Free { which } => {
                let freed = self
                    .owned
                    .iter()
                    .nth(which)
                    .map(|(start, len)| (*start, *len));
                if let Some((start, len)) = freed {
                    self.allocator.free(run(start, len)).unwrap();
                    self.owned.remove(&start);
                }
                return;
            }
            Step::Close { file } => return self.allocator.end_windows(&self.files[file]),
            Step::WriteDirectly { .. } => unreachable!("done above"),
        };
        let run = run.expect("reserved space is always there").commit();
        assert!(run.len <= wanted);
        drop(space);
        self.own(run);
    }

    fn refused(&self, wanted: u64, error: Error) {
        assert_eq!(error, Error::NoSpace);
        let free = self.free();
        assert!(wanted > free, "{free} are free, windows or not");
    }

    fn agree(&self) {
        assert_eq!(self.allocator.check(), Ok(()));
        assert_eq!(self.allocator.space().used(), self.used());
        let mut runs: Vec<DiskRun> = Vec::new();
        for (start, len) in &self.owned {
            match runs.last_mut() {
                Some(last) if last.end().0 == *start => last.len += len,
                _ => runs.push(run(*start, *len)),
            }
        }
        assert_eq!(
            self.allocator.allocated_runs(),
            runs,
            "windows are not in use"
        );
        for file in &self.files {
            let mut windows = self.allocator.windows(file);
            windows.sort_by_key(|(range, _)| range.start);
            let ranges = windows.iter().map(|(range, _)| range);
            assert!(ranges.is_sorted_by(|one, next| one.end <= next.start));
            assert!(windows.iter().all(|(range, _)| !range.is_empty()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn windows_withhold_no_space_and_overlap_nothing(
        (clusters, per_group) in prop::sample::select(vec![(4096, 1024), (3000, 700), (700, 64)]),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let mut volume = Volume::new(clusters, per_group);
        for step in &steps {
            volume.step(step);
            volume.agree();
        }
    }
}

// --- case by case ------------------------------------------------------------------------------------

#[test]
fn files_that_grow_in_turns_lie_in_one_piece_each_as_long_as_windows_hold() {
    let allocator = allocator(1 << 16, 1 << 15);
    let files = [FileSpace::new(0), FileSpace::new(0)];
    let mut ends = [None, None];
    let mut pieces = [0, 0];
    for turn in 0..32 {
        for (number, file) in files.iter().enumerate() {
            let run = append(&allocator, file, at(turn * 16, 16, ends[number]));
            pieces[number] += u32::from(ends[number] != Some(run.start));
            ends[number] = Some(run.end());
        }
    }
    // 512 clusters each, in windows of 32 to 512 clusters: without them each turn would be a piece.
    assert!(pieces.iter().all(|pieces| *pieces <= 6), "{pieces:?}");
    files.iter().for_each(|file| allocator.end_windows(file));
    assert_eq!(allocator.check(), Ok(()));
}

#[test]
fn small_files_lie_side_by_side_and_apart_from_large_ones() {
    let allocator = allocator(1 << 16, 1 << 15);
    let large = FileSpace::new(1);
    let first = append(&allocator, &large, at(0, 100, None));
    let mut end = None;
    for number in 0..8 {
        let run = append(&allocator, &FileSpace::new(number), at(0, 3, None));
        assert!(end.is_none_or(|end| end == run.start), "{run:?}");
        end = Some(run.end());
        assert!(run.start >= first.end());
    }
    let second = append(&allocator, &large, at(100, 28, Some(first.end())));
    assert_eq!(second.start, first.end(), "its window was kept");
}

/// A file of 110 clusters, and the window behind them.
fn growing(allocator: &Allocator, file: &FileSpace) -> (DiskRun, DiskRun) {
    let first = append(allocator, file, at(0, 100, None));
    let second = append(allocator, file, at(100, 10, Some(first.end())));
    assert_eq!(second.start, first.end());
    let windows = allocator.windows(file);
    assert_eq!(windows.len(), 1, "{windows:?}");
    let (range, window) = windows[0].clone();
    assert_eq!((range.start, window.start), (110, second.end()));
    (run(first.start.0, 110), window)
}

#[test]
fn a_window_ends_before_space_is_refused() {
    let allocator = allocator(4097, 4097);
    let file = FileSpace::new(0);
    let (run, window) = growing(&allocator, &file);
    let available = allocator.space().available();
    assert_eq!(available, 3986, "a window is no promise");
    assert!(window.len <= available / 10, "nor does it take much");
    let beside = available - window.len;
    let mut promise = allocator.reserve(beside).unwrap();
    let all = allocator
        .allocate_runs(AllocRequest::anywhere(beside), &mut promise)
        .unwrap();
    let inside = window.start..window.end();
    assert!(all.iter().all(|run| !inside.contains(&run.run().start)));
    let mut rest = allocator.reserve(window.len).unwrap();
    let rest = allocator
        .allocate(AllocRequest::anywhere(window.len), &mut rest)
        .unwrap();
    assert_eq!(rest.run(), window);
    assert_eq!(allocator.reserve(1).unwrap_err(), Error::NoSpace);
    // The owner finds its window gone, and later the space again.
    drop(rest);
    let next = append(&allocator, &file, at(110, 28, Some(run.end())));
    assert_eq!(next.start, run.end());
    assert_eq!(allocator.windows(&file), [], "it is forgotten");
    drop(all);
    assert_eq!(allocator.check(), Ok(()));
}

#[test]
fn a_window_reaches_no_farther_than_what_is_mapped_and_other_windows() {
    let allocator = allocator(1 << 16, 1 << 15);
    let file = FileSpace::new(0);
    let (_, far) = growing(&allocator, &file);
    allocator.end_windows(&file);
    append(&allocator, &file, at(200, 10, Some(far.start)).room(50));
    let windows = allocator.windows(&file);
    assert_eq!(windows[0].0, 210..250, "up to what is mapped");
    append(&allocator, &file, at(150, 10, None));
    let mut windows: Vec<_> = allocator
        .windows(&file)
        .into_iter()
        .map(|(at, _)| at)
        .collect();
    windows.sort_by_key(|range| range.start);
    assert_eq!(windows, [160..210, 210..250], "up to the next window");
    assert_eq!(allocator.check(), Ok(()));
}

#[test]
fn the_middle_of_a_window_can_be_taken_first() {
    let allocator = allocator(1 << 16, 1 << 15);
    let file = FileSpace::new(0);
    let (first, _) = growing(&allocator, &file);
    let middle = append(&allocator, &file, at(115, 3, None));
    let before = append(&allocator, &file, at(110, 5, None));
    let behind = append(&allocator, &file, at(118, 4, None));
    assert_eq!(before, run(first.end().0, 5));
    assert_eq!(middle, run(before.end().0, 3));
    assert_eq!(behind, run(middle.end().0, 4));
    assert_eq!(allocator.check(), Ok(()));
}

#[test]
fn every_part_of_a_window_that_was_taken_from_in_any_order_stays_that_files() {
    let allocator = allocator(1 << 16, 1 << 15);
    let file = FileSpace::new(0);
    let (first, _) = growing(&allocator, &file);
    let (range, place) = allocator.windows(&file)[0].clone();
    let len = range.end - range.start;
    assert!(len > 200, "{range:?}");
    // All of it, each seventh first.
    for start in 0..7 {
        for distance in (start..len).step_by(7) {
            let taken = append(&allocator, &file, at(range.start + distance, 1, None));
            assert_eq!(taken, run(place.start.0 + distance, 1));
        }
    }
    assert_eq!(allocator.windows(&file), []);
    assert_eq!(allocator.space().used(), first.len + len);
    assert_eq!(allocator.check(), Ok(()));
}

#[test]
fn what_is_allocated_directly_comes_out_of_the_window_that_is_for_it() {
    let allocator = allocator(1 << 16, 1 << 15);
    let mut file = FileSpace::new(0);
    let (first, _) = growing(&allocator, &file);
    let middle = append(&allocator, &file, at(115, 3, None));
    let mut directly = |start, clusters| {
        let request = at(start, clusters, None);
        let outcome = allocator.allocate_direct_for(&mut file, request);
        outcome.map(|allocation| allocation.commit())
    };
    let behind = middle.end().0;
    for (start, clusters) in [(118, 4), (122, 1)] {
        let place = behind + start - 118;
        assert_eq!(directly(start, clusters), Ok(run(place, clusters)));
    }
    // In here it would be out of order to take the lock of the windows, so none is taken.
    let somewhere_else = run((1 << 16) - 8, 8);
    let discarded = allocator.discard(somewhere_else, 1, |_| {
        assert_eq!(directly(123, 9), Ok(run(behind + 5, 9)));
        Ok(())
    });
    assert_eq!(discarded, Ok(8));
    assert_eq!(directly(110, 5), Ok(run(first.end().0, 5)));
    assert!(matches!(directly(132, 0), Err(Error::InvalidInput(_))));
    let windows = allocator.windows(&file);
    assert_eq!(windows.len(), 1, "nothing is left of the other");
    assert_eq!(windows[0].0.start, 132);
    assert_eq!(allocator.check(), Ok(()));
}

#[test]
fn the_windows_of_a_file_that_is_done_are_free_at_once() {
    let allocator = allocator(1 << 16, 1 << 15);
    let file = FileSpace::new(0);
    let (_, window) = growing(&allocator, &file);
    allocator.end_windows(&file);
    let again = AllocRequest::near(window.start, window.len);
    assert_eq!(allocator.allocate_direct(again).unwrap().run(), window);
}

#[test]
fn a_window_is_no_longer_than_8_mib_however_large_the_file() {
    let allocator = allocator(1 << 18, 1 << 15);
    for size in [100, 1000, 3000] {
        let file = FileSpace::new(0);
        let mut end = append(&allocator, &file, at(0, size, None)).end();
        for part in 0..3 {
            end = append(&allocator, &file, at(size + part, 1, Some(end))).end();
            let windows = allocator.windows(&file);
            assert!(!windows.is_empty(), "the file grows");
            assert!(windows.iter().all(|(_, run)| run.len < 2048), "{windows:?}");
        }
    }
}

#[test]
fn small_files_share_no_window_on_a_small_volume() {
    let allocator = allocator(4096, 4096);
    append(&allocator, &FileSpace::new(0), at(0, 3, None));
    let left = allocator.ledger().snapshot().available();
    assert_eq!(left, 4092, "nothing is withheld");
}
