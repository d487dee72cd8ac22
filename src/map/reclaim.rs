//! When the memory of a replaced node may be reused, and who waits for it.
//!
//! Epoch-based reclamation (Fraser, "Practical lock-freedom", 2004) by `crossbeam-epoch`, with one
//! twist: what is deferred to the collector is only the bump of a counter, one for each batch of
//! garbage. The garbage itself stays with the writer of its map, who reuses a batch once the counter
//! says so. A reader that happens to run deferred functions thus never frees anything.

use alloc::rc::Rc;
use alloc::sync::Arc;
use alloc::sync::Weak;
use core::fmt;

use crossbeam_utils::CachePadded;

use crate::sync::epoch::{Collector, Guard, LocalHandle};

/// Decides when memory that readers may still look at can be reused; many maps can share one.
///
/// Cloning is cheap and gives the same reclaimer. With the feature `std`, threads register with a
/// reclaimer on their first use of it and stay registered until they end or find, some time when they register
/// elsewhere, that it is gone. Without, they [`register`](Self::register) and pass the handle on.
#[derive(Clone, Debug, Default)]
pub struct Reclaimer {
    epochs: Arc<Epochs>,
}

#[derive(Debug, Default)]
pub(super) struct Epochs(Collector);

impl Reclaimer {
    /// A reclaimer of its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers the calling thread. The handle stays with the thread.
    pub fn register(&self) -> Handle {
        Handle(Rc::new(CachePadded::new(Registration {
            epochs: Arc::downgrade(&self.epochs),
            local: self.epochs.0.register(),
        })))
    }

    #[cfg(feature = "std")]
    pub(super) fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// Whether the handle came from here.
    pub(super) fn has_registered(&self, handle: &Handle) -> bool {
        handle.0.epochs.as_ptr() == Arc::as_ptr(&self.epochs)
    }
}

/// A thread's registration with a [`Reclaimer`].
#[derive(Clone)]
pub struct Handle(
    /// Read with each lookup: padded, so that it shares no line of the cache with memory that a writer writes. Without,
    /// a reader beside a writer had 0.4 instead of 0.9 of its speed alone, as the allocator happened to place it.
    Rc<CachePadded<Registration>>,
);

struct Registration {
    /// Keeps the address by which reclaimers are compared from being used again.
    epochs: Weak<Epochs>,
    local: LocalHandle,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl Handle {
    /// Whether the reclaimer is gone.
    #[cfg(feature = "std")]
    pub(super) fn is_orphan(&self) -> bool {
        self.0.epochs.strong_count() == 0
    }

    /// Keeps everything that readers can see now from being reused while the guard lives.
    #[inline(always)]
    pub(super) fn pin(&self) -> Guard {
        self.0.local.pin()
    }
}
