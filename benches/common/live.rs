//! How much memory this thread uses, to tell how much something takes.

use std::cell::Cell;

#[path = "../../tests/common/counting.rs"]
mod counting;

#[global_allocator]
static ALLOCATOR: counting::Counting = counting::Counting(count);

thread_local! {
    static LIVE: Cell<i64> = const { Cell::new(0) };
}

fn count(bytes: i64) {
    LIVE.with(|live| live.set(live.get() + bytes));
}

/// The bytes that this thread asked for and has not given back.
pub(crate) fn live() -> i64 {
    LIVE.get()
}
