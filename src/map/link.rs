//! Links between nodes: addresses that tell the kind of node they lead to.

use core::fmt;
use core::ptr::{self, NonNull};

use crate::sync::atomic::{AtomicPtr, Ordering};

/// A pointer to a node, or to none. Nodes are aligned, so the lowest bits can tell the kind.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Link(*mut u8);

/// What kind of node a link leads to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Index,
    PackedLeaf,
    WideLeaf,
}

const TAG: usize = 3;

/// Bytes to prefetch.
#[cfg(all(target_arch = "x86_64", not(loom), not(feature = "shuttle")))]
const LARGEST_NODE: usize = 512;

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({:p})", self.0)
    }
}

// SAFETY: a link is an address; whoever follows it needs a right to look at the node (R1).
unsafe impl Send for Link {}

impl Link {
    pub(super) const NULL: Self = Self(ptr::null_mut());

    pub(super) fn new<N>(node: NonNull<N>, kind: Kind) -> Self {
        let node = node.as_ptr().cast::<u8>();
        Self(node.map_addr(|address| address | kind as usize))
    }

    pub(super) fn is_null(self) -> bool {
        self.0.is_null()
    }

    pub(super) fn is_index(self) -> bool {
        self.0.addr() & TAG == Kind::Index as usize
    }

    pub(super) fn is_wide(self) -> bool {
        self.0.addr() & TAG == Kind::WideLeaf as usize
    }

    /// The node's address.
    pub(super) fn node<N>(self) -> NonNull<N> {
        let node = self.0.map_addr(|address| address & !TAG);
        // SAFETY: only nodes are asked for, never `NULL`: roots are compared with it, and children exist (N3).
        // A node lies in a chunk, and a chunk not at null (P1).
        unsafe { NonNull::new_unchecked(node.cast()) }
    }

    /// Asks for the memory of a node, which may be something else by the time it comes.
    pub(super) fn prefetch(self) {
        #[cfg(all(target_arch = "x86_64", not(loom), not(feature = "shuttle")))]
        for line in (0..LARGEST_NODE).step_by(64) {
            use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let line = self.node::<u8>().as_ptr().wrapping_byte_add(line);
            // SAFETY: prefetching accesses nothing, wherever the address leads (C2).
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
        }
    }
}

/// A place that holds a link.
#[derive(Debug)]
pub(super) struct AtomicLink(AtomicPtr<u8>);

impl AtomicLink {
    pub(super) fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// Acquire, from the Release of [`store`](Self::store): the node is seen as it was filled.
    #[inline(always)]
    pub(super) fn load(&self) -> Link {
        Link(self.0.load(Ordering::Acquire))
    }

    /// Publishes what the link leads to. Only the holder of the writer lock may (N2).
    pub(super) fn store(&self, link: Link, ordering: Ordering) {
        self.0.store(link.0, ordering);
    }
}
