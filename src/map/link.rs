//! Links between nodes: addresses that tell the kind of node they lead to.

use core::fmt;
use core::ptr::{self, NonNull};

use super::index::Index;
use super::leaf::{Leaf, LeafRef};
use crate::sync::atomic::{AtomicPtr, Ordering};

/// A pointer to a node, or to none. Nodes are aligned, so the lowest bits can tell the kind.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Link(*mut u8);

const INDEX: usize = 0;
const PACKED: usize = 1;
const WIDE_LEAF: usize = 2;
const TAG: usize = 3;

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({:p})", self.0)
    }
}

// SAFETY: a link is an address; following it is what needs promises.
unsafe impl Send for Link {}

impl Link {
    pub(super) const NULL: Self = Self(ptr::null_mut());

    fn new(node: *mut u8, tag: usize) -> Self {
        Self(node.map_addr(|address| address | tag))
    }

    pub(super) fn to_leaf(leaf: NonNull<Leaf>, wide: bool) -> Self {
        Self::new(leaf.as_ptr().cast(), if wide { WIDE_LEAF } else { PACKED })
    }

    pub(super) fn to_index(node: NonNull<Index>) -> Self {
        Self::new(node.as_ptr().cast(), INDEX)
    }

    pub(super) fn is_null(self) -> bool {
        self.0.is_null()
    }

    pub(super) fn is_index(self) -> bool {
        self.0.addr() & TAG == INDEX
    }

    pub(super) fn is_wide(self) -> bool {
        self.0.addr() & TAG == WIDE_LEAF
    }

    /// The node's address.
    pub(super) fn node<N>(self) -> NonNull<N> {
        let node = self.0.map_addr(|address| address & !TAG);
        // SAFETY: only nodes are asked for, never `NULL`; a node's address is not null.
        unsafe { NonNull::new_unchecked(node.cast()) }
    }

    /// Asks for the memory of a leaf, which may be gone by the time it comes.
    pub(super) fn prefetch(self) {
        #[cfg(all(target_arch = "x86_64", not(loom), not(feature = "shuttle")))]
        for line in (0..size_of::<Leaf>()).step_by(64) {
            use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            let line = self.node::<Leaf>().as_ptr().wrapping_byte_add(line);
            // SAFETY: prefetching accesses nothing, wherever the address leads.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(line.cast()) };
        }
    }

    /// # Safety
    /// The link leads to a leaf that stays published or protected for `'t` (R1).
    #[inline(always)]
    pub(super) unsafe fn leaf<'t>(self) -> LeafRef<'t> {
        debug_assert!(!self.is_null() && !self.is_index());
        // SAFETY: the caller's promise; nothing writes a plain field of it meanwhile (N1).
        let leaf: &Leaf = unsafe { self.node().as_ref() };
        leaf.witness.read();
        LeafRef {
            leaf,
            wide: self.is_wide(),
        }
    }

    /// # Safety
    /// The link leads to an index node that stays published or protected for `'t` (R1).
    #[inline(always)]
    pub(super) unsafe fn index<'t>(self) -> &'t Index {
        debug_assert!(!self.is_null() && self.is_index());
        // SAFETY: the caller's promise; nothing writes a plain field of it meanwhile (N1).
        let node: &Index = unsafe { self.node().as_ref() };
        node.witness.read();
        node
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
