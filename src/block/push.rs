//! Bios on their way from a caller to the device: put in order, made into commands, and brought to their ends.

use std::mem;
use std::time::Instant;

use crate::device::{Buffers, OperationKind};
use crate::stats::Counter;
use crate::sync::Arc;

use super::core::Core;
use super::pushed::{Key, Keys, Progress, Pushed};
use super::sieve::Sieve;
use super::{direct, queued};

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
    let since = Instant::now();
    let (progress, done) = match pushed.done.take() {
        Some(done) => {
            core.has_completion();
            (Progress::Handed, done)
        }
        None => {
            let (place, done) = core.outcomes.expect(0, since);
            (Progress::There(place), done)
        }
    };
    pushed.progress = progress;
    core.flush_then(done, Buffers::default(), since);
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
        let (first, part) = without_conflict(pushed, rest);
        rest = &rest[first..];
        send(core, pushed, &part, ends || !rest.is_empty());
    }
}

/// How many keys in front have no conflict, and those, sorted. Looks at twice as many each time, and then between: no
/// key is looked at together with many others that it does not go with.
fn without_conflict(pushed: &[Pushed], keys: &[Key]) -> (usize, Keys) {
    let sorted = |len: usize| {
        let mut part = Keys::from(&keys[..len]);
        part.sort_unstable_by_key(|key| (key.start, key.index));
        part
    };
    let (mut good, mut bad) = (1, keys.len() + 1);
    while bad - good > 1 {
        let len = (2 * good).min(good.midpoint(bad));
        match conflict(pushed, &sorted(len)) {
            false => good = len,
            true => bad = len,
        }
    }
    (good, sorted(good))
}

/// Sends what has no conflict; sorted, if anything can be merged.
fn send(core: &Arc<Core>, pushed: &mut [Pushed], keys: &[Key], ends: bool) {
    if keys.is_empty() {
        return;
    }
    if core.is_direct() {
        return direct::carry_out(core, pushed, keys);
    }
    if !core.limits.asynchronous && keys.iter().any(|key| wants_no_wait(pushed, key)) {
        return beside_those_that_wait(core, pushed, keys, ends);
    }
    queue(core, pushed, keys, ends);
}

fn wants_no_wait(pushed: &[Pushed], key: &Key) -> bool {
    pushed[key.index].bio.flags.nowait
}

/// Sends bios of which some want no wait, in front of a device that blocks. A scheduler orders what waits: what does not has a
/// place at once, or is refused.
// Kept out of what a queue without a scheduler runs through.
#[cold]
fn beside_those_that_wait(core: &Arc<Core>, pushed: &mut [Pushed], keys: &[Key], ends: bool) {
    let (now, waiting): (Keys, Keys) = keys
        .iter()
        .copied()
        .partition(|key| wants_no_wait(pushed, key));
    direct::carry_out(core, pushed, &now);
    queue(core, pushed, &waiting, ends);
}

/// Lets what the keys name wait for the device.
fn queue(core: &Arc<Core>, pushed: &mut [Pushed], keys: &[Key], ends: bool) {
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
