//! The status tree (what is known of a file's blocks) does what recordings of the kernel's show, and what a dense oracle
//! says.

use std::io::Read;
use std::path::Path;

use extent_map::status::{
    Accounting, CacheOutcome, ShrinkOutcome, Status, StatusContext, StatusExtent, StatusTree,
};
use extent_map::units::{ClusterRatio, DiskBlock, FileBlock, FileRange};
use flate2::read::GzDecoder;
use proptest::prelude::*;

#[path = "../examples/replay/report.rs"]
mod report;
#[path = "../examples/replay/whitebox.rs"]
mod whitebox;

fn recordings() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces/es");
    let files = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path());
    let read = |path: std::path::PathBuf| {
        let mut text = String::new();
        let packed = std::fs::File::open(&path).unwrap();
        GzDecoder::new(packed).read_to_string(&mut text).unwrap();
        (path.display().to_string(), text)
    };
    files.map(read).collect()
}

#[test]
fn recordings_of_the_kernel_replay_without_a_difference() {
    let recordings = recordings();
    assert!(recordings.len() >= 9, "{} recordings", recordings.len());
    for (name, text) in recordings {
        let report = whitebox::replay(&text);
        assert_eq!(report.failures, [], "{name}");
        assert!(report.steps >= 30, "{name}: {} steps", report.steps);
    }
}

