//! The observation: what can be seen of a file from outside.

use std::ops::Range;

use extent_map::Result;
use extent_map::file::{ExtentKind, File};
use serde_json::{Value, json};

/// What is seen of one file.
#[derive(Clone, Debug)]
pub(crate) struct Observation {
    /// Bytes.
    pub(crate) size: u64,
    /// Space in units of 512 bytes.
    pub(crate) sectors: u64,
    /// Runs of blocks of one kind, as long as they get.
    pub(crate) extents: Vec<(Range<u64>, &'static str)>,
    /// The bytes that unwritten blocks hold.
    pub(crate) unwritten: Vec<Range<u64>>,
    /// The bytes that seeking finds to be data.
    pub(crate) segments: Vec<Range<u64>>,
    /// Every byte.
    pub(crate) content: Vec<u8>,
}

impl Observation {
    /// Looks at a file with blocks of `block_size` bytes.
    pub(crate) fn of(file: &File, block_size: u64) -> Result<Self> {
        // Space and extents first: reading may make a file system learn more about its blocks.
        let sectors = file.blocks();
        let extents = extents(file)?;
        let unwritten = extents
            .iter()
            .filter(|(_, kind)| *kind == "u")
            .map(|(run, _)| run.start * block_size..run.end * block_size)
            .collect();
        Ok(Self {
            size: file.size(),
            sectors,
            extents,
            unwritten,
            segments: segments(file)?,
            content: super::blackbox::content(file)?,
        })
    }

    /// The extents as recordings write them.
    pub(crate) fn extents_json(&self) -> Value {
        let extent = |(run, kind): &(Range<u64>, _)| json!([run.start, run.end - run.start, kind]);
        self.extents.iter().map(extent).collect()
    }

    /// Data segments as recordings write them.
    pub(crate) fn segments_json(segments: &[Range<u64>]) -> Value {
        let pair = |segment: &Range<u64>| json!([segment.start, segment.end]);
        segments.iter().map(pair).collect()
    }

    /// The data segments that a recording has; none if it cannot be read.
    pub(crate) fn segments_from(recorded: &Value) -> Option<Vec<Range<u64>>> {
        let segment = |segment: &Value| match segment.as_array()?.as_slice() {
            [start, end] => Some(start.as_u64()?..end.as_u64()?),
            _ => None,
        };
        recorded.as_array()?.iter().map(segment).collect()
    }
}

fn extents(file: &File) -> Result<Vec<(Range<u64>, &'static str)>> {
    let mut runs: Vec<(Range<u64>, &str)> = Vec::new();
    for extent in file.extents()? {
        let kind = match extent.kind {
            ExtentKind::Written => "w",
            ExtentKind::Unwritten => "u",
            ExtentKind::Delayed => "d",
            _ => "other",
        };
        let (start, end) = (extent.range.start().0, extent.range.end().0);
        match runs.last_mut() {
            Some((last, same)) if last.end == start && *same == kind => last.end = end,
            _ => runs.push((start..end, kind)),
        }
    }
    Ok(runs)
}

fn segments(file: &File) -> Result<Vec<Range<u64>>> {
    let mut segments = Vec::new();
    let mut next = 0;
    loop {
        match file.seek_data(next) {
            Ok(start) => {
                next = file.seek_hole(start)?;
                segments.push(start..next);
            }
            Err(extent_map::Error::NotFound) => return Ok(segments),
            Err(error) => return Err(error),
        }
    }
}

/// What is left of `segments` without `cut`, both in order; what touches is joined.
pub(crate) fn without(segments: &[Range<u64>], cut: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut left: Vec<Range<u64>> = Vec::new();
    let mut keep = |piece: Range<u64>| match left.last_mut() {
        _ if piece.is_empty() => {}
        Some(last) if last.end == piece.start => last.end = piece.end,
        _ => left.push(piece),
    };
    for segment in segments {
        let mut start = segment.start;
        for hole in cut.iter().filter(|hole| hole.end > segment.start) {
            keep(start..hole.start.min(segment.end));
            start = start.max(hole.end);
        }
        keep(start..segment.end);
    }
    left
}
