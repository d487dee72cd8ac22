//! Memory that requests carry: owned, and placed where a device can reach it without a copy.

use std::fmt;
use std::iter::repeat_n;
use std::ops::{Deref, DerefMut, Range};

use crate::sync::Arc;

/// Bytes that a request owns while it is under way.
///
/// Memory from [`zeroed`](Self::zeroed) starts at a multiple of [`ALIGNMENT`](Self::ALIGNMENT). Memory that may be
/// shared (`From<Arc<[u8]>>`) is taken as it is, and is copied before the first change that somebody else would see.
///
/// One word: it is moved more often than it is looked into.
pub struct Buffer(Box<Place>);

struct Place {
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
        Self::at(Memory::Own(memory), start, len)
    }

    fn at(memory: Memory, start: usize, len: usize) -> Self {
        Self(Box::new(Place { memory, start, len }))
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
        assert!(range.start <= range.end && range.end <= self.0.len);
        if let Memory::Own(_) = self.0.memory {
            *self = self.shared_copy();
        }
        let mut part = self.clone();
        part.0.start += range.start;
        part.0.len = range.end - range.start;
        part
    }

    /// Aligned, too.
    fn shared_copy(&self) -> Self {
        let len = self.0.len;
        let mut memory: Arc<[u8]> = repeat_n(0, len + Self::ALIGNMENT - 1).collect();
        let start = memory.as_ptr().align_offset(Self::ALIGNMENT);
        Arc::make_mut(&mut memory)[start..][..len].copy_from_slice(self);
        Self::at(Memory::Shared(memory), start, len)
    }

    /// Whether the first byte lies at a multiple of `alignment`.
    pub fn is_aligned(&self, alignment: usize) -> bool {
        self.as_ptr().addr().is_multiple_of(alignment)
    }
}

impl From<Arc<[u8]>> for Buffer {
    fn from(memory: Arc<[u8]>) -> Self {
        let len = memory.len();
        Self::at(Memory::Shared(memory), 0, len)
    }
}

impl Clone for Buffer {
    fn clone(&self) -> Self {
        match &self.0.memory {
            Memory::Own(_) => Self::copy_of(self),
            Memory::Shared(memory) => {
                let memory = Memory::Shared(Arc::clone(memory));
                Self::at(memory, self.0.start, self.0.len)
            }
        }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        let Place { memory, start, len } = &*self.0;
        let memory = match memory {
            Memory::Own(memory) => memory,
            Memory::Shared(memory) => &**memory,
        };
        &memory[*start..][..*len]
    }
}

impl DerefMut for Buffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut *self.0 {
            Place {
                memory: Memory::Own(memory),
                start,
                len,
            } => &mut memory[*start..][..*len],
            place => place.unshared(),
        }
    }
}

impl Place {
    /// The bytes, which from now on nobody else sees.
    #[cold]
    fn unshared(&mut self) -> &mut [u8] {
        let bytes = self.start..self.start + self.len;
        if let Memory::Shared(memory) = &mut self.memory
            && Arc::get_mut(memory).is_none()
        {
            *self = *Buffer::copy_of(&memory[bytes]).0;
        }
        let Self { memory, start, len } = self;
        let memory = match memory {
            Memory::Own(memory) => memory,
            Memory::Shared(memory) => Arc::make_mut(memory),
        };
        &mut memory[*start..][..*len]
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
        write!(f, "Buffer({} bytes)", self.0.len)
    }
}

/// Buffers one behind the other; a single one takes no memory beside its own.
#[derive(Clone, Debug, Default)]
pub struct Buffers(List);

#[derive(Clone, Debug, Default)]
enum List {
    #[default]
    None,
    One(Buffer),
    Many(Box<Many>),
}

#[derive(Clone, Debug)]
struct Many(Vec<Buffer>);

impl Buffers {
    /// Bytes in all buffers.
    #[inline]
    pub fn byte_len(&self) -> u64 {
        match &self.0 {
            List::None => 0,
            List::One(buffer) => buffer.0.len as u64,
            List::Many(buffers) => buffers.0.iter().map(|buffer| buffer.0.len as u64).sum(),
        }
    }

