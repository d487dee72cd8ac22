//! The only file here that knows our allocator: what its operations write and hold, and how long they take alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use extent_map::allocator::{Allocator, FileRequest, FileSpace, Goal};
use extent_map::units::{DiskBlock, DiskRun, Geometry};

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
    /// The first append, out of the window that small files of the thread share.
    pub(crate) first: f64,
    /// The second, which opens the file's own window.
    pub(crate) opening: f64,
    /// One that takes from it.
    pub(crate) append: f64,
    pub(crate) truncate: f64,
}

/// Groups of the volume, of 128 MiB each.
const GROUPS: u64 = 64;
/// Places at which files begin, on a machine of 64 processors: at least four groups for each.
const PLACES: u64 = GROUPS / 4;

/// What one worker does for one file: appends, then the truncation. What it promises and spends is in the share of its
/// thread, small files of its thread have a window of their own, and a word of its own says what is left of the window of
/// the file: nobody else writes there. Windows lie in the group of their stream, and four of 64 workers share one: its
/// lock is taken to open the file's window, to end it, and to free what the file has in the two.
pub(crate) fn trace(worker: usize, sections: &Sections) -> Vec<Operation> {
    // The lock with the counters, the list of windows and the lists of groups.
    let group = |hold| Step {
        resource: Some(worker as u64 % PLACES),
        hold,
        lines: 3,
    };
    let alone = |hold| Step {
        resource: None,
        hold,
        lines: 0,
    };
    let mut operations = vec![
        vec![alone(sections.first)],
        // Everything counts as done under the lock: much is not, so this errs to the bad side.
        vec![group(sections.opening)],
    ];
    operations.resize(APPENDS as usize, vec![alone(sections.append)]);
    operations.push(vec![group(sections.truncate / 3.0); 3]);
    operations
}

/// An allocator of 8 GiB.
pub(crate) fn allocator() -> Arc<Allocator> {
    let geometry = Geometry::new(4096, 1).expect("powers of two");
    let allocator = Allocator::new(1 << 21, geometry, 32_768, DiskBlock(0));
    Arc::new(allocator.expect("groups have blocks"))
}

/// A file, and the runs that it has, merged.
#[derive(Default)]
struct Growing {
    at: u64,
    runs: Vec<DiskRun>,
}

impl Growing {
    fn append(&mut self, allocator: &Allocator, file: &mut FileSpace) {
        let goal = self.runs.last().map(|run| Goal::From(run.end()));
        let request = FileRequest::at(self.at, PIECE).goal(goal);
        let run = allocator.allocate_direct_for(file, request);
        let run = run.expect("there is room").commit();
        self.at += run.len;
        match self.runs.last_mut() {
            Some(last) if last.end() == run.start => last.len += run.len,
            _ => self.runs.push(run),
        }
    }

    fn append_all(&mut self, allocator: &Allocator, file: &mut FileSpace) {
        while self.at < FILE {
            self.append(allocator, file);
        }
    }
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
    let mut file = FileSpace::new(thread_number());
    let mut growing = Growing::default();
    growing.append_all(allocator, &mut file);
    truncate(allocator, &file, growing.runs);
}

/// Measures one worker alone.
pub(crate) fn sections() -> Sections {
    let allocator = allocator();
    let mut file = FileSpace::new(0);
    let [mut first, mut opening, mut truncates] = [f64::INFINITY; 3];
    let shortest = |known: &mut f64, since: Instant| {
        *known = known.min(since.elapsed().as_nanos() as f64);
        Instant::now()
    };
    let append = fastest(APPENDS - 2, || {
        let mut growing = Growing::default();
        let start = Instant::now();
        growing.append(&allocator, &mut file);
        let start = shortest(&mut first, start);
        growing.append(&allocator, &mut file);
        let start = shortest(&mut opening, start);
        growing.append_all(&allocator, &mut file);
        let appended = start.elapsed();
        let start = Instant::now();
        truncate(&allocator, &file, growing.runs);
        shortest(&mut truncates, start);
        appended
    });
    Sections {
        first,
        opening,
        append,
        truncate: truncates,
    }
}
