//! A concurrent map from disjoint ranges of `u64` blocks to a small value.
//!
//! # What this layer promises
//!
//! - Readers never lock, never wait for a writer and write no memory that another thread reads,
//!   apart from their own epoch slot. A writer stopped in the middle of an edit stops no reader.
//! - A point lookup is linearizable. One edit call is one atomic change, however many extents it
//!   touches: no reader, point or range, sees half of it.
//! - The map is always maximally merged: no two neighbours that [`Value::can_merge`] would join.
//! - Every `u64` is a key, [`u64::MAX`] too.
//! - Memory of replaced states is freed by writers, never by readers, and all of it when the map
//!   drops.
//!
//! # What this layer must not know
//!
//! What a block is or how large, what a value means, who else reserves, counts or caches anything.
//! It does no I/O, calls nobody back except a value's own methods and the closure of
//! [`Editor::update`], and never looks at a clock.
//!
//! # Invariants
//!
//! The comments on `unsafe` code refer to these by number.
//!
//! - **M1** The root pointer of a map is never null and always points to an initialised array that
//!   nobody changes any more.
//! - **M2** Only the holder of the writer lock stores to the root, and each store is one
//!   publication: the complete next state. The array that was replaced goes to the limbo of the
//!   same map.
//! - **M3** A reader dereferences a root only under a guard of the map's own collector that it held
//!   when it loaded the pointer. An array in limbo is freed only after the collector ran a function
//!   deferred later than the array's replacement, hence after every guard under which the array
//!   could have been loaded is gone.
//! - **M4** The holder of the writer lock may dereference the current root without a guard, until
//!   it publishes: nobody else can replace it (M2), and an array is never freed before it is
//!   replaced.
//! - **M5** Whoever drops a map has it alone: a [`Pinned`], an [`Editor`] and their iterators
//!   borrow the map. So the current array and everything in limbo can be freed at once.
//! - **M6** The slots of an array are sorted, disjoint, not empty and maximally merged.

mod array;
mod editor;
mod extent;
mod extent_map;
mod iter;
mod lookup;
mod pinned;
mod reclaim;
mod value;

pub use editor::{Editor, Replaced};
pub use extent::Extent;
pub use extent_map::ExtentMap;
pub use iter::{Gaps, Overlapping};
pub use lookup::Lookup;
pub use pinned::Pinned;
pub use reclaim::Reclaimer;
pub use value::Value;
