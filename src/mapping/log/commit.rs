//! Commits: the running change becomes a transaction of the log, or part of a new image.

use std::mem;
use std::sync::Arc;

use crate::block::BlockQueue;
use crate::error::{Error, Result};
use crate::probe::Mutation;
use crate::sync::atomic::Ordering;
use crate::sync::begin_io;
use crate::units::FileNumber;

use super::super::table::FileState;
use super::layout::{Layout, SECTOR, UNIT};
use super::record::Change;
use super::sector::{PAYLOAD, Tag};
use super::superblock::Superblock;
use super::{LogStore, image};

/// The change that is being made.
#[derive(Debug)]
pub(super) struct Running {
    /// Rises with each commit.
    pub(super) number: u64,
    /// What it changes; no longer kept once the log cannot hold it.
    records: Vec<u8>,
    outgrew_log: bool,
    /// How long an image of all files would be.
    image_bytes: u64,
}

impl Running {
    pub(super) fn with(image_bytes: u64) -> Self {
        Self {
            number: 1,
            records: Vec::new(),
            outgrew_log: false,
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
    /// What the log holds behind some place is not known: nothing may be appended.
    in_doubt: bool,
    /// The last change that did not become durable when it was tried, and why.
    failed: Option<(u64, Error)>,
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
            in_doubt,
            failed: None,
        }
    }
}

/// A change that is closed, and how it will be written.
enum Closed {
    Transaction(Vec<u8>),
    /// All files, with the change made.
    Image(Vec<(FileNumber, Arc<FileState>)>),
    /// It changes nothing.
    Nothing,
}

impl LogStore {
    pub(super) fn durable_number(&self) -> u64 {
        // Acquire pairs with the Release in `commit_with`: who sees the number may use what it frees.
        self.durable.load(Ordering::Acquire)
    }

    /// As [`MappingStore::commit`](super::MappingStore::commit). Callers that arrive during a commit share the next one
    /// with its outcome.
    pub(super) fn commit_with(&self, data: &BlockQueue) -> Result<()> {
        let wanted = self.running.lock().number;
        // Also where another caller's commit will do.
        let _waiting_for_io = begin_io();
        let mut tail = self.tail.lock();
        if self.durable_number() >= wanted {
            return Ok(());
        }
        if let Some((failed, error)) = &tail.failed
            && *failed >= wanted
        {
            return Err(error.clone());
        }
        let (number, closed) = self.close_running(&tail);
        let written = self.write(&mut tail, closed, data);
        match &written {
            // Release pairs with the Acquire in `durable_number`.
            Ok(()) => self.durable.store(number, Ordering::Release),
            Err(error) => {
                tail.in_doubt = !self.probe.is(Mutation::AppendInDoubt);
                tail.failed = Some((number, error.clone()));
            }
        }
        written
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
        let fits = sectors <= u64::from(self.layout.log_sectors() - tail.position);
        let closed = if tail.in_doubt || outgrew || !fits && !records.is_empty() {
            Closed::Image(self.table.states())
        } else if records.is_empty() {
            Closed::Nothing
        } else {
            let mut transaction = running.image_bytes.to_le_bytes().to_vec();
            transaction.extend(records);
            Closed::Transaction(transaction)
        };
        (number, closed)
    }

    fn write(&self, tail: &mut Tail, closed: Closed, data: &BlockQueue) -> Result<()> {
        match closed {
            Closed::Nothing => data.flush(),
            Closed::Transaction(transaction) => self.append(tail, &transaction, data),
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
            data.flush()?;
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
            data.flush()?;
        }
        Ok(())
    }
}

/// Bytes before the records of a transaction.
pub(super) const COUNT_BYTES: usize = 8;

/// Sectors of a transaction with `record_bytes` bytes of records: whole units.
fn transaction_sectors(record_bytes: usize) -> u64 {
    let sectors = (COUNT_BYTES + record_bytes).div_ceil(PAYLOAD) as u64;
    sectors.next_multiple_of(UNIT / SECTOR as u64)
}
