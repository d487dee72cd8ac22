//! The nodes above level 0.

use core::ptr::NonNull;

use super::MODELLED;
use super::link::{AtomicLink, Kind, Link};
use crate::sync::Witness;
use crate::sync::atomic::Ordering;

/// Children of an index node, which fills 256 bytes.
pub(super) const FANOUT: usize = if MODELLED { 4 } else { 16 };

/// A node above level 0: the ranges of up to [`FANOUT`] nodes of the level below.
///
/// Child 0 has everything below the first separator: its own lower bound is that of the node, which
/// only the node's parent knows. Everything but the children is constant from publication to
/// recycling (N1).
#[repr(C, align(64))]
pub(super) struct Index {
    /// Bit `i` is set for every child `i` but the first. It stands where the separator of child 0
    /// would, so that comparing all lanes and masking with it counts the separators up to a block.
    used: u64,
    /// The lower bounds of the children 1 and up.
    separators: [i64; FANOUT - 1],
    children: [AtomicLink; FANOUT],
    witness: Witness,
}

#[cfg(not(any(loom, feature = "shuttle")))]
const _: () = assert!(size_of::<Index>() == 256);

/// A number as lanes hold it: signed comparison, which is all that AVX2 has, orders it as unsigned
/// comparison orders the number.
pub(super) fn lane64(number: u64) -> i64 {
    (number ^ 1 << 63).cast_signed()
}

impl Link {
    pub(super) fn to_index(node: NonNull<Index>) -> Self {
        Self::new(node, Kind::Index)
    }

    /// # Safety
    /// The link leads to an index node that stays published or protected for `'t` (R1).
    #[inline(always)]
    pub(super) unsafe fn index<'t>(self) -> &'t Index {
        debug_assert!(!self.is_null() && self.is_index());
        // SAFETY: there is an index node, whole and aligned (P1). It stays by the caller's promise (R1), and
        // nothing writes a plain field of it meanwhile (N1).
        let node: &Index = unsafe { self.node().as_ref() };
        node.witness.read();
        node
    }
}

impl Index {
    pub(super) fn new() -> Self {
        Self {
            used: 0,
            separators: [0; FANOUT - 1],
            children: core::array::from_fn(|_| AtomicLink::new()),
            witness: Witness::new(),
        }
    }

    /// Fills an unpublished node. There are at most [`FANOUT`] children, each with its lower bound,
    /// of which the first does not count.
    pub(super) fn fill(&mut self, children: &[(u64, Link)]) {
        self.witness.written();
        self.used = (1 << children.len()) - 2;
        for (separator, (lower, _)) in self.separators.iter_mut().zip(&children[1..]) {
            *separator = lane64(*lower);
        }
        for (slot, (_, child)) in self.children.iter().zip(children) {
            slot.store(*child, Ordering::Relaxed);
        }
    }

    /// Tells a model checker that the memory is free for other uses.
    pub(super) fn freed(&self) {
        self.witness.freed();
    }

    pub(super) fn count(&self) -> usize {
        self.used.count_ones() as usize + 1
    }

    #[cfg(not(any(loom, feature = "shuttle")))]
    pub(super) fn used(&self) -> u64 {
        self.used
    }

    /// The place of child `at`.
    #[inline(always)]
    pub(super) fn child(&self, at: usize) -> &AtomicLink {
        &self.children[at]
    }

    /// The lower bound of child `at`, which is not the first.
    pub(super) fn separator(&self, at: usize) -> u64 {
        self.separators[at - 1].cast_unsigned() ^ 1 << 63
    }

    /// The child in whose range `block` lies, counted one by one.
    #[inline(always)]
    pub(super) fn rank(&self, block: u64) -> usize {
        let lane = lane64(block);
        let used = &self.separators[..self.count() - 1];
        used.iter().map(|bound| usize::from(*bound <= lane)).sum()
    }
}
