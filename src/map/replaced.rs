//! What an edit replaced.

use core::iter::FusedIterator;
use core::ops::Deref;

use smallvec::SmallVec;

use super::{Extent, Value};

/// Most edits replace a few extents; more take memory.
type Few<V> = [Extent<V>; 4];

/// What an edit replaced: the extents that were in its range, clipped to the range, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced<V: Value>(pub(super) SmallVec<Few<V>>);

impl<V: Value> Deref for Replaced<V> {
    type Target = [Extent<V>];

    fn deref(&self) -> &[Extent<V>] {
        &self.0
    }
}

impl<V: Value> IntoIterator for Replaced<V> {
    type Item = Extent<V>;
    type IntoIter = IntoIter<V>;

    fn into_iter(self) -> IntoIter<V> {
        IntoIter(self.0.into_iter())
    }
}

/// The extents of a [`Replaced`], one by one.
#[derive(Debug)]
pub struct IntoIter<V: Value>(smallvec::IntoIter<Few<V>>);

impl<V: Value> Iterator for IntoIter<V> {
    type Item = Extent<V>;

    fn next(&mut self) -> Option<Extent<V>> {
        self.0.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<V: Value> DoubleEndedIterator for IntoIter<V> {
    fn next_back(&mut self) -> Option<Extent<V>> {
        self.0.next_back()
    }
}

impl<V: Value> ExactSizeIterator for IntoIter<V> {}
impl<V: Value> FusedIterator for IntoIter<V> {}
