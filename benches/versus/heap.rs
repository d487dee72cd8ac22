//! How much memory extents take.

use super::candidates::{Visit, loadable};
use super::contest::Plan;
use super::edits;
use super::extents::{Extents, Run};
use super::live::live;
use super::ours::Ours;
use super::report::Report;
use super::spread::Spread;

const EXTENTS: u64 = 100_000;

/// A map and the bytes it took to make it what it is, per extent it has.
fn bytes_per_extent<M: Extents>(make: impl FnOnce() -> M) -> (M, f64) {
    let before = live();
    let map = make();
    let bytes = live() - before;
    let get = map.reader();
    let extents = std::iter::successors(get(0), |run| get(run.last + 1)).count();
    drop(get);
    (map, bytes as f64 / extents as f64)
}

pub(crate) fn bytes(_: &Plan, report: &mut Report) -> Vec<Spread> {
    struct Measure<'r>(&'r mut Report, Vec<Spread>);
    impl Visit for Measure<'_> {
        fn visit<M: Extents + 'static>(&mut self) {
            let in_order = || {
                let map = M::default();
                (0..EXTENTS).for_each(|index| map.overwrite(Run::dense(index)));
                map
            };
            let churned = || {
                let map = M::filled(EXTENTS, Run::dense);
                let edits = edits::overwrites(EXTENTS).take(4 * EXTENTS as usize);
                edits.for_each(|run| map.overwrite(run));
                map
            };
            let figures = [
                (
                    "bytes, built at random",
                    bytes_per_extent(|| M::filled(EXTENTS, Run::dense)).1,
                ),
                ("bytes, loaded in order", bytes_per_extent(in_order).1),
                ("bytes, after churn", bytes_per_extent(churned).1),
            ];
            for (measure, bytes) in figures {
                self.0.figure(measure, M::NAME, bytes);
            }
            if M::NAME == Ours::NAME {
                self.1.extend(figures.map(|(_, bytes)| Spread::once(bytes)));
            }
        }
    }
    let mut measure = Measure(report, Vec::new());
    loadable(&mut measure);
    measure.1
}
