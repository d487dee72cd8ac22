//! [`StatusTree`] and its accounting against one slot for each block.

use std::array;

use extent_map::Error;
use extent_map::status::{CacheOutcome, Status, StatusContext, StatusTree};
use extent_map::units::{ClusterRatio, DiskBlock, FileBlock, FileRange};

use super::bytes::Bytes;

const BLOCKS: usize = 64;
/// Block `n` of the file always lives here plus `n`.
const PLACE: u64 = 1024;

/// A tree and the file that it describes.
#[derive(Debug)]
struct Model {
    tree: StatusTree,
    ratio: usize,
    /// What the file has at each block; a hole where it has nothing.
    truth: [Status; BLOCKS],
    /// Whether the tree must know about the block.
    known: [bool; BLOCKS],
    /// Clusters that have delayed blocks but, being allocated, no promise.
    pending: [bool; BLOCKS],
    reserved: u64,
}

/// The status of block `block` in an extent that starts with `status`, which says the kind.
fn at(status: Status, block: usize) -> Status {
    let place = DiskBlock(PLACE + block as u64);
    match status {
        Status::Written(_) => Status::Written(place),
        Status::Unwritten(_) => Status::Unwritten(place),
        other => other,
    }
}

impl Model {
    fn new(ratio: usize) -> Self {
        let cluster = ClusterRatio::new(ratio as u64).expect("a power of two");
        Self {
            tree: StatusTree::new(&StatusContext::new(cluster)),
            ratio,
            truth: [Status::Hole; BLOCKS],
            known: [false; BLOCKS],
            pending: [false; BLOCKS],
            reserved: 0,
        }
    }

    fn of_cluster(&self, cluster: usize) -> &[Status] {
        &self.truth[cluster * self.ratio..][..self.ratio]
    }

    fn has_delayed(&self, cluster: usize) -> bool {
        self.of_cluster(cluster).contains(&Status::Delayed)
    }

    fn is_allocated(&self, cluster: usize) -> bool {
        let mut blocks = self.of_cluster(cluster).iter();
        blocks.any(|status| status.is_allocated())
    }

    /// Does the next operation; `None` when there is none.
    fn step(&mut self, bytes: &mut Bytes<'_>) -> Option<()> {
        let op = bytes.byte()?;
        let (first, last) = bytes.slots(BLOCKS)?;
        let kind = match op / 8 % 4 {
            0 | 1 => Status::Written(DiskBlock(0)),
            2 => Status::Unwritten(DiskBlock(0)),
            _ => Status::Hole,
        };
        match op % 8 {
            0..3 => self.delay(first, last),
            3 | 4 => self.change(first, last, kind, true),
            5 => self.change(first, last, Status::Hole, false),
            6 => self.cache(first),
            _ => self.shrink(op),
        }
        Some(())
    }

    fn range(first: usize, last: usize) -> FileRange {
        FileRange::at(FileBlock(first as u64), (last - first + 1) as u64)
    }

    fn delay(&mut self, first: usize, last: usize) {
        let slots = first..=last;
        let taken = |block: usize| !self.truth[block].is_hole();
        if slots.clone().any(taken) {
            // Only what the tree knows can be refused; the rest is for its user to know.
            if slots.clone().any(|block| taken(block) && self.known[block]) {
                let refused = self
                    .tree
                    .insert_delayed(Self::range(first, last), false, false);
                assert!(matches!(refused, Err(Error::Corrupt(_))), "{refused:?}");
            }
            return;
        }
        let (from, to) = (first / self.ratio, last / self.ratio);
        let mut flags = (false, false);
        for cluster in (from..=to)
            .filter(|cluster| !self.has_delayed(*cluster))
            .collect::<Vec<_>>()
        {
            let allocated = self.is_allocated(cluster);
            self.pending[cluster] = allocated;
            self.reserved += u64::from(!allocated);
            flags.0 |= allocated && cluster == from;
            flags.1 |= allocated && cluster == to && to > from;
        }
        self.truth[slots.clone()].fill(Status::Delayed);
        self.known[slots].fill(true);
        let inserted = self
            .tree
            .insert_delayed(Self::range(first, last), flags.0, flags.1);
        assert_eq!(inserted, Ok(()));
    }

