//! Reading pages before somebody asks for them, and many with one command.

use std::ops::Range;

use crate::error::Result;
use crate::probe::Mutation;
use crate::stats::Counter;
use crate::status::Status;
use crate::sync::uncounted::{AtomicU64, Ordering::Relaxed};
use crate::units::{DiskBlock, FileRange, PAGE_SIZE};

use super::inode::Inode;
use super::page_cache::{bits, mask_of, pages_meeting, push_runs};

/// Bytes read ahead when a file begins to be read in sequence; twice as many each time.
const FIRST_WINDOW: u64 = 4 * PAGE_SIZE;

/// The most bytes read ahead, and in one command.
const LAST_WINDOW: u64 = 1 << 20;

/// Whether an open file is read in sequence. Hints only: threads that share an open file may spoil each other's.
#[derive(Debug, Default)]
pub(super) struct ReadAhead {
    /// Where the next read begins if it goes on where the last one ended.
    next: AtomicU64,
    /// Bytes read ahead last.
    window: AtomicU64,
    /// Where they end.
    until: AtomicU64,
}

impl ReadAhead {
    /// Up to where a read of the bytes `wanted` may bring the file in: further than it asks where it goes on from the last
    /// one and has used up what was read ahead.
    pub(super) fn until(&self, wanted: Range<u64>) -> u64 {
        let goes_on = self.next.swap(wanted.end, Relaxed) == wanted.start;
        if !goes_on {
            self.window.store(0, Relaxed);
            self.until.store(wanted.end, Relaxed);
            return wanted.end;
        }
        let until = self.until.load(Relaxed);
        if wanted.end <= until {
            return until;
        }
        let window = (2 * self.window.load(Relaxed)).clamp(FIRST_WINDOW, LAST_WINDOW);
        let until = until
            .max(wanted.start)
            .saturating_add(window)
            .max(wanted.end);
        self.window.store(window, Relaxed);
        self.until.store(until, Relaxed);
        until
    }
}

impl Inode {
    /// Brings pages in that a read of the bytes `wanted` needs, if the first of them is not there, and more up to
    /// `ahead_to`: each run of the device with one command. Returns up to where it has looked. Only written blocks are
    /// read; what fails here is read again, and reported, by who needs it.
    pub(super) fn bring_in(&self, wanted: Range<u64>, ahead_to: u64) -> u64 {
        let size = self.block_size();
        let start = wanted.start - wanted.start % PAGE_SIZE;
        let next_page = start.saturating_add(PAGE_SIZE);
        let end = ahead_to
            .min(start.saturating_add(LAST_WINDOW))
            .min(self.size());
        // One page is filled as well by the read itself.
        if end <= next_page || self.has(wanted.start) {
            return next_page;
        }
        let probe = &self.backing.probe;
        let _filling = probe.unless(Mutation::ReadBesidePunch, || self.invalidate_lock.read());
        // It may have shrunk.
        let end = end.min(self.size()).max(start);
        let mut rest = size.covering(start, end);
        while !rest.is_empty() {
            let Ok(found) = self.blocks.query(rest.start()) else {
                break;
            };
            let found = found.clip(rest);
            if let Status::Written(disk) = found.status
                && self
                    .fill_run(found.range, disk, wanted.end.min(end))
                    .is_err()
            {
                break;
            }
            rest = FileRange::new(found.range.end(), rest.end());
        }
        end.max(next_page)
    }

    /// Whether the block of the byte `offset` is in memory.
    fn has(&self, offset: u64) -> bool {
        let index = offset / PAGE_SIZE;
        let block = FileRange::at(self.block_size().block_of(offset), 1);
        let mask = self.mask_in_page(index, block);
        let valid = self.pages.with_existing(index, |page| page.valid & mask);
        valid == Some(mask)
    }

    /// Makes the blocks of `run`, which are written from `disk` on, valid: with one command if none of them is. What lies
    /// behind the byte `wanted_end` counts as read ahead.
    fn fill_run(&self, run: FileRange, disk: DiskBlock, wanted_end: u64) -> Result<()> {
        let size = self.block_size();
        let len = size.bytes() as usize;
        let read = |part: FileRange| {
            let mut bytes = vec![0; part.len() as usize * len];
            let from = disk.advance(part.start().0 - run.start().0);
            self.backing.queue.read(from, &mut bytes).map(|()| bytes)
        };
        let early = match self.backing.probe.is(Mutation::ReadBeforeLocking) {
            false => None,
            true => Some(read(run)?),
        };
        let pages = self.pages.brought_in(run);
        // Over the I/O: what is read must still be true when it is there.
        let mut locked: Vec<_> = pages
            .iter()
            .map(|page| (page.blocks(size), page.lock()))
            .filter(|(_, state)| state.is_attached())
            .collect();
        let mut missing = Vec::new();
        for (blocks, state) in &locked {
            push_runs(&mut missing, *blocks, mask_of(*blocks, run) & !state.valid);
        }
        for part in missing {
            let mut bytes = match &early {
                None => read(part)?,
                Some(bytes) => {
                    let from = (part.start().0 - run.start().0) as usize * len;
                    bytes[from..][..part.len() as usize * len].to_vec()
                }
            };
            // What was cut off is still there if the write that zeroed it has failed.
            let inside = self.size().saturating_sub(size.offset_of(part.start()));
            let inside = bytes.len().min(inside as usize);
            bytes[inside..].fill(0);
            let mut blocks_of_part = bytes.chunks_exact(len);
            for (blocks, state) in pages_meeting(&mut locked, part) {
                let mask = mask_of(*blocks, part);
                for (bit, block) in bits(mask).zip(&mut blocks_of_part) {
                    state.bytes[bit * len..(bit + 1) * len].copy_from_slice(block);
                }
                state.valid |= mask;
            }
            let ahead = part.intersect(FileRange::starting_at(
                size.block_of(wanted_end + size.bytes() - 1),
            ));
            self.backing
                .counters
                .add(Counter::BlocksReadAhead, ahead.len());
        }
        Ok(())
    }
}
