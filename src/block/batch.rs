//! Bios gathered before they go to the device (a "plug").

use crate::device::{Buffers, Completion};
use crate::error::Result;
use crate::spans::span;
use crate::sync::Arc;

use super::core::Core;
use super::outcome::Done;
use super::panics::Panics;
use super::push::{self, Desk};
use super::pushed::{Progress, Pushed};
use super::{Bio, SubmittedBio};

/// Bios of one thread that go to the device together: neighbours are merged, so that each run of them of one kind goes in
/// as few commands as the device's limits allow. The order is a [scheduler](super::Scheduler)'s matter. A dropped batch submits nothing.
///
/// The batch is cut into sections, at each flush ([`Bio::flush`], [`Bio::preflush`]) and before each bio that overlaps
/// an earlier one of its section, unless both read; bios move only inside their section.
#[must_use = "a batch does nothing until it is submitted"]
#[derive(Debug)]
pub struct Batch<'a> {
    core: &'a Arc<Core>,
    /// The first `len` are in use. The others are written to in place by those who push: a structure that is written in
    /// parts and then moved makes the processor wait.
    slots: Vec<Pushed>,
    len: usize,
    desk: Desk,
    /// Whether completions are to be told.
    tells: bool,
}

/// The memory and the end of bios, in the order in which they were pushed; waits where one is under way still.
#[derive(Debug)]
#[must_use = "the errors are in it"]
pub struct Ends<'b>(std::slice::IterMut<'b, Pushed>);

impl Iterator for Ends<'_> {
    type Item = (Buffers, Result<()>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let slot = self.0.next()?;
            // As nearly all do.
            if let Progress::Here(None) = slot.progress {
                return Some((slot.bio.content.take_memory(), Ok(())));
            }
            if let Some(handle) = slot.end() {
                return Some(handle.finish());
            }
        }
    }
}

impl<'a> Batch<'a> {
    pub(super) fn new(core: &'a Arc<Core>) -> Self {
        Self {
            core,
            slots: Vec::new(),
            len: 0,
            desk: Desk::default(),
            tells: false,
        }
    }

    /// Adds a bio.
    #[inline]
    pub fn push(&mut self, bio: Bio) {
        let slot = self.slot();
        slot.bio = bio;
        // Nearly always so.
        let Progress::Here(None) = slot.progress else {
            slot.progress = Progress::Here(None);
            return;
        };
    }

    /// Adds a bio whose end `completion` will hear of, under `tag`, in whatever thread it ends. It gets no handle.
    pub fn push_with(&mut self, bio: Bio, completion: Arc<dyn Completion>, tag: u64) {
        let done = Done { completion, tag };
        self.tells = true;
        let slot = self.slot();
        *slot = Pushed::new(bio, Some(done));
    }

    /// A slot for one more, whose bio has no completion.
    #[inline]
    fn slot(&mut self) -> &mut Pushed {
        if self.len == self.slots.len() {
            self.slots.push(Pushed::new(Bio::flush(), None));
        }
        self.len += 1;
        &mut self.slots[self.len - 1]
    }

    /// How many bios were pushed.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing was pushed.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Submits everything and waits. All bios are tried, also behind a failed one; to know which of them
    /// failed, use [`finish`](Self::finish).
    ///
    /// # Errors
    /// That of the first bio, in the order in which they were pushed, that failed; see [`SubmittedBio::wait`].
    pub fn submit_and_wait(mut self) -> Result<()> {
        let mut first = Ok(());
        // Each is waited for.
        for (_, result) in self.finish() {
            first = first.and(result);
        }
        first
    }

    /// Submits everything and waits for one after the other: its memory and its end, in the order in which they were
    /// pushed, of all that have no completion. The batch is empty then, for others.
    #[inline]
    pub fn finish(&mut self) -> Ends<'_> {
        Ends(self.send().iter_mut())
    }

    /// Submits everything; one handle for each bio, in the order in which they were pushed.
    pub fn submit(mut self) -> Vec<SubmittedBio> {
        let mut handles = Vec::with_capacity(self.len);
        self.submit_into(&mut handles);
        handles
    }

    /// Submits everything, puts the handles behind those in `handles`, and leaves the batch empty for others.
    pub fn submit_into(&mut self, handles: &mut Vec<SubmittedBio>) {
        let sent = self.send();
        handles.reserve(sent.len());
        for slot in sent {
            if let Some(handle) = slot.end() {
                handles.push(handle);
            }
        }
    }

    /// Sends everything, and tells the completions of what has ended already. The slots are free from now on.
    fn send(&mut self) -> &mut [Pushed] {
        span!(TRACE, "submit", bios = self.len);
        let sent = &mut self.slots[..std::mem::take(&mut self.len)];
        push::submit(self.core, sent, &mut self.desk);
        if std::mem::take(&mut self.tells) {
            let mut panics = Panics::default();
            for slot in &mut *sent {
                panics.hold(|| slot.tell());
            }
            panics.go_on();
        }
        sent
    }
}
