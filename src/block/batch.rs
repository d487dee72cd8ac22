//! Bios gathered before they go to the device (a "plug").

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::mem;
use std::ops::Range;

use crate::error::Result;

use super::bio::Request;
use super::{Bio, BlockQueue, SubmittedBio};

/// Bios that go to the device together: sorted by block, neighbouring writes merged into one request. A dropped
/// batch submits nothing.
///
/// The batch is cut into sections, at each flush and before each bio that overlaps an earlier one of its
/// section; bios move only inside their section.
#[must_use = "a batch does nothing until it is submitted"]
#[derive(Debug)]
pub struct Batch<'a> {
    queue: &'a BlockQueue,
    bios: Vec<Bio>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(queue: &'a BlockQueue) -> Self {
        Self {
            queue,
            bios: Vec::new(),
        }
    }

    /// Adds a bio.
    pub fn push(&mut self, bio: Bio) {
        self.bios.push(bio);
    }

    /// How many bios were pushed.
    pub fn len(&self) -> usize {
        self.bios.len()
    }

    /// Whether nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.bios.is_empty()
    }

    /// Submits everything and waits. All bios are tried, also behind a failed one; to know which of them
    /// failed, use [`submit`](Self::submit).
    ///
    /// # Errors
    /// That of the first bio, in the order in which they were pushed, that failed; see [`SubmittedBio::wait`].
    pub fn submit_and_wait(self) -> Result<()> {
        self.submit()
            .into_iter()
            .try_for_each(|bio| bio.wait().map(drop))
    }

    /// Submits everything; one handle for each bio, in the order in which they were pushed.
    pub fn submit(self) -> Vec<SubmittedBio> {
        let queue = self.queue;
        let mut ended: Vec<Option<SubmittedBio>> = self.bios.iter().map(|_| None).collect();
        let mut section = Section::default();
        for (index, Bio(request)) in self.bios.into_iter().enumerate() {
            match queue.bytes_of(&request) {
                Ok(bytes) if !bytes.is_empty() => {
                    if section.overlaps(&bytes) {
                        section.submit(queue, &mut ended);
                    }
                    section.0.insert(
                        bytes.start,
                        Entry {
                            end: bytes.end,
                            index,
                            request,
                        },
                    );
                }
                // A flush, or something that touches no byte: nothing, or what will be refused.
                _ => {
                    if request == Request::Flush {
                        section.submit(queue, &mut ended);
                    }
                    ended[index] = Some(queue.submit(Bio(request)));
                }
            }
        }
        section.submit(queue, &mut ended);
        // Every index was filled: above, or by its section.
        ended.into_iter().flatten().collect()
    }
}

/// Bios that do not overlap, by their first byte.
#[derive(Debug, Default)]
struct Section(BTreeMap<u64, Entry>);

#[derive(Debug)]
struct Entry {
    /// The byte behind the last one.
    end: u64,
    /// Which bio of the batch it is.
    index: usize,
    request: Request,
}

impl Section {
    fn overlaps(&self, bytes: &Range<u64>) -> bool {
        let before = self.0.range(..bytes.end).next_back();
        before.is_some_and(|(_, entry)| entry.end > bytes.start)
    }

    /// Carries out all bios and leaves the section empty.
    fn submit(&mut self, queue: &BlockQueue, ended: &mut [Option<SubmittedBio>]) {
        let mut entries = mem::take(&mut self.0).into_iter().peekable();
        while let Some((
            start,
            Entry {
                mut end,
                index,
                request,
            },
        )) = entries.next()
        {
            let Request::Write { data, .. } = request else {
                ended[index] = Some(queue.submit(Bio(request)));
                continue;
            };
            let mut merged = vec![(index, data)];
            while let Some((_, next)) = entries.next_if(|(next_start, next)| {
                *next_start == end
                    && next.end - start <= queue.max_bytes()
                    && matches!(next.request, Request::Write { .. })
            }) {
                if let Request::Write { data, .. } = next.request {
                    merged.push((next.index, data));
                }
                end = next.end;
            }
            let parts: Vec<_> = merged.iter().map(|(_, data)| IoSlice::new(data)).collect();
            let result = queue.write_merged(start, &parts);
            for (index, _) in merged {
                ended[index] = Some(SubmittedBio::ended(result.clone().map(|()| Vec::new())));
            }
        }
    }
}
