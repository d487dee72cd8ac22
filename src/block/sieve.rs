//! A cheap proof that nothing can be merged.

use super::pushed::Key;

/// Words of 64 bits: enough that few blocks share one by chance, few enough to stay in the first cache.
const WORDS: usize = 512;

/// Bios that take part; more of them would share cells all the time.
const MOST: usize = 64;

/// Tells for bios in any order, without sorting them, that no two touch or overlap. Never wrong, but it may not know.
///
/// The device is cut in cells, as large as the first bio; each bio marks the cells in which it begins and ends. Two that touch
/// have a point in common, and so a cell.
#[derive(Debug, Default)]
pub(super) struct Sieve {
    /// One bit for each cell and all those at distances of so many bits; none is set between two calls.
    marks: Vec<u64>,
}

impl Sieve {
    pub(super) fn separates(&mut self, keys: &[Key]) -> bool {
        let Some(first) = keys.first().filter(|_| keys.len() <= MOST) else {
            return false;
        };
        let Some(cell) = (first.end - first.start).checked_next_power_of_two() else {
            return false;
        };
        let cell_bits = cell.ilog2();
        let cells = |key: &Key| (key.start >> cell_bits, key.end >> cell_bits);
        self.marks.resize(WORDS, 0);
        // Of a length that the compiler knows.
        let Some(marks) = self.marks.first_chunk_mut() else {
            return false;
        };
        let mut marked = 0;
        for key in keys {
            let (begin, end) = cells(key);
            if end - begin > 1 || is_marked(marks, begin) || is_marked(marks, end) {
                break;
            }
            *word(marks, begin) |= 1 << (begin % 64);
            *word(marks, end) |= 1 << (end % 64);
            marked += 1;
        }
        for key in &keys[..marked] {
            let (begin, end) = cells(key);
            *word(marks, begin) = 0;
            *word(marks, end) = 0;
        }
        marked == keys.len()
    }
}

type Marks = [u64; WORDS];

#[inline]
fn word(marks: &mut Marks, cell: u64) -> &mut u64 {
    &mut marks[(cell / 64) as usize % WORDS]
}

#[inline]
fn is_marked(marks: &mut Marks, cell: u64) -> bool {
    *word(marks, cell) & 1 << (cell % 64) != 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CELLS: u64 = 64 * WORDS as u64;

    fn key(start: u64, len: u64) -> Key {
        Key {
            start,
            end: start + len,
            index: 0,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn what_it_separates_does_not_touch(
            bios in prop::collection::vec((0..200_u64, 1..4_u64, 0..3_u64), 2..8),
        ) {
            // Near each other, and as far apart as cells that share a mark.
            let keys: Vec<_> = bios
                .iter()
                .map(|(at, len, far)| key((at + far * CELLS) * 512, len * 512))
                .collect();
            let touch = |a: &Key, b: &Key| a.start <= b.end && b.start <= a.end;
            let any = (1..keys.len()).any(|n| keys[..n].iter().any(|other| touch(other, &keys[n])));
            let mut sieve = Sieve::default();
            prop_assert!(!(sieve.separates(&keys) && any), "{keys:?}");
            prop_assert!(sieve.marks.iter().all(|marks| *marks == 0));
        }
    }

    #[test]
    fn more_than_half_of_all_bytes_are_no_cell() {
        let keys = [key(0, (1 << 63) + 512), key(u64::MAX - 511, 511)];
        assert!(!Sieve::default().separates(&keys));
    }

    #[test]
    fn blocks_of_one_size_that_do_not_touch_are_separated() {
        let keys: Vec<_> = (0..32).map(|n| key(n * 7919 % 256 * 8192, 4096)).collect();
        let mut sieve = Sieve::default();
        assert!(sieve.separates(&keys));
        assert!(!sieve.separates(&[keys.clone(), vec![key(4096, 4096)]].concat()));
        assert!(sieve.separates(&keys), "it has forgotten the others");
    }
}
