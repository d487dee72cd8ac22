//! Bios on their way from a caller to the device: put in order, made into commands, and brought to their ends.

use std::mem;

use smallvec::SmallVec;

use crate::device::{Buffers, OperationKind};
use crate::error::Error;
use crate::stats::Counter;
use crate::sync::Arc;

use super::Bio;
use super::core::Core;
use super::outcome::{Done, Failure, SubmittedBio, UnderWay, outcome};
use super::sieve::Sieve;
use super::{direct, queued};

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

/// Memory for sorting, used again for the next section.
#[derive(Debug, Default)]
pub(super) struct Desk {
    keys: Keys,
    /// Whether one of them changes something: otherwise there is no conflict.
    changes: bool,
    sieve: Sieve,
    /// First byte and place of each key.
    starts: Vec<u64>,
    sorted: Vec<Key>,
}

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

/// Sends all of `pushed` to the device, section by section: a section ends at each flush, and before each bio that
/// overlaps an earlier one of it, unless both read.
pub(super) fn submit(core: &Arc<Core>, pushed: &mut [Pushed], desk: &mut Desk) {
    core.counters.add(Counter::Bios, pushed.len() as u64);
    desk.clear();
    for index in 0..pushed.len() {
        let bio = &mut pushed[index].bio;
        let bytes = match core.admit(bio) {
            Ok(bytes) => bytes,
            Err(error) => {
                pushed[index].fail(Some(Box::new(error)));
                continue;
            }
        };
        let flushes = bio.kind == OperationKind::Flush;
        if flushes || bio.flags.preflush {
            section(core, pushed, desk, true);
            desk.clear();
            let last = flushes && index + 1 == pushed.len();
            flush(core, &mut pushed[index], last);
        }
        if !bytes.is_empty() && !pushed[index].has_failed() {
            desk.changes |= pushed[index].bio.kind != OperationKind::Read;
            desk.keys.push(Key {
                start: bytes.start,
                end: bytes.end,
                index,
            });
        }
    }
    section(core, pushed, desk, false);
}

/// A flush, or what comes before a bio that asks for one. Waited for, unless it is the last that is asked for and
/// the device works by itself.
fn flush(core: &Arc<Core>, pushed: &mut Pushed, last: bool) {
    if !(last && core.limits.asynchronous) {
        return pushed.fail(core.flush().err().map(Box::new));
    }
    let done = pushed.done.take().unwrap_or_else(|| {
        let (place, done) = core.outcomes.expect(0);
        pushed.progress = Progress::There(place);
        done
    });
    if let Progress::Here(_) = pushed.progress {
        pushed.progress = Progress::Handed;
    }
    core.flush_then(done, Buffers::default());
}

/// Sends what the keys name. With `ends`, all of it has ended afterwards.
fn section(core: &Arc<Core>, pushed: &mut [Pushed], desk: &mut Desk, ends: bool) {
    if desk.keys.len() <= 1 || desk.sieve.separates(&desk.keys) {
        return send(core, pushed, &desk.keys, ends);
    }
    desk.sort();
    match desk.changes && conflict(pushed, &desk.sorted) {
        true => one_after_the_other(core, pushed, &desk.keys, ends),
        false => send(core, pushed, &desk.sorted, ends),
    }
}

impl Desk {
    fn clear(&mut self) {
        self.keys.clear();
        self.changes = false;
    }

    /// Sorts the keys by first byte, those that have the same as they were pushed.
    fn sort(&mut self) {
        // Plain numbers are sorted several times as fast: bytes begin at whole sectors, which leaves room for places.
        const PLACES: usize = 512;
        self.sorted.clear();
        if self.keys.len() > PLACES {
            self.sorted.extend_from_slice(&self.keys);
            return self
                .sorted
                .sort_unstable_by_key(|key| (key.start, key.index));
        }
        let keys = &self.keys[..];
        self.starts.clear();
        let starts = keys
            .iter()
            .zip(0..)
            .map(|(key, place): (_, u64)| key.start | place);
        self.starts.extend(starts);
        self.starts.sort_unstable();
        let key = |start: &u64| keys[*start as usize % PLACES];
        self.sorted.extend(self.starts.iter().map(key));
    }
}

fn reads(pushed: &[Pushed], key: &Key) -> bool {
    pushed[key.index].bio.kind == OperationKind::Read
}

/// Whether bios overlap, of which one changes something.
fn conflict(pushed: &[Pushed], sorted: &[Key]) -> bool {
    // How far all bios so far reach, and those that change something.
    let (mut reach, mut change) = (0, 0);
    sorted.iter().any(|key| {
        let reads = reads(pushed, key);
        let conflict = key.start < if reads { change } else { reach };
        reach = reach.max(key.end);
        if !reads {
            change = change.max(key.end);
        }
        conflict
    })
}

/// Cuts a section, in the order in which it was pushed, into parts without a conflict.
fn one_after_the_other(core: &Arc<Core>, pushed: &mut [Pushed], keys: &[Key], ends: bool) {
    let mut rest = keys;
    while !rest.is_empty() {
        let conflicts = |key: &Key, other: &Key| {
            let both_read = reads(pushed, key) && reads(pushed, other);
            !both_read && key.start < other.end && other.start < key.end
        };
        let mut part = Keys::new();
        for key in rest {
            if part.iter().any(|other| conflicts(key, other)) {
                break;
            }
            part.push(*key);
        }
        rest = &rest[part.len()..];
        part.sort_unstable_by_key(|key| (key.start, key.index));
        send(core, pushed, &part, ends || !rest.is_empty());
    }
}

/// Sends what has no conflict; sorted, if anything can be merged.
fn send(core: &Arc<Core>, pushed: &mut [Pushed], keys: &[Key], ends: bool) {
    if keys.is_empty() {
        return;
    }
    if core.is_direct() {
        return direct::carry_out(core, pushed, keys);
    }
    queued::send(core, pushed, keys, ends);
    if !ends {
        return;
    }
    for key in keys {
        let pushed = &mut pushed[key.index];
        pushed.progress = match mem::replace(&mut pushed.progress, Progress::Handed) {
            Progress::There(place) => {
                let (buffers, result) = place.wait(pushed.bio.kind);
                *pushed.memory() = buffers;
                Progress::Here(result.err().map(Box::new))
            }
            progress => progress,
        };
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
