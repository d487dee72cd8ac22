//! Memory for nodes of one kind: taken from the allocator in chunks, given back in chunks.

use alloc::alloc::{alloc, dealloc, handle_alloc_error};
use alloc::vec::Vec;
use core::alloc::Layout;
use core::ptr::NonNull;

/// Nodes in the largest chunk.
const LARGEST_CHUNK: usize = 128;
/// Fewer free nodes than this are not worth a search for chunks to give back.
const FEW: usize = 256;

/// Nodes that are in the tree, in limbo, or free.
///
/// A pool belongs to the writer lock of its map. It hands out addresses only: who may read or write a
/// node, and when it may come back, is up to the caller.
pub(super) struct Pool<N> {
    chunks: Vec<Chunk<N>>,
    /// Last in, first out, so that a hot writer reuses nodes that are still in its cache.
    free: Vec<NonNull<N>>,
    /// How many nodes at the end of the newest chunk were never used. These are not initialised.
    fresh: usize,
    nodes: usize,
    /// Search for empty chunks when there are so many free nodes.
    trim_at: usize,
}

struct Chunk<N> {
    first: NonNull<N>,
    nodes: usize,
}

// SAFETY: a pool is a list of addresses in chunks that it owns (P1); it looks at nodes only to initialise them (P2).
unsafe impl<N: Send> Send for Pool<N> {}

impl<N> Default for Pool<N> {
    fn default() -> Self {
        Self {
            chunks: Vec::new(),
            free: Vec::new(),
            fresh: 0,
            nodes: 0,
            trim_at: FEW,
        }
    }
}

impl<N> Pool<N> {
    /// How many nodes are not free.
    pub(super) fn used(&self) -> usize {
        self.nodes - self.free.len() - self.fresh
    }

    /// An initialised node that nobody else has; a new one is what `new` makes.
    pub(super) fn take(&mut self, new: impl FnOnce() -> N) -> NonNull<N> {
        self.free.pop().unwrap_or_else(|| {
            if self.fresh == 0 {
                self.grow();
            }
            self.first_use(new())
        })
    }

    /// Takes back a node that nobody has any more. Its address may come from a shared reference, by which nothing may be
    /// written: what is handed out again has the rights of its chunk.
    pub(super) fn give(&mut self, node: NonNull<N>) {
        self.free
            .push(NonNull::with_exposed_provenance(node.addr()));
    }

    /// Initialises a fresh node, of which there is one.
    fn first_use(&mut self, new: N) -> NonNull<N> {
        let chunk = self.chunks.last().expect("fresh nodes are in a chunk");
        // SAFETY: in bounds of the chunk, whose last nodes are the fresh ones, and aligned by its layout (P1).
        // The pool has the chunk, and nobody has the node yet (P2).
        let node = unsafe {
            let node = chunk.first.add(chunk.nodes - self.fresh);
            node.write(new);
            node
        };
        self.fresh -= 1;
        node
    }

    #[cold]
    fn grow(&mut self) {
        // A small map shall cost little, a large one shall have few chunks.
        let nodes = (self.nodes / 8).clamp(2, LARGEST_CHUNK);
        let layout = Self::layout(nodes);
        // SAFETY: the layout is not empty (L1): there are two nodes at least, and none of them is empty.
        let Some(first) = NonNull::new(unsafe { alloc(layout) }.cast::<N>()) else {
            handle_alloc_error(layout)
        };
        // For `give`.
        let _address = first.expose_provenance();
        self.chunks.push(Chunk { first, nodes });
        (self.nodes, self.fresh) = (self.nodes + nodes, nodes);
    }

    fn layout(nodes: usize) -> Layout {
        Layout::array::<N>(nodes).expect("a chunk is small")
    }

    /// Whether so many nodes are free that [`trim`](Self::trim) is worth its while.
    pub(super) fn is_slack(&self) -> bool {
        self.free.len() >= self.trim_at.max(self.nodes / 2)
    }

