//! Which dirty blocks of a file go to the device together, so that there are as few commands as there can be: each
//! run of neighbours on the device is cut from its start on, as the queue does it, and what goes together ends where a
//! command does.

use crate::device::Limits;
use crate::units::{BlockSize, DiskBlock, FileBlock, FileRange, PAGE_SIZE};

/// Bytes that go to the device together, the pages of which are locked at once. Less where they would be no whole
/// number of full commands; more where one is larger.
const BATCH_BYTES: u64 = 1 << 20;

/// Blocks that go to the device together, as full commands and the rest of a run; in order of the file, in which they
/// need not be neighbours.
pub(super) type Batch = Vec<FileRange>;

/// How much more a command takes.
#[derive(Clone, Copy, Default, Debug)]
struct Room {
    blocks: u64,
    /// Each with what a page has of a range.
    buffers: u64,
}

impl Room {
    fn is_none(self) -> bool {
        self.blocks == 0 || self.buffers == 0
    }
}

/// Blocks that are to be written.
#[derive(Debug)]
pub(super) struct Plan {
    /// Of an empty command.
    room: Room,
    /// Blocks in a batch.
    batch: u64,
    blocks_in_page: u64,
    placed: Vec<(DiskBlock, FileRange)>,
    unplaced: Vec<FileRange>,
}

impl Plan {
    /// For commands of which `limits` says how large they can be: at least a block.
    pub(super) fn new(limits: &Limits, block: BlockSize) -> Self {
        let blocks = limits.max_bytes / block.bytes();
        let room = Room {
            blocks,
            // A device may say that it takes any number.
            buffers: blocks.min(limits.max_segments as u64),
        };
        Self {
            room,
            batch: (BATCH_BYTES / block.bytes()).max(room.blocks),
            blocks_in_page: PAGE_SIZE / block.bytes(),
            placed: Vec::new(),
            unplaced: Vec::new(),
        }
    }

    /// Adds blocks, the first of which is at `disk`.
    pub(super) fn add(&mut self, range: FileRange, disk: DiskBlock) {
        self.placed.push((disk, range));
    }

    /// Adds blocks whose place is not known yet.
    pub(super) fn add_unplaced(&mut self, range: FileRange) {
        self.unplaced.push(range);
    }

    pub(super) fn batches(mut self) -> Vec<Batch> {
        self.placed.sort_unstable_by_key(|(disk, _)| *disk);
        let placed = self
            .placed
            .iter()
            .map(|(disk, range)| (Some(*disk), *range));
        let unplaced = self.unplaced.iter().map(|range| (None, *range));
        let mut batches: Vec<Batch> = Vec::new();
        // Where the last command ends on the device, how much more it takes, and how many blocks its batch does.
        let (mut end, mut room, mut in_batch) = (None, Room::default(), 0);
        for (disk, mut rest) in placed.chain(unplaced) {
            if disk.is_none() || disk != end {
                (room, in_batch) = (Room::default(), 0);
            }
            end = disk.map(|disk| disk.advance(rest.len()));
            while !rest.is_empty() {
                if room.is_none() {
                    room = self.room;
                    if in_batch < room.blocks {
                        batches.push(Batch::new());
                        in_batch = self.batch;
                    }
                }
                let first;
                (first, rest) = self.split(rest, room);
                room.blocks -= first.len();
                room.buffers -= self.pages_of(first);
                in_batch -= first.len();
                if let Some(batch) = batches.last_mut() {
                    batch.push(first);
                }
            }
        }
        for batch in &mut batches {
            batch.sort_unstable_by_key(|range| range.start());
        }
        batches
    }

    /// The first blocks of `range`, as many as there is `room` for, and the rest.
    fn split(&self, range: FileRange, room: Room) -> (FileRange, FileRange) {
        let start = range.start().0;
        let pages_end = (start / self.blocks_in_page + room.buffers) * self.blocks_in_page;
        let at = FileBlock((start + room.blocks).min(pages_end).min(range.end().0));
        (
            FileRange::new(range.start(), at),
            FileRange::new(at, range.end()),
        )
    }

    /// How many pages have blocks of `range`, which is not empty.
    fn pages_of(&self, range: FileRange) -> u64 {
        range.end().0.div_ceil(self.blocks_in_page) - range.start().0 / self.blocks_in_page
    }
}

/// Those ranges of a batch that have a block of `page`.
pub(super) fn meeting(batch: &Batch, page: FileRange) -> &[FileRange] {
    let first = batch.partition_point(|range| range.end() <= page.start());
    let end = batch.partition_point(|range| range.start() < page.end());
    &batch[first..end]
}
