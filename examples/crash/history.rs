//! What was in a file when, and so what may be in it after a power cut.

use std::sync::Arc;

use extent_map::device::SECTOR;
use extent_map::units::PAGE_SIZE;

/// Everything that was in one file, in order.
#[derive(Clone, Debug)]
pub(crate) struct History {
    versions: Vec<Version>,
    /// The moment before the operation by which the file first heard of an error: from then on nobody knows what of it
    /// has arrived.
    lost: Option<usize>,
}

/// The file after one operation.
#[derive(Clone, Debug)]
struct Version {
    /// The moment of the device before the operation.
    began: usize,
    /// The moment after it, if everything up to here is durable since then.
    synced: Option<usize>,
    content: Arc<[u8]>,
}

impl History {
    /// Of an empty file, durably so.
    pub(crate) fn new() -> Self {
        let empty = Version {
            began: 0,
            synced: Some(0),
            content: Arc::default(),
        };
        Self {
            versions: vec![empty],
            lost: None,
        }
    }

    /// The file has heard of a device error, by an operation that began at the moment `began`.
    pub(crate) fn failed(&mut self, began: usize) {
        self.lost.get_or_insert(began);
    }

    /// Whether the file has heard of an error up to `moment`.
    pub(crate) fn is_lost(&self, moment: usize) -> bool {
        self.lost.is_some_and(|lost| lost <= moment)
    }

    /// An operation that began at the moment `began` has left `content`.
    pub(crate) fn changed(&mut self, began: usize, content: Vec<u8>) {
        if *content != *self.last().content {
            self.versions.push(Version {
                began,
                synced: None,
                content: content.into(),
            });
        }
    }

    /// A write that began at the moment `began` has failed: some of `data` may be at `offset` on the device, whatever reads
    /// return.
    pub(crate) fn tried(&mut self, began: usize, offset: u64, data: &[u8]) {
        let mut content = self.last().content.to_vec();
        let (start, end) = (offset as usize, offset as usize + data.len());
        content.resize(content.len().max(end), 0);
        content[start..end].copy_from_slice(data);
        self.changed(began, content);
    }

    /// A sync has returned at the moment `ended`, and nothing was changed since it began.
    pub(crate) fn synced(&mut self, ended: usize) {
        let last = self.versions.last_mut().expect("the empty file at least");
        last.synced.get_or_insert(ended);
    }

    fn last(&self) -> &Version {
        self.versions.last().expect("the empty file at least")
    }

    /// What may be there after a power cut at `moment`: what was last synced, and whatever came later; after an error,
    /// whatever there was.
    fn possible(&self, moment: usize) -> &[Version] {
        let synced = |version: &Version| version.synced.is_some_and(|ended| ended <= moment);
        let first = self.versions.iter().rposition(synced).unwrap_or(0);
        let end = self
            .versions
            .partition_point(|version| version.began < moment);
        let possible = ..end.max(first + 1);
        match self.is_lost(moment) {
            true => &self.versions[possible],
            false => &self.versions[possible][first..],
        }
    }

    /// Why `content` cannot be there after a power cut at `moment`, if it cannot.
    ///
    /// Every sector must be one of the versions'. Behind its end a version counts as zeros: where it ends inside a page,
    /// and where a later one has grown beyond. The size is that of a version, or one that was passed while the file
    /// grew. After an error a sector may be zeros besides, or from elsewhere in a version: an insert moves what has arrived
    /// of a failed write, which nobody has read there. It is never what was on the device before the file.
    pub(crate) fn contradicts(&self, moment: usize, content: &[u8]) -> Option<String> {
        let possible = self.possible(moment);
        if possible.iter().any(|version| *version.content == *content) {
            return None;
        }
        let size = content.len();
        let sizes: Vec<usize> = possible.iter().map(|v| v.content.len()).collect();
        let passed = sizes.windows(2).any(|two| (two[0]..two[1]).contains(&size));
        if !passed && !sizes.contains(&size) {
            return Some(format!("size {size}, which is none of {sizes:?}"));
        }
        let sectors = content.chunks(SECTOR as usize).enumerate();
        let strange = sectors.map(|(number, sector)| (number * SECTOR as usize, sector));
        let is_lost = self.is_lost(moment);
        let strange = strange.clone().find(|(start, sector)| {
            let longest_from = |n: usize| possible[n..].iter().map(|v| v.content.len()).max();
            let in_place = |(n, version): (usize, &Version)| {
                let end = version.content.len().next_multiple_of(PAGE_SIZE as usize);
                agrees(&version.content, *start, sector)
                    && (is_lost
                        || *start < end
                        || longest_from(n).is_some_and(|longest| *start < longest))
            };
            let elsewhere = |version: &Version| {
                let mut from = (0..version.content.len()).step_by(SECTOR as usize);
                from.any(|start| agrees(&version.content, start, sector))
            };
            let fits = possible.iter().enumerate().rev().any(in_place)
                || is_lost && possible.iter().any(elsewhere);
            !fits
        });
        strange.map(|(start, sector)| {
            let of = self
                .versions
                .iter()
                .position(|v| agrees(&v.content, start, sector));
            format!(
                "at byte {start}: {:?}..., as version {of:?}; possible are the last {} of {}",
                &sector[..sector.len().min(8)],
                possible.len(),
                self.versions.len(),
            )
        })
    }
}

/// Whether `content` from `start` on is `sector`, with zeros behind its end.
fn agrees(content: &[u8], start: usize, sector: &[u8]) -> bool {
    let rest = content.get(start..).unwrap_or_default();
    let (inside, behind) = sector.split_at(rest.len().min(sector.len()));
    rest.starts_with(inside) && behind.iter().all(|byte| *byte == 0)
}