#[test]
fn a_replay_notices_every_kind_of_tampering() {
    let (_, text) = recordings()
        .into_iter()
        .find(|(name, _)| name.contains("big16k-001"))
        .unwrap();
    let tamper = |from: &str, to: &str, field: &str| {
        assert!(text.contains(from), "{from}");
        let report = whitebox::replay(&text.replacen(from, to, 1));
        let noticed = report
            .failures
            .iter()
            .any(|failure| failure.field.contains(field));
        assert!(noticed, "{from} to {to}: {report:?}");
    };
    tamper(r#"["resv",0,1,1]"#, r#"["resv",0,1,2]"#, "resv");
    tamper(r#"["upd",0,2,2,1]"#, r#"["upd",0,1,2,1]"#, "released");
    tamper(r#"["upd",0,2,2,1]"#, r#"["other",0]"#, "released");
    tamper(r#"["rel",0,8,8]"#, r#"["rel",0,8,7]"#, "released");
    tamper(
        r#"["look",0,116,1,116"#,
        r#"["look",0,116,1,115"#,
        "look 116",
    );
    tamper(
        r#"["look",0,115,0]"#,
        r#"["look",0,115,1,0,1,0,"h"]"#,
        "look 115",
    );
    tamper(
        r#""es":{"0":[[0,104,0,"h"]]}"#,
        r#""es":{"0":[[0,105,0,"h"]]}"#,
        "es of file 0",
    );
    tamper(r#""da":8"#, r#""da":4"#, "da");
    tamper(r#"["rm",0,80,"#, r#"["rm",0,81,"#, "es of file 0");
    assert_eq!(whitebox::replay("{}").failures[0].field, "head");
}

fn tree(ratio: u64) -> StatusTree {
    StatusTree::new(&StatusContext::new(ClusterRatio::new(ratio).unwrap()))
}

fn blocks(start: u64, len: u64) -> FileRange {
    FileRange::at(FileBlock(start), len)
}

/// A cluster-sized piece of the oracle's disk starts here: block `n` of the file is always at `n +
/// PLACE`.
const PLACE: u64 = 1024;
/// Blocks of the oracle's file.
const BLOCKS: usize = 64;

/// The layer above the tree, slow and obvious: one slot for each block.
struct Oracle {
    ratio: usize,
    /// Space on disk: whether it is written.
    disk: [Option<bool>; BLOCKS],
    /// Data that waits in memory.
    delayed: [bool; BLOCKS],
    /// What the tree must know.
    known: [Option<Status>; BLOCKS],
    /// What the tree's accounting has left reserved.
    reserved: u64,
    changes: u64,
    tree: StatusTree,
}

#[derive(Clone, Debug)]
enum Op {
    /// Data into the page cache: delays holes.
    Write(usize, usize),
    /// Space for everything in the range, as written or as unwritten.
    Allocate(usize, usize, bool),
    /// No data and no space in the range; whether the hole is then remembered.
    Punch(usize, usize, bool),
    /// A reader remembers what is on disk around a block.
    Cache(usize),
    Shrink(u64),
    /// Drops entries whose start leaves this remainder when divided by 3.
    Drop(u64),
    Clear,
    Look(usize),
}

impl Oracle {
    fn new(ratio: u64) -> Self {
        Self {
            ratio: ratio as usize,
            disk: [None; BLOCKS],
            delayed: [false; BLOCKS],
            known: [None; BLOCKS],
            reserved: 0,
            changes: 0,
            tree: tree(ratio),
        }
    }

    fn on_disk(&self, block: usize) -> Status {
        let place = DiskBlock(block as u64 + PLACE);
        match self.disk[block] {
            Some(true) => Status::Written(place),
            Some(false) => Status::Unwritten(place),
            None => Status::Hole,
        }
    }

    fn allocated(&self, cluster: usize) -> bool {
        let first = cluster * self.ratio;
        self.disk[first..first + self.ratio]
            .iter()
            .any(Option::is_some)
    }

    fn has_delayed(&self, cluster: usize) -> bool {
        let first = cluster * self.ratio;
        self.delayed[first..first + self.ratio].contains(&true)
    }

    fn clusters(&self) -> impl Iterator<Item = usize> + use<> {
        0..BLOCKS / self.ratio
    }

    fn run(&mut self, op: &Op) {
        match *op {
            Op::Write(first, last) => self.write(first, last),
            Op::Allocate(first, last, written) => self.allocate(first, last, written),
            Op::Punch(first, last, remember) => self.punch(first, last, remember),
            Op::Cache(block) => self.cache(block),
            Op::Shrink(max_scan) => {
                let before = self.tree.entry_count();
                let ShrinkOutcome { scanned, reclaimed } = self.tree.shrink(max_scan);
                assert!(reclaimed <= scanned && scanned <= max_scan && scanned <= before);
                self.forgotten(before - reclaimed);
            }
            Op::Drop(remainder) => {
                let before = self.tree.entry_count();
                let chosen = |extent: StatusExtent| extent.range.start().0 % 3 == remainder;
                let dropped = self.tree.shrink_where(chosen);
                self.forgotten(before - dropped);
                let left = self.tree.extents(FileRange::starting_at(FileBlock(0)));
                assert!(
                    left.into_iter()
                        .all(|extent| extent.status.is_delayed() || !chosen(extent))
                );
            }
            Op::Clear => {
                self.tree.clear();
                let delayed = self.delayed;
                self.known = delayed.map(|delayed| delayed.then_some(Status::Delayed));
            }
            Op::Look(block) => {
                let (found, known) = (self.tree.lookup(FileBlock(block as u64)), self.known[block]);
                assert_eq!(found.is_some(), known.is_some());
            }
        }
    }

    fn write(&mut self, first: usize, last: usize) {
        let mut block = first;
        while block <= last {
            let hole = |block: &usize| self.disk[*block].is_none() && !self.delayed[*block];
            let len = (block..=last).take_while(hole).count();
            if len > 0 {
                let (from, to) = (block / self.ratio, (block + len - 1) / self.ratio);
                let free =
                    |&cluster: &usize| !self.allocated(cluster) && !self.has_delayed(cluster);
                self.reserved += (from..=to).filter(free).count() as u64;
                let becomes_pending = |cluster| {
                    self.ratio > 1 && self.allocated(cluster) && !self.has_delayed(cluster)
                };
                let (first, last) = (becomes_pending(from), to > from && becomes_pending(to));
                self.tree
                    .insert_delayed(blocks(block as u64, len as u64), first, last)
                    .unwrap();
                self.changes += 1;
                self.delayed[block..block + len].fill(true);
                self.known[block..block + len].fill(Some(Status::Delayed));
            }
            block += len.max(1);
        }
    }

    fn allocate(&mut self, first: usize, last: usize, written: bool) {
        for block in first..=last {
            self.disk[block] = Some(written);
            self.delayed[block] = false;
            self.known[block] = Some(self.on_disk(block));
        }
        let status = self.on_disk(first);
        self.account(|tree, range| tree.insert(range, status), first, last);
    }

    fn punch(&mut self, first: usize, last: usize, remember: bool) {
        let allocated: Vec<_> = self.clusters().filter(|&c| self.allocated(c)).collect();
        self.disk[first..=last].fill(None);
        self.delayed[first..=last].fill(false);
        self.known[first..=last].fill(None);
        self.account(StatusTree::remove, first, last);
        if remember {
            self.account(|tree, range| tree.insert(range, Status::Hole), first, last);
            self.known[first..=last].fill(Some(Status::Hole));
        }
        for cluster in allocated {
            if !self.allocated(cluster) && self.tree.take_pending(cluster as u64) {
                self.reserved += 1;
            }
        }
    }

    fn account(
        &mut self,
        change: impl FnOnce(&StatusTree, FileRange) -> extent_map::Result<Accounting>,
        first: usize,
        last: usize,
    ) {
        let range = blocks(first as u64, (last - first + 1) as u64);
        let released = change(&self.tree, range).unwrap().released;
        self.reserved = self
            .reserved
            .checked_sub(released)
            .expect("released what was not reserved");
        self.changes += 1;
    }

    fn cache(&mut self, block: usize) {
        let kind = self.disk[block];
        let like = |other: &usize| self.disk[*other] == kind;
        let first = (0..=block).rev().take_while(like).last().unwrap();
        let last = (block..BLOCKS).take_while(like).last().unwrap();
        let range = blocks(first as u64, (last - first + 1) as u64);
        let outcome = self.tree.cache(range, self.on_disk(first)).unwrap();
        if self.known[first..=last].iter().all(Option::is_none) {
            assert_eq!(outcome, CacheOutcome::Inserted);
            for block in first..=last {
                self.known[block] = Some(self.on_disk(block));
            }
        } else {
            assert_eq!(outcome, CacheOutcome::Kept);
        }
    }

    /// After some entries were dropped: takes over which, if it was whole entries that are not
    /// delayed.
    fn forgotten(&mut self, entries_left: u64) {
        let before = entries(&self.known);
        let left = self.tree.extents(FileRange::starting_at(FileBlock(0)));
        assert_eq!(left.len() as u64, entries_left);
        assert!(
            left.iter().all(|extent| before.contains(extent)),
            "{left:?} of {before:?}"
        );
        for dropped in before.iter().filter(|extent| !left.contains(extent)) {
            assert!(!dropped.status.is_delayed());
            for block in dropped.range.blocks() {
                self.known[block.0 as usize] = None;
            }
        }
    }

    /// Compares the tree and the reservation with what they must be.
    fn check(&self) {
        let expected = entries(&self.known);
        assert_eq!(
            self.tree.extents(FileRange::starting_at(FileBlock(0))),
            expected
        );
        let edit = self.tree.edit();
        assert_eq!(
            edit.extents(FileRange::starting_at(FileBlock(0)))
                .collect::<Vec<_>>(),
            expected
        );
        for block in 0..BLOCKS {
            let found = edit.lookup(FileBlock(block as u64));
            assert_eq!(
                found.map(|extent| extent.clip(blocks(block as u64, 1)).status),
                self.known[block]
            );
        }
        let costs = |&cluster: &usize| self.has_delayed(cluster) && !self.allocated(cluster);
        assert_eq!(self.reserved, self.clusters().filter(costs).count() as u64);
        let shared = |&cluster: &usize| self.has_delayed(cluster) && self.allocated(cluster);
        let pending: Vec<_> = self.clusters().filter(shared).map(|c| c as u64).collect();
        assert_eq!(edit.pending_clusters().collect::<Vec<_>>(), pending);
        assert_eq!(edit.pending_count(), pending.len() as u64);
        assert_eq!(self.tree.change_counter(), self.changes);
        assert_eq!(self.tree.entry_count(), expected.len() as u64);
        let reclaimable = expected.iter().filter(|extent| !extent.status.is_delayed());
        assert_eq!(self.tree.reclaimable_count(), reclaimable.count() as u64);
    }
}

/// Known blocks as entries, merged as far as they go.
fn entries(known: &[Option<Status>; BLOCKS]) -> Vec<StatusExtent> {
    let mut entries: Vec<StatusExtent> = Vec::new();
    for (block, status) in known.iter().enumerate() {
        let Some(status) = *status else { continue };
        let block = block as u64;
        let continues = |extent: &StatusExtent| {
            let next = match (extent.status, status) {
                (Status::Written(start), Status::Written(place))
                | (Status::Unwritten(start), Status::Unwritten(place)) => {
                    place.0 - start.0 == extent.range.len()
                }
                (a, b) => a == b,
            };
            extent.range.end().0 == block && next
        };
        match entries.last_mut().filter(|extent| continues(extent)) {
            Some(extent) => extent.range = blocks(extent.range.start().0, extent.range.len() + 1),
            None => entries.push(StatusExtent {
                range: blocks(block, 1),
                status,
            }),
        }
    }
    entries
}

fn op() -> impl Strategy<Value = Op> {
    let range =
        || (0..BLOCKS, 0..12_usize).prop_map(|(first, len)| (first, (first + len).min(BLOCKS - 1)));
    prop_oneof![
        6 => range().prop_map(|(a, b)| Op::Write(a, b)),
        4 => (range(), any::<bool>()).prop_map(|((a, b), written)| Op::Allocate(a, b, written)),
        4 => (range(), any::<bool>()).prop_map(|((a, b), remember)| Op::Punch(a, b, remember)),
        3 => (0..BLOCKS).prop_map(Op::Cache),
        1 => (0..12_u64).prop_map(Op::Shrink),
        1 => (0..3_u64).prop_map(Op::Drop),
        1 => Just(Op::Clear),
        1 => (0..BLOCKS).prop_map(Op::Look),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_operations_leave_the_tree_and_the_reservation_of_the_oracle(
        ops in prop::collection::vec(op(), 1..60),
        ratio in prop::sample::select(vec![1_u64, 4, 16]),
    ) {
        let mut oracle = Oracle::new(ratio);
        for op in &ops {
            oracle.run(op);
            oracle.check();
        }
    }
}
