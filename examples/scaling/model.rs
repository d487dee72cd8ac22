//! Workers that share resources, simulated event by event. Knows no allocator: only who needs what for how long.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

/// A lock with what it guards, or a word that is changed by one instruction.
pub(crate) type Resource = u64;

/// A part of an operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Step {
    /// What it needs for itself alone; none if it needs only its own core.
    pub(crate) resource: Option<Resource>,
    /// How long it takes, in nanoseconds, if the resource is at hand and nobody else has it.
    pub(crate) hold: f64,
    /// How many cache lines move, one after the other, if another worker had the resource last.
    pub(crate) lines: u32,
}

/// What a worker does for one call.
pub(crate) type Operation = Vec<Step>;

/// How many writes of one operation go to lines that other workers write, too.
pub(crate) fn shared_line_writes(operation: &[Step]) -> u32 {
    let shared = operation.iter().filter(|step| step.resource.is_some());
    shared.map(|step| step.lines).sum()
}

/// How often and for how long in all an operation has something for itself alone.
pub(crate) fn sections(operation: &[Step]) -> (usize, f64) {
    let alone = operation.iter().filter(|step| step.resource.is_some());
    (alone.clone().count(), alone.map(|step| step.hold).sum())
}

#[derive(Default)]
struct State {
    free_at: f64,
    last: Option<usize>,
}

/// Operations per nanosecond of all workers together, each of which repeats its trace; `transfer` is what it costs
/// to bring one line from another core.
///
/// Who comes first is served first, and waiting costs nothing but time.
pub(crate) fn throughput(traces: &[Vec<Operation>], transfer: f64, duration: f64) -> f64 {
    let mut resources: HashMap<Resource, State> = HashMap::new();
    let mut steps: Vec<_> = traces.iter().map(|trace| endless(trace)).collect();
    // Times are positive, so their bits are in the same order.
    let mut ready: BinaryHeap<_> = (0..traces.len())
        .map(|worker| Reverse((0, worker)))
        .collect();
    let mut done = 0_u64;
    while let Some(Reverse((now, worker))) = ready.pop() {
        let now = f64::from_bits(now);
        if now > duration {
            break;
        }
        let Some((step, last)) = steps[worker].next() else {
            continue;
        };
        let end = match step.resource {
            None => now + step.hold,
            Some(resource) => {
                let state = resources.entry(resource).or_default();
                let moves = state.last.is_some_and(|last| last != worker);
                let moving = if moves {
                    f64::from(step.lines) * transfer
                } else {
                    0.0
                };
                state.free_at = state.free_at.max(now) + moving + step.hold;
                state.last = Some(worker);
                state.free_at
            }
        };
        done += u64::from(last && end <= duration);
        ready.push(Reverse((end.to_bits(), worker)));
    }
    done as f64 / duration
}

/// The steps of a trace over and over, each with whether it is the last of its operation.
fn endless(trace: &[Operation]) -> impl Iterator<Item = (Step, bool)> {
    let steps = trace.iter().flat_map(|operation| {
        let last = operation.len().saturating_sub(1);
        operation
            .iter()
            .enumerate()
            .map(move |(index, step)| (*step, index == last))
    });
    steps.cycle()
}

/// What share of `workers` times the speed of one worker alone they reach.
pub(crate) fn share_of_ideal(
    workers: usize,
    trace: impl Fn(usize) -> Vec<Operation>,
    transfer: f64,
    duration: f64,
) -> f64 {
    let traces: Vec<_> = (0..workers).map(trace).collect();
    let alone = throughput(&traces[..1], transfer, duration);
    throughput(&traces, transfer, duration) / (alone * workers as f64)
}
