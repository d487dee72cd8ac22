//! Nodes that have left the tree and that readers may still look at.

use alloc::collections::VecDeque;
use alloc::sync::Arc;

use super::link::Link;
use super::reclaim::Handle;
// Deferred functions also run while a thread is torn down, where a model checker can schedule
// nothing.
use crate::sync::uncounted::{AtomicU64, Ordering};

/// Nodes in a batch of a large map ...
const LARGEST_BATCH: usize = 64;
/// ... and of a small one, which shall not keep more garbage than nodes.
const SMALLEST_BATCH: usize = if cfg!(any(loom, feature = "shuttle")) {
    1
} else {
    8
};
/// With so many nodes in limbo a writer waits a moment for readers before it takes new memory.
const MANY: usize = 1280;

/// The retired nodes of one map, in batches. Belongs to the map's writer lock.
///
/// The collector is given one function for each batch, which bumps a counter: whoever runs it, and that
/// may be a reader, frees nothing. The writer sees by the counter which batches are out of reach.
#[derive(Default)]
pub(super) struct Limbo {
    /// Oldest first; those behind the sealed batches are the open batch.
    nodes: VecDeque<Link>,
    /// The sizes of the sealed batches, oldest first.
    sealed: VecDeque<usize>,
    /// How many nodes the sealed batches have.
    sealed_nodes: usize,
    /// How many batches were ever sealed ...
    batches: u64,
    /// ... and how many of those are out of every reader's reach: the oldest ones.
    /// None before the first batch: most maps of a volume never have one.
    safe: Option<Arc<AtomicU64>>,
    /// The open batch is complete when there are so many nodes.
    due: usize,
}

impl Limbo {
    /// Takes in a node that has just left the tree.
    pub(super) fn push(&mut self, node: Link) {
        self.nodes.push_back(node);
    }

    /// Whether the open batch is complete, in a map with `used` nodes.
    #[inline(always)]
    pub(super) fn is_due(&mut self, used: impl FnOnce() -> usize) -> bool {
        self.nodes.len() >= self.due && self.is_really_due(used())
    }

    /// Sets a goal for the open batch, as a map may have grown.
    fn is_really_due(&mut self, used: usize) -> bool {
        self.due = self.sealed_nodes + (used / 4).clamp(SMALLEST_BATCH, LARGEST_BATCH);
        self.nodes.len() >= self.due
    }

    /// Completes the open batch: from now on the collector waits for its readers.
    pub(super) fn seal(&mut self, handle: &Handle) {
        self.sealed.push_back(self.nodes.len() - self.sealed_nodes);
        self.sealed_nodes = self.nodes.len();
        self.batches += 1;
        self.due = 0;
        let safe = Arc::clone(self.safe.get_or_insert_default());
        let batches = self.batches;
        let guard = handle.pin();
        // A later batch implies all earlier ones: their readers had pinned before this call, and
        // the function runs only after they have unpinned. `fetch_max`, because functions deferred
        // by different threads may run in either order.
        guard.defer(move || {
            // Release, to the Acquire in `drain`: what readers read is read before it is reused.
            safe.fetch_max(batches, Ordering::Release);
        });
        guard.flush();
    }

    /// Nudges the collector while a reader that lost its processor holds much back.
    pub(super) fn press(&self, handle: &Handle) {
        for _ in 0..4 {
            if self.nodes.len() < MANY || self.safe(Ordering::Relaxed) == self.batches {
                return;
            }
            crate::sync::yield_now();
            handle.pin().flush();
        }
    }

    fn safe(&self, ordering: Ordering) -> u64 {
        self.safe.as_ref().map_or(0, |safe| safe.load(ordering))
    }

    /// Takes out the nodes that nobody can reach any more.
    pub(super) fn drain(&mut self, all_at_once: bool) -> impl Iterator<Item = Link> + '_ {
        // Acquire, from the Release in `seal`.
        let safe = self.safe(Ordering::Acquire);
        let pending = self.batches - if all_at_once { self.batches } else { safe };
        let done = self.sealed.len() - pending as usize;
        let nodes = self.sealed.drain(..done).sum::<usize>();
        self.sealed_nodes -= nodes;
        self.nodes.drain(..nodes)
    }

    /// How many leaves and index nodes there are.
    #[cfg(all(test, not(loom), not(feature = "shuttle")))]
    pub(super) fn census(&self) -> (usize, usize) {
        let indices = self.nodes.iter().filter(|node| node.is_index()).count();
        (self.nodes.len() - indices, indices)
    }

    /// Gives memory of the queues back after a large edit.
    pub(super) fn shrink(&mut self) {
        if self.nodes.capacity() > 8 * MANY && self.nodes.len() < MANY {
            self.nodes.shrink_to(MANY);
        }
    }
}

#[cfg(all(test, not(any(loom, feature = "shuttle"))))]
mod tests {
    use super::*;
    use crate::map::Reclaimer;

    /// So many nodes, which nobody looks at, in a queue that has room for more.
    fn limbo(nodes: usize, room: usize) -> Limbo {
        let mut limbo = Limbo::default();
        limbo.nodes.reserve_exact(room);
        limbo.nodes.extend(core::iter::repeat_n(Link::NULL, nodes));
        limbo
    }

    #[test]
    fn only_a_long_queue_that_is_hardly_used_gives_memory_back() {
        for (nodes, room, shrinks) in [
            (0, 8 * MANY + 1, true),
            (MANY - 1, 8 * MANY + 1, true),
            (MANY, 8 * MANY + 1, false),
            (0, 8 * MANY, false),
        ] {
            let mut limbo = limbo(nodes, room);
            limbo.shrink();
            assert_eq!(limbo.nodes.capacity() < room, shrinks, "{nodes} in {room}");
            assert_eq!(limbo.nodes.len(), nodes);
        }
    }

    #[test]
    fn the_collector_is_pressed_only_while_many_nodes_wait_for_it() {
        for nodes in [MANY - 1, MANY] {
            let handle = Reclaimer::new().register();
            let mut limbo = limbo(nodes, nodes);
            limbo.seal(&handle);
            assert_eq!(limbo.safe(Ordering::Relaxed), 0, "too early");
            limbo.press(&handle);
            let pressed = limbo.safe(Ordering::Relaxed) == limbo.batches;
            assert_eq!(pressed, nodes == MANY);
        }
    }
}
