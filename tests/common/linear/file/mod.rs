//! One file of a volume, used by many threads.

mod rules;
mod scripts;
mod steps;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use extent_map::device::{BlockDevice, MemoryDevice};
use extent_map::file::{ExtentKind, File, Volume, VolumeOptions};
use extent_map::probe::{Mutation, Probe};
use extent_map::testing::{self, FileOp, Observation, Outcome};
use extent_map::units::{FileNumber, PAGE_SIZE};
use extent_map::{Error, Result};

use super::{Done, Subject, Verdict, is_explained, judge, record};
use crate::thread;
use steps::Steps;

/// What a volume is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) name: &'static str,
    pub(crate) block_size: u64,
    pub(crate) cluster_blocks: u64,
    pub(crate) delayed: bool,
    /// Pages of the file.
    pub(crate) pages: u64,
    /// Another thread forgets what can be found again, and syncs the volume.
    pub(crate) pressure: bool,
}

/// What is worth recording.
pub(crate) const SHAPES: [Shape; 6] = [
    Shape::new("blocks of 4 KiB"),
    Shape {
        block_size: 1024,
        pages: 2,
        ..Shape::new("blocks of 1 KiB")
    },
    Shape {
        cluster_blocks: 2,
        pages: 4,
        ..Shape::new("clusters of 8 KiB")
    },
    Shape {
        block_size: 2048,
        cluster_blocks: 4,
        ..Shape::new("clusters of blocks of 2 KiB")
    },
    Shape {
        delayed: false,
        ..Shape::new("allocated at once")
    },
    Shape {
        pressure: true,
        ..Shape::new("memory pressure")
    },
];

impl Shape {
    const fn new(name: &'static str) -> Self {
        Self {
            name,
            block_size: 4096,
            cluster_blocks: 1,
            delayed: true,
            pages: 3,
            pressure: false,
        }
    }

    fn cluster_bytes(&self) -> u64 {
        self.block_size * self.cluster_blocks
    }
}

/// What can be done to the file. A write or store fills its range with one byte.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Write {
        offset: u64,
        len: u64,
        byte: u8,
    },
    Store {
        offset: u64,
        len: u64,
        byte: u8,
    },
    Fault(u64),
    /// Those whose arguments say all, but for writes.
    Op(FileOp),
    Extents,
    Size,
    SyncVolume,
    DropCaches,
    ShrinkVolume,
    /// Everything there is to see; only alone.
    Observe,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Done,
    Count(u64),
    Bytes(Bytes),
    Offset(u64),
    /// How each block is backed, up to the last that is.
    Kinds(Vec<Option<ExtentKind>>),
    Observed(Box<Seen>),
    /// With this errno.
    Failed(i32),
}

/// Bytes that print as runs.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.0.chunk_by(|a, b| a == b);
        f.debug_list()
            .entries(runs.map(|run| format!("{} x {}", run.len(), run[0])))
            .finish()
    }
}

/// An observation that prints its content as runs.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Seen(Observation);

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Observation {
            content, extents, ..
        } = &self.0;
        write!(f, "{:?} {extents:?} ", Bytes(content.clone()))?;
        write!(f, "reserved {}, ", self.0.reserved_blocks)?;
        write!(f, "sectors {}, data {:?}", self.0.sectors, self.0.data)
    }
}

/// A device in memory that lets other threads run in the middle of its work.
#[derive(Debug)]
struct YieldingDevice(MemoryDevice);

impl BlockDevice for YieldingDevice {
    fn size(&self) -> u64 {
        self.0.size()
    }
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        thread::yield_now();
        self.0.read_at(offset, buffer)
    }
    fn write_at(&self, offset: u64, data: &[u8]) -> Result<()> {
        thread::yield_now();
        self.0.write_at(offset, data)?;
        thread::yield_now();
        Ok(())
    }
    fn flush(&self) -> Result<()> {
        self.0.flush()
    }
    fn discard(&self, offset: u64, len: u64) -> Result<()> {
        self.0.discard(offset, len)
    }
}

/// A volume with one file.
#[derive(Debug)]
pub(crate) struct World {
    volume: Volume,
    file: File,
}

