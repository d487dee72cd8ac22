//! What an extent maps to.

/// The value of an extent: small, and able to say what becomes of it when its extent is cut or
/// joined.
///
/// A value belongs to the *first* block of its extent. For every map to behave, an implementation
/// keeps these laws for all values `a`, `b` and lengths `m`, `n`:
///
/// - `unpack(a.pack())` equals `a`, and equal values pack to equal bits;
/// - `a.advance(m).advance(n)` equals `a.advance(m + n)`;
/// - `a.can_merge(n, a.advance(n))` unless joining would overflow something, and when
///   `a.can_merge(n, b)` then `b` equals `a.advance(n)`;
/// - whether two extents merge does not change when the first loses blocks at its start: for `m < n`,
///   `a.can_merge(n, b)` equals `a.advance(m).can_merge(n - m, b)`.
///
/// A value that breaks them yields surprising extents but never unsafety.
pub trait Value: Copy + Send + Sync + 'static {
    /// The value as 64 bits.
    fn pack(self) -> u64;

    /// The value from what [`pack`](Self::pack) made of it.
    fn unpack(bits: u64) -> Self;

    /// The value of the block `by` blocks behind the one that has `self`.
    #[must_use]
    fn advance(self, by: u64) -> Self;

    /// Whether an extent of `len` blocks with value `self` and the extent right behind it, with
    /// value `next`, are one.
    fn can_merge(self, len: u64, next: Self) -> bool;
}

/// Nothing but presence: the map is a set of ranges.
impl Value for () {
    fn pack(self) -> u64 {
        0
    }

    fn unpack(_: u64) -> Self {}

    fn advance(self, _: u64) -> Self {}

    fn can_merge(self, _: u64, (): Self) -> bool {
        true
    }
}

/// Where the extent starts on some other line of blocks; wraps around when advanced over the end.
impl Value for u64 {
    fn pack(self) -> u64 {
        self
    }

    fn unpack(bits: u64) -> Self {
        bits
    }

    fn advance(self, by: u64) -> Self {
        self.wrapping_add(by)
    }

    fn can_merge(self, len: u64, next: Self) -> bool {
        self.checked_add(len) == Some(next)
    }
}
