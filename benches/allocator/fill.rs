//! A stream that fills the whole volume.

use std::time::Duration;

use super::clock::timed;
use super::contest::Contestant;
use super::effort::Effort;
use super::entries::Entries;
use super::next_fit::NextFit;
use super::numbers::Random;
use super::oracle::Checked;
use super::subject::{Append, Owned, Stream, Subject};
use super::subjects::{Visit, everybody};
use super::table::Table;

/// The longest append, in blocks.
const LONGEST: u64 = 16;

/// What filling a volume took.
struct Filled<S: Subject> {
    owned: Owned<S>,
    appends: u64,
    time: Duration,
}

impl<S: Subject> Filled<S> {
    /// Appends to one file until nothing is left.
    fn new(subject: &S) -> Self {
        let mut random = Random::default();
        // Room for the answers is there beforehand.
        let mut owned = Owned(Vec::with_capacity(subject.free_blocks() as usize / 4));
        let (mut appends, mut logical) = (0, 0);
        let time = timed(|| {
            let mut stream = S::Stream::open(1, None);
            loop {
                let blocks = 1 + random.below(LONGEST);
                let append = Append {
                    logical,
                    blocks,
                    size: logical + blocks,
                };
                if owned.append(subject, &mut stream, append).is_err() {
                    break;
                }
                logical += blocks;
                appends += 1;
            }
            stream.close(subject);
        });
        Self {
            owned,
            appends,
            time,
        }
    }
}

pub(crate) fn fill(effort: &Effort) -> Table {
    struct Enter<'e>(&'e Effort, Entries<'e>);
    impl Visit for Enter<'_> {
        fn visit<S: Subject>(&mut self) {
            let Self(effort, entries) = self;
            if !S::ANY_LENGTH {
                return entries.cannot::<S>();
            }
            let checked = Checked::<S>::new(effort.blocks);
            let mut filled = Filled::new(&checked);
            let used = 1.0 - checked.free_blocks() as f64 / effort.blocks as f64;
            checked.expect_sound();
            filled.owned.free(&checked);
            checked.expect_sound();

            let subject = S::new(effort.blocks);
            let round = move || {
                let mut filled = Filled::new(&subject);
                filled.owned.free(&subject);
                filled.time.as_nanos() as f64 / filled.appends as f64
            };
            entries.enter::<S>(100.0 * used, Contestant::new(S::NAME, round));
        }
    }
    let mut enter = Enter(effort, Entries::default());
    everybody(&mut enter);
    let table = Table::new(
        "b. Fill the volume by appends of 1 to 16 blocks to one file",
        &[
            "ns per append",
            "times faster than next fit",
            "% filled",
            "remark",
        ],
    );
    enter.1.table(&effort.plan, NextFit::NAME, table)
}
