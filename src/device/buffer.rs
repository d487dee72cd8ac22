//! Memory that requests carry: owned, and placed where a device can reach it without a copy.

use std::fmt;
use std::iter::repeat_n;
use std::ops::{Deref, DerefMut, Range};

use smallvec::SmallVec;

use crate::sync::Arc;

/// Bytes that a request owns while it is under way.
///
/// Memory from [`zeroed`](Self::zeroed) starts at a multiple of [`ALIGNMENT`](Self::ALIGNMENT). Memory that was
/// shared before (`From<Arc<[u8]>>`) is taken as it is, and stays shared: it is copied before the first change, as with
/// [`Arc::make_mut`].
#[derive(Clone)]
pub struct Buffer {
    /// The bytes, with some around them that only shift them into place.
    memory: Arc<[u8]>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// What the direct I/O of every usual device asks for, in bytes.
    pub const ALIGNMENT: usize = 4096;

    /// `len` aligned zeros.
    pub fn zeroed(len: usize) -> Self {
        // One allocation, and no `unsafe`: the bytes in front of the first aligned one are given up.
        let memory: Arc<[u8]> = repeat_n(0, len + Self::ALIGNMENT - 1).collect();
        let start = memory.as_ptr().align_offset(Self::ALIGNMENT);
        Self { memory, start, len }
    }

    /// An aligned copy of `bytes`.
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut copy = Self::zeroed(bytes.len());
        copy.copy_from_slice(bytes);
        copy
    }

    /// The bytes of `range`, shared with this buffer.
    ///
    /// # Panics
    /// When `range` does not lie inside the buffer.
    #[must_use]
    pub fn share(&self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len);
        Self {
            memory: Arc::clone(&self.memory),
            start: self.start + range.start,
            len: range.end - range.start,
        }
    }

    /// Whether the first byte lies at a multiple of `alignment`.
    pub fn is_aligned(&self, alignment: usize) -> bool {
        self.as_ptr().addr().is_multiple_of(alignment)
    }

    fn bytes(&self) -> Range<usize> {
        self.start..self.start + self.len
    }
}

impl From<Arc<[u8]>> for Buffer {
    fn from(memory: Arc<[u8]>) -> Self {
        let len = memory.len();
        Self {
            memory,
            start: 0,
            len,
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.bytes()]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // `make_mut` alone would copy more than the bytes of this buffer, and to a place that need not be aligned.
        if Arc::strong_count(&self.memory) > 1 {
            *self = Self::copy_of(self);
        }
        let bytes = self.bytes();
        &mut Arc::make_mut(&mut self.memory)[bytes]
    }
}

impl PartialEq for Buffer {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Buffer {}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Buffer({} bytes)", self.len)
    }
}

/// Buffers one behind the other; a single one takes no memory beside its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Buffers(SmallVec<[Buffer; 1]>);

impl Buffers {
    /// Bytes in all buffers.
    pub fn byte_len(&self) -> u64 {
        self.iter().map(|buffer| buffer.len() as u64).sum()
    }

    /// Adds a buffer behind the others.
    pub fn push(&mut self, buffer: Buffer) {
        self.0.push(buffer);
    }

    /// All bytes, one behind the other.
    pub fn to_vec(&self) -> Vec<u8> {
        self.iter()
            .flat_map(|buffer| buffer.iter().copied())
            .collect()
    }
}

impl From<Buffer> for Buffers {
    fn from(buffer: Buffer) -> Self {
        Self(SmallVec::from_buf([buffer]))
    }
}

impl From<Vec<Buffer>> for Buffers {
    fn from(buffers: Vec<Buffer>) -> Self {
        Self(SmallVec::from_vec(buffers))
    }
}

impl FromIterator<Buffer> for Buffers {
    fn from_iter<I: IntoIterator<Item = Buffer>>(buffers: I) -> Self {
        Self(buffers.into_iter().collect())
    }
}

impl IntoIterator for Buffers {
    type Item = Buffer;
    type IntoIter = smallvec::IntoIter<[Buffer; 1]>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Deref for Buffers {
    type Target = [Buffer];

    fn deref(&self) -> &[Buffer] {
        &self.0
    }
}

impl DerefMut for Buffers {
    fn deref_mut(&mut self) -> &mut [Buffer] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_aligned_wherever_it_comes_to_lie() {
        for len in [0, 1, 511, 4096, 5000] {
            let buffers: Vec<_> = (0..8).map(|_| Buffer::zeroed(len)).collect();
            for buffer in &buffers {
                assert!(buffer.is_aligned(Buffer::ALIGNMENT));
                assert_eq!(**buffer, vec![0; len]);
            }
        }
    }

    #[test]
    fn a_change_is_seen_by_nobody_who_shares_the_memory() {
        let shared: Arc<[u8]> = [1, 2, 3].into();
        let mut one = Buffer::from(Arc::clone(&shared));
        one[0] = 9;
        assert_eq!((&*one, &*shared), (&[9, 2, 3][..], &[1, 2, 3][..]));
        let middle = one.share(1..3);
        one[1] = 8;
        assert_eq!((&*middle, &*one), (&[2, 3][..], &[9, 8, 3][..]));
        assert!(one.is_aligned(Buffer::ALIGNMENT));
    }

    #[test]
    fn memory_of_its_own_is_changed_in_place() {
        let mut own = Buffer::copy_of(&[1, 2, 3]);
        let before = own.as_ptr();
        own[2] = 4;
        assert_eq!((&*own, own.as_ptr()), (&[1, 2, 4][..], before));
    }
}
