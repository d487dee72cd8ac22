//! Allocators that are broken on purpose: the oracle must notice.

use std::sync::atomic::{AtomicU64, Ordering};

use super::next_fit::NextFit;
use super::oracle::Checked;
use super::subject::{Owned, Run, Subject, Tail};

/// What goes wrong in each hundredth call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    HandsOutTwice,
    ReachesTooFar,
    Forgets,
    Never,
}

const FAULTS: [Fault; 4] = [
    Fault::HandsOutTwice,
    Fault::ReachesTooFar,
    Fault::Forgets,
    Fault::Never,
];

/// An allocator with the fault of that number in [`FAULTS`].
struct Twin<const FAULT: usize> {
    sound: NextFit,
    calls: AtomicU64,
}

impl<const FAULT: usize> Twin<FAULT> {
    fn fails(&self, fault: Fault) -> bool {
        FAULTS[FAULT] == fault && self.calls.fetch_add(1, Ordering::Relaxed) % 100 == 99
    }
}

impl<const FAULT: usize> Subject for Twin<FAULT> {
    const NAME: &'static str = "twin";
    type Taken = Run;
    type Stream = Tail;

    fn new(blocks: u64) -> Self {
        Self {
            sound: NextFit::new(blocks),
            calls: AtomicU64::new(0),
        }
    }

    fn allocate(&self, goal: Option<u64>, blocks: u64) -> Option<Run> {
        let mut run = self.sound.allocate(goal, blocks)?;
        if self.fails(Fault::HandsOutTwice) {
            self.sound.free(run);
        }
        if self.fails(Fault::ReachesTooFar) {
            run.len += 1;
        }
        Some(run)
    }

    fn free(&self, taken: Run) {
        if !self.fails(Fault::Forgets) {
            self.sound.free(taken);
        }
    }

    fn free_blocks(&self) -> u64 {
        self.sound.free_blocks()
    }
}

/// What the oracle says after a thousand extents came and went, some at a time.
fn verdict<const FAULT: usize>() -> Result<(), String> {
    let subject = Checked::<Twin<FAULT>>::new(4_000);
    let mut live: Vec<Owned<_>> = Vec::new();
    for goal in 0..1_000 {
        if goal % 30 == 0 {
            live.iter_mut().for_each(|owned| owned.free(&subject));
            live.clear();
        }
        let mut owned = Owned::default();
        owned
            .allocate(&subject, Some(goal), 1 + goal % 7)
            .expect("there is room");
        live.push(owned);
    }
    subject.verdict()
}

/// Panics when the oracle misses a fault or takes it for another, or finds one where there is none.
pub(crate) fn check_oracle() {
    let verdicts = [
        verdict::<0>(),
        verdict::<1>(),
        verdict::<2>(),
        verdict::<3>(),
    ];
    for (fault, verdict) in FAULTS.iter().zip(verdicts) {
        let says = |what| verdict.as_ref().is_err_and(|found| found.contains(what));
        let right = match fault {
            Fault::HandsOutTwice => says("handed out twice"),
            Fault::ReachesTooFar => says("instead of"),
            Fault::Forgets => says("it counts"),
            Fault::Never => verdict.is_ok(),
        };
        assert!(right, "of {fault:?} the oracle says {verdict:?}");
    }
}
