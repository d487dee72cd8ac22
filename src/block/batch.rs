//! Bios gathered before they go to the device (a "plug").

use crate::device::Completion;
use crate::error::Result;
use crate::sync::Arc;

use super::core::Core;
use super::outcome::Done;
use super::push::{self, Keys, Pushed};
use super::{Bio, SubmittedBio};

/// Bios of one thread that go to the device together: sorted by block, and neighbours merged, so that each run of
/// neighbours of one kind goes in as few commands as the device's limits allow. A dropped batch submits nothing.
///
/// The batch is cut into sections, at each flush ([`Bio::flush`], [`Bio::preflush`]) and before each bio that overlaps
/// an earlier one of its section, unless both read; bios move only inside their section.
#[must_use = "a batch does nothing until it is submitted"]
#[derive(Debug)]
pub struct Batch<'a> {
    core: &'a Arc<Core>,
    pushed: Vec<Pushed>,
    keys: Keys,
}

impl<'a> Batch<'a> {
    pub(super) fn new(core: &'a Arc<Core>) -> Self {
        Self {
            core,
            pushed: Vec::new(),
            keys: Keys::new(),
        }
    }

    /// Adds a bio.
    #[inline]
    pub fn push(&mut self, bio: Bio) {
        self.pushed.push(Pushed::new(bio, None));
    }

    /// Adds a bio whose end `completion` will hear of, under `tag`, in whatever thread it ends. It gets no handle.
    pub fn push_with(&mut self, bio: Bio, completion: Arc<dyn Completion>, tag: u64) {
        let done = Done { completion, tag };
        self.pushed.push(Pushed::new(bio, Some(done)));
    }

    /// How many bios were pushed.
    pub fn len(&self) -> usize {
        self.pushed.len()
    }

    /// Whether nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.pushed.is_empty()
    }

    /// Submits everything and waits. All bios are tried, also behind a failed one; to know which of them
    /// failed, use [`submit`](Self::submit).
    ///
    /// # Errors
    /// That of the first bio, in the order in which they were pushed, that failed; see [`SubmittedBio::wait`].
    pub fn submit_and_wait(self) -> Result<()> {
        let mut first = Ok(());
        for bio in self.submit() {
            first = first.and(bio.finish().1);
        }
        first
    }

    /// Submits everything; one handle for each bio, in the order in which they were pushed.
    pub fn submit(mut self) -> Vec<SubmittedBio> {
        let mut handles = Vec::with_capacity(self.pushed.len());
        self.submit_into(&mut handles);
        handles
    }

    /// Submits everything, puts the handles behind those in `handles`, and leaves the batch empty for others.
    pub fn submit_into(&mut self, handles: &mut Vec<SubmittedBio>) {
        push::submit(self.core, &mut self.pushed, &mut self.keys);
        handles.reserve(self.pushed.len());
        for pushed in self.pushed.drain(..) {
            if let Some(handle) = pushed.end() {
                handles.push(handle);
            }
        }
    }
}
