//! The maps that `benches/versus` compares, by name.

#[path = "../../benches/versus/check.rs"]
mod check;
#[path = "../../benches/versus/concurrent.rs"]
#[allow(dead_code, reason = "benches use the rest")]
mod concurrent;
#[path = "../../benches/versus/extents.rs"]
#[allow(dead_code, reason = "benches use the rest")]
mod extents;
#[path = "../../benches/versus/locked.rs"]
#[allow(dead_code, reason = "benches use the rest")]
mod locked;
#[path = "../../benches/common/numbers.rs"]
#[allow(dead_code, reason = "benches use the rest")]
mod numbers;
#[path = "../../benches/versus/ordered.rs"]
mod ordered;
#[path = "../../benches/versus/ours.rs"]
mod ours;

use parking_lot::RwLock;
use rangemap::RangeMap;

pub(crate) use check::check;
pub(crate) use extents::{Extents, Run, STRIDE, shuffled};
pub(crate) use ours::Ours;

/// Something that is done with maps.
pub(crate) trait Visit {
    fn visit<M: Extents + Sync + 'static>(&mut self);
}

/// Has our map visited, and those that `wanted` says by the names of the command line.
pub(crate) fn visit(visitor: &mut impl Visit, wanted: impl Fn(&str) -> bool) {
    visitor.visit::<Ours>();
    if wanted("btree") {
        visitor.visit::<RwLock<ordered::Tree>>();
    }
    if wanted("std-btree") {
        visitor.visit::<std::sync::RwLock<ordered::Tree>>();
    }
    if wanted("rangemap") {
        visitor.visit::<RwLock<RangeMap<u64, u64>>>();
    }
    if wanted("skipmap") {
        visitor.visit::<concurrent::SharedSkipMap>();
    }
    if wanted("treeindex") {
        visitor.visit::<concurrent::SharedTreeIndex>();
    }
    if wanted("masstree") {
        visitor.visit::<concurrent::SharedMassTree>();
    }
}