    /// Gives chunks without a used node back to the allocator; whether there were any.
    #[cold]
    pub(super) fn trim(&mut self, new: impl Fn() -> N) -> bool {
        while self.fresh > 0 {
            let node = self.first_use(new());
            self.free.push(node);
        }
        self.chunks.sort_unstable_by_key(|chunk| chunk.first);
        let mut free_in = alloc::vec![0; self.chunks.len()];
        let chunks = &self.chunks;
        let home = |node: &NonNull<N>| chunks.partition_point(|chunk| chunk.first <= *node) - 1;
        for node in &self.free {
            free_in[home(node)] += 1;
        }
        // Some stay, so that a map that breathes does not ask the allocator at each breath.
        let mut keep = FEW / 2;
        let mut unused: Vec<bool> = Vec::with_capacity(chunks.len());
        for (chunk, free) in chunks.iter().zip(free_in) {
            let spare = chunk.nodes == free && keep == 0;
            if !spare {
                keep = keep.saturating_sub(free);
            }
            unused.push(spare);
        }
        self.free.retain(|node| !unused[home(node)]);
        self.free.shrink_to(2 * self.free.len());
        let mut at = 0;
        let nodes = &mut self.nodes;
        self.chunks.retain(|chunk| {
            let gone = unused[at];
            at += 1;
            if gone {
                *nodes -= chunk.nodes;
                chunk.release();
            }
            !gone
        });
        // The rest lies in chunks that are in use: look again when half of what is used now is free.
        self.trim_at = FEW.max(self.free.len() + (self.nodes - self.free.len()) / 2);
        unused.contains(&true)
    }
}

impl<N> Chunk<N> {
    fn release(&self) {
        // SAFETY: allocated in `grow` with this layout, and nodes need no drop: they are numbers and addresses
        // (P1). Whoever calls drops the chunk: the holder of the writer lock, when all of it is free (R4), or
        // the pool (R3).
        unsafe { dealloc(self.first.as_ptr().cast(), Pool::<N>::layout(self.nodes)) };
    }
}

impl<N> Drop for Pool<N> {
    fn drop(&mut self) {
        self.chunks.iter().for_each(Chunk::release);
    }
}

#[cfg(all(test, not(any(loom, feature = "shuttle"))))]
mod tests {
    use super::*;

    /// A pool of `nodes` nodes or a few more, all of which are in use.
    fn used_up(nodes: usize) -> (Pool<u64>, Vec<NonNull<u64>>) {
        let (mut pool, mut used) = (Pool::default(), Vec::new());
        while pool.nodes < nodes || pool.fresh > 0 {
            used.push(pool.take(|| 0));
        }
        (pool, used)
    }

    #[test]
    fn a_small_pool_costs_little_and_a_large_one_has_few_chunks() {
        let mut pool = Pool::default();
        for used in 1..=20_000 {
            pool.take(|| 0_u64);
            assert!(pool.nodes <= used + (used / 8).max(2), "{used}");
        }
        assert!(pool.chunks.len() < 20_000 / LARGEST_CHUNK + 50);
    }

    #[test]
    fn chunks_without_a_used_node_are_given_back_but_for_a_few() {
        let (mut pool, mut used) = used_up(4096);
        let (nodes, half) = (pool.nodes, pool.nodes / 2);
        for free in 1..=half {
            pool.give(used.pop().unwrap());
            assert_eq!(pool.is_slack(), free == half, "{free} of {nodes}");
        }
        assert!(pool.trim(|| 0));
        assert_eq!(pool.used(), used.len());
        let free = pool.free.len();
        assert!((FEW / 2..FEW / 2 + 2 * LARGEST_CHUNK).contains(&free));
        assert_eq!(pool.nodes, used.len() + free);
        // Again when half of what is used now is free.
        let half = used.len() / 2;
        for free in 1..=half {
            pool.give(used.pop().unwrap());
            assert_eq!(pool.is_slack(), free == half, "{free} more");
        }
    }

    #[test]
    fn nodes_never_used_are_free_like_others_once_chunks_are_in_another_order() {
        let (mut pool, mut used) = used_up(4096);
        used.push(pool.take(|| 0));
        assert!(pool.fresh > 0);
        used.drain(..2048).for_each(|node| pool.give(node));
        pool.trim(|| 0);
        assert_eq!((pool.fresh, pool.used()), (0, used.len()));
    }

    #[test]
    fn a_small_pool_and_chunks_in_use_stay() {
        let (mut pool, used) = used_up(FEW / 2);
        used.into_iter().for_each(|node| pool.give(node));
        assert!(!pool.is_slack());
        let (mut pool, used) = used_up(4096);
        used.into_iter().step_by(2).for_each(|node| pool.give(node));
        assert!(!pool.trim(|| 0) && pool.nodes >= 4096);
    }
}
