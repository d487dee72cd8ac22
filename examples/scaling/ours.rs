//! The only file here that knows our allocator: what its operations write and hold, and how long they take alone.

use std::sync::Arc;
use std::time::Instant;

use extent_map::allocator::{AllocRequest, Allocator};
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
    /// A change of a word that is at hand.
    pub(crate) word: f64,
    pub(crate) append: f64,
    pub(crate) truncate: f64,
}

const LEDGER: u64 = 0;
const LAST_GROUP: u64 = 1;
const GROUP: u64 = 2;

/// Writes to the line of the ledger by one append. Reserving and spending change the account, and the line also
/// counts who refers to the ledger: three reservations come and go.
const LEDGER_WRITES: usize = 2 + 2 * 3;

/// What one worker does for one file: appends, then the truncation. An allocation without a goal begins in the
/// group that served last, whoever it served: all workers meet in one group.
pub(crate) fn trace(_worker: usize, sections: &Sections) -> Vec<Operation> {
    let word = |resource| Step {
        resource: Some(resource),
        hold: sections.word,
        lines: 1,
    };
    // The lock with the counter, the list of what is uncommitted, and a word of the bitmap.
    let group = |hold| Step {
        resource: Some(GROUP),
        hold,
        lines: 3,
    };

    // Everything that is no change of a shared word counts as done under the lock: it seldom is, so this errs
    // to the bad side.
    let words = LEDGER_WRITES as f64 + 1.0;
    let section = (sections.append - words * sections.word).max(0.0) / 2.0;
    let before = LEDGER_WRITES / 2;
    let mut append = vec![word(LEDGER); before];
    append.extend([group(section), word(LAST_GROUP), group(section)]);
    append.extend(vec![word(LEDGER); LEDGER_WRITES - before]);

    let truncate = vec![
        group((sections.truncate - sections.word).max(0.0)),
        word(LEDGER),
    ];
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
fn append(allocator: &Allocator) -> Vec<DiskRun> {
    let mut runs: Vec<DiskRun> = Vec::new();
    for _ in 0..APPENDS {
        let goal = runs.last().map(|run| run.end());
        let request = AllocRequest {
            clusters: PIECE,
            goal,
        };
        let run = allocator
            .allocate_direct(request)
            .expect("there is room")
            .commit();
        match runs.last_mut() {
            Some(last) if last.end() == run.start => last.len += run.len,
            _ => runs.push(run),
        }
    }
    runs
}

fn truncate(allocator: &Allocator, runs: Vec<DiskRun>) {
    for run in runs {
        allocator.free(run).expect("the file has it");
    }
}

/// One whole file.
pub(crate) fn file(allocator: &Allocator) {
    truncate(allocator, append(allocator));
}

/// Measures one worker alone.
pub(crate) fn sections(word: f64) -> Sections {
    let allocator = allocator();
    let mut truncates = f64::INFINITY;
    let append = fastest(APPENDS, || {
        let start = Instant::now();
        let runs = append(&allocator);
        let appended = start.elapsed();
        truncate(&allocator, runs);
        truncates = truncates.min((start.elapsed() - appended).as_nanos() as f64);
        appended
    });
    Sections {
        word,
        append,
        truncate: truncates,
    }
}
