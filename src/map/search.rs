//! The way down the tree, with whatever vector instructions the processor has.

use smallvec::SmallVec;

use super::index::Index;
use super::leaf::{Entry, LeafRef};
use super::link::{AtomicLink, Link};

/// A set of instructions for comparing the lanes of a node at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "each processor has its own")]
pub(super) enum Isa {
    /// What every processor of the target has.
    Portable,
    Avx2,
    Avx512,
}

impl Isa {
    /// The best that this processor has; without std, that the target has.
    pub(super) fn detect() -> Self {
        #[cfg(all(target_arch = "x86_64", not(loom), not(feature = "shuttle")))]
        {
            #[cfg(feature = "std")]
            use std::is_x86_feature_detected as has;
            #[cfg(not(feature = "std"))]
            macro_rules! has {
                ($feature:tt) => {
                    cfg!(target_feature = $feature)
                };
            }
            let has_all = |features: &[bool]| features.iter().all(|has| *has);
            if has_all(&[has!("avx512f"), has!("popcnt"), has!("bmi1"), has!("bmi2")]) {
                return Self::Avx512;
            }
            if has_all(&[has!("avx2"), has!("popcnt"), has!("bmi1"), has!("bmi2")]) {
                return Self::Avx2;
            }
        }
        Self::Portable
    }
}

/// One step of a way down: an index node and which of its children comes next.
#[derive(Clone, Copy)]
pub(super) struct Step<'t> {
    pub(super) index: &'t Index,
    pub(super) at: usize,
}

impl Step<'_> {
    pub(super) fn link(&self) -> Link {
        Link::to_index(self.index.into())
    }
}

/// The way from the root to a leaf.
pub(super) type Steps<'t> = SmallVec<[Step<'t>; 8]>;

/// The first block behind the range of the leaf at the end; none when it is the last leaf.
pub(super) fn upper_bound(steps: &[Step<'_>]) -> Option<u64> {
    let turn = steps
        .iter()
        .rfind(|step| step.at + 1 < step.index.count())?;
    Some(turn.index.separator(turn.at + 1))
}

/// The leaf in whose range a block lies, and where in it.
#[derive(Clone, Copy)]
pub(super) struct Spot<'t> {
    pub(super) leaf: LeafRef<'t>,
    /// How many entries of the leaf start at the block or before.
    pub(super) rank: usize,
}

impl Spot<'_> {
    /// The first entry of the leaf that ends at `block`, whose spot this is, or behind it.
    #[inline(always)]
    pub(super) fn first_reaching(&self, block: u64) -> usize {
        match self.rank.checked_sub(1) {
            Some(before) if self.leaf.entry(before).last >= block => before,
            _ => self.rank,
        }
    }
}

/// How the lanes of a node are compared.
trait Lanes {
    /// See [`Index::rank`].
    ///
    /// # Safety
    /// The processor has the instructions (C1).
    unsafe fn index(node: &Index, block: u64) -> usize;

    /// How many offsets of a packed leaf are not behind that of `block`; at least one.
    ///
    /// # Safety
    /// The processor has the instructions (C1).
    unsafe fn leaf(leaf: LeafRef<'_>, block: u64) -> usize;
}

struct Portable;

impl Lanes for Portable {
    #[inline(always)]
    unsafe fn index(node: &Index, block: u64) -> usize {
        node.rank(block)
    }

    #[inline(always)]
    unsafe fn leaf(leaf: LeafRef<'_>, block: u64) -> usize {
        let lane = leaf.leaf.lane_of(block);
        let lanes = leaf.leaf.offsets().iter();
        lanes.map(|offset| usize::from(*offset <= lane)).sum()
    }
}

/// The extent that holds `block`, below `root`, which is not null.
///
/// # Safety
/// All below `root` is protected (R1), and the processor has the instructions (C1).
#[inline(always)]
unsafe fn get<L: Lanes>(root: Link, block: u64) -> Option<Entry> {
    let mut node = root;
    while node.is_index() {
        // SAFETY: the caller's promise, for the root and all below it (R1); children exist (N3).
        let index = unsafe { node.index() };
        // SAFETY: the caller's promise: the processor has the instructions (C1).
        node = index.child(unsafe { L::index(index, block) }).load();
    }
    // SAFETY: as for the index nodes (R1, N3).
    let leaf = unsafe { node.leaf() };
    let entry = match leaf.wide {
        // SAFETY: the caller's promise (C1). The first offset is 0, so the rank is not. For a block below the
        // base it is that of the last entry, which does not hold the block.
        false => leaf.entry(unsafe { L::leaf(leaf, block) } - 1),
        true => leaf.entry(leaf.wide_rank(block).checked_sub(1)?),
    };
    (block.wrapping_sub(entry.start) <= entry.last - entry.start).then_some(entry)
}

/// The spot of `block` below `root`, which is not null. The way there is written to `steps`.
///
/// # Safety
/// All below `root` is protected for `'t` (R1), and the processor has the instructions (C1).
#[inline(always)]
unsafe fn find<'t, L: Lanes>(root: Link, block: u64, steps: &mut Steps<'t>) -> Spot<'t> {
    steps.clear();
    let mut link = root;
    while link.is_index() {
        // SAFETY: the caller's promise, for the root and all below it (R1); children exist (N3).
        let index = unsafe { link.index() };
        // SAFETY: the caller's promise: the processor has the instructions (C1).
        let at = unsafe { L::index(index, block) };
        steps.push(Step { index, at });
        link = index.child(at).load();
    }
    // SAFETY: as for the index nodes (R1, N3).
    let leaf = unsafe { link.leaf() };
    let rank = match leaf.wide {
        false if block < leaf.base() => 0,
        // SAFETY: the caller's promise (C1).
        false => unsafe { L::leaf(leaf, block) },
        true => leaf.wide_rank(block),
    };
    Spot { leaf, rank }
}

