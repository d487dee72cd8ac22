//! Files and status trees that break a promise: histories must show each of them.

use std::sync::{Mutex, PoisonError};

use extent_map::file::AllocateMode;
use extent_map::status::StatusTree;
use extent_map::testing::FileOp;

use super::Subject;
use super::file::{self, World};
use super::status;
use crate::thread;

/// How a file is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileFault {
    /// A write is two, each of one half.
    TornWrite,
    /// A punch is two.
    TornPunch,
    /// A read may answer what the one before it did.
    StaleRead,
    /// A write is only done when the next one comes.
    LateWrite,
    /// Writeback brings back what was in the first page before it began.
    LostStore,
    /// A seek begins with the extents that there were at the one before it.
    StaleSeek,
}

impl FileFault {
    pub(crate) const ALL: [Self; 6] = [
        Self::TornWrite,
        Self::TornPunch,
        Self::StaleRead,
        Self::LateWrite,
        Self::LostStore,
        Self::StaleSeek,
    ];
}

/// A file with a fault.
#[derive(Debug)]
pub(crate) struct BrokenFile {
    world: World,
    fault: FileFault,
    /// The call that the fault is about, with its answer.
    last: Mutex<Option<(file::Call, file::Answer)>>,
}

impl BrokenFile {
    pub(crate) fn new(world: World, fault: FileFault) -> Self {
        let last = Mutex::new(None);
        Self { world, fault, last }
    }

    /// Remembers a call; the one before it.
    fn swap(&self, call: &file::Call, answer: file::Answer) -> Option<(file::Call, file::Answer)> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.replace((call.clone(), answer))
    }

    /// The answer of the call before, if it was the same.
    fn stale(&self, call: &file::Call) -> file::Answer {
        let answer = self.world.call(call);
        match self.swap(call, answer.clone()) {
            Some((last, stale)) if last == *call => stale,
            _ => answer,
        }
    }

    fn late(&self, call: &file::Call, len: u64) -> file::Answer {
        let answer = file::Answer::Count(len);
        if let Some((earlier, _)) = self.swap(call, answer.clone()) {
            self.world.call(&earlier);
        }
        answer
    }

    fn sync(&self, call: &file::Call) -> file::Answer {
        let read = FileOp::Read {
            offset: 0,
            len: 4096,
        };
        let before = self.world.call(&file::Call::Op(read));
        thread::yield_now();
        let answer = self.world.call(call);
        if let file::Answer::Bytes(bytes) = before {
            self.world.overwrite(&bytes.0);
        }
        answer
    }
}

impl AsRef<World> for BrokenFile {
    fn as_ref(&self) -> &World {
        &self.world
    }
}

impl Subject for BrokenFile {
    type Call = file::Call;
    type Answer = file::Answer;

    fn call(&self, call: &file::Call) -> file::Answer {
        use FileFault as Fault;
        use file::Call;
        let world = &self.world;
        match (self.fault, call) {
            (Fault::TornWrite, &Call::Write { offset, len, byte }) => {
                let half = len / 2;
                let write = |offset, len| world.call(&Call::Write { offset, len, byte });
                write(offset, half);
                thread::yield_now();
                write(offset + half, len - half);
                file::Answer::Count(len)
            }
            (
                Fault::TornPunch,
                &Call::Op(FileOp::Allocate {
                    mode: mode @ AllocateMode::PunchHole,
                    offset,
                    len,
                }),
            ) => {
                let half = len / 2;
                let punch =
                    |offset, len| world.call(&Call::Op(FileOp::Allocate { mode, offset, len }));
                punch(offset, half);
                thread::yield_now();
                punch(offset + half, len - half)
            }
            (Fault::StaleRead, Call::Op(FileOp::Read { .. })) => self.stale(call),
            (Fault::StaleSeek, Call::Op(FileOp::SeekData(_) | FileOp::SeekHole(_))) => {
                self.stale(call)
            }
            (Fault::LateWrite, &Call::Write { len, .. }) => self.late(call, len),
            (Fault::LostStore, Call::Op(FileOp::SyncAll) | Call::SyncVolume) => self.sync(call),
            _ => world.call(call),
        }
    }
}

/// How a status tree is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TreeFault {
    /// An insert first removes what there was.
    TornInsert,
    /// A lookup may answer what the one before it did.
    StaleLookup,
    /// A delayed insert looks without the lock, and then replaces whatever is there: the bug of 2024.
    UncheckedDelay,
    /// Looks and the insert between them are under the lock one by one.
    SplitExchange,
    /// Shrinking takes delayed entries too.
    GreedyShrink,
}

impl TreeFault {
    pub(crate) const ALL: [Self; 5] = [
        Self::TornInsert,
        Self::StaleLookup,
        Self::UncheckedDelay,
        Self::SplitExchange,
        Self::GreedyShrink,
    ];
}

/// A status tree with a fault.
#[derive(Debug)]
pub(crate) struct BrokenTree {
    tree: StatusTree,
    fault: TreeFault,
    last: Mutex<Option<(status::Call, status::Answer)>>,
}

impl BrokenTree {
    pub(crate) fn new(tree: StatusTree, fault: TreeFault) -> Self {
        let last = Mutex::new(None);
        Self { tree, fault, last }
    }
}

impl Subject for BrokenTree {
    type Call = status::Call;
    type Answer = status::Answer;

    fn call(&self, call: &status::Call) -> status::Answer {
        use TreeFault as Fault;
        use status::{Answer, Call};
        let tree = &self.tree;
        match (self.fault, call) {
            (Fault::TornInsert, &Call::Insert(range, _)) => {
                let removed = tree.call(&Call::Remove(range));
                thread::yield_now();
                match (removed, tree.call(call)) {
                    (Answer::Number(removed), Answer::Number(inserted)) => {
                        Answer::Number(removed + inserted)
                    }
                    (_, answer) => answer,
                }
            }
            (Fault::StaleLookup, Call::Lookup(_)) => {
                let answer = tree.call(call);
                let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
                match last.replace((call.clone(), answer.clone())) {
                    Some((earlier, stale)) if earlier == *call => stale,
                    _ => answer,
                }
            }
            (Fault::UncheckedDelay, &Call::Delay(range, ..)) => {
                let is_hole = tree
                    .extents(range)
                    .iter()
                    .all(|entry| entry.status.is_hole());
                thread::yield_now();
                if is_hole {
                    tree.call(&Call::Remove(range));
                }
                tree.call(call)
            }
            (Fault::SplitExchange, &Call::Exchange(range, status)) => {
                let before = tree.edit().extents(range).collect();
                thread::yield_now();
                let Answer::Number(released) = tree.call(&Call::Insert(range, status)) else {
                    return Answer::Done;
                };
                thread::yield_now();
                Answer::Exchanged {
                    before,
                    released,
                    after: tree.edit().extents(range).collect(),
                }
            }
            (Fault::GreedyShrink, Call::Clear) => {
                let entries = tree.extents(status::everything());
                for entry in &entries {
                    tree.call(&Call::Remove(entry.range));
                }
                Answer::Number(entries.len() as u64)
            }
            _ => tree.call(call),
        }
    }
}
