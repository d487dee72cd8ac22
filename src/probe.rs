//! For tests: bringing old bugs back one by one, and acting inside the admission of a block. Without the feature
//! `testing` all of this is nothing.
//!
//! Each [`Mutation`] undoes one protection of this crate, in the code that has it. The tests that claim to guard the
//! protection must fail then; those that prove it are the schedule models (`tests/schedules`) and the regressions
//! (`tests/regressions`).

#![cfg_attr(not(feature = "testing"), allow(unreachable_pub, dead_code))]

use std::fmt;
#[cfg(feature = "testing")]
use std::sync::Arc;

use crate::units::{FileNumber, FileRange};

/// A protection that is missing on purpose. The doc of each says what the code does without it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Mutation {
    /// What the first look said is not looked at again under the data lock: the bug this crate is built around.
    SkipSecondLook,
    /// Space is promised in two steps: first it is seen to be there, then it is taken.
    ReserveLooksThenActs,
    /// A hole is delayed under the data lock held shared.
    DelayUnderSharedLock,
    /// What was read from the mapping replaces what the status tree knows.
    CacheAnyway,
    /// What was read from the mapping is cached after the data lock was given back.
    CacheAfterUnlock,
    /// Writeback caches what it reads from the mapping, although none of its locks keeps that still.
    WritebackCaches,
    /// Whether a cluster is allocated is asked of the status tree, which may have forgotten.
    ClusterStateFromTree,
    /// Memory pressure forgets delayed blocks too.
    ForgetDelayed,
    /// The cluster that delayed blocks still need is freed first and promised to them after.
    FreeThenReserve,
    /// Punching and zeroing do not take the invalidate lock.
    PunchBesideFaults,
    /// Shrinking does not take the invalidate lock.
    ShrinkBesideFaults,
    /// Collapsing and inserting do not take the invalidate lock.
    ShiftBesideFaults,
    /// Shrinking stores the new size before writeback has ended.
    StoreSizeEarly,
    /// The stored size is raised in two steps: first it is seen to be smaller, then it is set.
    ExtendSizeLooksThenActs,
    /// Writeback gives the folio locks back while the device works.
    UnlockFoliosOverIo,
    /// Writeback leaves pages writable through a mapping.
    KeepMappingsWritable,
    /// Several threads may write one file back at once.
    TwoWritebacksAtOnce,
    /// A write into an inline file does not look again, under the data lock, whether the file is still inline.
    InlineSecondLookMissing,
    /// The number of a change may be seen before the change.
    CountChangesRelaxed,
    /// Forgetting all pages does not take the invalidate lock.
    DropBesideFaults,
    /// Shrinking sets the size after it has dropped what lies behind it.
    ShrinkSizeLast,
    /// A cluster that is freed under delayed blocks stays pending: they get no promise of their own.
    FreedStaysPending,
}

/// What a test changes inside a volume; nothing by default.
#[derive(Clone, Default)]
pub struct Probe {
    /// One bit for each mutation.
    #[cfg(feature = "testing")]
    mutations: u128,
    #[cfg(feature = "testing")]
    between_looks: Option<BetweenLooks>,
}

#[cfg(feature = "testing")]
type BetweenLooks = Arc<dyn Fn(FileNumber, FileRange) + Send + Sync>;

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").finish_non_exhaustive()
    }
}

#[cfg(feature = "testing")]
impl Probe {
    /// A probe that changes nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes protections away, beside those that are away already.
    #[must_use]
    pub fn mutations(mut self, mutations: impl IntoIterator<Item = Mutation>) -> Self {
        for mutation in mutations {
            self.mutations |= 1 << mutation as u32;
        }
        self
    }

    /// Calls `hook` between the first look at a range that is being admitted and taking the data lock, with no lock
    /// below the folio lock held.
    #[must_use]
    pub fn between_looks(
        mut self,
        hook: impl Fn(FileNumber, FileRange) + Send + Sync + 'static,
    ) -> Self {
        self.between_looks = Some(Arc::new(hook));
        self
    }

    /// Whether the protection is missing.
    pub(crate) fn is(&self, mutation: Mutation) -> bool {
        self.mutations & 1 << mutation as u32 != 0
    }

    pub(crate) fn looked(&self, file: FileNumber, range: FileRange) {
        if let Some(hook) = &self.between_looks {
            hook(file, range);
        }
    }
}

#[cfg(not(feature = "testing"))]
impl Probe {
    pub(crate) const fn is(&self, _: Mutation) -> bool {
        false
    }

    pub(crate) const fn looked(&self, _: FileNumber, _: FileRange) {}
}
