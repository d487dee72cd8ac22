//! Carrying out in the thread that submits: for devices that block, where nothing orders what waits. No hand-over, and
//! no memory for a bio that goes alone.

use std::io::{IoSlice, IoSliceMut};
use std::mem;

use smallvec::SmallVec;

use crate::device::{BlockDevice, Buffers, OperationKind, operate};
use crate::error::Result;
use crate::stats::Counter;

use super::Bio;
use super::core::{Core, Place};
use super::cut::{Pieces, in_commands};
use super::pushed::{Key, Keys, Pushed, count_merges, first_run, fits, refused};

/// Carries out what the keys name, which has no conflict and is sorted, if anything can be merged.
pub(super) fn carry_out(core: &Core, pushed: &mut [Pushed], keys: &[Key]) {
    let Some(place) = core.enter(false) else {
        let (now, waiting): (Keys, Keys) = keys
            .iter()
            .copied()
            .partition(|key| pushed[key.index].bio.flags.nowait);
        for key in now {
            pushed[key.index].fail(refused());
        }
        if !waiting.is_empty()
            && let Some(place) = core.enter(true)
        {
            in_place(core, &place, pushed, &waiting);
        }
        return;
    };
    in_place(core, &place, pushed, keys);
}

fn in_place(core: &Core, place: &Place<'_>, pushed: &mut [Pushed], keys: &[Key]) {
    let mut sent = Sent::default();
    let mut rest = keys;
    while !rest.is_empty() {
        let (run, later) = first_run(pushed, rest);
        rest = later;
        if let [key] = run
            && fits(core, &mut pushed[key.index], key)
        {
            sent.commands += 1;
            alone(core, place, &mut pushed[key.index], *key);
        } else {
            together(core, place, pushed, run, &mut sent);
        }
    }
    sent.count(core, keys.len() as u64);
}

/// Commands that were sent, and how often one began inside a bio.
#[derive(Default)]
struct Sent {
    commands: u64,
    splits: u64,
}

impl Sent {
    fn count(&self, core: &Core, bios: u64) {
        core.counters.add(Counter::DeviceRequests, self.commands);
        count_merges(core, bios, self.commands, self.splits);
    }
}

#[inline]
fn alone(core: &Core, place: &Place<'_>, pushed: &mut Pushed, key: Key) {
    let (kind, fua) = (pushed.bio.kind, pushed.bio.flags.fua);
    let buffers = pushed.memory();
    let failure = core.blocking(kind, place.timed, |device| {
        operate(device, kind, key.start, key.end - key.start, buffers)
    });
    if failure.is_some() {
        pushed.fail(failure);
    } else if fua {
        pushed.fail(core.flush().err().map(Box::new));
    }
}

/// Neighbours, or one bio that is too large.
fn together(core: &Core, place: &Place<'_>, pushed: &mut [Pushed], run: &[Key], sent: &mut Sent) {
    let (first, last) = (run[0], run[run.len() - 1]);
    let Bio { kind, flags, .. } = pushed[first.index].bio;
    let mut memory: SmallVec<[Buffers; 8]> = run
        .iter()
        .map(|key| mem::take(pushed[key.index].memory()))
        .collect();
    let mut offset = first.start;
    let mut command = |len: u64, operation: &mut dyn FnMut(&dyn BlockDevice, u64) -> Result<()>| {
        let failure = core.blocking(kind, place.timed, |device| operation(device, offset));
        sent.commands += 1;
        sent.splits += u64::from(run.binary_search_by_key(&offset, |key| key.start).is_err());
        let end = offset + len;
        let touched = run.iter().filter(|key| key.start < end && offset < key.end);
        touched.for_each(|key| pushed[key.index].fail(failure.clone()));
        offset = end;
    };
    match kind {
        OperationKind::Read => {
            let all = memory.iter_mut().flat_map(|buffers| buffers.iter_mut());
            let all = all.map(|buffer| &mut **buffer);
            in_commands(all, &core.limits, core.block_size, |pieces, len| {
                let mut parts: Pieces<_> = pieces.drain(..).map(IoSliceMut::new).collect();
                command(len, &mut |device, at| {
                    device.read_vectored_at(at, &mut parts)
                });
            });
        }
        OperationKind::Write => {
            let all = memory.iter().flat_map(|buffers| buffers.iter());
            in_commands(
                all.map(|buffer| &**buffer),
                &core.limits,
                core.block_size,
                |pieces, len| {
                    let parts: Pieces<_> = pieces.drain(..).map(IoSlice::new).collect();
                    command(len, &mut |device, at| device.write_vectored_at(at, &parts));
                },
            );
        }
        _ => {
            let len = last.end - first.start;
            command(len, &mut |device, at| {
                operate(device, kind, at, len, &mut [])
            });
        }
    }
    for (key, buffers) in run.iter().zip(memory) {
        *pushed[key.index].memory() = buffers;
    }
    // Such a bio is never merged.
    if flags.fua && !pushed[first.index].has_failed() {
        pushed[first.index].fail(core.flush().err().map(Box::new));
    }
}
