//! Telling the device what is free.

use crate::error::Result;
use crate::sync::IoAllowed;
use crate::units::DiskRun;

use super::Allocator;
use super::span::Span;

/// A span that is withheld; its end makes it free again, whatever became of the discard.
struct Withheld<'a> {
    allocator: &'a Allocator,
    group: usize,
}

impl Drop for Withheld<'_> {
    fn drop(&mut self) {
        self.allocator.group(self.group).end_discard();
    }
}

impl Allocator {
    /// Calls `discard` with each free run of at least `minimum` clusters (one at least) that lies in `range`, in
    /// ascending order, and returns how many blocks that were. A run cannot be allocated while the call lasts; its space
    /// counts as available all the time, and who needs the volume's very last cluster waits for the call.
    ///
    /// `range` is cut to the usable part of the volume and to whole clusters. One caller at a time; others wait.
    ///
    /// # Errors
    /// Those of `discard`, which end the work.
    pub fn discard(
        &self,
        range: DiskRun,
        minimum: u64,
        mut discard: impl FnMut(DiskRun) -> Result<()>,
    ) -> Result<u64> {
        let ratio = self.geometry.cluster.blocks();
        let end = range.start.0.saturating_add(range.len) / ratio;
        let mut from = range.start.0.div_ceil(ratio).max(self.usable.start);
        let mut blocks = 0;
        while from < end.min(self.usable.end) {
            let group = (from / self.clusters_per_group) as usize;
            let base = group as u64 * self.clusters_per_group;
            let part = Span {
                start: from - base,
                end: (end - base).min(self.clusters_per_group),
            };
            let one_at_a_time = self.discarding.lock();
            let Some(span) = self.withhold(group, part, minimum) else {
                from = base + self.clusters_per_group;
                continue;
            };
            let withheld = Withheld {
                allocator: self,
                group,
            };
            let run = self.run_of(group, span);
            {
                let _io = IoAllowed::new();
                discard(run)?;
            }
            drop(withheld);
            drop(one_at_a_time);
            blocks += run.len;
            from = base + span.end;
        }
        Ok(blocks)
    }

    /// Withholds the first free run of at least `minimum` clusters in `part` of a group.
    fn withhold(&self, group: usize, part: Span, minimum: u64) -> Option<Span> {
        let mut group = self.group(group);
        let cut = |run: Span| Span {
            end: run.end.min(part.end),
            ..run
        };
        let span = group.search(|runs| {
            runs.runs(part.start)
                .take_while(|run| run.start < part.end)
                .map(cut)
                .find(|run| run.len() >= minimum.max(1))
        })?;
        group.begin_discard(span);
        Some(span)
    }
}
