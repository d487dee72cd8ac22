//! Allocators that are timed at the same work in turns, and those that cannot do it.

use super::contest::{Contestant, Plan, contest};
use super::subject::Subject;
use super::subjects::limits;
use super::table::{Cell, Table};

/// Who takes part, in the order of the table.
#[derive(Default)]
pub(crate) struct Entries<'c> {
    contestants: Vec<Contestant<'c>>,
    rows: Vec<Row>,
}

struct Row {
    name: &'static str,
    /// What was counted while the allocator was checked; none if it does not take part.
    counted: Option<f64>,
    remark: &'static str,
}

impl<'c> Entries<'c> {
    /// Takes part.
    pub(crate) fn enter<S: Subject>(&mut self, counted: f64, contestant: Contestant<'c>) {
        self.contestants.push(contestant);
        self.row::<S>(Some(counted));
    }

    /// Cannot do this work.
    pub(crate) fn cannot<S: Subject>(&mut self) {
        self.row::<S>(None);
    }

    fn row<S: Subject>(&mut self, counted: Option<f64>) {
        let (name, remark) = (S::NAME, limits::<S>());
        self.rows.push(Row {
            name,
            counted,
            remark,
        });
    }

    /// Lets all work in turns. The columns: cost, how many times faster than `reference`, what was counted, remark.
    pub(crate) fn table(self, plan: &Plan, reference: &str, mut table: Table) -> Table {
        let outcome = contest(plan, self.contestants);
        for Row {
            name,
            counted,
            remark,
        } in self.rows
        {
            let cost = outcome.costs().find(|(contestant, _)| *contestant == name);
            let cells = match (cost, counted) {
                (Some((_, cost)), Some(counted)) => vec![
                    Cell::Figure(cost),
                    Cell::Figure(outcome.faster(name, reference)),
                    Cell::once(counted),
                    Cell::Remark(remark),
                ],
                _ => vec![
                    Cell::Remark("cannot"),
                    Cell::Remark(""),
                    Cell::Remark(""),
                    Cell::Remark(remark),
                ],
            };
            table.row(name, cells);
        }
        table
    }
}
