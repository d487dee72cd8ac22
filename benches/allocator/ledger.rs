//! Promises of space: one block is reserved and given back, by one thread and by two.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::effort::Effort;
use super::ours::Ours;
use super::subject::Subject;
use super::table::{Cell, Table};
use super::threads::{COLUMNS, one_and_two};

/// Operations between two looks at the clock.
const BATCH: u64 = 256;

pub(crate) fn ledger(effort: &Effort) -> Table {
    let title = "g. Reserve a block and give it back; per pair";
    let mut table = Table::new(title, COLUMNS);
    let mut row = |name, pair: &(dyn Fn() + Sync), remark| {
        let batch = |_| {
            move || {
                (0..BATCH).for_each(|_| pair());
                BATCH
            }
        };
        let mut cells = one_and_two(&effort.plan, batch);
        cells.push(Cell::Remark(remark));
        table.row(name, cells);
    };

    let ours = Ours::new(effort.blocks);
    row("Ledger", &|| ours.reserve_and_release(1), "");
    let counter = Mutex::new(effort.blocks);
    let locked = || {
        let mut free = counter.lock();
        *free = free.checked_sub(1).expect("there is space");
        drop(free);
        *counter.lock() += 1;
    };
    row("Mutex<u64>", &locked, "counts what is available only");
    let word = AtomicU64::new(effort.blocks);
    let counted = || {
        let taken = word.fetch_update(Ordering::Acquire, Ordering::Relaxed, |free| {
            free.checked_sub(1)
        });
        taken.expect("there is space");
        word.fetch_add(1, Ordering::Release);
    };
    row("AtomicU64", &counted, "counts what is available only");
    table
}
