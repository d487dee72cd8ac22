//! Commits: the running change becomes a transaction of the log, or part of a new image.

use std::mem;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::block::BlockQueue;
use crate::device::{OperationKind, unanswered};
use crate::error::{Error, Result};
use crate::probe::Mutation;
use crate::spans::span;
use crate::sync::atomic::Ordering;
use crate::sync::uncounted::Ordering::Relaxed;
use crate::sync::{begin_io, yield_now};
use crate::units::FileNumber;

use super::super::table::FileState;
use super::layout::{Layout, MOST_MOVED, SECTOR, UNIT};
use super::record::Change;
use super::sector::{PAYLOAD, Tag};
use super::superblock::Superblock;
use super::{LogStore, image};

/// How long a commit waits at a time for others to join, and at most.
const NAP: Duration = Duration::from_micros(50);
const LONGEST_WAIT: Duration = Duration::from_millis(5);

/// The change that is being made.
#[derive(Debug)]
pub(super) struct Running {
    /// Rises with each commit.
    pub(super) number: u64,
    /// What it changes; no longer kept once the log cannot hold it.
    records: Vec<u8>,
    outgrew_log: bool,
    /// How many extents they move or convert.
    pub(super) moved: u64,
    /// How long an image of all files would be.
    image_bytes: u64,
}

impl Running {
    pub(super) fn with(image_bytes: u64) -> Self {
        Self {
            number: 1,
            records: Vec::new(),
            outgrew_log: false,
            moved: 0,
            image_bytes,
        }
    }

    /// Adds a change of a file, if an image will have room for what it makes of it.
    pub(super) fn add(
        &mut self,
        file: FileNumber,
        change: &Change,
        before: &FileState,
        after: &FileState,
        layout: &Layout,
    ) -> Result<()> {
        let room = match change.must_not_fail() {
            true => layout.image_bytes(),
            false => layout.image_bytes() / 8 * 7,
        };
        let (old, new) = (image::bytes_of(before), image::bytes_of(after));
        let all = self.image_bytes - old + new;
        if new > old && all > room {
            return Err(Error::NoSpace);
        }
        self.image_bytes = all;
        if !self.outgrew_log {
            change.encode(file, &mut self.records);
            self.outgrew_log = self.records.len() as u64 > layout.log.end - layout.log.start;
        }
        if self.outgrew_log {
            self.records = Vec::new();
        }
        Ok(())
    }
}

/// Where the log ends.
#[derive(Debug)]
pub(super) struct Tail {
    /// What both copies on the device say, unless `unsure` is there.
    superblock: Superblock,
    /// One of which it is not known whether the device has it. Its image is durable.
    unsure: Option<Superblock>,
    /// Where the next transaction goes, in sectors.
    position: u32,
    /// How many transactions the log has.
    transactions: u32,
    /// How many extents those move or convert.
    moved: u64,
    /// What the log holds behind some place is not known: nothing may be appended.
    in_doubt: bool,
    /// The changes that did not become durable when it was tried last, and why not. Who waited hears of it, even when
    /// a later commit has made them durable: their data may be lost.
    failed: Option<(RangeInclusive<u64>, Error)>,
    /// How many callers the last commit was for, and how long it took.
    company: u64,
    took: Duration,
}

impl Tail {
    /// An empty log behind the image that `superblock` names; or one that is not empty, or superblocks of which that is
    /// only the best.
    pub(super) fn behind(superblock: Superblock, in_doubt: bool) -> Self {
        Self {
            unsure: in_doubt.then(|| superblock.clone()),
            superblock,
            position: 0,
            transactions: 0,
            moved: 0,
            in_doubt,
            failed: None,
            company: 0,
            took: Duration::ZERO,
        }
    }

    /// A commit of `changes` counts as failed until it has ended: the device may panic. What had failed before.
    fn fails(&mut self, changes: RangeInclusive<u64>) -> Option<(RangeInclusive<u64>, Error)> {
        self.in_doubt = true;
        let error = unanswered(OperationKind::Flush, 0);
        self.failed.replace((changes, error))
    }
}

