//! What goes wrong with which operation.

use std::ops::Range;
use std::time::Duration;

use super::chance::Chance;
use super::{Operation, OperationKind};

/// Something that goes wrong with some operations.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    /// With operations of this kind only.
    kind: Option<OperationKind>,
    target: Target,
    harm: Harm,
}

#[derive(Clone, Debug)]
enum Target {
    /// One operation, `countdown` matching ones from now.
    One {
        countdown: u64,
    },
    /// The same, and all operations after it.
    From {
        countdown: u64,
    },
    /// Whatever touches these bytes.
    Range(Range<u64>),
    All,
}

/// What happens to an operation.
#[derive(Clone, Debug)]
pub(super) enum Harm {
    /// Nothing but an error.
    Fail,
    /// An error, after some sectors have arrived.
    Tear(Chance),
    /// It is late.
    Delay(Duration),
    /// It waits for its release.
    Hold,
}

impl Fault {
    pub(super) fn once(kind: Option<OperationKind>, nth: u64, harm: Harm) -> Self {
        let target = Target::One { countdown: nth };
        Self { kind, target, harm }
    }

    pub(super) fn from(nth: u64, harm: Harm) -> Self {
        Self {
            kind: None,
            target: Target::From { countdown: nth },
            harm,
        }
    }

    pub(super) fn range(kind: Option<OperationKind>, bytes: Range<u64>) -> Self {
        Self {
            kind,
            target: Target::Range(bytes),
            harm: Harm::Fail,
        }
    }

    pub(super) fn always(kind: Option<OperationKind>, harm: Harm) -> Self {
        Self {
            kind,
            target: Target::All,
            harm,
        }
    }

    /// What it does to `operation`. Called once for each operation.
    pub(super) fn strike(&mut self, operation: Operation) -> Option<Harm> {
        if self.kind.is_some_and(|kind| kind != operation.kind) {
            return None;
        }
        let strikes = match &mut self.target {
            Target::One { countdown } => {
                // Below zero once it has struck.
                let strikes = *countdown == 0;
                *countdown = countdown.wrapping_sub(1);
                strikes
            }
            Target::From { countdown } => {
                let strikes = *countdown == 0;
                *countdown = countdown.saturating_sub(1);
                strikes
            }
            Target::Range(bytes) => {
                let end = operation.offset.saturating_add(operation.len);
                operation.offset < bytes.end && bytes.start < end
            }
            Target::All => true,
        };
        strikes.then(|| self.harm.clone())
    }
}
