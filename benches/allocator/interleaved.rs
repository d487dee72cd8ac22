//! Many files that grow in turns, with delayed allocation: once in each turn writeback asks for what the file has grown by.

use super::effort::Effort;
use super::oracle::{Checked, CheckedStream};
use super::subject::{Append, Owned, Stream, Subject};
use super::subjects::{Visit, everybody, limits};
use super::table::{Cell, Table};

const FILES: u64 = 64;
/// 16 MiB.
const FILE: u64 = 4096;

/// The extents of each file when all have grown to their full size, `turn` blocks at a time.
fn extents<S: Subject>(volume: u64, turn: u64) -> Vec<usize> {
    let subject = Checked::<S>::new(volume);
    let mut streams: Vec<_> = (1..=FILES)
        .map(|file| CheckedStream::<S>::open(file, None))
        .collect();
    let mut files: Vec<Owned<Checked<S>>> = streams.iter().map(|_| Owned::default()).collect();
    for logical in (0..FILE).step_by(turn as usize) {
        for (file, stream) in files.iter_mut().zip(&mut streams) {
            let append = Append {
                logical,
                blocks: turn,
                size: logical + turn,
            };
            file.append(&subject, stream, append)
                .expect("the volume has room");
        }
    }
    streams
        .into_iter()
        .for_each(|stream| stream.close(&subject));
    subject.expect_sound();
    let extents = files.iter().map(Owned::extents).collect();
    files.iter_mut().for_each(|file| file.free(&subject));
    subject.expect_sound();
    extents
}

pub(crate) fn interleaved(effort: &Effort) -> Table {
    struct Grow<'e>(&'e Effort, Table);
    impl Visit for Grow<'_> {
        fn visit<S: Subject>(&mut self) {
            let Self(effort, table) = self;
            let mut cells = Vec::new();
            for turn in [16, 2] {
                let extents = extents::<S>(effort.blocks, turn);
                let mean = extents.iter().sum::<usize>() as f64 / FILES as f64;
                let most = extents.iter().max().map_or(0.0, |most| *most as f64);
                cells.extend([Cell::once(mean), Cell::once(most)]);
            }
            cells.push(Cell::Remark(limits::<S>()));
            table.row(S::NAME, cells);
        }
    }
    let title =
        "d. 64 files grow to 16 MiB in turns, one request of writeback per turn; extents per file";
    let columns = &[
        "64 KiB turns: mean",
        "64 KiB: most",
        "8 KiB turns: mean",
        "8 KiB: most",
        "remark",
    ];
    let mut grow = Grow(effort, Table::new(title, columns));
    everybody(&mut grow);
    grow.1
}