/// A change that is closed, and how it will be written.
enum Closed {
    /// With how many extents it moves or converts.
    Transaction(Vec<u8>, u64),
    /// All files, with the change made.
    Image(Vec<(FileNumber, Arc<FileState>)>),
    /// It changes nothing.
    Nothing,
}

impl LogStore {
    pub(super) fn durable_number(&self) -> u64 {
        // Acquire pairs with the Release in `commit_running`: who sees the number may use what it frees.
        self.durable.load(Ordering::Acquire)
    }

    /// As [`MappingStore::commit`](super::MappingStore::commit). Callers that arrive during a commit share the next one
    /// with its outcome.
    pub(super) fn commit_with(&self, data: &BlockQueue) -> Result<()> {
        let joins = self.probe.is(Mutation::JoinCommitUnderWay);
        let wanted = self.running.lock().number - u64::from(joins);
        // Also where another caller's commit will do.
        let _waiting_for_io = begin_io();
        self.committing.fetch_add(1, Relaxed);
        let outcome = loop {
            // Waits for the commit under way. All who do wake up together.
            if let Some(outcome) = self.outcome(&self.tail.read(), wanted) {
                break outcome;
            }
            if let Some(mut tail) = self.tail.try_write() {
                let already = self.outcome(&tail, wanted);
                break already.unwrap_or_else(|| self.commit_running(&mut tail, data));
            }
            yield_now();
        };
        self.committing.fetch_sub(1, Relaxed);
        outcome
    }

    /// What became of a change, if its commit has ended.
    fn outcome(&self, tail: &Tail, change: u64) -> Option<Result<()>> {
        match &tail.failed {
            Some((failed, error)) if failed.contains(&change) => Some(Err(error.clone())),
            _ => (self.durable_number() >= change).then_some(Ok(())),
        }
    }

    /// Makes the running change durable.
    fn commit_running(&self, tail: &mut Tail, data: &BlockQueue) -> Result<()> {
        span!(DEBUG, "commit");
        self.wait_for_company(tail);
        tail.company = self.committing.load(Relaxed);
        let start = Instant::now();
        let (number, closed) = self.close_running(tail);
        let failed_before = tail.fails(self.durable_number() + 1..=number);
        let written = self.write(tail, closed, data);
        tail.took = start.elapsed();
        match &written {
            // Release pairs with the Acquire in `durable_number`.
            Ok(()) => {
                tail.in_doubt = false;
                tail.failed = failed_before;
                self.durable.store(number, Ordering::Release);
            }
            Err(error) => {
                tail.in_doubt = !self.probe.is(Mutation::AppendInDoubt);
                tail.failed = Some((self.durable_number() + 1..=number, error.clone()));
            }
        }
        written
    }

    /// Those who shared the last commit may be about to sync again. Waits for as many, but not for longer than half a
    /// commit takes: otherwise the first to come would go alone, and all others wait for it.
    fn wait_for_company(&self, tail: &Tail) {
        let limit = (tail.took / 2).min(LONGEST_WAIT);
        let start = Instant::now();
        // Under a schedule explorer time does not pass.
        let waits = !cfg!(any(loom, feature = "shuttle"));
        while waits && self.committing.load(Relaxed) < tail.company && start.elapsed() < limit {
            thread::sleep(NAP);
        }
    }

    /// Closes the running change: what is changed from now on belongs to the next.
    fn close_running(&self, tail: &Tail) -> (u64, Closed) {
        let _nothing_half_done = self.together.write();
        let mut running = self.running.lock();
        let number = running.number;
        running.number += 1;
        let records = mem::take(&mut running.records);
        let outgrew = mem::take(&mut running.outgrew_log);
        let sectors = transaction_sectors(records.len());
        let moved = mem::take(&mut running.moved);
        let fits = sectors <= u64::from(self.layout.log_sectors() - tail.position)
            && (tail.moved + moved <= MOST_MOVED || self.probe.is(Mutation::LogMovesWithoutEnd));
        let closed = if tail.in_doubt || outgrew || !fits && !records.is_empty() {
            Closed::Image(self.table.states())
        } else if records.is_empty() {
            Closed::Nothing
        } else {
            let mut transaction = running.image_bytes.to_le_bytes().to_vec();
            transaction.extend(records);
            Closed::Transaction(transaction, moved)
        };
        (number, closed)
    }

