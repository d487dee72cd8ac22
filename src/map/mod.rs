//! A concurrent map from disjoint ranges of `u64` blocks to a small value.
//!
//! # What this layer promises
//!
//! - Readers never lock, never wait for a writer and write no memory that another thread reads,
//!   apart from their own epoch slot. A writer stopped in the middle of an edit stops no reader.
//! - A point lookup is linearizable. One edit call is one atomic change, however many extents it
//!   touches: no reader, point or range, sees half of it, and who has seen a part of it sees all of it
//!   from then on. A walk of up to 64 extents is linearizable; it repeats itself while edits change
//!   what it reads, so it is lock-free where a point lookup is wait-free.
//! - The map is always maximally merged: no two neighbours that [`Value::can_merge`] would join.
//! - Every `u64` is a key, [`u64::MAX`] too.
//! - Memory: replaced nodes are reused and freed by writers, never by readers, and all of it when the map drops. A
//!   map at rest holds less than 1 MiB of them, and so it does beside readers that run. A [`Pinned`] or a half-finished walk
//!   holds nothing back between calls. A thread that is suspended *inside* a call holds back everything replaced
//!   since: that is what epochs are, and there is no bound for it. A map that has shrunk gives memory back in chunks
//!   of up to 64 KiB, once no extent is left in them.
//!
//! # What this layer must not know
//!
//! What a block is or how large, what a value means, who else reserves, counts or caches anything.
//! It does no I/O, calls nobody back except a value's own methods and the closure of
//! [`Editor::update`], and never looks at a clock.
//!
//! # How it is made
//!
//! A B-skiplist: a skip list whose nodes hold many entries (Luo et al., ICPP 2025, for point keys). Each
//! node of a level is reached from one entry of the level above, so a search needs no sibling links, and the
//! levels are a tree. Level 0 are *leaves* with up to 30 extents, above are *index* nodes with up to 16
//! children. Nodes are never changed once readers can see them, apart from single links and values; see
//! `splice` for how an edit becomes visible at once.
//!
//! # Invariants
//!
//! Each comment on `unsafe` code names those that it rests on by number, and where it rests on bounds or the layout of
//! types, L1 or L2 of `UNSAFE.md`.
//!
//! - **N1** A node's plain fields are written only before the node is published, or when it is filled
//!   anew after R2. All that is written in a node readers can see are links, values and lens, which are atomics.
//! - **N2** Only the holder of the writer lock stores links, values and lens, takes nodes from the pools and
//!   gives them back.
//! - **N3** All entries below a child of an index node lie within the child's range, whole; ranges of
//!   siblings tile that of the parent; no leaf is empty; all leaves are on level 0, equally deep.
//! - **N4** Entries are sorted, disjoint, not empty and maximally merged.
//! - **N5** What leaves the tree does so by the one store that publishes an edit, is then retired, and never
//!   comes back before R2. Its links stay as they were.
//! - **N6** While a leaf is published, its lens only grow: who reads one twice and finds it unchanged knows that
//!   it was so all the time between.
//! - **R1** A node can be looked at by whoever found the way to it from the root under a guard of the map's
//!   collector that it still holds, and by the holder of the writer lock.
//! - **R2** A retired node is filled anew or freed only after the collector has run a function deferred
//!   after its retirement, hence after every guard under which it could have been found is gone (N5).
//! - **R3** Whoever drops a map has it alone: a [`Pinned`], an [`Editor`] and their walks borrow it. So all
//!   nodes can be freed at once.
//! - **R4** Node memory is given back to the allocator only by the holder of the writer lock, who then renews the
//!   map's life number. A stamp with the current life number is one of leaves whose memory is still theirs
//!   or that of a later leaf.
//! - **P1** A node lies, whole and aligned, in a chunk of its pool, which allocated it with the chunk's layout. Before
//!   it is handed out first it is initialised, as the kind that the lowest bits of its links tell. It needs no drop.
//! - **P2** A node is in one place: fresh or free in its pool, with the writer, in the tree, or in limbo. So the pool
//!   hands out what nobody else has, and takes each back once.
//! - **C1** Instructions that not every processor of the target has are executed only where `Isa::detect`
//!   saw them.
//! - **C2** A prefetch, which every x86-64 has, accesses nothing and never faults, wherever its address leads.

#[cfg(all(test, not(any(loom, feature = "shuttle"))))]
mod audit;
mod editor;
mod extent;
mod extent_map;
mod index;
mod iter;
mod leaf;
mod limbo;
mod link;
mod lookup;
mod pinned;
mod pool;
#[cfg(feature = "testing")]
pub mod probe;
#[cfg(not(feature = "testing"))]
mod probe;
mod reclaim;
mod replaced;
mod search;
mod splice;
#[cfg(feature = "std")]
mod threads;
mod tree;
mod value;
mod walk;
mod writer;

/// Model checkers follow every atomic, so they get small nodes.
const MODELLED: bool = cfg!(any(loom, feature = "shuttle"));

pub use editor::Editor;
pub use extent::Extent;
pub use extent_map::ExtentMap;
pub use iter::{Gaps, Overlapping};
pub use lookup::Lookup;
pub use pinned::Pinned;
pub use reclaim::{Handle, Reclaimer};
pub use replaced::{IntoIter, Replaced};
pub use value::Value;
