//! The only file here that knows our allocator: what its operations write and hold, and how long they take alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use extent_map::allocator::{Allocator, FileRequest, FileSpace, Goal};
use extent_map::units::{BlockSize, ClusterRatio, DiskBlock, DiskRun, Geometry};

use super::calibrate::fastest;
use super::model::{Operation, Step};

/// 8 KiB, in blocks.
const PIECE: u64 = 2;
/// 1 MiB.
const FILE: u64 = 256;
/// Appends of one file.
pub(crate) const APPENDS: u64 = FILE / PIECE;

/// What takes how long if nobody else works, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sections {
    pub(crate) append: f64,
    pub(crate) truncate: f64,
}

/// Groups of the volume, of 128 MiB each.
const GROUPS: u64 = 64;
/// Places at which files begin, on a machine of 64 processors: at least four groups for each.
const PLACES: u64 = GROUPS / 4;

/// What one worker does for one file: appends, then the truncation. A file has windows in the group of its stream, so
/// four of 64 workers share a group. An append takes the group's lock to take from its window and again to commit. What
/// it promises and spends is in the share of its thread, and the list of its windows is its own: nobody else writes
/// there.
pub(crate) fn trace(worker: usize, sections: &Sections) -> Vec<Operation> {
    // The lock with the counters, and the lists of windows and of what is uncommitted.
    let group = |hold| Step {
        resource: Some(worker as u64 % PLACES),
        hold,
        lines: 3,
    };
    // Everything counts as done under the lock: much is not, so this errs to the bad side.
    let append = vec![group(sections.append / 2.0); 2];
    // The windows end, then the blocks are freed.
    let truncate = vec![group(sections.truncate / 2.0); 2];
    let mut operations = vec![append; APPENDS as usize];
    operations.push(truncate);
    operations
}

/// An allocator of 8 GiB.
pub(crate) fn allocator() -> Arc<Allocator> {
    let geometry = Geometry {
        block_size: BlockSize::new(4096).expect("a power of two"),
        cluster: ClusterRatio::new(1).expect("a power of two"),
    };
    let allocator = Allocator::new(1 << 21, geometry, 32_768, DiskBlock(0));
    Arc::new(allocator.expect("groups have blocks"))
}

/// Appends to a file until it has its size; the runs, merged.
fn append(allocator: &Allocator, file: &FileSpace) -> Vec<DiskRun> {
    let mut runs: Vec<DiskRun> = Vec::new();
    let mut at = 0;
    while at < FILE {
        let request = FileRequest {
            at,
            clusters: PIECE,
            room: u64::MAX,
            file_clusters: at + PIECE,
            goal: runs.last().map(|run| Goal::From(run.end())),
        };
        let mut promise = allocator.reserve(PIECE).expect("there is room");
        let run = allocator
            .allocate_for(file, request, &mut promise)
            .expect("it is promised")
            .commit();
        at += run.len;
        match runs.last_mut() {
            Some(last) if last.end() == run.start => last.len += run.len,
            _ => runs.push(run),
        }
    }
    runs
}

fn truncate(allocator: &Allocator, file: &FileSpace, runs: Vec<DiskRun>) {
    allocator.end_windows(file);
    for run in runs {
        allocator.free(run).expect("the file has it");
    }
}

/// A number for each thread that works at once.
fn thread_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    thread_local!(static NUMBER: u64 = NEXT.fetch_add(1, Ordering::Relaxed));
    NUMBER.with(|number| *number)
}

/// One whole file.
pub(crate) fn file(allocator: &Allocator) {
    let file = FileSpace::new(thread_number());
    let runs = append(allocator, &file);
    truncate(allocator, &file, runs);
}

/// Measures one worker alone.
pub(crate) fn sections() -> Sections {
    let allocator = allocator();
    let file = FileSpace::new(0);
    let mut truncates = f64::INFINITY;
    let append = fastest(APPENDS, || {
        let start = Instant::now();
        let runs = append(&allocator, &file);
        let appended = start.elapsed();
        truncate(&allocator, &file, runs);
        truncates = truncates.min((start.elapsed() - appended).as_nanos() as f64);
        appended
    });
    Sections {
        append,
        truncate: truncates,
    }
}