    fn write(&self, tail: &mut Tail, closed: Closed, data: &BlockQueue) -> Result<()> {
        match closed {
            Closed::Nothing => data.flush(),
            Closed::Transaction(transaction, moved) => {
                self.append(tail, &transaction, data)?;
                tail.moved += moved;
                Ok(())
            }
            Closed::Image(files) => self.checkpoint(tail, &files, data),
        }
    }

    /// Writes a transaction behind the last one.
    fn append(&self, tail: &mut Tail, transaction: &[u8], data: &BlockQueue) -> Result<()> {
        if !self.probe.is(Mutation::LogBeforeData) {
            data.flush()?;
        }
        let sectors = transaction_sectors(transaction.len() - COUNT_BYTES) as u32;
        let mut log = Vec::with_capacity(sectors as usize * SECTOR);
        let mut pieces = transaction.chunks(PAYLOAD);
        for index in 0..sectors {
            let tag = Tag {
                generation: tail.superblock.generation,
                position: tail.position + index,
                transaction: tail.transactions,
                last: index == sectors - 1,
            };
            tag.seal(pieces.next().unwrap_or_default(), &mut log);
        }
        let offset = self.layout.log.start + u64::from(tail.position) * SECTOR as u64;
        {
            let _doing_io = begin_io();
            self.device.write_at(offset, &log)?;
        }
        if !self.probe.is(Mutation::CommitWithoutFlush) {
            self.flush_own(data)?;
        }
        tail.position += sectors;
        tail.transactions += 1;
        Ok(())
    }

    /// Writes a new image and starts the log anew.
    fn checkpoint(
        &self,
        tail: &mut Tail,
        files: &[(FileNumber, Arc<FileState>)],
        data: &BlockQueue,
    ) -> Result<()> {
        span!(DEBUG, "checkpoint", files = files.len());
        // First make sure which image is in use: the other one will be overwritten.
        if let Some(unsure) = &tail.unsure {
            self.write_superblocks(unsure, data)?;
            tail.superblock = unsure.clone();
            tail.unsure = None;
        }
        let generation = tail.superblock.generation + 1;
        let image = {
            let _doing_io = begin_io();
            image::write(&*self.device, self.layout.image(generation).start, files)?
        };
        // The data of the files as well: nothing names the image yet.
        data.flush()?;
        if !self.shares_device(data) {
            self.flush_own(data)?;
        }
        let superblock = Superblock {
            generation,
            image,
            ..tail.superblock.clone()
        };
        tail.unsure = Some(superblock.clone());
        self.write_superblocks(&superblock, data)?;
        tail.superblock = superblock;
        tail.unsure = None;
        tail.position = 0;
        tail.transactions = 0;
        tail.moved = 0;
        tail.in_doubt = false;
        Ok(())
    }

    /// One copy after the other, so that one is always whole.
    fn write_superblocks(&self, superblock: &Superblock, data: &BlockQueue) -> Result<()> {
        for copy in self.layout.superblocks {
            {
                let _doing_io = begin_io();
                self.device.write_at(copy, &superblock.encode())?;
            }
            self.flush_own(data)?;
        }
        Ok(())
    }

    /// Whether the data lies on the store's own device.
    fn shares_device(&self, data: &BlockQueue) -> bool {
        std::ptr::addr_eq(&raw const *self.device, &raw const **data.device())
    }

    /// Makes durable what the store has written: where the data has the same device, by its queue, which shares flushes.
    fn flush_own(&self, data: &BlockQueue) -> Result<()> {
        if self.shares_device(data) {
            return data.flush();
        }
        let _doing_io = begin_io();
        self.device.flush()
    }
}

/// Bytes before the records of a transaction.
pub(super) const COUNT_BYTES: usize = 8;

/// Sectors of a transaction with `record_bytes` bytes of records: whole units.
fn transaction_sectors(record_bytes: usize) -> u64 {
    let sectors = (COUNT_BYTES + record_bytes).div_ceil(PAYLOAD) as u64;
    sectors.next_multiple_of(UNIT / SECTOR as u64)
}
