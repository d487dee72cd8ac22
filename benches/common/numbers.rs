//! Random numbers that cost next to nothing: benches draw them inside of what they time. Those of the tests cost a
//! division.

/// The same random numbers in every run (Knuth's MMIX generator).
#[derive(Clone)]
pub(crate) struct Random(u64);

impl Default for Random {
    fn default() -> Self {
        Self(0x5EED)
    }
}

impl Random {
    /// A number below `bound`.
    #[inline(always)]
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        ((u128::from(self.0) * u128::from(bound)) >> 64) as u64
    }

    /// Makes what follows depend on `word`.
    #[inline(always)]
    pub(crate) fn mix(&mut self, word: u64) {
        self.0 ^= word;
    }
}
