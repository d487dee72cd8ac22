//! Bugs that cannot be written down here, and what of that a test can pin: it no longer compiles, or fails, when the
//! construction changes.

use extent_map::Result;
use extent_map::block::SubmittedBio;
use extent_map::delalloc::{FileBlocks, WrittenPiece};
use extent_map::status::{Accounting, Status, StatusExtent, StatusTree};
use extent_map::units::{FileBlock, FileRange};

use crate::bug::{Bug, Proof};

/// The bugs of this file, with the names of their tests.
pub(crate) const BUGS: &[(&str, Bug)] = &[
    (
        "what_an_insert_answers_is_no_part_of_the_tree",
        Bug {
            number: 6,
            fixed: "2023-08",
            kernel: "A new entry was merged into its neighbour and freed; the caller went on using it.",
            invariants: &[],
            proof: Proof::Construction(
                "callers get copies, never a reference into the tree, and safe code cannot use a value that was moved",
            ),
        },
    ),
    (
        "a_search_answers_an_extent_or_none",
        Bug {
            number: 17,
            fixed: "2024-05",
            kernel: "During replay the range finder returned without setting its output; its caller looped for ever.",
            invariants: &[],
            proof: Proof::Construction(
                "the answer is an `Option` by value: there is no output that could stay unset",
            ),
        },
    ),
    (
        "writeback_ends_before_it_answers",
        Bug {
            number: 24,
            fixed: "2025-07",
            kernel: "A completion was queued for a worker although nothing was to be converted; the inode was freed \
                     first.",
            invariants: &[],
            proof: Proof::Construction(
                "the thread that writes a run converts it too, before the call ends that borrows the file; a request \
                 on its way owns its outcome and knows no file",
            ),
        },
    ),
];

fn is_a_copy<T: Copy + 'static>() {}

fn owns_all_it_has<T: 'static>() {}

#[test]
fn what_an_insert_answers_is_no_part_of_the_tree() {
    let _insert: fn(&StatusTree, FileRange, Status) -> Result<Accounting> = StatusTree::insert;
    let _lookup: fn(&StatusTree, FileBlock) -> Option<StatusExtent> = StatusTree::lookup;
    is_a_copy::<Accounting>();
    is_a_copy::<StatusExtent>();
}

#[test]
fn a_search_answers_an_extent_or_none() {
    type Matches = fn(Status) -> bool;
    let _find: fn(&StatusTree, FileRange, Matches) -> Option<StatusExtent> = StatusTree::find_range;
}

#[test]
fn writeback_ends_before_it_answers() {
    let _write: fn(&FileBlocks, FileRange, &[u8]) -> Vec<WrittenPiece> = FileBlocks::write_back;
    owns_all_it_has::<WrittenPiece>();
    owns_all_it_has::<SubmittedBio>();
}
