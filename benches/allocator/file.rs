//! A file of an ageing volume: where its blocks lie.

use super::subject::{Run, Taken};

pub(crate) struct File {
    number: u64,
    /// In the order of the file's blocks; neighbours never continue each other.
    runs: Vec<Run>,
    blocks: u64,
}

impl File {
    /// An empty file.
    pub(crate) fn new(number: u64) -> Self {
        let (runs, blocks) = (Vec::new(), 0);
        Self {
            number,
            runs,
            blocks,
        }
    }

    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn runs(&self) -> &[Run] {
        &self.runs
    }

    pub(crate) fn blocks(&self) -> u64 {
        self.blocks
    }

    /// The block of the volume behind the file's last one.
    pub(crate) fn tail(&self) -> Option<u64> {
        self.runs.last().map(|run| run.end())
    }

    /// The block of the volume behind the one that holds block `logical - 1` of the file.
    pub(crate) fn behind(&self, logical: u64) -> Option<u64> {
        let before = logical.checked_sub(1)?;
        let mut first = 0;
        self.runs.iter().find_map(|run| {
            let here = before.checked_sub(first).filter(|offset| *offset < run.len);
            first += run.len;
            here.map(|offset| run.start + offset + 1)
        })
    }

    /// Adds a run at the end.
    pub(crate) fn push(&mut self, run: Run) {
        self.blocks += run.len;
        match self
            .runs
            .last_mut()
            .and_then(|last| Some((last.joined(run)?, last)))
        {
            Some((joined, last)) => *last = joined,
            None => self.runs.push(run),
        }
    }

    /// Puts `new` in the place of as many blocks from block `start` of the file on, and tells where those lay.
    pub(crate) fn replace(&mut self, start: u64, new: &[Run]) -> Vec<Run> {
        let end = start + new.iter().map(|run| run.len).sum::<u64>();
        let [mut before, mut old, mut behind] = [(); 3].map(|()| Self::new(self.number));
        let mut logical = 0;
        for run in std::mem::take(&mut self.runs) {
            let cut = |from: u64, to: u64| {
                let (from, to) = (from.max(logical), to.min(logical + run.len));
                (from < to).then(|| Run::new(run.start + from - logical, to - from))
            };
            for (part, place) in [
                (cut(0, start), &mut before),
                (cut(start, end), &mut old),
                (cut(end, u64::MAX), &mut behind),
            ] {
                part.into_iter().for_each(|part| place.push(part));
            }
            logical += run.len;
        }
        *self = before;
        new.iter()
            .chain(&behind.runs)
            .for_each(|run| self.push(*run));
        old.runs
    }
}
