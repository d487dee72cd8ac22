//! When the memory of a replaced state may be freed, and by whom.
//!
//! Epoch-based reclamation (Fraser, "Practical lock-freedom", 2004) by `crossbeam-epoch`, with one
//! twist: what is deferred to the collector is only the bump of a counter, one for each batch of
//! garbage. The garbage itself stays with the writer of its map, who frees a batch once the counter
//! says so. A reader that happens to run deferred functions thus never frees anything.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ptr::NonNull;
use std::rc::Rc;
use std::sync::Weak;

use crossbeam_epoch::{Collector, LocalHandle};

use super::array::Array;
use crate::sync::Arc;
use crate::sync::thread_local;
// Deferred functions also run while a thread is torn down, where a model checker can schedule
// nothing.
use crate::sync::uncounted::{AtomicU64, Ordering};

/// Decides when memory that readers may still look at can be freed; many maps can share one.
///
/// Cloning is cheap and gives the same reclaimer. Threads register with a reclaimer on their first
/// use of it and stay registered until they end or find, when they register elsewhere, that it is
/// gone.
#[derive(Clone, Debug, Default)]
pub struct Reclaimer {
    epochs: Arc<Epochs>,
}

#[derive(Debug, Default)]
struct Epochs(Collector);

impl Drop for Epochs {
    fn drop(&mut self) {
        // The dropping thread gives up its own registration at once; other threads do so when they
        // next register with a reclaimer.
        forget_dropped();
    }
}

type Registration = (Weak<Epochs>, Rc<LocalHandle>);

thread_local! {
    /// The reclaimers this thread is registered with; the one used last is first. A `Weak` keeps
    /// the address it compares by from being used again.
    static REGISTRATIONS: RefCell<Vec<Registration>> = const { RefCell::new(Vec::new()) };
}

/// Unregisters this thread from reclaimers that are gone.
fn forget_dropped() {
    let dropped = REGISTRATIONS.try_with(|registrations| {
        let mut registrations = registrations.try_borrow_mut().ok()?;
        Some(
            registrations
                .extract_if(.., |(epochs, _)| epochs.strong_count() == 0)
                .collect(),
        )
    });
    // Outside the borrow: unregistering runs deferred functions.
    drop::<Option<Vec<Registration>>>(dropped.ok().flatten());
}

impl Reclaimer {
    /// A reclaimer of its own.
    pub fn new() -> Self {
        Self::default()
    }

    /// The calling thread's registration.
    pub(super) fn handle(&self) -> Rc<LocalHandle> {
        let known = REGISTRATIONS.try_with(|registrations| {
            let mut registrations = registrations.borrow_mut();
            let own = Arc::as_ptr(&self.epochs);
            let index = registrations
                .iter()
                .position(|(epochs, _)| epochs.as_ptr() == own)?;
            registrations.swap(0, index);
            Some(Rc::clone(&registrations[0].1))
        });
        known.ok().flatten().unwrap_or_else(|| self.register())
    }

    #[cold]
    fn register(&self) -> Rc<LocalHandle> {
        forget_dropped();
        let handle = Rc::new(self.epochs.0.register());
        // A thread that is being torn down keeps no registration.
        let _ = REGISTRATIONS.try_with(|registrations| {
            let registration = (Arc::downgrade(&self.epochs), Rc::clone(&handle));
            registrations.borrow_mut().push(registration);
        });
        handle
    }
}

/// A batch is complete when it has this many arrays ...
const BATCH_ARRAYS: usize = 16;
/// ... or this many extents, whichever comes first.
const BATCH_EXTENTS: usize = 1024;

/// The replaced arrays of one map that readers may still look at. Belongs to the map's writer lock.
#[derive(Debug, Default)]
pub(super) struct Limbo {
    /// The batch that is being filled.
    open: Batch,
    /// Complete batches with their tickets, oldest first.
    sealed: VecDeque<(u64, Batch)>,
    /// The ticket of the last complete batch.
    ticket: u64,
    /// Every batch with a ticket up to this one is out of every reader's reach.
    safe: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Batch {
    // Not boxes: a `Box` claims to be the only pointer, but readers may still have theirs.
    arrays: Vec<NonNull<Array>>,
    extents: usize,
}

// SAFETY: the pointers own their arrays (M2) and an array may be read and freed by any thread.
unsafe impl Send for Batch {}

impl Drop for Batch {
    fn drop(&mut self) {
        for array in self.arrays.drain(..) {
            // SAFETY: made from a box (see `Limbo::retire`) and in one batch only (M2). A batch
            // drops either because its ticket is safe (M3) or together with its map (M5): no reader
            // is left.
            drop(unsafe { Box::from_raw(array.as_ptr()) });
        }
    }
}

impl Limbo {
    /// Takes in an array that was just replaced, and frees the batches that have become safe.
    ///
    /// # Safety
    /// `array` came from a `Box`, is not the root of a map any more, and nobody else will free it.
    /// `handle` is registered with the collector under which readers load the map's root.
    pub(super) unsafe fn retire(&mut self, array: NonNull<Array>, handle: &LocalHandle) {
        // SAFETY: still allocated, as this limbo is who will free it; arrays are never written
        // (M1).
        self.open.extents += unsafe { array.as_ref() }.len();
        self.open.arrays.push(array);
        if self.open.arrays.len() < BATCH_ARRAYS && self.open.extents < BATCH_EXTENTS {
            return;
        }
        self.ticket += 1;
        self.sealed
            .push_back((self.ticket, std::mem::take(&mut self.open)));
        let (safe, ticket) = (Arc::clone(&self.safe), self.ticket);
        let guard = handle.pin();
        // A later ticket implies all earlier ones: readers of an older batch pinned before it was
        // replaced, hence before this call, and the function runs only after they unpinned.
        // `fetch_max` because functions deferred by different threads may run in either order.
        guard.defer(move || {
            // Release, to the Acquire load below: what readers read is read before it is freed.
            safe.fetch_max(ticket, Ordering::Release);
        });
        guard.flush();
        drop(guard);
        // Acquire, from the Release above.
        let safe = self.safe.load(Ordering::Acquire);
        let reachable_from = self.sealed.partition_point(|(ticket, _)| *ticket <= safe);
        self.sealed.drain(..reachable_from);
    }
}