/// The extents that hold `blocks`, one after the other, each read from the root that is current then.
///
/// # Safety
/// All below the roots is protected (R1), and the processor has the instructions (C1).
#[inline(always)]
unsafe fn get_many<L: Lanes>(root: &AtomicLink, blocks: &[u64], found: &mut [Option<Entry>]) {
    for (block, found) in blocks.iter().zip(found) {
        let root = root.load();
        *found = match root.is_null() {
            true => None,
            // SAFETY: the caller's promises (R1, C1); the root is not null.
            false => unsafe { get::<L>(root, *block) },
        };
    }
}

/// Compiles [`get`], [`get_many`] and [`find`] for each set of instructions, and chooses between them.
macro_rules! dispatch {
    ($($isa:ident with $features:literal as $get_isa:ident, $many_isa:ident, $find_isa:ident;)*) => {
        $(
            #[target_feature(enable = $features)]
            unsafe fn $get_isa(root: Link, block: u64) -> Option<Entry> {
                // SAFETY: the caller's promise (R1); this function has the instructions (C1).
                unsafe { get::<$isa>(root, block) }
            }

            #[target_feature(enable = $features)]
            unsafe fn $many_isa(root: &AtomicLink, blocks: &[u64], found: &mut [Option<Entry>]) {
                // SAFETY: the caller's promise (R1); this function has the instructions (C1).
                unsafe { get_many::<$isa>(root, blocks, found) }
            }

            #[target_feature(enable = $features)]
            unsafe fn $find_isa<'t>(root: Link, block: u64, steps: &mut Steps<'t>) -> Spot<'t> {
                // SAFETY: the caller's promise (R1); this function has the instructions (C1).
                unsafe { find::<$isa>(root, block, steps) }
            }
        )*

        impl Isa {
            /// The extent that holds `block`, below `root`, which is not null.
            ///
            /// # Safety
            /// All below `root` is protected (R1).
            #[inline(always)]
            pub(super) unsafe fn get(self, root: Link, block: u64) -> Option<Entry> {
                match self {
                    // SAFETY: the caller's promise (R1); `detect` saw the instructions (C1).
                    $(Self::$isa => unsafe { $get_isa(root, block) },)*
                    // SAFETY: the caller's promise (R1); every processor has these instructions (C1).
                    _ => unsafe { get::<Portable>(root, block) },
                }
            }

            /// The extents that hold `blocks`, one after the other.
            ///
            /// # Safety
            /// All below `root` is protected (R1).
            pub(super) unsafe fn get_many(
                self,
                root: &AtomicLink,
                blocks: &[u64],
                found: &mut [Option<Entry>],
            ) {
                match self {
                    // SAFETY: the caller's promise (R1); `detect` saw the instructions (C1).
                    $(Self::$isa => unsafe { $many_isa(root, blocks, found) },)*
                    // SAFETY: the caller's promise (R1); every processor has these instructions (C1).
                    _ => unsafe { get_many::<Portable>(root, blocks, found) },
                }
            }

            /// The spot of `block` below `root`, which is not null. The way there is written to
            /// `steps`.
            ///
            /// # Safety
            /// All below `root` is protected for `'t` (R1).
            #[inline(always)]
            pub(super) unsafe fn find<'t>(
                self,
                root: Link,
                block: u64,
                steps: &mut Steps<'t>,
            ) -> Spot<'t> {
                match self {
                    // SAFETY: the caller's promise (R1); `detect` saw the instructions (C1).
                    $(Self::$isa => unsafe { $find_isa(root, block, steps) },)*
                    // SAFETY: the caller's promise (R1); every processor has these instructions (C1).
                    _ => unsafe { find::<Portable>(root, block, steps) },
                }
            }
        }
    };
}

