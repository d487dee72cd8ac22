//! The extent status tree of one file: what is known about each block.
//!
//! A block is written, unwritten, delayed or a hole, or nothing is known about it. Delayed blocks
//! exist nowhere else, so the tree is their home and never forgets them. Everything else is a cache
//! of the file's mapping: an entry may vanish at any time, and its absence means "ask the mapping",
//! never "hole".
//!
//! # What this layer promises
//!
//! - [`StatusTree::lookup`] never locks and writes no memory that other threads write: the
//!   "recently used" hint of the shrinker lives in tables of the reading thread's own
//!   ([`ReferenceHints`]).
//! - Every operation is one atomic change for readers.
//! - [`Accounting::released`] is exact: reserved clusters equal the clusters that have a delayed
//!   block and no pending record, if the caller keeps to what each operation asks of it.
//! - The change counter differs whenever the truth about the file has changed: each insert, delayed
//!   insert and removal counts; caching, shrinking and clearing do not, because they only change
//!   what is remembered.
//!
//! # What this layer must not know
//!
//! How many clusters are reserved or free (it reports what a change releases; the ledger is above
//! it), where the mapping is stored, when blocks are written, what a page is, and who holds which
//! of the file's locks.
//!
//! The algorithms are those of ext4's `extents_status` as its documentation and mailing list
//! describe them, restated over an [`ExtentMap`](crate::map::ExtentMap).

mod editor;
mod extent;
mod hints;
mod look;
mod pending;
mod shrink;
mod tree;

pub use editor::{Accounting, CacheOutcome, StatusEditor};
pub use extent::{Status, StatusExtent};
pub use hints::ReferenceHints;
pub use look::Look;
pub use shrink::{ShrinkOutcome, ShrinkerList};
pub use tree::{StatusContext, StatusTree};
