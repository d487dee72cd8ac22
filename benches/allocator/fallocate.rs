//! What `fallocate2` of will-it-scale does: each thread appends to a file of its own by pieces, truncates it, and
//! begins again.

use super::effort::Effort;
use super::oracle::Checked;
use super::subject::{Append, Owned, Stream, Subject};
use super::subjects::{Visit, everybody, limits};
use super::table::{Cell, Table};
use super::threads::{COLUMNS, one_and_two};

/// 8 KiB.
const PIECE: u64 = 2;
/// 1 MiB.
const FILE: u64 = 256;

/// The work of one thread: a whole file, and how many pieces that were.
fn file<S: Subject>(subject: &S, number: u64) -> impl FnMut() -> u64 {
    let mut owned = Owned::default();
    move || {
        let mut stream = S::Stream::open(number, None);
        for logical in (0..FILE).step_by(PIECE as usize) {
            let append = Append {
                logical,
                blocks: PIECE,
                size: logical + PIECE,
            };
            owned
                .append(subject, &mut stream, append)
                .expect("the volume has room");
        }
        stream.close(subject);
        owned.free(subject);
        FILE / PIECE
    }
}

pub(crate) fn fallocate(effort: &Effort) -> Table {
    struct Run<'e>(&'e Effort, Table);
    impl Visit for Run<'_> {
        fn visit<S: Subject>(&mut self) {
            let Self(effort, table) = self;
            check::<S>(effort.blocks);
            let subject = S::new(effort.blocks);
            let mut cells = one_and_two(&effort.plan, |number| file(&subject, number));
            cells.push(Cell::Remark(limits::<S>()));
            table.row(S::NAME, cells);
        }
    }
    let title = "c. fallocate2: append 8 KiB pieces up to 1 MiB, truncate, repeat; a file for each thread; per append";
    let mut run = Run(effort, Table::new(title, COLUMNS));
    everybody(&mut run);
    run.1
}

/// Two threads at once, under the oracle.
fn check<S: Subject>(blocks: u64) {
    let checked = &Checked::<S>::new(blocks);
    std::thread::scope(|scope| {
        for number in 0..2 {
            scope.spawn(move || {
                let mut work = file(checked, number);
                for _ in 0..500 {
                    work();
                }
            });
        }
    });
    checked.expect_sound();
}
