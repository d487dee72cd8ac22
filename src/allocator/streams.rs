//! Where requests without a goal begin to look: a few places, so that unrelated files do not meet.

use crossbeam_utils::CachePadded;

use crate::sync::uncounted::{AtomicUsize, Ordering};

/// The groups that served the last requests, one for each of a few classes of streams. Only hints.
#[derive(Debug)]
pub(super) struct Streams(Box<[CachePadded<AtomicUsize>]>);

impl Streams {
    /// As many places as there are processors, but at least four groups for each; spread over the volume.
    pub(super) fn new(groups: usize) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let places = processors.min(groups / 4).max(1);
        let first = |place: usize| CachePadded::new(AtomicUsize::new(groups * place / places));
        Self((0..places).map(first).collect())
    }

    fn place(&self, stream: u64) -> &AtomicUsize {
        &self.0[(stream % self.0.len() as u64) as usize]
    }

    /// The group to begin with.
    pub(super) fn group(&self, stream: u64) -> usize {
        self.place(stream).load(Ordering::Relaxed)
    }

    /// A request was served by `group`. Written only when it is another one.
    pub(super) fn served(&self, stream: u64, group: usize) {
        let place = self.place(stream);
        if place.load(Ordering::Relaxed) != group {
            place.store(group, Ordering::Relaxed);
        }
    }
}