    /// Adds a buffer behind the others.
    pub fn push(&mut self, buffer: Buffer) {
        match std::mem::take(self).0 {
            List::None => self.0 = List::One(buffer),
            List::One(first) => *self = vec![first, buffer].into(),
            List::Many(mut buffers) => {
                buffers.0.push(buffer);
                self.0 = List::Many(buffers);
            }
        }
    }

    /// The bytes from `at` on, which these buffers lose: all others stay here. A buffer with bytes of both is shared by
    /// them.
    #[must_use]
    pub fn split_off(&mut self, at: u64) -> Self {
        let mut left = at;
        let (mut before, mut behind) = (Vec::new(), Vec::new());
        if at >= self.byte_len() {
            return Self::default();
        }
        for mut buffer in std::mem::take(self) {
            let len = buffer.0.len as u64;
            match left {
                0 => behind.push(buffer),
                left if left >= len => before.push(buffer),
                left => {
                    before.push(buffer.share(0..left as usize));
                    behind.push(buffer.share(left as usize..len as usize));
                }
            }
            left = left.saturating_sub(len);
        }
        *self = before.into_iter().collect();
        behind.into_iter().collect()
    }

    /// All bytes, one behind the other.
    pub fn to_vec(&self) -> Vec<u8> {
        let bytes: Vec<&[u8]> = self.iter().map(|buffer| &**buffer).collect();
        bytes.concat()
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

impl From<Arc<[u8]>> for Buffers {
    fn from(memory: Arc<[u8]>) -> Self {
        Buffer::from(memory).into()
    }
}

impl From<Vec<Buffer>> for Buffers {
    fn from(buffers: Vec<Buffer>) -> Self {
        Self(List::Many(Box::new(Many(buffers))))
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
                Self::from(all)
            }
        }
    }
}

impl IntoIterator for Buffers {
    type Item = Buffer;
    type IntoIter = std::iter::Chain<std::option::IntoIter<Buffer>, std::vec::IntoIter<Buffer>>;

    fn into_iter(self) -> Self::IntoIter {
        let (one, any) = match self.0 {
            List::None => (None, Vec::new()),
            List::One(buffer) => (Some(buffer), Vec::new()),
            List::Many(buffers) => (None, buffers.0),
        };
        one.into_iter().chain(any)
    }
}

impl Deref for Buffers {
    type Target = [Buffer];

    #[inline]
    fn deref(&self) -> &[Buffer] {
        match &self.0 {
            List::None => &[],
            List::One(buffer) => std::slice::from_ref(buffer),
            List::Many(buffers) => &buffers.0,
        }
    }
}

impl DerefMut for Buffers {
    #[inline]
    fn deref_mut(&mut self) -> &mut [Buffer] {
        match &mut self.0 {
            List::None => &mut [],
            List::One(buffer) => std::slice::from_mut(buffer),
            List::Many(buffers) => &mut buffers.0,
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
    fn memory_that_nobody_else_has_is_changed_in_place() {
        let shared: Arc<[u8]> = [1, 2, 3].into();
        let mut lent = Buffer::from(shared);
        drop(lent.share(0..2));
        for mut own in [Buffer::copy_of(&[1, 2, 3]), lent] {
            let before = own.as_ptr();
            own[2] = 4;
            assert_eq!((&*own, own.as_ptr()), (&[1, 2, 4][..], before));
        }
    }

    #[test]
    fn buffers_are_split_where_they_are_told() {
        let all: Vec<u8> = (0..9).collect();
        for at in 0..=10 {
            let parts = [&all[..2], &all[2..3], &all[3..9]];
            let mut before: Buffers = parts.into_iter().map(Buffer::copy_of).collect();
            let behind = before.split_off(at);
            let at = at.min(9) as usize;
            assert_eq!(before.to_vec(), &all[..at]);
            assert_eq!(behind.to_vec(), &all[at..]);
        }
    }
}
