//! How fast a lookup can be: a static tree over sorted extents, which nobody can change. Nodes of 16 keys
//! without pointers, breadth first, and beside them an array of values; both on huge pages where the system
//! has them. The whole loop of lookups is compiled for the vector instructions of this processor.

use super::extents::{Pattern, Run};

const KEYS: usize = 16;
const CHILDREN: usize = KEYS + 1;
/// Greater than every key, also as a signed number.
const NONE: u64 = i64::MAX as u64;

#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Node([u64; KEYS]);

/// The tree, of at least one extent; they end below block `i64::MAX`.
pub(crate) struct Floor {
    /// Level by level, the root first, the leaves last.
    nodes: Vec<Node>,
    /// Where each level below the root begins.
    levels: Vec<usize>,
    /// Last block and value of each extent.
    values: Vec<(u64, u64)>,
    instructions: Instructions,
}

#[derive(Clone, Copy)]
enum Instructions {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    Plain,
}

impl Instructions {
    fn of_this_processor() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("popcnt") {
                return Self::Avx512;
            }
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("popcnt") {
                return Self::Avx2;
            }
        }
        Self::Plain
    }
}

impl Floor {
    pub(crate) const NAME: &'static str = "static S+ tree (floor)";

    /// The first `extents` of a data set.
    pub(crate) fn filled(extents: u64, data: fn(u64) -> Run) -> Self {
        let runs = (0..extents).map(data);
        let mut values = on_huge_pages(extents as usize);
        values.extend(runs.clone().map(|run| (run.last, run.value)));
        let firsts: Vec<u64> = runs.map(|run| run.first).collect();

        // How many nodes each level has, from the leaves up to the one root.
        let mut counts = vec![firsts.len().div_ceil(KEYS)];
        while counts[counts.len() - 1] > 1 {
            counts.push(counts[counts.len() - 1].div_ceil(CHILDREN));
        }
        let mut nodes = on_huge_pages(counts.iter().sum());
        let mut levels = Vec::new();
        for (height, &count) in counts.iter().enumerate().rev() {
            if height + 1 < counts.len() {
                levels.push(nodes.len());
            }
            // The key before a child of an inner node is the least key below the child.
            let leaves_below = CHILDREN.pow(height as u32) / CHILDREN;
            let key = |node: usize, slot: usize| match height {
                0 => node * KEYS + slot,
                _ => (node * CHILDREN + slot + 1) * leaves_below * KEYS,
            };
            nodes.extend((0..count).map(|node| {
                let keys = |slot| firsts.get(key(node, slot)).copied().unwrap_or(NONE);
                Node(std::array::from_fn(keys))
            }));
        }
        Self {
            nodes,
            levels,
            values,
            instructions: Instructions::of_this_processor(),
        }
    }

    /// Does so many lookups of the pattern and adds up what they find.
    pub(crate) fn read(&self, pattern: &mut impl Pattern, lookups: u64) -> u64 {
        match self.instructions {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this processor has the instructions.
            Instructions::Avx512 => unsafe { self.read_avx512(pattern, lookups) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this processor has the instructions.
            Instructions::Avx2 => unsafe { self.read_avx2(pattern, lookups) },
            Instructions::Plain => pattern.run(lookups, |block| self.find(block, rank)),
        }
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,popcnt")]
    fn read_avx512(&self, pattern: &mut impl Pattern, lookups: u64) -> u64 {
        pattern.run(lookups, |block| {
            self.find(block, |node, block| rank_avx512(node, block))
        })
    }

    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,popcnt")]
    fn read_avx2(&self, pattern: &mut impl Pattern, lookups: u64) -> u64 {
        pattern.run(lookups, |block| {
            self.find(block, |node, block| rank_avx2(node, block))
        })
    }

    /// The run that holds `block`; `rank` tells how many keys of a node are not greater than it.
    #[inline(always)]
    fn find(&self, block: u64, rank: impl Fn(&Node, u64) -> usize) -> Option<Run> {
        if block >= NONE {
            return None;
        }
        // SAFETY: there is a root. Below it, a rank leads to a child that exists, because `NONE`, which is
        // greater than `block`, stands in front of the others.
        let node = |place: usize| unsafe { self.nodes.get_unchecked(place) };
        let mut below = node(0);
        let (mut level, mut index) = (0, 0);
        for &start in &self.levels {
            index = index * CHILDREN + rank(below, block);
            level = start;
            below = node(level + index);
        }
        let place = (index * KEYS + rank(below, block)).checked_sub(1)?;
        let first = node(level + place / KEYS).0[place % KEYS];
        // SAFETY: the place is that of a key less than `NONE`, and there are as many values as such keys.
        let &(last, value) = unsafe { self.values.get_unchecked(place) };
        (block <= last).then_some(Run { first, last, value })
    }
}

#[inline(always)]
fn rank(node: &Node, block: u64) -> usize {
    node.0.iter().filter(|key| **key <= block).count()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,popcnt")]
#[inline]
fn rank_avx512(node: &Node, block: u64) -> usize {
    use std::arch::x86_64::{_mm512_cmple_epu64_mask, _mm512_load_si512, _mm512_set1_epi64};
    let block = _mm512_set1_epi64(block.cast_signed());
    let [left, right] = [0, KEYS / 2].map(|half| {
        // SAFETY: half of the keys lie there, aligned to 64 bytes as the node is.
        let keys = unsafe { _mm512_load_si512(node.0.as_ptr().add(half).cast()) };
        _mm512_cmple_epu64_mask(keys, block)
    });
    (u32::from(left) | u32::from(right) << 8).count_ones() as usize
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,popcnt")]
#[inline]
fn rank_avx2(node: &Node, block: u64) -> usize {
    use std::arch::x86_64::{
        _mm256_castsi256_pd, _mm256_cmpgt_epi64, _mm256_load_si256, _mm256_movemask_pd,
        _mm256_set1_epi64x,
    };
    let block = _mm256_set1_epi64x(block.cast_signed());
    let greater = [0, 1, 2, 3].map(|quarter| {
        // SAFETY: a quarter of the keys lies there, aligned to 32 bytes as the node is.
        let keys = unsafe { _mm256_load_si256(node.0.as_ptr().add(quarter * KEYS / 4).cast()) };
        let greater = _mm256_movemask_pd(_mm256_castsi256_pd(_mm256_cmpgt_epi64(keys, block)));
        greater << (4 * quarter)
    });
    KEYS - greater.iter().sum::<i32>().count_ones() as usize
}

/// An empty vector with room for `capacity` items, on huge pages where the system has them.
fn on_huge_pages<T>(capacity: usize) -> Vec<T> {
    let mut room = Vec::with_capacity(capacity);
    #[cfg(target_os = "linux")]
    {
        const PAGE: usize = 4096;
        let start = room.spare_capacity_mut().as_mut_ptr().cast::<u8>();
        let skipped = start.align_offset(PAGE);
        let bytes = (capacity * size_of::<T>()).saturating_sub(skipped) / PAGE * PAGE;
        // SAFETY: whole pages of the vector's own memory, of which only the size of pages changes. Where
        // that is refused the pages stay small.
        let _ = unsafe {
            rustix::mm::madvise(
                start.wrapping_add(skipped).cast(),
                bytes,
                rustix::mm::Advice::LinuxHugepage,
            )
        };
    }
    room
}
