//! Bios that were submitted, and which of them may go in one command.

use std::mem;

use smallvec::SmallVec;

use crate::device::Buffers;
use crate::error::Error;
use crate::stats::Counter;

use super::Bio;
use super::core::Core;
use super::outcome::{Done, Failure, SubmittedBio, UnderWay, outcome};

/// A bio, and what became of it.
#[derive(Debug)]
pub(super) struct Pushed {
    pub(super) bio: Bio,
    /// Who hears of it; otherwise its submitter gets a handle.
    pub(super) done: Option<Done>,
    pub(super) progress: Progress,
}

#[derive(Debug)]
pub(super) enum Progress {
    /// It still has its memory; its first error, if there was one.
    Here(Failure),
    /// It is with the device.
    There(UnderWay),
    /// Its completion hears of it.
    Handed,
}

/// The bytes of a bio.
#[derive(Clone, Copy, Debug)]
pub(super) struct Key {
    pub(super) start: u64,
    pub(super) end: u64,
    /// Which bio it is.
    pub(super) index: usize,
}

/// Keys of one section. One takes no memory.
pub(super) type Keys = SmallVec<[Key; 1]>;

impl Pushed {
    #[inline]
    pub(super) fn new(bio: Bio, done: Option<Done>) -> Self {
        Self {
            bio,
            done,
            progress: Progress::Here(None),
        }
    }

    #[inline]
    pub(super) fn memory(&mut self) -> &mut Buffers {
        self.bio.content.memory()
    }

    /// The first error stays.
    pub(super) fn fail(&mut self, failure: Failure) {
        if let Progress::Here(known @ None) = &mut self.progress {
            *known = failure;
        }
    }

    #[inline]
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.progress, Progress::Here(Some(_)))
    }

    /// Whether both may be part of one command, `behind` directly after this one.
    pub(super) fn goes_with(&self, behind: &Self) -> bool {
        let (a, b) = (&self.bio, &behind.bio);
        a.kind == b.kind
            && a.priority == b.priority
            && a.flags.nowait == b.flags.nowait
            && !(a.flags.fua || b.flags.fua)
    }

    /// Tells the completion, if there is one that has not heard yet.
    pub(super) fn tell(&mut self) {
        let Some(done) = self.done.take() else {
            return;
        };
        let (buffers, result) = match mem::replace(&mut self.progress, Progress::Handed) {
            Progress::Here(failure) => (self.bio.content.take_memory(), outcome(failure)),
            // It had to be waited for.
            Progress::There(place) => place.wait(self.bio.kind),
            Progress::Handed => return,
        };
        done.finish(buffers, result);
    }

    /// The handle, unless there was a completion, which was told. Nothing is left.
    #[inline]
    pub(super) fn end(&mut self) -> Option<SubmittedBio> {
        let kind = self.bio.kind;
        match mem::replace(&mut self.progress, Progress::Handed) {
            Progress::Here(failure) => {
                let buffers = self.bio.content.take_memory();
                Some(SubmittedBio::ended(kind, buffers, failure))
            }
            Progress::There(place) => Some(SubmittedBio::under_way(kind, place)),
            Progress::Handed => None,
        }
    }
}

/// The bios in front that are neighbours and may be merged, and the others.
#[inline]
pub(super) fn first_run<'k>(pushed: &[Pushed], keys: &'k [Key]) -> (&'k [Key], &'k [Key]) {
    let mut len = 1;
    while let [last, next, ..] = &keys[len - 1..]
        && last.end == next.start
        && pushed[last.index].goes_with(&pushed[next.index])
    {
        len += 1;
    }
    keys.split_at(len)
}

/// Whether a bio is one command.
#[inline]
pub(super) fn fits(core: &Core, pushed: &mut Pushed, key: &Key) -> bool {
    let segments = pushed.memory().len();
    segments == 0
        || segments <= core.limits.max_segments && key.end - key.start <= core.limits.max_bytes
}

/// Each command begins with a bio that was not merged, or inside one that was split.
pub(super) fn count_merges(core: &Core, bios: u64, commands: u64, splits: u64) {
    if splits > 0 {
        core.counters.add(Counter::BiosSplit, splits);
    }
    let merged = bios + splits - commands;
    if merged > 0 {
        core.counters.add(Counter::BiosMerged, merged);
    }
}

/// What a full queue says to those who do not want to wait.
pub(super) fn refused() -> Failure {
    Some(Box::new(Error::WouldBlock))
}