impl World {
    /// An empty file of a roomy volume; `skip_second_look` brings the bug of 2024 back.
    pub(crate) fn new(shape: &Shape, skip_second_look: bool) -> Self {
        let turn = AtomicU64::new(0);
        let probe = Probe::new()
            .mutations(skip_second_look.then_some(Mutation::SkipSecondLook))
            .between_looks(move |_, _| {
                if turn.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                    thread::yield_now();
                }
            });
        let options = VolumeOptions::new()
            .block_size(shape.block_size)
            .cluster_blocks(shape.cluster_blocks)
            .delayed_allocation(shape.delayed)
            .low_space_clusters(0)
            .probe(probe);
        let device = YieldingDevice(MemoryDevice::new(1 << 20));
        let volume = Volume::format(Arc::new(device), &options).unwrap();
        let file = volume.file(FileNumber(1)).unwrap();
        Self { volume, file }
    }

    /// Writes behind the back of those who record.
    pub(crate) fn overwrite(&self, bytes: &[u8]) {
        let _unnoticed = self.file.write_at(0, bytes);
    }

    fn try_call(&self, call: &Call) -> Result<Answer> {
        let fill = |len: u64, byte: u8| vec![byte; len as usize];
        let file = &self.file;
        match *call {
            Call::Write { offset, len, byte } => {
                let written = file.write_at(offset, &fill(len, byte))?;
                return Ok(Answer::Count(written as u64));
            }
            Call::Store { offset, len, byte } => {
                let stored = file.store_mapped(offset, &fill(len, byte))?;
                return Ok(Answer::Count(stored as u64));
            }
            Call::Fault(offset) => file.page_fault(offset)?,
            Call::Op(ref op) => return Ok(op.apply(file).into()),
            Call::Extents => {
                let mut kinds = Vec::new();
                for extent in file.extents()? {
                    kinds.resize(extent.range.start().0 as usize, None);
                    kinds.resize(extent.range.end().0 as usize, Some(extent.kind));
                }
                return Ok(Answer::Kinds(kinds));
            }
            Call::Size => return Ok(Answer::Offset(file.size())),
            Call::SyncVolume => self.volume.sync()?,
            Call::DropCaches => self.volume.drop_caches()?,
            Call::ShrinkVolume => drop(self.volume.shrink_status(u64::MAX)),
            Call::Observe => return Ok(Answer::Observed(Box::new(Seen(Observation::of(file)?)))),
        }
        Ok(Answer::Done)
    }
}

impl From<Outcome> for Answer {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::Done,
            Outcome::Count(count) => Self::Count(count),
            Outcome::Bytes(bytes) => Self::Bytes(Bytes(bytes)),
            Outcome::Offset(offset) => Self::Offset(offset),
            Outcome::Failed(errno) => Self::Failed(errno),
        }
    }
}

impl Subject for World {
    type Call = Call;
    type Answer = Answer;

    fn call(&self, call: &Call) -> Answer {
        let failed = |error: Error| Answer::Failed(error.errno());
        self.try_call(call).unwrap_or_else(failed)
    }
}

/// What a round of threads does to a file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) shape: Shape,
    pub(crate) threads: usize,
    /// Calls of each thread.
    pub(crate) calls: usize,
    /// As [`World::new`].
    pub(crate) skip_second_look: bool,
}

impl Plan {
    /// What is usually done.
    pub(crate) fn of(shape: Shape) -> Self {
        Self {
            shape,
            threads: 3,
            calls: 5,
            skip_second_look: false,
        }
    }

    /// One round; how many calls there were, and what is to be said about them.
    pub(crate) fn round(&self, seed: u64) -> (usize, Verdict) {
        self.round_of(seed, |world| world)
    }

    /// The same, where threads use what `wrap` makes of the file.
    pub(crate) fn round_of<W>(&self, seed: u64, wrap: impl FnOnce(World) -> W) -> (usize, Verdict)
    where
        W: Subject<Call = Call, Answer = Answer> + AsRef<World>,
    {
        let subject = wrap(World::new(&self.shape, self.skip_second_look));
        let history = record(&subject, &scripts::script(self, seed));
        let verdict = match (
            self.judge(&history),
            testing::check(&subject.as_ref().volume),
        ) {
            (Verdict::Explained, Err(violations)) => Verdict::Violated(format!("{violations:?}")),
            (verdict, _) => verdict,
        };
        (history.len(), verdict)
    }

    /// What was done in a round.
    pub(crate) fn record(&self, seed: u64) -> Vec<Done<Call, Answer>> {
        let world = World::new(&self.shape, self.skip_second_look);
        record(&world, &scripts::script(self, seed))
    }

    /// What is to be said about it.
    pub(crate) fn judge(&self, history: &[Done<Call, Answer>]) -> Verdict {
        let rules = |steps| rules::Rules::new(&self.shape, history, steps);
        let explains = |steps| {
            let rules = rules(steps);
            is_explained(rules.begin(), history, |done| rules.parts(done))
        };
        if Steps::FEW.into_iter().any(explains) {
            return Verdict::Explained;
        }
        let rules = rules(Steps::ALL);
        judge(rules.begin(), history, |done| rules.parts(done))
    }
}

impl AsRef<World> for World {
    fn as_ref(&self) -> &World {
        self
    }
}

/// The pages that hold the bytes `offset..offset + len`: where each part begins, and how long it is.
fn by_page(offset: u64, len: u64) -> impl Iterator<Item = (u64, u64)> {
    let end = offset + len;
    let start = move |page: u64| (page * PAGE_SIZE).max(offset);
    (offset / PAGE_SIZE..end.div_ceil(PAGE_SIZE))
        .map(move |page| (start(page), ((page + 1) * PAGE_SIZE).min(end) - start(page)))
}
