//! What a caller can see of a file.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::file::{ExtentKind, File};
use crate::units::FileRange;

/// Everything a caller can see of a file, but for where it lives on the volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// The size in bytes.
    pub size: u64,
    /// All bytes.
    pub content: Vec<u8>,
    /// How the blocks are backed; neighbours of one kind are one extent.
    pub extents: Vec<(FileRange, ExtentKind)>,
    /// Where seeking finds data, in bytes.
    pub data: Vec<Range<u64>>,
    /// As [`File::blocks`].
    pub sectors: u64,
    /// As [`File::reserved_blocks`].
    pub reserved_blocks: u64,
}

impl Observation {
    /// Observes `file`, reading all of it.
    ///
    /// # Errors
    /// Those of the file's methods; [`Error::InvalidInput`] when the file is too large for memory.
    pub fn of(file: &File) -> Result<Self> {
        let size = file.size();
        let len = super::op::data_len(size)?;
        let mut content = vec![0; len];
        let count = file.read_at(0, &mut content)?;
        content.truncate(count);
        let mut extents = Vec::new();
        for extent in file.extents()? {
            push_merged(&mut extents, extent.range, extent.kind);
        }
        Ok(Self {
            size,
            content,
            extents,
            data: data_of(file)?,
            sectors: file.blocks(),
            reserved_blocks: file.reserved_blocks(),
        })
    }
}

/// Appends a range to a list of extents, making one extent of neighbours of one kind.
pub(super) fn push_merged(
    extents: &mut Vec<(FileRange, ExtentKind)>,
    range: FileRange,
    kind: ExtentKind,
) {
    match extents.last_mut() {
        Some((last, of)) if *of == kind && last.end() == range.start() => {
            *last = FileRange::new(last.start(), range.end());
        }
        _ => extents.push((range, kind)),
    }
}

fn data_of(file: &File) -> Result<Vec<Range<u64>>> {
    let mut data = Vec::new();
    let mut hole = 0;
    loop {
        match file.seek_data(hole) {
            Ok(start) => {
                hole = file.seek_hole(start)?;
                data.push(start..hole);
            }
            Err(Error::NotFound) => return Ok(data),
            Err(error) => return Err(error),
        }
    }
}

/// How often the mapping of `file` has changed, as far as its status tree was told: every change that a
/// caller can see in [`File::extents`] must change it (I9).
pub fn change_counter(file: &File) -> u64 {
    file.change_counter()
}
