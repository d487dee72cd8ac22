//! Conversion between unwritten and written, also where an extent cannot be split.

use crate::error::{Error, Result};
use crate::mapping::{ExtentState, MappedExtent};
use crate::probe::Mutation;
use crate::stats::Counter;
use crate::sync::IoAllowed;
use crate::sync::journal::note;
use crate::units::FileRange;

use super::FileBlocks;
use super::blocks::{DataLocked, status_of};

impl FileBlocks {
    /// Gives every allocated block of `range` the state `to`, in the store and in the status tree.
    ///
    /// Where the store has no room to split an extent, what stays visible is kept right by zeroing on the
    /// device (as ext4 does): on the way to written, the rest of the extent is zeroed and becomes written
    /// too; on the way to unwritten, the blocks are zeroed and stay written. Zeroing spares `arrived`, in order:
    /// what the device has got of the same batch, whose turn to be converted may only come.
    pub(super) fn convert(
        &self,
        _locked: &DataLocked<'_>,
        range: FileRange,
        to: ExtentState,
        arrived: &[FileRange],
    ) -> Result<()> {
        for extent in self.backing.store.extents(self.file, range)? {
            let part = extent.clip(range);
            if part.state == to {
                continue;
            }
            let converted = match self.backing.store.convert(self.file, part.range, to) {
                Ok(()) => MappedExtent { state: to, ..part },
                Err(Error::NoSpace) => self.zero_instead_of_split(&extent, &part, arrived)?,
                Err(error) => return Err(error),
            };
            self.note(&status_of(&converted))?;
            note(|| format!("{:?} is {:?} now", converted.range, converted.state).to_lowercase());
        }
        Ok(())
    }

    /// Converts `part` of `extent` without splitting it; returns what is written afterwards.
    fn zero_instead_of_split(
        &self,
        extent: &MappedExtent,
        part: &MappedExtent,
        arrived: &[FileRange],
    ) -> Result<MappedExtent> {
        self.backing.counters.count(Counter::ZeroedInsteadOfSplit);
        let _under_the_data_lock = IoAllowed::new();
        if extent.state == ExtentState::Written {
            self.backing.queue.zero(part.run())?;
            return Ok(*part);
        }
        let only_behind = self.backing.probe.is(Mutation::ZeroOnlyBehind);
        for rest in between(extent.range, arrived) {
            if !only_behind || rest.start() >= part.range.end() {
                self.backing.queue.zero(extent.clip(rest).run())?;
            }
        }
        self.backing
            .store
            .convert(self.file, extent.range, ExtentState::Written)?;
        let converted = match self.backing.probe.is(Mutation::NoteOnlyThePart) {
            false => extent,
            true => part,
        };
        Ok(MappedExtent {
            state: ExtentState::Written,
            ..*converted
        })
    }
}

/// What is left of `whole` without `parts`, which are in order.
fn between(whole: FileRange, parts: &[FileRange]) -> impl Iterator<Item = FileRange> {
    let starts = std::iter::once(whole.start()).chain(parts.iter().map(|part| part.end()));
    let ends = parts.iter().map(|part| part.start()).chain([whole.end()]);
    let rests = starts
        .zip(ends)
        .map(move |(start, end)| FileRange::new(start, end).intersect(whole));
    rests.filter(|rest| !rest.is_empty())
}
