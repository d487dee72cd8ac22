//! [`ExtentMap`] against one slot for each block.

use extent_map::map::ExtentMap;

use super::bytes::Bytes;

const SLOTS: usize = 64;

/// A map and what it should hold.
#[derive(Debug)]
struct Model {
    map: ExtentMap<u64>,
    /// The block of slot 0: the first blocks there are, or the last.
    base: u64,
    slots: [Option<u64>; SLOTS],
}

impl Model {
    /// The extents between two slots, clipped, as (first block, last block, value of the first).
    fn expected(&self, first: usize, last: usize) -> Vec<(u64, u64, u64)> {
        let mut extents: Vec<(u64, u64, u64)> = Vec::new();
        for slot in first..=last {
            let block = self.base + slot as u64;
            let Some(value) = self.slots[slot] else {
                continue;
            };
            match extents.last_mut() {
                Some((start, end, of)) if *end + 1 == block && *of + (block - *start) == value => {
                    *end = block;
                }
                _ => extents.push((block, block, value)),
            }
        }
        extents
    }

    /// Does the next operation; `None` when there is none.
    fn step(&mut self, bytes: &mut Bytes<'_>) -> Option<()> {
        let op = bytes.byte()?;
        let (first, last) = bytes.slots(SLOTS)?;
        let range = self.base + first as u64..=self.base + last as u64;
        let look = self.map.lookup(*range.start());
        let before = self.expected(first, last);
        // Few lines of values, so that neighbours often go on with each other.
        let line = u64::from(op / 8 % 4) * 1000;
        let value = |slot: usize| line + slot as u64;
        let old = self.slots;
        let replaced = match op % 8 {
            0..4 => {
                (first..=last).for_each(|slot| self.slots[slot] = Some(value(slot)));
                self.map.insert(range.clone(), value(first))
            }
            4 | 5 => {
                self.slots[first..=last].fill(None);
                self.map.remove(range.clone())
            }
            _ => {
                let kept =
                    |value: u64| (value / 1000 != u64::from(op / 8 % 4)).then_some(value + 1000);
                (first..=last).for_each(|slot| self.slots[slot] = self.slots[slot].and_then(kept));
                self.map
                    .edit()
                    .update(range.clone(), |extent| kept(extent.value()))
            }
        };
        let replaced: Vec<_> = replaced
            .expect("the range is not empty")
            .iter()
            .map(|extent| (extent.start(), extent.last(), extent.value()))
            .collect();
        assert_eq!(replaced, before, "what {op} replaced in {range:?}");
        let unchanged = self.map.edit().revalidate(&look);
        assert!(!unchanged || old == self.slots, "a stale look was trusted");
        Some(())
    }

    /// Compares everything that the map says with the slots.
    fn check(&self) {
        let expected = self.expected(0, SLOTS - 1);
        let view = self.map.pin();
        let extents: Vec<_> = view
            .iter()
            .map(|extent| (extent.start(), extent.last(), extent.value()))
            .collect();
        assert_eq!(extents, expected);
        for (slot, value) in self.slots.iter().enumerate() {
            let block = self.base + slot as u64;
            let found = view.get(block);
            let value_here = found.and_then(|extent| extent.value_at(block));
            assert_eq!(value_here, *value, "block {block}");
            let gap = view.lookup(block).gap();
            assert_eq!(gap.is_none(), value.is_some());
            assert!(gap.is_none_or(|gap| gap.contains(&block)));
        }
        let covered = view.gaps(..).fold(0_u128, |sum, gap| {
            sum + u128::from(*gap.end() - *gap.start()) + 1
        });
        let mapped = self.slots.iter().flatten().count() as u128;
        assert_eq!(
            covered + mapped,
            1 << 64,
            "gaps and extents tile all blocks"
        );
    }
}

/// Runs `data` as operations on a map and checks it after each of them.
pub fn run(data: &[u8]) {
    let mut bytes = Bytes::new(data);
    let base = match bytes.byte() {
        Some(byte) if byte % 2 == 1 => u64::MAX - (SLOTS as u64 - 1),
        _ => 0,
    };
    let mut model = Model {
        map: ExtentMap::new(),
        base,
        slots: [None; SLOTS],
    };
    while model.step(&mut bytes).is_some() {
        model.check();
    }
}