    /// Gives blocks another status that is not delayed, remembered or not.
    fn change(&mut self, first: usize, last: usize, kind: Status, remember: bool) {
        let clusters = first / self.ratio..=last / self.ratio;
        let delayed_before: Vec<usize> = clusters
            .clone()
            .filter(|cluster| self.has_delayed(*cluster))
            .collect();
        for block in first..=last {
            self.truth[block] = at(kind, block);
            self.known[block] = remember;
        }
        let mut released = 0;
        for cluster in delayed_before {
            let delayed = self.has_delayed(cluster);
            // Either nothing is left to promise space for, or the space is allocated now.
            let settled = !delayed || kind.is_allocated();
            released += u64::from(settled && !self.pending[cluster]);
            self.pending[cluster] = delayed && (self.pending[cluster] || kind.is_allocated());
        }
        let range = Self::range(first, last);
        let accounting = match remember {
            true => self.tree.insert(range, at(kind, first)),
            false => self.tree.remove(range),
        };
        assert_eq!(
            accounting.map(|accounting| accounting.released),
            Ok(released)
        );
        self.reserved -= released;
        // Delayed blocks whose cluster was freed need a promise of their own.
        for cluster in clusters {
            if self.pending[cluster] && !self.is_allocated(cluster) {
                assert!(self.tree.take_pending(cluster as u64));
                self.pending[cluster] = false;
                self.reserved += 1;
            }
        }
    }

    /// Remembers the truth about the blocks around `block` that have one kind.
    fn cache(&mut self, block: usize) {
        let same = |other: &usize| at(self.truth[block], 0) == at(self.truth[*other], 0);
        let first = (0..=block).rev().take_while(same).last().unwrap_or(block);
        let last = (block..BLOCKS).take_while(same).last().unwrap_or(block);
        if self.truth[block].is_delayed() {
            return;
        }
        let fresh = !self.known[first..=last].contains(&true);
        let outcome = self.tree.cache(Self::range(first, last), self.truth[first]);
        match fresh {
            true => assert_eq!(outcome, Ok(CacheOutcome::Inserted)),
            false => assert_eq!(outcome, Ok(CacheOutcome::Kept)),
        }
        if fresh {
            self.known[first..=last].fill(true);
        }
    }

    /// Forgets what can be read again.
    fn shrink(&mut self, op: u8) {
        if op & 8 == 0 {
            self.tree.clear();
        } else {
            self.tree.shrink(u64::from(op / 16));
        }
        for block in 0..BLOCKS {
            let known = self.tree.lookup(FileBlock(block as u64)).is_some();
            assert!(
                known || !self.truth[block].is_delayed(),
                "a delayed block was forgotten"
            );
            assert!(
                self.known[block] || !known,
                "block {block} came from nowhere"
            );
            self.known[block] = known;
        }
    }

    fn check(&self) {
        let extents = self.tree.extents(FileRange::starting_at(FileBlock(0)));
        let mut walked = [None; BLOCKS];
        for extent in &extents {
            for block in extent.range.blocks() {
                let by = block.0 - extent.range.start().0;
                walked[block.0 as usize] = Some(match extent.status {
                    Status::Written(disk) => Status::Written(disk.advance(by)),
                    Status::Unwritten(disk) => Status::Unwritten(disk.advance(by)),
                    other => other,
                });
            }
        }
        let expected = array::from_fn(|block| self.known[block].then_some(self.truth[block]));
        assert_eq!(walked, expected);
        let merged = extents
            .windows(2)
            .all(|pair| pair[0].join(pair[1]).is_none());
        assert!(merged, "neighbours that should be one: {extents:?}");
        assert_eq!(self.tree.entry_count(), extents.len() as u64);
        let promised = (0..BLOCKS / self.ratio)
            .filter(|cluster| self.has_delayed(*cluster) && !self.pending[*cluster])
            .count();
        assert_eq!(self.reserved, promised as u64);
        for (cluster, pending) in self.pending.iter().enumerate() {
            assert_eq!(
                self.tree.is_pending(cluster as u64),
                *pending,
                "cluster {cluster}"
            );
        }
    }
}

/// Runs `data` as operations on a tree and checks it after each of them.
pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let ratio = match bytes.byte() {
        Some(byte) if byte % 2 == 1 => 4,
        _ => 1,
    };
    let mut model = Model::new(ratio);
    while model.step(&mut bytes).is_some() {
        model.check();
    }
}
