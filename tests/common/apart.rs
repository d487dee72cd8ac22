//! A value whose extents never merge.

use extent_map::map::Value;

/// A value that never merges: extents keep the bounds they were inserted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Apart(pub(crate) u64);

impl Value for Apart {
    fn pack(self) -> u64 {
        self.0
    }
    fn unpack(bits: u64) -> Self {
        Self(bits)
    }
    fn advance(self, by: u64) -> Self {
        Self(self.0.wrapping_add(by))
    }
    fn can_merge(self, _: u64, _: Self) -> bool {
        false
    }
}
