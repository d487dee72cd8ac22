//! Memory that requests carry: owned, and placed where a device can reach it without a copy.

use std::fmt;
use std::iter::repeat_n;
use std::ops::{Deref, DerefMut, Range};

use crate::sync::Arc;

/// Bytes that a request owns while it is under way.
///
/// Memory from [`zeroed`](Self::zeroed) starts at a multiple of [`ALIGNMENT`](Self::ALIGNMENT). Memory that was
/// shared before (`From<Arc<[u8]>>`) is taken as it is, and stays shared: it is copied before the first change.
pub struct Buffer {
    memory: Memory,
    /// Where the bytes are; those around them only shift them into place.
    start: usize,
    len: usize,
}

enum Memory {
    Own(Box<[u8]>),
    Shared(Arc<[u8]>),
}

impl Buffer {
    /// What the direct I/O of every usual device asks for, in bytes.
    pub const ALIGNMENT: usize = 4096;

    /// `len` aligned zeros.
    pub fn zeroed(len: usize) -> Self {
        // No `unsafe` code: the bytes in front of the first aligned one are given up.
        let memory = vec![0; len + Self::ALIGNMENT - 1].into_boxed_slice();
        let start = memory.as_ptr().align_offset(Self::ALIGNMENT);
        Self {
            memory: Memory::Own(memory),
            start,
            len,
        }
    }

    /// An aligned copy of `bytes`.
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut copy = Self::zeroed(bytes.len());
        copy.copy_from_slice(bytes);
        copy
    }

    /// The bytes of `range`, shared with this buffer from now on. The first time that copies all bytes.
    ///
    /// # Panics
    /// When `range` does not lie inside the buffer.
    #[must_use]
    pub fn share(&mut self, range: Range<usize>) -> Self {
        assert!(range.start <= range.end && range.end <= self.len);
        if let Memory::Own(_) = self.memory {
            *self = self.shared_copy();
        }
        let (start, len) = (self.start + range.start, range.end - range.start);
        Self {
            memory: match &self.memory {
                Memory::Own(_) => unreachable!("exchanged above"),
                Memory::Shared(memory) => Memory::Shared(Arc::clone(memory)),
            },
            start,
            len,
        }
    }

    #[cold]
    fn become_own(&mut self) {
        *self = Self::copy_of(self);
    }

    /// Aligned, too.
    fn shared_copy(&self) -> Self {
        let mut memory: Arc<[u8]> = repeat_n(0, self.len + Self::ALIGNMENT - 1).collect();
        let start = memory.as_ptr().align_offset(Self::ALIGNMENT);
        Arc::make_mut(&mut memory)[start..start + self.len].copy_from_slice(self);
        Self {
            memory: Memory::Shared(memory),
            start,
            len: self.len,
        }
    }

    /// Whether the first byte lies at a multiple of `alignment`.
    pub fn is_aligned(&self, alignment: usize) -> bool {
        self.as_ptr().addr().is_multiple_of(alignment)
    }
}

impl From<Arc<[u8]>> for Buffer {
    fn from(memory: Arc<[u8]>) -> Self {
        let len = memory.len();
        Self {
            memory: Memory::Shared(memory),
            start: 0,
            len,
        }
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        match &self.memory {
            Memory::Own(_) => Self::copy_of(self),
            Memory::Shared(memory) => Self {
                memory: Memory::Shared(Arc::clone(memory)),
                ..*self
            },
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let memory = match &self.memory {
            Memory::Own(memory) => memory,
            Memory::Shared(memory) => &**memory,
        };
        &memory[self.start..][..self.len]
    }
}

impl DerefMut for Buffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        if let Memory::Shared(_) = self.memory {
            self.become_own();
        }
        match &mut self.memory {
            Memory::Own(memory) => &mut memory[self.start..][..self.len],
            Memory::Shared(_) => unreachable!("exchanged above"),
        }
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
#[derive(Clone, Debug)]
pub struct Buffers(List);

#[derive(Clone, Debug)]
enum List {
    One(Buffer),
    Any(Vec<Buffer>),
}

impl Buffers {
    /// Bytes in all buffers.
    #[inline]
    pub fn byte_len(&self) -> u64 {
        match &self.0 {
            List::One(buffer) => buffer.len as u64,
            List::Any(buffers) => buffers.iter().map(|buffer| buffer.len as u64).sum(),
        }
    }

    /// Adds a buffer behind the others.
    pub fn push(&mut self, buffer: Buffer) {
        match std::mem::take(self).0 {
            List::Any(buffers) if buffers.is_empty() => self.0 = List::One(buffer),
            List::Any(mut buffers) => {
                buffers.push(buffer);
                self.0 = List::Any(buffers);
            }
            List::One(first) => self.0 = List::Any(vec![first, buffer]),
        }
    }

    /// All bytes, one behind the other.
    pub fn to_vec(&self) -> Vec<u8> {
        let bytes: Vec<&[u8]> = self.iter().map(|buffer| &**buffer).collect();
        bytes.concat()
    }
}

impl Default for Buffers {
    #[inline]
    fn default() -> Self {
        Self(List::Any(Vec::new()))
    }
}

impl PartialEq for Buffers {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Buffers {}

impl From<Buffer> for Buffers {
    #[inline]
    fn from(buffer: Buffer) -> Self {
        Self(List::One(buffer))
    }
}

impl From<Vec<Buffer>> for Buffers {
    fn from(buffers: Vec<Buffer>) -> Self {
        Self(List::Any(buffers))
    }
}

impl FromIterator<Buffer> for Buffers {
    fn from_iter<I: IntoIterator<Item = Buffer>>(buffers: I) -> Self {
        let mut buffers = buffers.into_iter();
        match (buffers.next(), buffers.next()) {
            (None, _) => Self::default(),
            (Some(only), None) => Self::from(only),
            (Some(first), Some(second)) => {
                let mut all = Vec::with_capacity(2 + buffers.size_hint().0);
                all.extend([first, second]);
                all.extend(buffers);
                Self(List::Any(all))
            }
        }
    }
}

impl IntoIterator for Buffers {
    type Item = Buffer;
    type IntoIter = std::iter::Chain<std::option::IntoIter<Buffer>, std::vec::IntoIter<Buffer>>;

    fn into_iter(self) -> Self::IntoIter {
        let (one, any) = match self.0 {
            List::One(buffer) => (Some(buffer), Vec::new()),
            List::Any(buffers) => (None, buffers),
        };
        one.into_iter().chain(any)
    }
}

impl Deref for Buffers {
    type Target = [Buffer];

    #[inline]
    fn deref(&self) -> &[Buffer] {
        match &self.0 {
            List::One(buffer) => std::slice::from_ref(buffer),
            List::Any(buffers) => buffers,
        }
    }
}

impl DerefMut for Buffers {
    #[inline]
    fn deref_mut(&mut self) -> &mut [Buffer] {
        match &mut self.0 {
            List::One(buffer) => std::slice::from_mut(buffer),
            List::Any(buffers) => buffers,
        }
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
        let whole = one.clone();
        assert!(one.is_aligned(Buffer::ALIGNMENT));
        one[1] = 8;
        assert_eq!((&*middle, &*one), (&[2, 3][..], &[9, 8, 3][..]));
        assert_eq!(&*whole, &[9, 2, 3][..]);
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
