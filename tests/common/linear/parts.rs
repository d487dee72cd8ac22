//! What an operation is made of: instants between its call and its return.

use std::sync::Arc;

/// How an operation excludes others from its first to its last part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lock {
    /// Not at all.
    Free,
    /// It excludes those that exclude all.
    Shared,
    /// It excludes all that exclude somebody.
    Exclusive,
}

/// What it notes is seen by later parts.
type Change<S> = dyn Fn(&mut S, &mut u64) -> bool + Send + Sync;

/// One instant: whether it can be at all, and what it does to a state.
#[derive(Clone)]
pub(super) enum Act<S> {
    Changes(Arc<Change<S>>),
    Looks(Arc<dyn Fn(&S) -> bool + Send + Sync>),
}

/// One part and, as bits, which others come before.
#[derive(Clone)]
pub(crate) struct Part<S> {
    pub(super) act: Act<S>,
    pub(super) after: u128,
}

/// All parts of one operation.
#[derive(Clone)]
pub(crate) struct Parts<S> {
    pub(super) lock: Lock,
    pub(super) parts: Vec<Part<S>>,
}

impl<S> Parts<S> {
    /// An operation without parts: nothing is claimed about it.
    pub(crate) fn new(lock: Lock) -> Self {
        let parts = Vec::new();
        Self { lock, parts }
    }

    /// Adds a part that comes after all others.
    pub(crate) fn then(
        &mut self,
        act: impl Fn(&mut S, &mut u64) -> bool + Send + Sync + 'static,
    ) -> usize {
        let last = self.last();
        self.after(last, act)
    }

    /// Adds a part that comes after all others and changes nothing.
    pub(crate) fn sees(&mut self, look: impl Fn(&S) -> bool + Send + Sync + 'static) {
        let last = self.last();
        self.push(last, Act::Looks(Arc::new(look)));
    }

    fn last(&self) -> Option<usize> {
        self.parts.len().checked_sub(1)
    }

    /// Adds a part that comes after `before` and, as these do, after what comes before them.
    pub(crate) fn after(
        &mut self,
        before: impl IntoIterator<Item = usize>,
        act: impl Fn(&mut S, &mut u64) -> bool + Send + Sync + 'static,
    ) -> usize {
        self.push(before, Act::Changes(Arc::new(act)))
    }

    fn push(&mut self, before: impl IntoIterator<Item = usize>, act: Act<S>) -> usize {
        let after = before.into_iter().fold(0, |bits, part| bits | 1 << part);
        self.parts.push(Part { act, after });
        assert!(self.parts.len() <= 128, "too many parts for their bits");
        self.parts.len() - 1
    }

    /// An operation of one part.
    pub(crate) fn at_once(
        lock: Lock,
        act: impl Fn(&mut S) -> bool + Send + Sync + 'static,
    ) -> Self {
        let mut parts = Self::new(lock);
        parts.then(move |state, _| act(state));
        parts
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// The bits of all parts.
    pub(super) fn all(&self) -> u128 {
        u128::MAX.unbounded_shr(128 - self.parts.len() as u32)
    }
}
