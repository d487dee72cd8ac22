//! Who takes part.

use super::best_fit::BestFit;
use super::crates::{Buddy, OffsetAllocator};
use super::next_fit::NextFit;
use super::ours::Ours;
use super::subject::{Run, Subject};

/// Something that is done with every allocator.
pub(crate) trait Visit {
    fn visit<S: Subject>(&mut self);
}

/// Something that is done with the allocators that free parts of what they handed out, too.
pub(crate) trait VisitRuns {
    fn visit<S: Subject<Taken = Run>>(&mut self);
}

pub(crate) fn everybody(visitor: &mut impl Visit) {
    visitor.visit::<Ours>();
    visitor.visit::<NextFit>();
    visitor.visit::<BestFit>();
    visitor.visit::<OffsetAllocator>();
    visitor.visit::<Buddy>();
}

pub(crate) fn those_with_runs(visitor: &mut impl VisitRuns) {
    visitor.visit::<Ours>();
    visitor.visit::<NextFit>();
    visitor.visit::<BestFit>();
}

/// Why an allocator does not do some work, or does an easier one.
pub(crate) fn limits<S: Subject>() -> &'static str {
    match (S::KNOWS_GOALS, S::ANY_LENGTH) {
        (true, true) => "",
        (false, true) => "knows no goal",
        (true, false) => "powers of two only",
        (false, false) => "knows no goal, powers of two only",
    }
}
