//! Bios on their way from a caller to the device: put in order, made into commands, and brought to their ends.

use std::collections::BTreeMap;

use smallvec::SmallVec;

use crate::device::{Buffers, OperationKind};
use crate::error::{Error, Result};
use crate::stats::Counter;
use crate::sync::Arc;

use super::Bio;
use super::bio::Content;
use super::core::Core;
use super::outcome::{Done, SubmittedBio};
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
    /// As far as is known nothing went wrong; the bio still has its memory.
    Here(Result<()>),
    /// It is with the device.
    There(SubmittedBio),
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

pub(super) type Keys = SmallVec<[Key; 4]>;

impl Pushed {
    pub(super) fn new(bio: Bio, done: Option<Done>) -> Self {
        Self {
            bio,
            done,
            progress: Progress::Here(Ok(())),
        }
    }

    pub(super) fn memory(&mut self) -> &mut Buffers {
        if let Content::Blocks(_) = self.bio.content {
            self.bio.content = Content::Memory(Buffers::default());
        }
        match &mut self.bio.content {
            Content::Memory(buffers) => buffers,
            Content::Blocks(_) => unreachable!("was exchanged above"),
        }
    }

    /// The first error stays.
    pub(super) fn note(&mut self, result: &Result<()>) {
        if let Progress::Here(known @ Ok(())) = &mut self.progress {
            known.clone_from(result);
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        matches!(self.progress, Progress::Here(Err(_)))
    }

    /// Whether both may be part of one command, `behind` directly after this one.
    pub(super) fn goes_with(&self, behind: &Self) -> bool {
        let (a, b) = (&self.bio, &behind.bio);
        a.kind == b.kind
            && a.priority == b.priority
            && a.flags.nowait == b.flags.nowait
            && !(a.flags.fua || b.flags.fua)
    }

    /// Tells the completion, or gives the handle.
    fn end(mut self) -> Option<SubmittedBio> {
        let kind = self.bio.kind;
        match self.progress {
            Progress::Handed => None,
            Progress::Here(ref mut result) => {
                let result = std::mem::replace(result, Ok(()));
                let buffers = std::mem::take(self.memory());
                match self.done {
                    Some(done) => {
                        done.finish(buffers, result);
                        None
                    }
                    None => Some(SubmittedBio::ended(kind, buffers, result)),
                }
            }
            Progress::There(handle) => match self.done {
                // It had to be waited for.
                Some(done) => {
                    let (buffers, result) = handle.finish();
                    done.finish(buffers, result);
                    None
                }
                None => Some(handle),
            },
        }
    }
}

/// Sends all of `pushed` to the device, section by section: a section ends at each flush, and before each bio
/// that overlaps an earlier one of it.
pub(super) fn submit(core: &Arc<Core>, pushed: &mut [Pushed], keys: &mut Keys) {
    core.counters.add(Counter::Bios, pushed.len() as u64);
    keys.clear();
    for index in 0..pushed.len() {
        let bio = &mut pushed[index].bio;
        let bytes = match core.admit(bio) {
            Ok(bytes) => bytes,
            Err(error) => {
                pushed[index].note(&Err(error));
                continue;
            }
        };
        let flushes = bio.kind == OperationKind::Flush;
        if flushes || bio.flags.preflush {
            section(core, pushed, keys, true);
            keys.clear();
            let last = flushes && index + 1 == pushed.len();
            flush(core, &mut pushed[index], last);
        }
        if !bytes.is_empty() && !pushed[index].has_failed() {
            keys.push(Key {
                start: bytes.start,
                end: bytes.end,
                index,
            });
        }
    }
    section(core, pushed, keys, false);
}

/// Tells everybody, and collects the handles of the others in the order in which they were pushed.
pub(super) fn end(pushed: impl Iterator<Item = Pushed>) -> impl Iterator<Item = SubmittedBio> {
    pushed.filter_map(Pushed::end)
}

/// A flush, or what comes before a bio that asks for one. Waited for, unless it is the last that is asked for and
/// the device works by itself.
fn flush(core: &Arc<Core>, pushed: &mut Pushed, last: bool) {
    if !(last && core.limits.asynchronous) {
        return pushed.note(&core.flush());
    }
    let done = pushed.done.take().unwrap_or_else(|| {
        let (handle, done) = core.outcomes.expect(OperationKind::Flush, 0);
        pushed.progress = Progress::There(handle);
        done
    });
    if let Progress::Here(_) = pushed.progress {
        pushed.progress = Progress::Handed;
    }
    core.join_flush(done, Buffers::default());
}

/// Sends what the keys name. With `ends`, all of it has ended afterwards.
fn section(core: &Arc<Core>, pushed: &mut [Pushed], keys: &mut Keys, ends: bool) {
    if keys.len() > 1 {
        keys.sort_unstable_by_key(|key| (key.start, key.index));
        if keys.windows(2).any(|pair| pair[1].start < pair[0].end) {
            keys.sort_unstable_by_key(|key| key.index);
            return overlapping(core, pushed, keys, ends);
        }
    }
    send(core, pushed, keys, ends);
}

/// Cuts what overlaps, in the order in which it was pushed, into parts that do not.
fn overlapping(core: &Arc<Core>, pushed: &mut [Pushed], keys: &[Key], ends: bool) {
    let mut part: BTreeMap<u64, Key> = BTreeMap::new();
    let mut send_part = |part: &mut BTreeMap<u64, Key>, ends| {
        let keys: Keys = std::mem::take(part).into_values().collect();
        send(core, pushed, &keys, ends);
    };
    for key in keys {
        let before = part.range(..key.end).next_back();
        if before.is_some_and(|(_, other)| other.end > key.start) {
            send_part(&mut part, true);
        }
        part.insert(key.start, *key);
    }
    send_part(&mut part, ends);
}

/// Sends what does not overlap, sorted.
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
        let progress = std::mem::replace(&mut pushed.progress, Progress::Handed);
        pushed.progress = match progress {
            Progress::There(handle) => {
                let (buffers, result) = handle.finish();
                *pushed.memory() = buffers;
                Progress::Here(result)
            }
            progress => progress,
        };
    }
}

/// The bios in front that are neighbours and may be merged, and the others.
pub(super) fn first_run<'k>(pushed: &[Pushed], keys: &'k [Key]) -> (&'k [Key], &'k [Key]) {
    let neighbours =
        |a: &Key, b: &Key| a.end == b.start && pushed[a.index].goes_with(&pushed[b.index]);
    let more = keys
        .windows(2)
        .take_while(|pair| neighbours(&pair[0], &pair[1]));
    keys.split_at(1 + more.count())
}

/// Whether the bio is one command.
pub(super) fn fits(core: &Core, pushed: &mut Pushed) -> bool {
    let kind = pushed.bio.kind;
    let buffers = pushed.memory();
    let moves_data = [OperationKind::Read, OperationKind::Write].contains(&kind);
    !moves_data
        || buffers.len() <= core.limits.max_segments && buffers.byte_len() <= core.limits.max_bytes
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
pub(super) fn refused() -> Result<()> {
    Err(Error::WouldBlock)
}