#[cfg(all(target_arch = "x86_64", not(loom), not(feature = "shuttle")))]
dispatch! {
    Avx2 with "avx2,popcnt,bmi1,bmi2" as get_avx2, get_many_avx2, find_avx2;
    Avx512 with "avx512f,popcnt,bmi1,bmi2" as get_avx512, get_many_avx512, find_avx512;
}

#[cfg(not(all(target_arch = "x86_64", not(loom), not(feature = "shuttle"))))]
dispatch! {}

#[cfg(all(target_arch = "x86_64", not(loom), not(feature = "shuttle")))]
use vectors::{Avx2, Avx512};

#[cfg(all(target_arch = "x86_64", not(loom), not(feature = "shuttle")))]
mod vectors {
    use core::arch::x86_64::*;

    use super::Lanes;
    use crate::map::index::{FANOUT, Index, lane64};
    use crate::map::leaf::{LEAF, Leaf, LeafRef};

    /// The lanes of the base, which are no offsets.
    const BASE: u32 = 0b11;

    const _: () = assert!(LEAF == 30 && FANOUT >= 16);

    /// The 16 lanes of an index node: the mask of its children, then the separators.
    fn index_lanes(node: &Index) -> *const i64 {
        core::ptr::from_ref(node).cast()
    }

    /// The 32 lanes of a leaf: two of its base, then the offsets.
    fn leaf_lanes(leaf: &Leaf) -> *const i32 {
        core::ptr::from_ref(leaf).cast()
    }

    pub(super) struct Avx2;

    impl Lanes for Avx2 {
        #[inline(always)]
        unsafe fn index(node: &Index, block: u64) -> usize {
            let lanes = index_lanes(node).cast::<__m256i>();
            // SAFETY: the caller has the instructions (C1). A node, which is borrowed here, starts with 16
            // aligned lanes (L2), which are plain fields (N1).
            unsafe {
                let key = _mm256_set1_epi64x(lane64(block));
                let mut behind = 0;
                for at in 0..4 {
                    let after = _mm256_cmpgt_epi64(_mm256_load_si256(lanes.add(at)), key);
                    let after = _mm256_movemask_pd(_mm256_castsi256_pd(after));
                    behind |= u64::from(after.cast_unsigned()) << (4 * at);
                }
                (!behind & node.used()).count_ones() as usize
            }
        }

        #[inline(always)]
        unsafe fn leaf(leaf: LeafRef<'_>, block: u64) -> usize {
            let lanes = leaf_lanes(leaf.leaf).cast::<__m256i>();
            // SAFETY: the caller has the instructions (C1). A leaf, which is borrowed here, starts with 32
            // aligned lanes (L2), which are plain fields (N1).
            unsafe {
                let key = _mm256_set1_epi32(leaf.leaf.lane_of(block));
                let mut behind = BASE;
                for at in 0..4 {
                    let after = _mm256_cmpgt_epi32(_mm256_load_si256(lanes.add(at)), key);
                    let after = _mm256_movemask_ps(_mm256_castsi256_ps(after));
                    behind |= after.cast_unsigned() << (8 * at);
                }
                (!behind).count_ones() as usize
            }
        }
    }

    pub(super) struct Avx512;

    impl Lanes for Avx512 {
        #[inline(always)]
        unsafe fn index(node: &Index, block: u64) -> usize {
            let lanes = index_lanes(node).cast::<__m512i>();
            // SAFETY: the caller has the instructions (C1). A node, which is borrowed here, starts with 16
            // aligned lanes (L2), which are plain fields (N1).
            unsafe {
                let key = _mm512_set1_epi64(lane64(block));
                let low = _mm512_cmple_epi64_mask(_mm512_load_si512(lanes), key);
                let high = _mm512_cmple_epi64_mask(_mm512_load_si512(lanes.add(1)), key);
                let reached = u64::from(low) | u64::from(high) << 8;
                (reached & node.used()).count_ones() as usize
            }
        }

        #[inline(always)]
        unsafe fn leaf(leaf: LeafRef<'_>, block: u64) -> usize {
            let lanes = leaf_lanes(leaf.leaf).cast::<__m512i>();
            // SAFETY: the caller has the instructions (C1). A leaf, which is borrowed here, starts with 32
            // aligned lanes (L2), which are plain fields (N1).
            unsafe {
                let key = _mm512_set1_epi32(leaf.leaf.lane_of(block));
                let low = _mm512_cmple_epi32_mask(_mm512_load_si512(lanes), key);
                let high = _mm512_cmple_epi32_mask(_mm512_load_si512(lanes.add(1)), key);
                let reached = u32::from(low) | u32::from(high) << 16;
                (reached & !BASE).count_ones() as usize
            }
        }
    }
}
