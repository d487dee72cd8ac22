//! Who takes part.

use parking_lot::RwLock;
use rangemap::RangeMap;

use super::concurrent::{
    CopiedArray, SharedConcurrentMap, SharedMassTree, SharedSkipMap, SharedTreeIndex,
};
use super::extents::Extents;
use super::locked::CachedLast;
use super::ordered::Tree;
use super::ours::Ours;

/// The opponent of most figures.
pub(crate) type Locked = RwLock<Tree>;
pub(crate) type StdLocked = std::sync::RwLock<Tree>;

/// Something that is done with every candidate.
pub(crate) trait Visit {
    fn visit<M: Extents + 'static>(&mut self);
}

/// Candidates that can be loaded extent by extent.
pub(crate) fn loadable(visitor: &mut impl Visit) {
    visitor.visit::<Ours>();
    visitor.visit::<Locked>();
    visitor.visit::<StdLocked>();
    visitor.visit::<RwLock<RangeMap<u64, u64>>>();
    visitor.visit::<SharedSkipMap>();
    visitor.visit::<SharedTreeIndex>();
    visitor.visit::<SharedConcurrentMap>();
    visitor.visit::<SharedMassTree>();
}

/// All candidates of the general table.
pub(crate) fn everybody(visitor: &mut impl Visit) {
    loadable(visitor);
    visitor.visit::<CopiedArray>();
}

/// Checks every candidate that is ever timed.
pub(crate) fn check_all() {
    struct Check;
    impl Visit for Check {
        fn visit<M: Extents + 'static>(&mut self) {
            super::check::check::<M>();
        }
    }
    everybody(&mut Check);
    Check.visit::<CachedLast>();
}
